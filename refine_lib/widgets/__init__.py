"""A panel to tune the method with, and a painter for its hole, in JupyterLab and on a page of its own."""

from refine_lib.widgets.controls import Settings
from refine_lib.widgets.painter import MaskPainter
from refine_lib.widgets.runner import Runner
from refine_lib.widgets.runs import Run
from refine_lib.widgets.tuner import Tuner
from refine_lib.widgets.workbench import Workbench

__all__ = ["MaskPainter", "Run", "Runner", "Settings", "Tuner", "Workbench"]
