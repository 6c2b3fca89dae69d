"""The controls of the panel and where they are. What they do is in ``tuner``."""

import ipywidgets
from ipywidgets import HTML, Button, Checkbox, Dropdown, FloatLogSlider, FloatProgress, HBox, IntSlider, VBox

from refine_lib.widgets.viewer import Viewer

ROW = {"flex_flow": "row wrap", "align_items": "center"}
ZOOMS = {"2 times": 1 / 2, "4 times": 1 / 4, "8 times": 1 / 8}  # side of the box as a share of the picture's short side


class Controls:
    """Every control by its name. A slider tells its value when it is let go, not on its way."""

    def __init__(self, lock, show_error):
        self.are_filled = False  # while a list gets its options: between them and its value it has one that nobody chose
        named = dict(style={"description_width": "110px"}, layout={"width": "380px"})
        slides = dict(continuous_update=False, **named)
        self.lr = FloatLogSlider(
            0.002, base=10, min=-4, max=-1, step=0.01, readout_format=".2g", description="learning rate", **slides
        )
        self.n_iters = IntSlider(15, min=0, max=100, description="iterations", **slides)
        self.erosion = IntSlider(15, min=0, max=63, description="erosion, px", **slides)
        self.smallest_scale = Dropdown(options=[512], description="smallest scale", **named)
        self.loss = Dropdown(options={"the paper's": "paper", "the authors' code's": "code"}, description="loss", **named)
        optimizers = {"Adam, the paper's": "adam", "Polyak's step: 5 iterations will do": "polyak"}
        self.optimizer = Dropdown(options=optimizers, description="optimizer", **named)
        as_drawn = {"align_self": "flex-start", "max_width": "100%"}  # not as wide as there is room
        self.holes, self.seen = ipywidgets.Image(format="png", layout=as_drawn), HTML()

        self.run = Button(description="Run", icon="play", button_style="primary", layout={"width": "90px"})
        self.stop = Button(description="Stop", icon="stop", disabled=True, layout={"width": "90px"})
        self.reset = Button(description="Reset to the paper's", icon="undo", layout={"width": "180px"})
        self.estimate, self.status = HTML(), HTML().add_class("refine-status")
        self.message = HTML().add_class("refine-problem")
        self.progress = FloatProgress(max=1.0, layout={"width": "380px", "height": "14px", "display": "none"})

        self.viewer = Viewer(lock)
        self.before = Dropdown(options=["input"], description="left of the line", **named)
        self.zoom = Dropdown(options=ZOOMS, description="zoom", style={"description_width": "60px"}, layout={"width": "180px"})
        self.curves = ipywidgets.Image(format="png", layout=as_drawn)

        self.table = HTML()
        self.show_error = Checkbox(show_error, description="show the error: the input holds the truth", indent=False)
        saving = dict(icon="download", disabled=True, layout={"width": "170px"})
        self.save_settings = Button(description="Settings (JSON)", **saving)
        self.save_picture = Button(description="Picture (PNG)", **saving)
        self.chosen = Dropdown(options=[], description="of", style={"description_width": "20px"}, layout={"width": "120px"})

    def follow_optimizer(self):
        """Offers a learning rate where there is one."""
        self.lr.disabled = self.optimizer.value == "polyak"

    def choose(self, dropdown, options, value):
        """Gives a list its options and its value, without a word to the panel."""
        self.are_filled = True
        try:
            dropdown.options, dropdown.value = options, value
        finally:
            self.are_filled = False

    def rows(self):
        """The controls from top to bottom."""
        settings = VBox([self.lr, self.n_iters, self.erosion, self.smallest_scale, self.loss, self.optimizer])
        holes = VBox([self.holes, self.seen])
        return [
            HBox([settings, holes], layout={**ROW, "align_items": "flex-start"}),
            HBox([self.run, self.stop, self.reset, self.estimate], layout=ROW),
            HBox([self.progress, self.status], layout={**ROW, "min_height": "32px"}),
            self.message,
            self.viewer,
            HBox([self.before, self.zoom], layout=ROW),
            self.curves,
            self.table,
            HBox([self.save_settings, self.save_picture, self.chosen, self.show_error], layout=ROW),
        ]
