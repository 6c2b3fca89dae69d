"""Random cases of each kind for some seconds; ``make fuzz MINUTES=60`` goes on for longer, with seeds of its own."""

import subprocess
import sys

import pytest
from conftest import TESTS

KINDS = {"photos": 30, "arguments": 30, "networks": 30, "weights": 20, "evaluation": 30}  # seconds


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_random_cases_end_well(kind, tmp_path):
    line = [sys.executable, "-m", "fuzz", kind, "--seconds", str(KINDS[kind]), "--failures", tmp_path]
    done = subprocess.run(line, cwd=TESTS, capture_output=True, text=True, timeout=10 * KINDS[kind])
    failures = {path.name: path.read_text()[-1500:] for path in sorted(tmp_path.glob("*.txt"))}
    assert done.returncode == 0 and not list(tmp_path.iterdir()), f"{done.stdout}\n{done.stderr[-3000:]}\n{failures}"
    assert int(done.stdout.split(" cases")[0].split()[-1]) > 20, done.stdout
