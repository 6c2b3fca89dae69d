"""What the panel shows of one picture and of its runs."""

from refine_lib.checks import SMALLEST_SIDE
from refine_lib.photos.pixels import to_pixels
from refine_lib.plots.pictures import zoom_on_hole
from refine_lib.pyramid import build_pyramid, number_of_levels
from refine_lib.widgets import draw
from refine_lib.widgets.runs import N_PICTURES


class Display:
    """Sets the controls to what there is to show. The panel's lock is held by whoever calls a method.

    Args:
        controls: the ``Controls`` of the panel.
        image, mask: as in ``multiscale_inpaint``; of a batch the first picture is shown.
    """

    def __init__(self, controls, image, mask):
        self.controls = controls
        self._image, self._mask, self._size = image[:1], mask[:1], tuple(image.shape[-2:])
        self._input = draw.with_hole(to_pixels(self._image), self._mask)
        self._pyramids = {}  # one: of the smallest scale that was shown last
        controls.message.value = controls.status.value = ""
        controls.before.options, controls.chosen.options = ["input"], []
        top, left, tall, wide = zoom_on_hole(self._mask, share=controls.zoom.value)
        controls.viewer.show(self._size, before=("input", self._input), after=("input", self._input))
        controls.viewer.look_at((left + wide / 2, top + tall / 2), tall)

    def scales(self, smallest_scale):
        """Offers the scales down to the smallest that a network can work on, and this one, with the levels that each gives."""
        found, scale = {smallest_scale}, SMALLEST_SIDE
        while scale <= min(self._size):
            found.add(scale)
            scale *= 2
        levels = {scale: number_of_levels(*self._size, scale) for scale in sorted(found)}
        options = [(f"{scale:g} px: {n} level{'s' if n > 1 else ''}", scale) for scale, n in levels.items()]
        self.controls.choose(self.controls.smallest_scale, options, smallest_scale)

    def settings(self, settings, runner):
        """Shows what the loss will see of the hole, and how long a run will take."""
        if settings.smallest_scale not in self._pyramids:
            self._pyramids = {settings.smallest_scale: build_pyramid(self._image, self._mask, settings.smallest_scale)}
        self.controls.holes.value, shares = draw.holes(self._pyramids[settings.smallest_scale], settings.erosion)
        self.controls.holes.layout.display = None if shares else "none"
        seen = [
            f"{share:.0%} at level {level}" if share else f"nothing at level {level}" for level, share in enumerate(shares, 2)
        ]
        text = f"yellow is what the loss sees of the hole: {', '.join(seen)}"
        if not shares:
            text = "one level: there is no smaller picture to agree with. Choose a smaller scale"
        self.controls.seen.value = draw.in_words(text)
        self.estimate(settings, runner)

    def runs(self, settings, runner):
        """Shows how far the latest run is, and what there is of all of them."""
        controls, run = self.controls, runner.latest
        going_on = run is not None and not run.is_over
        problem = run if run is not None and run.message else runner
        if problem.message:
            controls.message.value = draw.in_words(problem.message, problem.details)
        controls.stop.disabled = not going_on
        controls.progress.value = run.share_done if going_on else 0.0
        controls.progress.layout.display = None if going_on else "none"
        controls.curves.value = draw.figure_png(draw.losses(runner.runs[-N_PICTURES:]))
        self.table(runner)
        self._offer(runner)
        if not going_on:
            self.estimate(settings, runner)
        if run is not None and run.pixels is not None:
            self.after(run)
        elif run is None and runner.plain is not None:
            controls.viewer.show(self._size, after=("plain", runner.plain))
        controls.status.value = draw.in_words(_status(run, runner))  # when all of it is shown

    def after(self, run):
        """Shows the picture of a run to the right of the line."""
        self.controls.viewer.show(self._size, after=(f"run {run.number}{'' if run.is_over else ', so far'}", run.pixels))

    def before(self, runner):
        """Shows what was chosen to compare with to the left of the line."""
        name = self.controls.before.value
        pictures = {"input": self._input, "plain": runner.plain}
        pictures |= {f"run {run.number}": run.pixels for run in runner.runs}
        self.controls.viewer.show(self._size, before=(name, pictures[name]))

    def zoom(self):
        """Shows what the box holds, with the side that was chosen, about the place where it is."""
        height, width = self._size
        left, top, wide, tall = self.controls.viewer.box
        middle = ((left + wide / 2) * width, (top + tall / 2) * height)
        self.controls.viewer.look_at(middle, min(height, width) * self.controls.zoom.value)

    def table(self, runner):
        """Shows the runs as a table."""
        error = runner.plain_error if self.controls.show_error.value else None
        self.controls.table.value = draw.table(runner.runs, error)

    def estimate(self, settings, runner):
        """Shows about how long a run will take."""
        seconds = runner.seconds_for(settings)
        text = "measuring the pace" if seconds is None else f"a run takes about {draw.duration(seconds)} ({runner.device})"
        self.controls.estimate.value = "" if runner.message else draw.in_words(text)

    def _offer(self, runner):
        """Brings the lists of pictures to compare with, and of runs to save, up to date."""
        controls, pictured = self.controls, [run for run in runner.runs if run.is_over and run.pixels is not None]
        before = ("input", *["plain"] * (runner.plain is not None), *(f"run {run.number}" for run in pictured))
        if before != controls.before.options:
            value = controls.before.value if controls.before.value in before else "input"
            if len(pictured) == 1 and value == "input" and "plain" in before:
                value = "plain"  # what the first refined picture should be compared with
            controls.choose(controls.before, before, value)
            self.before(runner)
        over = tuple((f"run {run.number}", run.number) for run in reversed(runner.runs) if run.is_over)
        if over != controls.chosen.options:
            controls.choose(controls.chosen, over, over[0][1] if over else None)
        controls.save_settings.disabled, controls.save_picture.disabled = not over, not pictured


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
