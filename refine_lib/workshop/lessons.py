"""Runs a lesson without a screen: ``python -m refine_lib.workshop.lessons notebooks/00_quickstart.ipynb --figures figures``.

A cell with the tag ``figure:NAME`` leaves its picture as ``NAME.png``; the executed notebook becomes a page of HTML.
"""

import argparse
import base64
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from tqdm.auto import tqdm

WIDGET = "application/vnd.jupyter.widget-view+json"
STILL = 'class="refine-still'  # in the still picture of a panel


def execute(path, timeout=600, kernel="python3"):
    """Runs every cell of a notebook in a fresh kernel, with a progress bar.

    Args:
        path: of the notebook, which is only read.
        timeout: the longest that a cell may take, in seconds.
        kernel: a registered Jupyter kernel.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: where a cell raises; its text holds the cell and the error.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    with tqdm(total=len(cells), desc=Path(path).stem, unit="cell") as bar:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name=kernel,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": str(Path(path).parent)}},
            on_cell_executed=lambda **_: bar.update(),
        )
        client.execute()
    return notebook


def figures(notebook):
    """The pictures of the cells with a tag ``figure:NAME``, from NAME to the bytes of a PNG."""
    found = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("figure:"):
                pngs = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
                if not pngs:
                    raise ValueError(f"the cell with the tag {tag!r} drew no picture; expected one")
                found[tag.removeprefix("figure:")] = base64.b64decode(pngs[-1])
    return found


def lighten(notebook):
    """Drops what a notebook in version control should not hold: pictures, widgets, times. Texts and counts stay."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        # A widget at a cell's end says in a line what it stands at, which is compared; one on the way, as a bar, goes.
        cell.outputs = [o for o in cell.outputs if not (o.output_type == "display_data" and WIDGET in o.get("data", {}))]
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        cell.outputs = [o for o in cell.outputs if STILL not in o.get("data", {}).get("text/html", "")]
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            for kind in [kind for kind in output.get("data", {}) if kind.startswith("image/")]:
                del output.data[kind]
    return notebook


def _joined(outputs):
    """A kernel that is slow sends in pieces what a quick one sends at once."""
    joined = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def main():
    parser = argparse.ArgumentParser(description="Run lessons without a screen.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--figures", type=Path, help="folder for the pictures and for the executed notebook as HTML")
    parser.add_argument("--store", action="store_true", help="write the outputs that are compared back into the notebook")
    parser.add_argument("--kernel", default="python3", help="a registered Jupyter kernel to run in (default: %(default)s)")
    arguments = parser.parse_args()
    for path in arguments.notebooks:
        try:
            notebook = execute(path, kernel=arguments.kernel)
        except CellExecutionError as error:
            sys.exit(f"{path} did not run to its end:\n{error}")
        if arguments.figures:
            arguments.figures.mkdir(parents=True, exist_ok=True)
            written = [arguments.figures / f"{path.stem}.html"]
            written[0].write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
            for name, png in figures(notebook).items():
                written.append(arguments.figures / f"{name}.png")
                written[-1].write_bytes(png)
            print("\n".join(["wrote", *(f"  {file.resolve()}" for file in written)]))
        if arguments.store:
            nbformat.write(lighten(notebook), path)
            print(f"stored the outputs of {path}")


if __name__ == "__main__":
    main()
