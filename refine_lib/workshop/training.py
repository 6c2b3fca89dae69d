"""A network in training, with all that it takes to go on: its steps, its state, what it is watched by."""

import csv
import json
import os
import time

import torch
import torch.nn.functional as F
from PIL import Image

from refine_lib.evaluate.scene_features import load_scene_features
from refine_lib.masks import paste
from refine_lib.networks.lama import LamaGenerator
from refine_lib.networks.registry import load_generator, save_generator
from refine_lib.photos.pixels import to_pixels
from refine_lib.scenes.strokes import stroke_masks
from refine_lib.workshop.average import MovingAverage, clip_gradients
from refine_lib.workshop.effect import as_model, fill_after_telea, measure
from refine_lib.workshop.fast_training import forward_elsewhere, forward_for_training
from refine_lib.workshop.losses import Discriminator, feature_distance, penalty_at, told_by
from refine_lib.workshop.muon import Muon, best_precision
from refine_lib.workshop.sheets import DRAWN_ANYWHERE, SIDE, Sheets
from refine_lib.workshop.train_first import hole_and_known_l1
from refine_lib.workshop.trials import header, unseen
from refine_lib.workshop.widen import widen

COUNTERS = ("step", "pictures", "seconds", "first_step", "discriminators_first_step")
WARM_UP = 100  # steps in which the rate rises
WATCHED_SEED = 999_000_000  # of the unseen pictures that a run is watched with
LOG = ("step", "pictures", "minutes", "hole L1", "hole L1, unseen", "Telea's")
EFFECT = ("step", "pictures", "plain", "enlarged", "refined", "sharp", "grid", "small / Telea")


