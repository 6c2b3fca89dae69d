"""The panel to tune the method with: ``Tuner``."""

import math
import threading
import time
from dataclasses import asdict

from IPython import get_ipython
from ipywidgets import VBox, Widget

from refine_lib.checks import check_image_and_mask, check_smallest_scale
from refine_lib.fast.process import release_idle_threads
from refine_lib.networks.probe import check_model
from refine_lib.photos.pixels import save_photo, to_image
from refine_lib.refine import check_settings
from refine_lib.widgets import draw
from refine_lib.widgets.controls import Controls
from refine_lib.widgets.display import Display
from refine_lib.widgets.runs import N_PICTURES, Runner, Settings
from refine_lib.widgets.shown import shown

DRAWING = 0.2  # share of a run's time that drawing may take


class Tuner(VBox):
    """A panel: settings, Run and Stop, the picture and the losses as they grow, and the earlier runs to compare with.

    Args:
        image, mask, model: as in ``multiscale_inpaint``; of a batch the first picture is shown.
        smallest_scale, lr, n_iters, erosion, loss, optimizer: what the controls stand at, to begin with.
        show_error: whether the table has the error against what the image holds in the hole, where that is the truth.

    Attributes:
        settings: what the controls stand at, a ``Settings``. It can be set.
        runs: every run on this picture, a list of ``Run``, the latest last.

    Raises:
        TypeError, ValueError: where an argument is not as above.
    """

    def __init__(
        self,
        image,
        mask,
        model,
        smallest_scale=512,
        lr=0.002,
        n_iters=15,
        erosion=15,
        loss="paper",
        show_error=False,
        optimizer="adam",
    ):
        check_image_and_mask(image, mask)
        check_model(model, image.dtype)
        check_smallest_scale(smallest_scale)
        check_settings(lr, n_iters, erosion, loss, None, optimizer)
        self._model, self._lock, self._runner = model, threading.RLock(), None
        self.controls = Controls(self._lock, show_error)
        super().__init__(self.controls.rows())
        self.add_class("refine-tuner")
        with self._lock:  # or the thread that prepares would show what is not there yet
            self._begin(image, mask, smallest_scale)
            self.settings = Settings(lr, n_iters, erosion, smallest_scale, loss, optimizer)
            self._connect()
        shell = get_ipython()
        if shell is not None:  # what a cell computes leaves helpers behind, which would be in the way of the runs
            shell.events.register("post_run_cell", _after_cell)

    def __repr__(self):
        height, width = self._image.shape[-2:]
        chosen = {name: value for name, value in asdict(self.settings).items() if value not in ("paper", "adam")}
        settings = ", ".join(f"{name}={value!r}" for name, value in chosen.items())  # a page shows 110 characters at most
        return f"Tuner({height} x {width} px, {self._mask.mean().item():.1%} hole, {settings})"

    @property
    def settings(self):
        controls = self.controls
        lr = float(f"{controls.lr.value:.6g}")  # the slider computes 10 ** log10(0.002)
        chosen = (control.value for control in (controls.smallest_scale, controls.loss, controls.optimizer))
        return Settings(lr, controls.n_iters.value, controls.erosion.value, *chosen)

    @settings.setter
    def settings(self, settings):
        check_smallest_scale(settings.smallest_scale)
        check_settings(settings.lr, settings.n_iters, settings.erosion, settings.loss, None, settings.optimizer)
        controls, exponent = self.controls, math.log10(settings.lr)
        with self._lock:
            controls.lr.min, controls.lr.max = min(controls.lr.min, exponent), max(controls.lr.max, exponent)
            controls.n_iters.max = max(controls.n_iters.max, settings.n_iters)
            controls.erosion.max = max(controls.erosion.max, settings.erosion)
            controls.lr.value, controls.n_iters.value = settings.lr, settings.n_iters
            controls.erosion.value, controls.loss.value = settings.erosion, settings.loss
            controls.optimizer.value = settings.optimizer
            controls.follow_optimizer()
            self._display.scales(settings.smallest_scale)
            self._display.settings(self.settings, self._runner)

    @property
    def runs(self):
        return self._runner.runs

    def set_picture(self, image, mask):
        """Begins anew with another picture, or another hole: arguments as above. A run that is going on is stopped."""
        check_image_and_mask(image, mask)
        check_model(self._model, image.dtype)
        with self._lock:
            self._begin(image, mask, self.settings.smallest_scale)
            self._display.settings(self.settings, self._runner)

    def run(self):
        """Starts a run with the present settings and returns it at once, a ``Run``; a run that is going on is stopped."""
        with self._lock:
            self.controls.message.value = ""
            run = self._runner.start(self.settings)
            self._display.runs(self.settings, self._runner)
            return run

    def stop(self):
        """Asks the run to end with its present iteration; its picture so far is kept. Returns at once."""
        self._runner.stop()

    def wait(self, timeout=None):
        """Waits until nothing is computed, or for some seconds at most. Returns whether that is so."""
        return self._runner.wait(timeout)

    def close(self):
        """Stops what is computed, takes the panel off the page and lets go of its pictures."""
        if getattr(self, "_runner", None) is not None:  # ipywidgets closes what was not even made whole
            self._runner.stop()
            for widget in (*vars(self.controls).values(), *self.children):
                if isinstance(widget, Widget):
                    widget.unobserve_all()
                    widget.close()
        super().close()

    def save_settings(self, path, run=None):
        """Writes settings and outcome of a run, the latest or the one given, as JSON: ``Settings.from_json`` reads them.

        Raises:
            ValueError: where there is no run yet.
            FileExistsError: where there is such a file: nothing is written over.
        """
        text = self._run_to_save(run).to_json()
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)

    def save_picture(self, path, run=None):
        """Writes the picture of a run, the latest or the one given, in its full size; the path's ending says the format.

        Raises:
            ValueError: where there is no run with a picture yet.
            FileExistsError: where there is such a file: nothing is written over.
        """
        save_photo(to_image(self._run_to_save(run, with_picture=True).pixels), path)

    def _begin(self, image, mask, smallest_scale):
        self._image, self._mask = image.detach(), mask.detach()
        self._display = Display(self.controls, self._image, self._mask)
        self._display.scales(smallest_scale)
        self._drawn, self._drawn_at, self._drawing = None, 0.0, 0.0
        self._runner = Runner(self._image, self._mask, self._model, self._follow, after=self._runner)
        self._display.runs(self.settings, self._runner)

    def _run_to_save(self, run, with_picture=False):
        over = [run for run in self.runs if run.is_over and not (with_picture and run.pixels is None)]
        if run is None and over:
            return over[-1]
        if run is None or not run.is_over:
            raise ValueError("there is no run to save yet; expected one that is over")
        if with_picture and run.pixels is None:
            raise ValueError(f"run {run.number} has no picture: it made none, or {N_PICTURES} runs came after it")
        return run

    # What the page does.

    @shown
    def _press_run(self, _):
        self.run()

    def _press_stop(self, _):
        self.stop()  # before it waits for what is drawn just now
        self._tell_that_it_stops()

    @shown
    def _tell_that_it_stops(self):
        if self.runs and not self.runs[-1].is_over:
            self.controls.status.value = "stopping after this iteration"

    @shown
    def _press_reset(self, _):
        self.settings = self.settings.paper()

    @shown
    def _turn(self, _):
        self._display.estimate(self.settings, self._runner)

    @shown
    def _choose_optimizer(self, _):
        self.controls.follow_optimizer()

    @shown
    def _turn_what_the_loss_sees(self, _):
        self._display.settings(self.settings, self._runner)

    @shown
    def _choose_before(self, _):
        self._display.before(self._runner)

    @shown
    def _choose_run(self, _):
        if self._chosen is not None and self._chosen.pixels is not None:
            self._display.after(self._chosen)

    @shown
    def _choose_zoom(self, _):
        self._display.zoom()

    @shown
    def _choose_columns(self, _):
        self._display.table(self._runner)

    @shown
    def _press_save_settings(self, _):
        run = self._run_to_save(self._chosen)
        self.controls.viewer.save(f"run_{run.number}.json", run.to_json().encode())

    @shown
    def _press_save_picture(self, _):
        run = self._run_to_save(self._chosen, with_picture=True)
        self.controls.viewer.save(f"run_{run.number}.png", draw.to_png(run.pixels))

    @property
    def _chosen(self):
        return next((run for run in self.runs if run.number == self.controls.chosen.value), None)

    # What a run does: called in its thread, after every iteration, so not all of them are drawn.

    @shown
    def _follow(self):
        runner, run, now = self._runner, self._runner.latest, time.perf_counter()
        what = (runner, runner.pace is None, runner.plain is None, runner.message, run and (run.number, run.state, run.level))
        if what != self._drawn or now - self._drawn_at > self._drawing / DRAWING:
            self._display.runs(self.settings, self._runner)
            self._drawn, self._drawn_at = what, time.perf_counter()
            self._drawing = self._drawn_at - now

    def _connect(self):
        c = self.controls
        for control in (c.lr, c.n_iters, c.loss):
            control.observe(self._turn, "value")
        for control in (c.erosion, c.smallest_scale):
            control.observe(self._turn_what_the_loss_sees, "value")
        c.optimizer.observe(self._choose_optimizer, "value")
        c.before.observe(self._choose_before, "value")
        c.chosen.observe(self._choose_run, "value")
        c.zoom.observe(self._choose_zoom, "value")
        c.show_error.observe(self._choose_columns, "value")
        c.run.on_click(self._press_run)
        c.stop.on_click(self._press_stop)
        c.reset.on_click(self._press_reset)
        c.save_settings.on_click(self._press_save_settings)
        c.save_picture.on_click(self._press_save_picture)


def _after_cell(_):
    release_idle_threads()
