"""What the panel shows of one picture and of its runs."""

import functools
import html
from collections.abc import Sequence

import numpy as np

from refine_lib.plots.pictures import with_hole, zoom_on_hole
from refine_lib.pyramid import build_pyramid
from refine_lib.widgets import draw
from refine_lib.widgets.controls import Controls, Settings
from refine_lib.widgets.leads import Lead
from refine_lib.widgets.runner import Runner
from refine_lib.widgets.runs import N_PICTURES, Run

LONG = 120  # seconds of a run, above which the panel says what would take less


class Display:
    """Sets the controls to what there is to show. Whoever calls a method holds the panel's lock.

    Args:
        controls: of the panel.
        runner: has the picture, of a batch the first is shown, and its runs.
    """

    lead: Lead = None  # of the next run

    def __init__(self, controls: Controls, runner: Runner):
        self.controls, self.runner = controls, runner
        self.size = (runner.image.shape[-2], runner.image.shape[-1])
        self._input, self._earlier, self._said, self._leads = with_hole(runner.photo, runner.mask), len(runner.runs), "", True
        self._strip_of: Run | None = None
        self._seen_run: Run | None = None  # to the right of the line

        @functools.lru_cache(1)
        def pyramid(scale, window):
            return build_pyramid(runner.part(runner.image[:1], window), runner.part(runner.mask[:1], window), scale)

        self._holes = functools.lru_cache(1)(lambda erosion, *of: draw.holes(pyramid(*of), erosion))
        controls.message.value = controls.status.value = ""
        controls.choose(controls.before, ["input"], "input")
        controls.choose(controls.chosen, [], None)
        top, left, tall, wide = zoom_on_hole(runner.mask, share=min(controls.zoom.value, 1))
        look_at = (left + wide / 2, top + tall / 2), min(self.size) * controls.zoom.value
        controls.viewer.show(self.size, look_at, before=("input", self._input), after=("input", self._input))

    @property
    def run(self) -> Run | None:
        """The latest run on this hole, if there is one."""
        return self.runner.latest if len(self.runner.runs) > self._earlier else None

    def settings(self) -> None:
        """Shows which settings count, what the loss will see of the hole, and how long a run will take."""
        controls, settings = self.controls, self.controls.read()
        controls.follow(settings)
        window, _ = self.runner.window(settings)
        controls.holes.value, shares = self._holes(settings.erosion, settings.smallest_scale, window)
        controls.holes.layout.display = None if shares else "none"
        seen = ", ".join(
            f"{share:.0%} at level {level}" if share else f"nothing at level {level}" for level, share in enumerate(shares, 2)
        )
        one_level = "one level: there is no smaller picture to agree with. Choose a smaller scale"
        controls.seen.value = draw.as_html(f"yellow is what the loss sees of the hole: {seen}" if shares else one_level)
        self.estimate()
        self._say()

    def runs(self) -> None:
        """Shows how far the latest run is, and what there is of all of them."""
        controls, runner, run = self.controls, self.runner, self.run
        self._say()
        running = None if run is None or run.is_over else run
        controls.progress.value = running.share_done if running else 0.0
        controls.stop.disabled = running is None
        controls.progress.layout.display = None if running else "none"
        controls.curves.value = draw.charts(draw.losses(runner.runs[-N_PICTURES:]), _losses_in_words(run))
        self.table()
        self._offer()
        if not running:
            self.estimate()
        if run is None:
            controls.viewer.show(self.size, after=("plain", runner.plain))
        else:
            self.after(run)
        self.moments(run)
        controls.status.value = draw.as_html(_status(run, runner))  # when all of it is shown

    def after(self, run: Run | None) -> None:
        """Shows the picture of a run, if there is one, to the right of the line."""
        if run is not None and run.has_picture:
            self.controls.viewer.show(self.size, after=(f"run {run.number}{'' if run.is_over else ', so far'}", run.pixels))
            self._seen_run = run
            self._compare()

    def moments(self, run: Run | None) -> None:
        """Offers the pictures that a run that is over had on its way, in a strip of what the box shows."""
        controls, moments = self.controls, run.moments if run is not None and run.is_over else {}
        offered = [(f"{n} update{'s' * (n != 1)}", n) for n in sorted(moments)]
        controls.moments.layout.display = None if len(offered) > 1 else "none"
        if len(offered) > 1 and self._strip_of is not run:
            controls.choose(controls.moment, offered, offered[-1][1])
            controls.strip.value = draw.strip(
                {words: np.asarray(moments[n].pixels) for words, n in offered}, controls.viewer.box
            )
            self._strip_of = run

    def moment(self, run: Run | None) -> None:
        """Shows the picture that a run had after the chosen number of updates, to the right of the line."""
        chosen = self.controls.moment
        if run is not None and chosen.value in run.moments:
            self.controls.viewer.show(self.size, after=(f"run {run.number}, {chosen.label}", run.moments[chosen.value].pixels))

    def latest(self) -> np.ndarray:
        """The picture of the latest run, or of the plain pass, or the input."""
        run = self.run.pixels if self.run is not None else None
        pixels = run if run is not None else self.runner.plain
        return self._input if pixels is None else pixels

    def before(self) -> None:
        """Shows what was chosen to compare with to the left of the line."""
        name = self.controls.before.value
        pixels = self._input if name == "input" else self.runner.plain if name == "plain" else None
        run = self._before_run()
        self.controls.viewer.show(self.size, before=(name, run.pixels if run is not None else pixels))
        self._compare()

    def _compare(self) -> None:
        """Says in which settings the run to the left of the line differs from the one to its right."""
        before, after, text = self._before_run(), self._seen_run, ""
        if before is not None and after is not None:
            pairs = [(name, cell, after.settings.cells()[name]) for name, cell in before.settings.cells().items()]
            text = ", ".join(f"{name} {a} | {b}" for name, a, b in pairs if a != b)
        self.controls.compared.value = draw.as_html(text)

    def _before_run(self) -> Run | None:
        """The run that was chosen to be to the left of the line, if it is one."""
        return next((run for run in self.runner.runs if self.controls.before.value == f"run {run.number}"), None)

    def zoom(self) -> None:
        """Shows what the box holds, with the side that was chosen, about the place where it is."""
        (height, width), (left, top, wide, tall) = self.size, self.controls.viewer.box
        middle = ((left + wide / 2) * width, (top + tall / 2) * height)
        self.controls.viewer.look_at(middle, min(height, width) * self.controls.zoom.value)

    def table(self) -> None:
        """Shows the runs as a table."""
        error = self.runner.plain_error if self.controls.show_error.value else None
        self.controls.table.value = runs_table(self.runner.runs, error)

    def estimate(self) -> None:
        """Shows about how long a run will take, on what part of the picture, and whether memory holds it."""
        settings = self.controls.read()
        seconds, (window, budget) = self.runner.seconds_for(settings, self.lead), self.runner.window(settings)
        text = "measuring the pace"
        if seconds is not None:
            text = f"a run takes about {draw.about(seconds)} ({self.runner.device})"
        if window.size != self.size:
            text += f", on {window.size[1]} x {window.size[0]} px around the hole"
        if seconds is not None and seconds > LONG:
            text += ". That is long: the preset fast, fewer iterations or a smaller hole take less"
        if not budget.holds(*window.size):
            text += f". It {budget.compare(*window.size)}: fill a smaller hole, or one at a time"
        self.controls.estimate.value = "" if self.runner.message else draw.as_html(text)

    def _say(self):
        """Shows what the latest run has to say, while its settings are the panel's; an error of an answer goes before."""
        run, runner, details = self.run, self.runner, ""
        text = "The hole is the whole picture: there is nothing to go by." if runner.hole.all() else ""
        if run is not None and run.message and run.settings == self.controls.read():
            text, details = run.message, run.details
        elif runner.message:
            text, details = runner.message, runner.details
        message, text = self.controls.message, draw.as_html(text, details)
        if message.value in ("", self._said):
            message.value = text
        self._said = text

    def _offer(self):
        """Brings the lists of pictures to compare with, and of runs to save, up to date."""
        controls, over = self.controls, [run for run in self.runner.runs if run.is_over]
        pictured = [f"run {run.number}" for run in over if run.has_picture]
        before = ("input", *["plain"] * self.runner.has_plain, *pictured)
        if before != controls.before.options:
            value = controls.before.value if controls.before.value in before else "input"
            if self._leads and value == "input" and "plain" in before and self.run is not None and self.run.is_over:
                value, self._leads = "plain", False  # what the first refined picture should be compared with
            controls.choose(controls.before, before, value)
            self.before()
        to_save = tuple((f"run {run.number}", run.number) for run in reversed(over))
        if to_save != controls.chosen.options:
            controls.choose(controls.chosen, to_save, over[-1].number if over else None)
        controls.save_settings.disabled, controls.save_picture.disabled = not over, not pictured


