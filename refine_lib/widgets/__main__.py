"""Serves a lesson's panel as a page of its own: ``python -m refine_lib.widgets notebooks/05_tune_it.ipynb``.

The page has the notebook's cells with the tag ``app``, without their sources, and a kernel for each visitor. It is for this
machine alone (127.0.0.1); any other address asks for a token, which the address that is printed holds. Whoever has the page
can open pictures of this machine by their paths.
"""

import argparse
import ipaddress
import os
from pathlib import Path

from traitlets.config import Config
from voila.app import Voila

TAG = "app"
PAGE = Path(__file__).with_name("page")


def only_the_app(handler, notebook, cwd):
    """The notebook without the cells that are not part of the page: Voila calls this before it runs them."""
    notebook.cells = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", [])]
    return notebook


def is_loopback(address):
    """Whether only this machine can reach a server at this address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name, or empty, which is every address
        return False


def options(notebook, address, port):
    """What Voila is told, as its command line and its configuration."""
    config = Config()
    config.VoilaConfiguration.template = "refine"
    config.VoilaConfiguration.prelaunch_hook = only_the_app
    config.MappingKernelManager.cull_idle_timeout = 3600  # s: the kernel of a page that was left without a word
    if is_loopback(address):  # or a page from elsewhere could reach this one through the owner's browser, under another name
        config.Voila.tornado_settings = {"allow_remote_access": False}
    config.VoilaConfiguration.file_denylist = [".*"]  # nothing but the page: no file beside the notebook
    line = [str(notebook), f"--Voila.ip={address}", f"--port={port}", "--no-browser"]
    return line + ["--token"] * (not is_loopback(address)), config


def main():
    parser = argparse.ArgumentParser(prog="python -m refine_lib.widgets", description="Serve the panel as a page.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--address", default="127.0.0.1", help="to listen at (default: %(default)s, this machine alone)")
    parser.add_argument("--port", type=int, default=8866, help="default: %(default)s")
    parser.add_argument("--browser", action="store_true", help="open it in a browser")
    arguments = parser.parse_args()
    if not arguments.notebook.is_file():
        parser.error(f"notebook is {str(arguments.notebook)!r}; expected the path of a notebook")
    # Where Jupyter looks for templates; the kernels of the page inherit it and have no use for it.
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(PAGE), os.environ.get("JUPYTER_PATH")]))
    line, config = options(arguments.notebook, arguments.address, arguments.port)
    if arguments.browser:
        line.remove("--no-browser")
    Voila.launch_instance(line, config=config)


if __name__ == "__main__":
    main()
