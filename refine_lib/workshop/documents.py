"""Makes the tables of a document again: ``python -m refine_lib.workshop.documents refine_lib/networks/MINI_LAMA.md``.

Below a line with a command, what it printed stands between ``<!-- printed -->`` and ``<!-- end -->``.
The command runs anew, and what it prints now takes the place. Its lines about files that it wrote are left out.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tqdm.auto import tqdm

from refine_lib.whole import whole_file

BEGIN, END = "<!-- printed -->", "<!-- end -->"
BLOCK = re.compile(rf"^`(?P<command>[^`\n]+)`\n\n{BEGIN}\n(?P<printed>.*?){END}$", flags=re.M | re.S)
PYTHON = ".venv/bin/python"  # how a document calls the interpreter that runs this
ROOT = Path(__file__).parents[2]


def printed(text):
    """What commands printed into a document, one text for each."""
    return [match["printed"].strip() for match in BLOCK.finditer(text)]


def prose(text):
    """A document without what commands printed into it."""
    return BLOCK.sub("", text)


def run(command):
    """What a command of a document prints, without the lines that name the files it wrote.

    Raises:
        ValueError: where the command does not begin with ``.venv/bin/python``.
        subprocess.CalledProcessError: where it fails. What it says of that is on the screen by then.
    """
    python, *words = shlex.split(command)
    if python != PYTHON:
        raise ValueError(f"the document's command is {command!r}; expected one that begins with {PYTHON}")
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # the last digits depend on the number of threads
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=one_thread, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("wrote ")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def renew(path):
    """Runs every command of a document whose output stands in it, and writes the document with what they print now.

    Returns:
        How many there are.
    """
    text = path.read_text(encoding="utf-8")
    matches = list(BLOCK.finditer(text))
    now = [run(match["command"]) for match in tqdm(matches, desc=path.stem, unit="command")]
    for match, new in reversed(list(zip(matches, now, strict=True))):
        text = f"{text[: match.start('printed')]}\n{new}\n\n{text[match.end('printed') :]}"
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
    return len(matches)


def main():
    parser = argparse.ArgumentParser(description="Run the commands of documents again, and write what they print.")
    parser.add_argument("documents", nargs="+", type=Path, metavar="DOCUMENT", help="a Markdown file")
    for path in parser.parse_args().documents:
        try:
            print(f"{path}: {renew(path)} tables made again")
        except subprocess.CalledProcessError as error:
            sys.exit(f"{path} is as it was: {shlex.join(error.cmd)} failed")
        except (OSError, ValueError) as error:
            sys.exit(f"{path} is as it was: {error}")


if __name__ == "__main__":
    main()
