"""Serves a lesson's panel as a page of its own: ``python -m refine_lib.widgets notebooks/05_tune_it.ipynb``.

The page has the notebook's cells with the tag ``app``, without their sources. The page is for this machine alone (127.0.0.1).
At any other address it asks for a token, which is part of the address that is printed. Whoever has the page can open pictures
of this machine by their paths.

Each browser has a kernel, and at most ``--kernels`` of them run at a time. A kernel outlives its page by ``--keep`` seconds. A
page that is loaded again by then finds its runs.
"""

import argparse
import ipaddress
import os
from pathlib import Path

from traitlets.config import Config

from .server import LARGEST, Connection, Kernels, Page

TAG = "app"
PAGE = Path(__file__).with_name("page")


def only_the_app(handler, notebook, cwd):
    """Returns the notebook with the cells of the page alone. Voila calls this before it runs them."""
    notebook.cells = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", [])]
    return notebook


def is_loopback(address: str) -> bool:
    """Returns whether only this machine can reach a server at this address."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name, or empty, which is every address
        return False


def options(notebook: Path, address: str, port: int) -> tuple[list[str], Config]:
    """Returns Voila's command line and its configuration."""
    config = Config()
    config.VoilaConfiguration.template = "refine"
    config.VoilaConfiguration.prelaunch_hook = only_the_app
    config.VoilaConfiguration.multi_kernel_manager_class = Kernels
    config.Voila.kernel_websocket_connection_class = Connection
    config.VoilaConfiguration.allow_template_override = config.VoilaConfiguration.allow_theme_override = "NO"
    config.MappingKernelManager.buffer_offline_messages = False  # a page that comes back asks for all of its state anew
    config.KernelRestarter.restart_limit = 0  # a kernel that is started again has no panel
    # Without allow_remote_access, no page from elsewhere reaches this one by a name of its own for this machine.
    config.Voila.tornado_settings = {"websocket_max_message_size": LARGEST, "allow_remote_access": not is_loopback(address)}
    config.VoilaConfiguration.file_denylist = [".*"]  # nothing but the page: no file beside the notebook
    line = [str(notebook), f"--Voila.ip={address}", f"--port={port}", "--no-browser"]
    return line + ["--token"] * (not is_loopback(address)), config


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m refine_lib.widgets", description="Serve the panel as a page.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--address", default="127.0.0.1", help="to listen at (default: %(default)s, this machine alone)")
    parser.add_argument("--port", type=int, default=8866, help="default: %(default)s")
    parser.add_argument("--kernels", type=int, default=4, help="at most that many at a time (default: %(default)s)")
    parser.add_argument(
        "--keep", type=float, default=120, help="seconds that a kernel outlives its page (default: %(default)s)"
    )
    parser.add_argument("--browser", action="store_true", help="open it in a browser")
    arguments = parser.parse_args()
    if not arguments.notebook.is_file():
        parser.error(f"notebook is {str(arguments.notebook)!r}; expected the path of a notebook")
    if arguments.kernels < 1 or not arguments.keep >= 0:
        parser.error(f"kernels is {arguments.kernels}, keep is {arguments.keep}; expected at least 1, and at least 0 seconds")
    # Jupyter looks for templates there. The kernels of the page inherit the variable and do not use it.
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(PAGE), os.environ.get("JUPYTER_PATH")]))
    line, config = options(arguments.notebook, arguments.address, arguments.port)
    config.Page.kernels, config.Page.keep = arguments.kernels, arguments.keep
    if arguments.browser:
        line.remove("--no-browser")
    Page.launch_instance(line, config=config)


if __name__ == "__main__":
    main()
