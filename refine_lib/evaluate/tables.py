"""What an evaluation found: the measures of each method over the pictures, and by how much methods differ."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from refine_lib.evaluate.measures import NAMES, frechet_distance, kernel_distance
from refine_lib.evaluate.rows import TRUTH, column, without_features
from refine_lib.evaluate.texts import COMPARED, to_csv, to_latex, to_markdown
from refine_lib.metrics import fraction, interval


@dataclass(frozen=True)
class Value:
    """A measure of a method over n pictures.

    Attributes:
        low, high: the ends of its 95% bootstrap interval, where it has one.
        spread: of the kernel distance its standard deviation over subsets of half the pictures.
    """

    value: float
    n: int
    low: float = np.nan
    high: float = np.nan
    spread: float = np.nan


class Table:
    """What an evaluation found. ``print(table)`` shows it; ``table.write(folder)`` writes it down.

    Per kind of hole the methods are compared on the pictures that all of them have filled, so that none gains by failing.

    Attributes:
        rows: those of these pictures, kinds and methods.
        values: from (kind, method, measure) to a ``Value``; measures are ``"frechet"``, ``"kernel"``, ``"perceptual"``,
            ``"l1"``, ``"psnr"``, ``"ssim"`` (means over pictures; the last three inside holes) and ``"seconds"`` (median).
        errors: rows that hold an error, as (picture, kind, method, error).
        new, wall_seconds: how many rows this run has added, and in how long.
    """

    def __init__(self, rows, settings, methods, kinds, why="", new=0, seconds=0.0):
        self.rows, self.settings, self.methods, self.kinds = rows, settings, list(methods), list(kinds)
        self.names, self.why, self.new, self.wall_seconds = NAMES[settings.features], why, new, seconds
        self._found = {}

    @functools.cached_property
    def errors(self):
        rows = self.rows.filter(pc.not_equal(self.rows["error"], ""))
        return [tuple(row[name] for name in ("picture", "kind", "method", "error")) for row in without_features(rows)]

    @functools.cached_property
    def values(self):
        found = {}
        for kind in self.kinds:
            for method in self.methods:
                if self._of(kind, method):
                    found |= self._measured(kind, method)
        return found

    def _of(self, kind, method):
        """The rows of a method that hold no error, by the picture's name: dictionaries, ``features`` as an array."""
        if (kind, method) not in self._found:
            wanted = {"kind": kind, "method": method, "error": ""}
            rows = self.rows.filter(functools.reduce(pc.and_, (pc.equal(self.rows[n], value) for n, value in wanted.items())))
            features = column(rows, "features") if len(rows) else []
            pairs = zip(without_features(rows), features, strict=True)
            self._found[kind, method] = {row["picture"]: row | {"features": vector} for row, vector in pairs}
        return self._found[kind, method]

    def common(self, kind):
        """The names of the pictures that every method has filled, but for methods that have filled none."""
        filled = [rows for rows in (self._of(kind, method) for method in self.methods) if rows]
        return sorted(set(self._of("", TRUTH)).intersection(*filled)) if filled else []

    def _measured(self, kind, method):
        common, all_rows = self.common(kind), self._of(kind, method)
        rows, n, found = [all_rows[name] for name in common], len(common), {}
        if n == 0:
            return {}
        if n > 1:
            truth = self._of("", TRUTH)
            sets = [np.stack([row["features"] for row in some]) for some in (rows, [truth[name] for name in common])]
            found["frechet"] = Value(frechet_distance(*sets), n)
            mean, deviation = kernel_distance(*sets)
            found["kernel"] = Value(mean, n, spread=deviation)
        for measure in COMPARED:
            value, low, high = interval(_pairs(rows, measure))
            found[measure] = Value(value, n, low, high)
        seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
        found["seconds"] = Value(float(np.median(seconds)) if seconds else np.nan, n)
        return {(kind, method, measure): value for measure, value in found.items()}

    def difference(self, kind, method, other, measure):
        """By how much a measure of a method is above another's on the same pictures, with its paired interval: a ``Value``."""
        common = self.common(kind)
        pairs = tuple(_pairs([self._of(kind, one)[name] for name in common], measure) for one in (method, other))
        value, low, high = interval(pairs, lambda a, b: fraction(a) - fraction(b))
        return Value(value, len(common), low, high)

    def compared(self):
        """Pairs of methods that are compared: each refined one with the plain pass of its network, others with the first."""
        for method in self.methods:
            way, _, rest = method.partition(":")
            plain = f"plain:{rest.split(':')[0]}"
            other = plain if way == "refined" and plain in self.methods else self.methods[0]
            if other != method:
                yield method, other

    @property
    def machines(self):
        """The devices and versions that the rows were made with."""
        return sorted(set(filter(None, self.rows["made_with"].to_pylist())))

    def __str__(self):
        return to_markdown(self)

    def write(self, folder):
        """Writes ``table.md``, ``table.tex``, ``table.csv`` and all rows as one, ``rows.parquet``; returns the paths."""
        folder = Path(folder)
        texts = {"table.md": to_markdown(self), "table.tex": to_latex(self), "table.csv": to_csv(self)}
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        pq.write_table(self.rows, folder / "rows.parquet")
        return [folder / name for name in (*texts, "rows.parquet")]


def _pairs(rows, measure):
    """What ``refine_lib.metrics.interval`` takes, for a mean over pictures."""
    values = torch.tensor([row[measure] for row in rows], dtype=torch.float64)
    return torch.stack([values, torch.ones_like(values)], dim=1)
