"""What the panel shows of one picture and of its runs."""

import functools
import html
from collections.abc import Sequence

from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.pictures import with_hole, zoom_on_hole
from refine_lib.pyramid import build_pyramid
from refine_lib.widgets import draw
from refine_lib.widgets.controls import Controls, Settings
from refine_lib.widgets.runs import N_PICTURES, Run, Runner


class Display:
    """Sets the controls to what there is to show. Whoever calls a method holds the panel's lock.

    Args:
        controls: of the panel.
        runner: has the picture, of a batch the first is shown, and its runs.
    """

    def __init__(self, controls: Controls, runner: Runner):
        self.controls, self.runner = controls, runner
        self.size = (runner.image.shape[-2], runner.image.shape[-1])
        self._input = with_hole(to_pixels(runner.image), runner.mask)
        pyramid = functools.lru_cache(1)(functools.partial(build_pyramid, runner.image[:1], runner.mask[:1]))
        self._holes = functools.lru_cache(1)(lambda scale, erosion: draw.holes(pyramid(scale), erosion))
        controls.message.value = controls.status.value = ""
        controls.choose(controls.before, ["input"], "input")
        controls.choose(controls.chosen, [], None)
        top, left, tall, wide = zoom_on_hole(runner.mask, share=controls.zoom.value)
        controls.viewer.show(self.size, before=("input", self._input), after=("input", self._input))
        controls.viewer.look_at((left + wide / 2, top + tall / 2), tall)

    def settings(self) -> None:
        """Shows which settings count, what the loss will see of the hole, and how long a run will take."""
        controls, settings = self.controls, self.controls.read()
        controls.follow(settings)
        controls.holes.value, shares = self._holes(settings.smallest_scale, settings.erosion)
        controls.holes.layout.display = None if shares else "none"
        seen = ", ".join(
            f"{share:.0%} at level {level}" if share else f"nothing at level {level}" for level, share in enumerate(shares, 2)
        )
        one_level = "one level: there is no smaller picture to agree with. Choose a smaller scale"
        controls.seen.value = draw.as_html(f"yellow is what the loss sees of the hole: {seen}" if shares else one_level)
        self.estimate()

    def runs(self) -> None:
        """Shows how far the latest run is, and what there is of all of them."""
        controls, runner, run = self.controls, self.runner, self.runner.latest
        problem = run if run is not None and run.message else runner
        if problem.message:
            controls.message.value = draw.as_html(problem.message, problem.details)
        running = None if run is None or run.is_over else run
        controls.stop.disabled = running is None
        controls.progress.value = running.share_done if running else 0.0
        controls.progress.layout.display = None if running else "none"
        controls.curves.value = draw.figure_svg(draw.losses(runner.runs[-N_PICTURES:]), _losses_in_words(run))
        self.table()
        self._offer()
        if not running:
            self.estimate()
        if run is None:
            controls.viewer.show(self.size, after=("plain", runner.plain))
        else:
            self.after(run)
        controls.status.value = draw.as_html(_status(run, runner))  # when all of it is shown

    def after(self, run: Run | None) -> None:
        """Shows the picture of a run, if there is one, to the right of the line."""
        if run is not None:
            self.controls.viewer.show(self.size, after=(f"run {run.number}{'' if run.is_over else ', so far'}", run.pixels))

    def before(self) -> None:
        """Shows what was chosen to compare with to the left of the line."""
        name, pictures = self.controls.before.value, {"input": self._input, "plain": self.runner.plain}
        pictures |= {f"run {run.number}": run.pixels for run in self.runner.runs}
        self.controls.viewer.show(self.size, before=(name, pictures[name]))

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
        """Shows about how long a run will take."""
        seconds = self.runner.seconds_for(self.controls.read())
        known = f"a run takes about {draw.duration(seconds or 0)} ({self.runner.device})"
        text = "measuring the pace" if seconds is None else known
        self.controls.estimate.value = "" if self.runner.message else draw.as_html(text)

    def _offer(self):
        """Brings the lists of pictures to compare with, and of runs to save, up to date."""
        controls, over = self.controls, [run for run in self.runner.runs if run.is_over]
        pictured = [f"run {run.number}" for run in over if run.pixels is not None]
        before = ("input", *["plain"] * (self.runner.plain is not None), *pictured)
        if before != controls.before.options:
            value = controls.before.value if controls.before.value in before else "input"
            if len(pictured) == 1 and value == "input" and "plain" in before:
                value = "plain"  # what the first refined picture should be compared with
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
        return "this is one plain pass; Run refines it" if runner.plain is not None else ""
    if run.is_over:
        return f"run {run.number} {run.state} after {draw.duration(run.seconds)}"
    if run.state == "waiting":
        return f"run {run.number} waits for what is computed now"
    height, width = run.sizes[run.level]
    left = "" if run.seconds_left is None else f", {draw.duration(run.seconds_left)} left"
    return f"run {run.number}: level {run.level + 1} of {len(run.sizes)}, {height} x {width} px{left}"


def runs_table(runs: Sequence[Run], plain_error: float | None = None) -> str:
    """Returns the runs as an HTML table, the latest first; with their errors where that of the plain pass is given."""
    rows = [
        {"run": run.number, **run.settings.cells(), "last loss": _number(run.loss), "error": _number(run.error)}
        | {"seconds": f"{run.seconds:.1f}", "": run.state}
        for run in reversed(runs)
    ]
    if plain_error is not None:
        rows.append({"run": "plain", "error": _number(plain_error)})
    names = ["run", *Settings().cells(), "last loss", *["error"] * (plain_error is not None), "seconds", ""]
    head = "".join(f"<th>{name}</th>" for name in names)
    cells = ("".join(f"<td>{html.escape(str(row.get(name, '')))}</td>" for name in names) for row in rows)
    body = "".join(f"<tr>{cell}</tr>" for cell in cells)
    body = body.replace("<tr>", '<tr class="latest">', 1) if runs else body
    return f'<table class="refine-runs"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _number(value):
    return "" if value is None else f"{value:.4f}"
