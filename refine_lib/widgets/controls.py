"""The controls of the panel: a table of the settings, and all others. What they do is in ``tuner``."""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import Field, asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

import ipywidgets
from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    FileUpload,
    FloatLogSlider,
    FloatProgress,
    FloatText,
    HBox,
    IntSlider,
    IntText,
    SelectionSlider,
    Text,
    VBox,
    Widget,
)

from refine_lib.checks import LOSSES, SMALLEST_SIDE, check_smallest_scale
from refine_lib.optimizers import OPTIMIZERS, PRESETS
from refine_lib.pyramid import number_of_levels
from refine_lib.refine import check_settings
from refine_lib.widgets.leads import FILE, PLAIN
from refine_lib.widgets.viewer import Viewer

OWN = "own settings"  # what no preset is
ROW = {"flex_flow": "row wrap", "align_items": "center"}  # the layout of controls beside each other
NAMED = dict(style={"description_width": "110px"}, layout={"width": "380px", "max_width": "100%"})
LABELS = {  # of choices, beside their names
    "paper": "the paper's",
    "code": "the authors' code's",
} | {name: kind.title for name, kind in OPTIMIZERS.items()}
WITH_LR = [name for name, kind in OPTIMIZERS.items() if kind.has_lr]
# The side of the box as a share of the picture's short side.
ZOOMS = {"2 times": 1 / 2, "4 times": 1 / 4, "8 times": 1 / 8, "none: all of it": math.inf}


def scales(size: tuple[int, int], chosen: float, is_whole: bool = True) -> list[tuple[str, float]]:
    """Returns the choices of a smallest scale for a picture of a size (H, W): each says how many levels it gives.

    The smallest is what a network can work on, and each other is twice the one before. The chosen one is among them. Where
    not the whole picture is computed, each scale has another window, and the levels are not told.
    """
    doublings = range(int(math.log2(min(size) / SMALLEST_SIDE)) + 1)
    levels = {scale: number_of_levels(*size, scale) for scale in sorted({chosen, *(SMALLEST_SIDE * 2**n for n in doublings)})}
    return [(f"{scale:g} px" + f": {n} level{'s' * (n > 1)}" * is_whole, scale) for scale, n in levels.items()]


def setting(
    default: Any, widget: type[Widget], description: str, tooltip: str, digits="", only_with=(), choices=None, **options
) -> Any:
    """Describes one setting and its control: a row of the table ``Settings``.

    Args:
        default: the paper's value.
        widget: the kind of control.
        description: the words beside the control. The table of runs has them as well, without what follows a comma.
        tooltip: the words that the page shows when the pointer rests on the control.
        digits: the format of the value in the table of runs.
        only_with: pairs of another setting's name and its values, without which this setting does not count.
        choices: a function from what ``put`` is given to a list's options, where they depend on the picture.
        options: of the widget, as its range.
    """
    if issubclass(widget, Dropdown):
        options = {"options": [default]} | options
    else:
        # A slider tells its value when it is let go, not on its way. Its number is in a box of its own: the one that comes with
        # it would change what is typed to what the slider reaches, without a word.
        options |= {"continuous_update": False, "readout": False}
    make = partial(widget, value=default, description=description, tooltip=tooltip, **options, **NAMED)
    column = description.split(",")[0]
    return field(default=default, metadata=dict(make=make, column=column, digits=digits, only_with=only_with, choices=choices))


def labeled(names: Iterable[str]) -> dict[str, str]:
    """Returns the options of a list: names by what the page calls them."""
    return {LABELS.get(name, name): name for name in names}