class Training:
    """A network with all that it takes to go on training it.

    Args:
        recipe: of ``recipes``.
        photos: a folder of pictures for the world ``"photos"``.
        start: a ``.safetensors`` whose weights it starts from, in place of random ones. A narrower network is widened.
        device: where the networks are. On a GPU a step takes about as long for 128 pictures as for 16: a recipe with
            ``batch=128`` sees eight times as many.
        workers: processes that draw sheets beside this one, as in ``Sheets``.
    """

    def __init__(self, recipe, photos=None, start=None, device="cpu", workers=0):
        self.recipe, self.device = recipe, torch.device(device)
        torch.manual_seed(recipe.seed)
        network = LamaGenerator(recipe.ngf, recipe.n_blocks, recipe.ratio)
        if start is not None:
            network.load_state_dict(widen(load_generator(start), recipe.ngf).state_dict())
        self.network = network.to(self.device, memory_format=torch.channels_last).train().requires_grad_(True)
        self.average = MovingAverage(self.network, horizon=recipe.horizon)
        self.optimizers = optimizers_of(self.network, recipe.lr)
        self.discriminator, self.discriminator_optimizers = None, []
        if recipe.adversarial or recipe.matching:
            self.discriminator = Discriminator().to(self.device, memory_format=torch.channels_last)
            self.discriminator_optimizers = optimizers_of(self.discriminator, recipe.lr, betas=(0.5, 0.99))
        self.features = load_scene_features().to(self.device) if recipe.features else None
        self.sheets = Sheets(recipe.world, recipe.batch, recipe.seed, recipe.close, photos, self.device, workers)
        self.precision = best_precision() if self.device.type == "cpu" else torch.float32
        self.step, self.pictures, self.seconds = 0, 0, 0.0  # seconds of the processor's time
        if start is not None:
            seen = header(start)
            self.step, self.pictures = int(seen.get("step", 0)), int(seen.get("pictures", 0))
        self.first_step = self.discriminators_first_step = self.step  # from which their rates rise
        self.drawing = 0.0  # seconds of the processor's time that pictures took, since the speed is measured
        self.measured_since = self.pictures, self.seconds
        self.smooth, self.log, self.effects = {}, [], []
        self.watched = None  # unseen pictures, drawn when they are first looked at

    def train_step(self, rate=1.0):
        """One step of all optimizers, with a share of the full rate."""
        began = time.process_time()
        recipe, random = self.recipe, torch.Generator().manual_seed(self.step)
        size = 128 if torch.rand((), generator=random) < recipe.large else 64
        image, mask = self.sheets.batch(self.step, size)
        self.drawing += time.process_time() - began
        hidden = torch.cat([image * (1 - mask), mask], dim=1).contiguous(memory_format=torch.channels_last)
        if self.device.type == "cpu":
            prediction = forward_for_training(self.network, hidden, self.precision, recipe.noise, random)
        else:
            prediction = forward_elsewhere(self.network, hidden, recipe.noise, random)
        parts, judged = self._losses(prediction, paste(prediction, image, mask), image, mask)
        if judged is not None:  # before the generator's backward, which frees what both have in common
            gradients_of(judged, self.discriminator, retain_graph=True)
        gradients_of(sum(getattr(recipe, name) * value for name, value in parts.items()), self.network)
        groups = ((self.optimizers, self.first_step), (self.discriminator_optimizers, self.discriminators_first_step))
        for optimizers, first_step in groups:
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * rate * min(1.0, (self.step + 1 - first_step) / WARM_UP)
                optimizer.step()
        self.average.update()
        self.step += 1
        self.pictures += len(image)
        self.seconds += time.process_time() - began

    def _losses(self, prediction, filled, image, mask):
        """The generator's losses by their names in the recipe, and the discriminator's own, or None."""
        in_hole, known = hole_and_known_l1(prediction, image, mask)
        parts, judged = {"hole": in_hole, "known": known}, None
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == torch.bfloat16):
            if self.features is not None:
                parts["features"] = feature_distance(self.features, filled, image)
            if self.discriminator is not None:
                penalty = penalty_at(self.step, self.recipe.penalty)
                judged, parts["adversarial"], parts["matching"] = told_by(self.discriminator, image, filled, mask, penalty)
        for name, value in (parts | ({} if judged is None else {"discriminator": judged})).items():
            before = self.smooth.setdefault(name, value.detach().float())
            self.smooth[name] = before.lerp(value.detach().float(), 0.03)
        return parts, judged

    def state(self):
        """Everything that changes while it trains, for ``torch.save``; its tensors are on the CPU."""
        return _on_the_cpu(
            {
                "recipe": self.recipe.as_dict(),
                "network": self.network.state_dict(),
                "average": self.average.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "discriminator": self.discriminator and self.discriminator.state_dict(),
                "discriminator_optimizers": [optimizer.state_dict() for optimizer in self.discriminator_optimizers],
                "counters": {name: getattr(self, name) for name in COUNTERS},
                "smooth": self.smooth,
                "log": self.log,
                "effects": self.effects,
            }
        )

    def go_on_from(self, state):
        """Takes the place of a training that gave this state, with this one's own recipe: its rates, too.

        A discriminator that the state lacks begins anew.
        """
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        load_optimizers(self.optimizers, state["optimizers"])
        vars(self).update(state["counters"])
        if self.discriminator is not None and state["discriminator"]:
            self.discriminator.load_state_dict(state["discriminator"])
            load_optimizers(self.discriminator_optimizers, state["discriminator_optimizers"])
        else:
            self.discriminators_first_step = self.step
        self.measured_since = self.pictures, self.seconds
        self.smooth = {name: value.to(self.device) for name, value in state["smooth"].items()}
        self.log, self.effects = list(state["log"]), list(state["effects"])

    @torch.no_grad()
    def watch(self, folder):
        """Fills unseen pictures of the own world with the averaged weights: a line of the log, and a strip to look at."""
        self.watched = self.watched or watched_pictures(self.recipe.world, self.sheets)
        *pictures, telea = self.watched
        image, mask = (one.to(self.device) for one in pictures)
        network = self.average.network.eval()
        filled = paste(network(torch.cat([image * (1 - mask), mask], dim=1)), image, mask)
        unseen = hole_and_known_l1(filled, image, mask)[0].item()
        minutes = round(self.seconds / 60, 1)
        smooth = round(self.smooth["hole"].item(), 5)
        self.log.append((self.step, self.pictures, minutes, smooth, round(unseen, 5), round(telea, 5)))
        write_rows(folder / "log.csv", LOG, self.log)
        strip = [torch.cat(list(x[:12]), dim=2) for x in (image * (1 - mask) + 0.5 * mask, filled, image)]
        Image.fromarray(to_pixels(torch.cat(strip, dim=1)[None])).save(folder / "preview.png")
        return unseen

    def watch_at_4x(self, folder, n=8):
        """Refines unseen pictures of four times the size: of its own world for leaves, else of another generator."""
        if self.recipe.world in DRAWN_ANYWHERE:
            pictures, masks = unseen(n, 256, seed=5)
        else:
            pictures = self.sheets.unseen(2 * n, seed=5)
            masks = stroke_masks(256, len(pictures), 5, "thick")
        effect = measure(as_model(self.average.network.eval()), pictures, masks)
        figures = effect.plain, effect.enlarged, effect.refined, effect.sharp, effect.grid, effect.small / effect.telea
        self.effects.append((self.step, self.pictures, *(round(x, 3) for x in figures)))
        write_rows(folder / "effect.csv", EFFECT, self.effects)

    def save(self, folder):
        """Writes the state in one go: an interruption leaves what was there."""
        write_whole(self.state(), folder / "state.ckpt")
        self.tell(folder)

    def tell(self, folder):
        """Writes what a look from outside is for: pictures seen, speed, the share of the time that drawing takes, and when."""
        pictures, seconds = self.measured_since
        passed = max(self.seconds - seconds, 1e-9)
        now = {"pictures": self.pictures, "speed": (self.pictures - pictures) / passed, "drawing": self.drawing / passed}
        (folder / "now.json").write_text(json.dumps(now | {"time": time.time()}))
        if passed > 300:
            self.measured_since, self.drawing = (self.pictures, self.seconds), 0.0

    def export(self, path):
        """Writes the averaged weights, in half precision, as ``load_network`` reads them."""
        notes = {"recipe": json.dumps(self.recipe.as_dict()), "minutes": f"{self.seconds / 60:.0f}"}
        notes |= {"trained_on": f"{self.pictures} pictures of the world {self.recipe.world!r}"}
        save_generator(self.average.network, path, half=True, pictures=self.pictures, step=self.step, **notes)


