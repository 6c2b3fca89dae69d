"""Every lesson in a registered kernel that computes on the pretended device: ``make twin-lessons``, some minutes."""

import pytest
import torch
from conftest import ROOT

from refine_lib.workshop import on_gpu

pytestmark = pytest.mark.skipif(not hasattr(torch, "twin"), reason="some minutes on the pretended device: make twin-lessons")


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))])
def test_a_lesson_runs_in_a_kernel_on_the_twin(name, tmp_path, processes):
    environment = on_gpu.install_kernel(tmp_path, "twin")
    finding = on_gpu.run_lesson(ROOT / "notebooks" / f"{name}.ipynb", tmp_path, environment)
    said = tmp_path / f"lesson_{name}.txt"
    assert finding.met, f"{finding.found}\n{said.read_text()[-3000:] if said.exists() else ''}"