@dataclass(frozen=True)
class Settings:
    """What a run is made with, by the names of ``multiscale_inpaint``; the defaults are the paper's.

    This is also the table of the panel's settings. Each attribute is a row, and the row says which control it has. So a new
    setting of ``multiscale_inpaint``, a number or a word, needs one line here and none elsewhere in the panel. (A list of
    ipywidgets takes None for no choice, so that a setting that may be None needs a control of its own.)
    """

    # fmt: off
    lr: float = setting(0.002, FloatLogSlider, "learning rate", "how far a step of Adam goes", ".2g", [("optimizer", WITH_LR)],
                    base=10, min=-4, max=-1, step=0.01)
    n_iters: int = setting(15, IntSlider, "iterations", "updates of the featuremap at each level", min=0, max=100)
    erosion: int = setting(15, IntSlider, "erosion, px", "by which the hole shrinks before the loss looks at it", min=0, max=63)
    smallest_scale: float = setting(512, Dropdown, "smallest scale", "the size the network was trained at", "g", choices=scales)
    loss: str = setting("paper", Dropdown, "loss", "what a level is compared by with the one below", options=labeled(LOSSES))
    optimizer: str = setting("adam", Dropdown, "optimizer", "how a step is chosen", options=labeled(OPTIMIZERS))
    # fmt: on

    @classmethod
    def from_json(cls, text: str | bytes) -> "Settings":
        """Returns the settings in a text that ``Run.to_json`` wrote. A setting that an older text lacks has its default.

        Raises:
            ValueError: where the text holds something else.
        """
        try:
            return cls(**json.loads(text)["settings"])
        except (KeyError, TypeError, ValueError) as error:
            names = ", ".join(row.name for row in fields(cls))
            raise ValueError(f'text is {text[:60]!r}; expected JSON with {names} under "settings"') from error

    def check(self) -> None:
        """Raises unless each setting is in range, as ``multiscale_inpaint`` does."""
        others = asdict(self)
        check_smallest_scale(others.pop("smallest_scale"))
        check_settings(callback=None, **others)

    def paper(self) -> "Settings":
        """Returns the paper's settings, but for ``smallest_scale``: it is the network's training size, so it stays."""
        return replace(type(self)(), smallest_scale=self.smallest_scale)

    def counts(self, row: Field) -> bool:
        """Returns whether a setting makes a difference beside the others."""
        return all(getattr(self, name) in values for name, values in row.metadata["only_with"])

    def cells(self) -> dict[str, str]:
        """Returns what the table of runs says of each setting, by column: nothing of one that does not count."""
        texts = {row.metadata["column"]: format(getattr(self, row.name), row.metadata["digits"]) for row in fields(self)}
        return texts | {row.metadata["column"]: "" for row in fields(self) if not self.counts(row)}


