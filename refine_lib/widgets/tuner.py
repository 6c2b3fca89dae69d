"""The panel to tune the method with: ``Tuner``."""

import io
import os
import threading
import time
from dataclasses import asdict, fields, replace
from typing import cast

import torch
from IPython.core.getipython import get_ipython
from torch import Tensor

from refine_lib.checks import check_image_and_mask
from refine_lib.fast.process import release_idle_threads
from refine_lib.networks import EMBEDDED
from refine_lib.networks.probe import check_model
from refine_lib.networks.split import SplitNetwork
from refine_lib.optimizers import PRESETS
from refine_lib.photos.guides import Guide
from refine_lib.photos.opened import Source
from refine_lib.photos.pixels import save_photo, to_image
from refine_lib.widgets import draw
from refine_lib.widgets.controls import Controls, Settings, quietly
from refine_lib.widgets.display import Display
from refine_lib.widgets.leads import FILE, Lead, other_networks
from refine_lib.widgets.panel import Panel
from refine_lib.widgets.runner import Runner
from refine_lib.widgets.runs import N_PICTURES, Run

BEAT_SECONDS = 2  # between two signs of life that the page is sent while a run goes on
DRAWING = 0.2  # share of a run's time that drawing may take


class Tuner(Panel):
    """A panel: settings, Run and Stop, the picture and the losses as they grow, and the earlier runs to compare with.

    Args:
        image, mask, model: as in ``multiscale_inpaint``; of a batch the first picture is shown.
        show_error: whether the table has the error against what the image holds in the hole, where that is the truth.
        settings: what the controls stand at, to begin with, by the names of ``Settings``.

    Attributes:
        settings: what the controls stand at, a ``Settings``. It can be set.
        guide: what leads the smallest levels of the next run: a picture with the hole filled, as in ``inpaint_photo``, by its
            path, as an opened file or as a Pillow image; or the name of an embedded network, whose plain fill leads; or None.
            It can be set.
        runs: every run on this picture, a list of ``Run``, the latest last.

    Raises:
        TypeError, ValueError: where an argument is not as above.
    """

    large = ("_display", "_model", "_guide")

    def __init__(self, image: Tensor, mask: Tensor, model: SplitNetwork, *, show_error: bool = False, **settings):
        wanted = Settings(**settings)
        check_image_and_mask(image, mask)
        check_model(model, image.dtype, default=image.device)
        wanted.check()
        controls = Controls(lock := threading.RLock(), show_error, other_networks(model))
        super().__init__(controls, controls.rows(), lock)
        self.add_class("refine-tuner")
        self._model, self._guide = model, None
        with self._lock:  # or the thread that prepares would show what is not there yet
            self._begin(image, mask, wanted)
        self._connect_all(controls)
        shell = get_ipython()
        if shell is not None:  # what a cell computes leaves helpers behind, which would be in the way of the runs
            shell.events.register("post_run_cell", _after_cell)

    def __repr__(self):
        if self.is_closed:
            return "Tuner(closed)"
        height, width = self._display.size
        usual = [row.default for row in fields(Settings) if isinstance(row.default, str)]
        chosen = [f"{name}={value!r}" for name, value in asdict(self.settings).items() if value not in usual]
        settings = ", ".join(chosen)  # a page shows 110 characters at most
        return f"Tuner({height} x {width} px, {self._runner.mask.mean().item():.1%} hole, {settings})"

    def _still(self):
        return self._display.latest()

    @property
    def settings(self) -> Settings:
        self._check_open()
        return self.controls.read()

    @settings.setter
    def settings(self, settings: Settings) -> None:
        settings.check()
        self._check_open()
        with self._lock:
            size, (window, _) = self._display.size, self._runner.window(settings)
            self.controls.put(settings, size, window.size == size)
            self._display.settings()

    @property
    def guide(self) -> Source | None:
        return self._guide

    @guide.setter
    def guide(self, guide: Source | None) -> None:
        self._check_open()
        with self._lock:
            is_network, lead = isinstance(guide, str) and guide in EMBEDDED, cast(Lead, guide)
            self._display.lead = lead if guide is None or is_network else Guide(guide, self._display.size)
            self._guide, choice = guide, self.controls.lead
            with quietly(self.controls):
                if is_network and guide not in [value for _, value in choice.options]:
                    choice.options = (*choice.options, (guide, guide))
                choice.value = guide if is_network else "" if guide is None else FILE
                self.controls.lead_row.layout.display = None if choice.value == FILE else "none"
            self._display.estimate()

    @property
    def runs(self) -> list[Run]:
        return self._runner.runs

    def set_picture(self, image: Tensor, mask: Tensor) -> None:
        """Begins anew with another picture; with another hole of the same picture its runs stay. Arguments as above.

        A run that is going on is stopped.
        """
        with self._lock:
            self._take(image, mask)

    def fill(self, image: Tensor, mask: Tensor, holds_truth: bool | None = None) -> Run:
        """As ``set_picture``, and a run with the present settings begins at once; it is returned.

        Args:
            image, mask: as above.
            holds_truth: whether another picture holds in the hole what should be there, so that the error means something.
                Where it does not, no error is offered. None leaves that as it is.
        """
        with self._lock:
            self._check_open()
            if holds_truth is not None and not self._runner.shows(image):
                self.controls.show_error.value = holds_truth
                self.controls.show_error.layout.display = None if holds_truth else "none"
            self._take(image, mask, runs=True)
            return self.run()

    def run(self) -> Run:
        """Starts a run with the present settings and returns it at once. A run that is going on is stopped."""
        with self._lock:
            self._check_open()
            if self.controls.lead.value == FILE and self._guide is None:
                raise ValueError("no picture was given to lead the run; expected its path, or a file")
            run = self._runner.start(self.settings, self._display.lead)
            self._display.runs()
            self.controls.viewer.alive = 1
            threading.Thread(target=self._beat, args=(run,), daemon=True).start()
            return run

    def does(self, image: Tensor, mask: Tensor) -> bool:
        """Whether a run on this picture and hole, with the present settings, goes on: another click asks for nothing new."""
        runner = self._runner
        return runner.does(self.settings, self._display.lead) and runner.shows(image) and torch.equal(mask, runner.mask)

    def stop(self) -> None:
        """Asks the run to end with its present iteration; its picture so far is kept. Returns at once."""
        self._runner.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until nothing is computed, or for some seconds at most. Returns whether that is so."""
        return self._runner.wait(timeout)

    def close(self) -> None:
        """Stops what is computed, takes the panel off the page and lets go of its pictures and its network.

        Settings and outcome of its runs stay, and can be saved.
        """
        if "_runner" in vars(self) and not self.is_closed:  # ipywidgets closes what was not even made whole, and closes twice
            self._runner.close()
        super().close()

    def save_settings(self, path: str | os.PathLike, run: Run | None = None) -> None:
        """Writes settings and outcome of a run, the latest or the one given, as JSON: ``Settings.from_json`` reads them.

        Raises:
            ValueError: where there is no run yet.
            FileExistsError: where there is such a file: nothing is written over.
        """
        text = self._run_to_save(run).to_json()
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)

    def save_picture(self, path: str | os.PathLike, run: Run | None = None) -> None:
        """Writes the picture of a run, the latest or the one given, in its full size; the path's ending says the format.

        Raises:
            ValueError: where there is no run with a picture yet.
            FileExistsError: where there is such a file: nothing is written over.
        """
        pixels = self._run_to_save(run, with_picture=True).pixels
        assert pixels is not None
        save_photo(to_image(pixels), path)

    def _check_open(self):
        if self.is_closed:
            raise ValueError("this panel was closed, by hand or by the same cell, run again; expected one that is open")

    def _take(self, image, mask, runs=False):
        self._check_open()
        check_image_and_mask(image, mask)
        check_model(self._model, image.dtype, default=image.device)
        self._begin(image, mask, self.settings, self._runner, runs)

    def _begin(self, image, mask, settings, after=None, runs=False):
        self._drawn, self._drawn_at, self._drawing = None, 0.0, 0.0
        follow = lambda: self._shown(self._follow)  # noqa: E731
        self._runner = Runner(image.detach(), mask.detach(), self._model, follow, after, not runs, settings)
        self._display = Display(self.controls, self._runner)
        keeps = after is not None and after.photo is self._runner.photo
        self.guide = self._guide if keeps or isinstance(self._guide, str) and self._guide in EMBEDDED else None
        self.settings = settings
        if not runs:  # a run that begins now shows all that
            self._display.runs()

    def _run_to_save(self, run, with_picture=False):
        over = sorted((run for run in self.runs if run.is_over), key=lambda run: (with_picture and run.has_picture, run.number))
        run = run or (over[-1] if over else None)
        if run is None or not run.is_over:
            raise ValueError("there is no run to save yet; expected one that is over")
        if with_picture and not run.has_picture:
            why = "the panel was closed" if self.is_closed else f"it made none, or {N_PICTURES} runs came after it"
            raise ValueError(f"run {run.number} has no picture: {why}")
        return run

    def _connect_all(self, c):
        self._connect(dict.fromkeys(c.settings.values(), lambda: self._display.settings()))
        self._connect({box: lambda name=name, box=box: self._set(**{name: box.value}) for name, box in c.boxes.items()})
        self._connect({c.preset: lambda: self._set(**PRESETS.get(c.preset.value, {}))})
        self._connect(
            {
                c.before: lambda: self._display.before(),
                c.chosen: self._show_chosen,
                c.moment: lambda: self._display.moment(self._chosen()),
                c.zoom: lambda: self._display.zoom(),
                c.lead: self._choose_lead,
                c.lead_path: lambda: setattr(self, "guide", c.lead_path.value.strip() or None),
                c.lead_file: lambda: setattr(self, "guide", io.BytesIO(c.lead_file.value[0]["content"])),
                c.show_error: lambda: self._display.table(),
                c.run: lambda: self.does(self._runner.image, self._runner.mask) or self.run(),
                c.reset: lambda: setattr(self, "settings", self.settings.paper()),
                c.save_settings: lambda: self._download("json", lambda run: run.to_json().encode()),
                c.save_picture: lambda: self._download("png", lambda run: draw.to_png(run.pixels), with_picture=True),
            }
        )
        c.stop.on_click(lambda _: self.stop())  # before it waits for what is drawn just now
        self._connect({c.stop: lambda: self._display.runs()})

    def _choose_lead(self):
        chosen = self.controls.lead.value
        self.guide = None if chosen == FILE else chosen or None
        if chosen == FILE:  # until there is one
            with quietly(self.controls):
                self.controls.lead.value, self.controls.lead_row.layout.display = FILE, None

    def _show_chosen(self):
        self._display.after(self._chosen())
        self._display.moments(self._chosen())

    def _chosen(self):
        return next((run for run in self.runs if run.number == self.controls.chosen.value), None)

    def _download(self, ending, content, with_picture=False):
        run = self._run_to_save(self._chosen(), with_picture)
        self.controls.viewer.save(f"run_{run.number}.{ending}", content(run))

    def _set(self, **changed):
        """Takes settings of the page; where they are not in range, its boxes go back to what counts."""
        try:
            self.settings = replace(self.settings, **changed)
        finally:
            self.controls.follow(self.settings)

    def _beat(self, run):
        """Counts while a run goes on, so that the page notices when its kernel is gone."""
        while True:
            is_over = run.wait(BEAT_SECONDS)
            with self._lock:
                latest = None if self.is_closed else self._runner.latest or run  # another picture has no run yet
                if latest is run:
                    self.controls.viewer.alive = 0 if is_over else self.controls.viewer.alive + 1
            if is_over:
                return

    def _follow(self):
        """Shows how far a run is. It is called in the run's thread after every iteration, and does not draw all of them."""
        if self.is_closed:
            return
        runner, run, now = self._runner, self._runner.latest, time.perf_counter()
        what = (runner, runner.pace is None, runner.has_plain, runner.message, run and (run.number, run.state, run.level))
        if what != self._drawn or now - self._drawn_at > self._drawing / DRAWING:
            self._display.runs()
            self._drawn, self._drawn_at = what, time.perf_counter()
            self._drawing = self._drawn_at - now


def _after_cell(_):
    release_idle_threads()