def _losses_in_words(run):
    """What the chart of the losses shows, for those who do not see it."""
    fell = (
        [f"level {level}: {losses[0]:.4f} to {losses[-1]:.4f}" for level, losses in enumerate(run.losses, 2) if losses]
        if run
        else []
    )
    return f"the loss of run {run.number}, {'; '.join(fell)}" if fell else "the loss of every iteration, when there is a run"


def _status(run, runner):
    if run is None:
        return "this is one plain pass; Run refines it" if runner.has_plain else ""
    if run.is_over:
        return f"run {run.number} {run.state} after {draw.duration(run.seconds)}"
    if run.state == "waiting":
        return f"run {run.number} waits for what is computed now"
    if run.is_stopping:
        return f"run {run.number} stops after this iteration"
    height, width = run.sizes[run.level]
    left = "" if run.seconds_left is None else f", about {draw.about(run.seconds_left)} left"
    return f"run {run.number}: level {run.level + 1} of {len(run.sizes)}, {height} x {width} px{left}"


def runs_table(runs: Sequence[Run], plain_error: float | None = None) -> str:
    """Returns the runs as an HTML table, the latest first; with their errors where that of the plain pass is given."""
    rows = [
        {
            "run": run.number,
            **run.settings.cells(),
            "hole": f"{run.hole_share:.1%}",
            "led by": run.led_by,
            "last loss": _number(run.loss),
            "error": _number(run.error),
        }
        | {"seconds": f"{run.seconds:.1f}", "": run.state}
        for run in reversed(runs)
    ]
    if plain_error is not None:
        rows.append({"run": "plain", "error": _number(plain_error)})
    names = [
        "run",
        *Settings().cells(),
        "hole",
        *["led by"] * any(run.led_by for run in runs),
        "last loss",
        *["error"] * (plain_error is not None),
        "seconds",
        "",
    ]
    head = "".join(f"<th>{name}</th>" for name in names)
    cells = ("".join(f"<td>{html.escape(str(row.get(name, '')))}</td>" for name in names) for row in rows)
    body = "".join(f"<tr>{cell}</tr>" for cell in cells)
    body = body.replace("<tr>", '<tr class="latest">', 1) if runs else body
    return f'<table class="refine-runs"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _number(value):
    return "" if value is None else f"{value:.4f}"