class Controls:
    """Every control by its name, those of the settings among them."""

    def __init__(self, lock, show_error: bool, networks: Iterable[str] = ()):
        self.are_filled = False
        self.settings: dict[str, Any] = {row.name: row.metadata["make"]() for row in fields(Settings)}
        vars(self).update(self.settings)
        boxes = {name: FloatText if isinstance(w, FloatLogSlider) else IntText for name, w in self.settings.items()}
        self.boxes = {
            name: kind(tooltip=f"{self.settings[name].description}, as a number", layout={"width": "80px"})
            for name, kind in boxes.items()
            if not isinstance(self.settings[name], Dropdown)
        }
        names = {f"{name}: {text['n_iters']} iterations, {LABELS[text['optimizer']]}": name for name, text in PRESETS.items()}
        self.preset: Any = Dropdown(
            options={OWN: OWN} | names, description="preset", tooltip="settings that go together", **NAMED
        )
        leads = [(PLAIN, ""), *((f"{name}'s small plain fill", name) for name in networks), (FILE, FILE)]
        self.lead: Any = Dropdown(options=leads, description="led by", tooltip="what the smallest level begins with", **NAMED)
        self.lead_path = Text(placeholder="the path of a picture, the hole filled", continuous_update=False)
        self.lead_file = FileUpload(accept="image/*", description="or open it", layout={"width": "auto"})
        self.lead_row = HBox([self.lead_path, self.lead_file], layout={**ROW, "display": "none"})
        as_drawn = {"align_self": "flex-start", "max_width": "100%"}  # not as wide as there is room
        self.holes, self.seen = ipywidgets.Image(format="png", layout=as_drawn), HTML()

        self.run = Button(description="Run", icon="play", button_style="primary", layout={"width": "90px"})
        self.stop = Button(description="Stop", icon="stop", disabled=True, layout={"width": "90px"})
        self.reset = Button(description="Reset to the paper's", icon="undo", layout={"width": "180px"})
        self.estimate, self.status = HTML(), HTML().add_class("refine-status")
        self.message = HTML().add_class("refine-problem")
        self.progress = FloatProgress(max=1.0, layout={"width": "380px", "height": "14px", "display": "none"})

        self.viewer = Viewer(lock)
        self.before: Any = Dropdown(options=["input"], description="left of the line", **NAMED)
        self.zoom: Any = Dropdown(
            options=ZOOMS, description="zoom", style={"description_width": "60px"}, layout={"width": "180px"}
        )
        self.compared = HTML()
        self.moment: Any = SelectionSlider(
            options=[("", -1)], description="the picture after", tooltip="updates of the largest level", **NAMED
        )
        self.strip = HTML()
        self.moments = VBox([self.moment, self.strip], layout={"display": "none"})
        self.curves = HTML()

        self.table = HTML()
        self.show_error = Checkbox(
            show_error, description="show the error: the input is the truth", indent=False, layout={"width": "auto"}
        )
        saving = dict(icon="download", disabled=True, layout={"width": "170px"})
        self.save_settings = Button(description="Settings (JSON)", **saving)
        self.save_picture = Button(description="Picture (PNG)", **saving)
        self.chosen = Dropdown(options=[], description="of", style={"description_width": "20px"}, layout={"width": "120px"})

    def read(self) -> Settings:
        """Returns what the controls of the settings stand at."""
        digits = lambda w: float(f"{w.value:.6g}")  # noqa: E731  a logarithmic slider computes 10 ** log10(0.002)
        values: Any = {name: digits(w) if isinstance(w, FloatLogSlider) else w.value for name, w in self.settings.items()}
        return Settings(**values)

    def put(self, settings: Settings, size: tuple[int, int], is_whole: bool = True) -> None:
        """Sets the controls for a picture of a size (H, W), without an answer. A value out of a slider's range widens it.

        ``is_whole`` is as in ``scales``.
        """
        with quietly(self):
            for row in fields(settings):
                widget, value = self.settings[row.name], getattr(settings, row.name)
                if row.metadata["choices"]:
                    widget.options = row.metadata["choices"](size, value, is_whole)
                elif not isinstance(widget, Dropdown):
                    at = math.log10(value) if isinstance(widget, FloatLogSlider) else value
                    widget.min, widget.max = min(widget.min, at), max(widget.max, at)
                widget.value = value

    def follow(self, settings: Settings) -> None:
        """Lets only those settings be changed that count, and shows their numbers and which preset they are."""
        values = asdict(settings)
        for row in fields(settings):
            self.settings[row.name].disabled = not settings.counts(row)
        with quietly(self):
            for name, box in self.boxes.items():
                box.value, box.disabled = values[name], self.settings[name].disabled
            self.preset.value = next((name for name, preset in PRESETS.items() if preset.items() <= values.items()), OWN)

    def choose(self, dropdown: Dropdown, options, value) -> None:
        """Gives a list its options and its value, without an answer: between the two it has a value that nobody chose."""
        with quietly(self):
            dropdown.options, dropdown.value = options, value

    def rows(self) -> list[Widget]:
        """Returns the parts of the panel from top to bottom: the settings, the result, how it came about, the runs so far."""
        beside = {name: HBox([w, self.boxes[name]]) if name in self.boxes else w for name, w in self.settings.items()}
        settings, holes = VBox([self.preset, *beside.values(), self.lead, self.lead_row]), VBox([self.holes, self.seen])
        result = [
            HBox([self.run, self.stop, self.reset, self.estimate], layout=ROW),
            HBox([self.progress, self.status], layout={**ROW, "min_height": "32px"}),
            self.message,
            self.viewer,
            HBox([self.before, self.zoom, self.compared], layout=ROW),
        ]
        saving = HBox([self.save_settings, self.save_picture, self.chosen, self.show_error], layout=ROW)
        return [
            HBox([settings, holes], layout={**ROW, "align_items": "flex-start"}).add_class("refine-settings"),
            VBox(result).add_class("refine-result"),
            VBox([self.moments, self.curves]).add_class("refine-way"),
            VBox([self.table, saving]).add_class("refine-record"),
        ]


@contextmanager
def quietly(controls: Any) -> Iterator[None]:
    """Changes controls without an answer."""
    controls.are_filled = True
    try:
        yield
    finally:
        controls.are_filled = False