def _on_the_cpu(state):
    """A state of dictionaries and lists, whose tensors are where any machine can read them."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {name: _on_the_cpu(value) for name, value in state.items()}
    return [_on_the_cpu(value) for value in state] if isinstance(state, list) else state


def gradients_of(loss, network, **backward):
    """Gives a network's weights the gradients of a loss, bounded, and no others any.

    Raises:
        RuntimeError: where they are not finite.
    """
    weights = list(network.parameters())
    for weight in weights:
        weight.grad = None
    loss.backward(inputs=weights, **backward)
    clip_gradients(weights)


def load_optimizers(optimizers, states):
    """Loads what optimizers have gathered; their rates and other settings stay their own."""
    for optimizer, state in zip(optimizers, states, strict=True):
        own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(state)
        for group, settings in zip(optimizer.param_groups, own, strict=True):
            group.update(settings)


def write_whole(state, path):
    """Writes a state to a file that is there whole or not at all, whatever is killed or loses its power."""
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def write_rows(path, head, rows):
    """Writes a table as .csv, in one go: somebody may be reading it."""
    part = path.with_suffix(".part")
    with open(part, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    os.replace(part, path)


def optimizers_of(network, lr, betas=(0.9, 0.98)):
    """Muon for the hidden convolutions, AdamW for the rest, each group with its full rate as ``peak``."""
    first, *_, last = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    ends = {id(first.weight), id(last.weight)}
    hidden = [p for p in network.parameters() if p.ndim == 4 and id(p) not in ends]
    rest = [p for p in network.parameters() if p.ndim != 4 or id(p) in ends]
    chosen = [Muon(hidden, lr=lr), torch.optim.AdamW(rest, lr=lr / 10, betas=betas, weight_decay=1e-4, fused=True)]
    for group in (group for one in chosen for group in one.param_groups):
        group["peak"] = group["lr"]
    return chosen


def watched_pictures(world, sheets, n=64):
    """Unseen pictures of 64 px of a training's own world, their holes, and the error of OpenCV's Telea in them."""
    if world == "photos":
        image = F.avg_pool2d(sheets.unseen(n, WATCHED_SEED), SIDE // 64)
    else:
        unseen = Sheets(world, n, 0, sheets.close)
        unseen.first_seed = WATCHED_SEED
        image, _ = unseen.batch(0)
    mask = stroke_masks(64, len(image), WATCHED_SEED, "thick")
    return image, mask, hole_and_known_l1(fill_after_telea(image, mask), image, mask)[0].item()
