"""What takes minutes on the pretended device: every lesson in a registered kernel, and the command for a GPU."""

import json

import pytest
import torch
from conftest import ROOT

from refine_lib.workshop import on_gpu

pytestmark = pytest.mark.skipif(not hasattr(torch, "twin"), reason="some minutes on the pretended device: make twin-rest")


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))])
def test_a_lesson_runs_in_a_kernel_on_the_twin(name, tmp_path, processes):
    environment = on_gpu.install_kernel(tmp_path, "twin")
    finding = on_gpu.run_lesson(ROOT / "notebooks" / f"{name}.ipynb", tmp_path, environment)
    said = tmp_path / f"lesson_{name}.txt"
    assert finding.met, f"{finding.found}\n{said.read_text()[-3000:] if said.exists() else ''}"


def test_the_command_for_a_gpu_is_rehearsed(tmp_path, monkeypatch, processes):
    """The benchmark's part of it: every row is written, and the table names the device and the versions."""
    line = ["on_gpu", "-o", str(tmp_path / "found"), "--device", "twin", "--only", "benchmark", "--network", "mini-lama"]
    monkeypatch.setattr("sys.argv", [*line, "--sizes", "128", "--n-iters", "1", "--runs", "1"])
    monkeypatch.setattr(on_gpu, "TRAINED", ("mini-lama", 128))
    with pytest.raises(SystemExit):  # its code says whether a GPU's speed was reached
        on_gpu.main()
    table = (tmp_path / "found" / "table.md").read_text()
    version = torch.__version__.partition("+")[0]
    assert "mini-lama, 128 px: completes | yes" in table and f"twin, torch {version}, TF32 in convolutions" in table
    rows = json.loads((tmp_path / "found" / "speed.json").read_text())["rows"]
    assert [row["size"] for row in rows] == [128, 128] and all(row["seconds"]["refine_lib"] > 0 for row in rows)
