"""What an evaluation found: the measures of each method over the pictures, and by how much methods differ."""

import collections
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from refine_lib.evaluate.measures import TABLE_1, Measure
from refine_lib.evaluate.methods import TRUTH
from refine_lib.evaluate.rows import Conditions
from refine_lib.evaluate.texts import to_csv, to_latex, to_markdown
from refine_lib.metrics import interval
from refine_lib.whole import whole_file

TEXTS = {"table.md": to_markdown, "table.tex": to_latex, "table.csv": to_csv}
FILES = (*TEXTS, "rows.parquet")  # what ``Table.write`` writes


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


@dataclass(repr=False, eq=False)
class Table:
    """What an evaluation found. ``print(table)`` shows it; ``table.write(folder)`` writes it down.

    For each kind of hole the methods are compared on the pictures that all of them have filled, so that none gains by failing.

    Attributes:
        rows: those of these pictures, kinds and methods, as a PyArrow table.
        conditions: what all rows have in common: size, seed and feature networks.
        methods, kinds: the names of the methods and the kinds of hole, in the order of the table.
        why: why the official feature networks were not used; empty where they were.
        new, wall_seconds: how many rows this run has added, and in how long.
        values: from (kind, method, measure) to a ``Value``; the measures are the names in ``measures.TABLE_1``. Those of
            single pictures are means over pictures, and ``"seconds"`` is a median.
        errors: rows that hold an error, as (picture, kind, method, error).
    """

    rows: pa.Table
    conditions: Conditions
    methods: list[str]
    kinds: list[str]
    why: str = ""
    new: int = 0
    wall_seconds: float = 0.0

    @functools.cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries; ``features`` is a float32 array (D,), or None."""
        features = self.rows["features"].to_numpy(zero_copy_only=False)
        rows = self.rows.drop_columns(["features"]).to_pylist()
        return [row | {"features": vector} for row, vector in zip(rows, features, strict=True)]

    @functools.cached_property
    def _filled(self):
        """From (kind, method) to the rows that hold no error, by the picture's name."""
        found = collections.defaultdict(dict)
        for row in self.records:
            if not row["error"]:
                found[row["kind"], row["method"]][row["picture"]] = row
        return found

    @property
    def errors(self) -> list[tuple[str, str, str, str]]:
        return [(row["picture"], row["kind"], row["method"], row["error"]) for row in self.records if row["error"]]

    @functools.cached_property
    def values(self) -> dict[tuple[str, str, str], Value]:
        found = {}
        for kind, method in itertools.product(self.kinds, self.methods):
            rows = self.compared_rows(kind, method)
            truths = [self._filled["", TRUTH.name][row["picture"]] for row in rows]
            for name, measure in TABLE_1.items():
                if len(rows) >= measure.at_least:
                    found[kind, method, name] = _value(measure, rows, truths)
        return found

    def common(self, kind: str) -> list[str]:
        """The names of the pictures that every method has filled. A method that has filled none is left out of this."""
        filled = [self._filled[kind, method] for method in self.methods if self._filled[kind, method]]
        return sorted(set(self._filled["", TRUTH.name]).intersection(*filled)) if filled else []

    def compared_rows(self, kind: str, method: str) -> list[dict[str, Any]]:
        """The rows of a method for the pictures in ``common``; none where the method has filled none."""
        rows = self._filled[kind, method]
        return [rows[name] for name in self.common(kind)] if rows else []

    def difference(self, kind: str, method: str, other: str, measure: str) -> Value:
        """How far a measure of single pictures lies above another method's on the same pictures, with its paired interval."""
        ours, others = (_numbers(self.compared_rows(kind, one), measure) for one in (method, other))
        return _mean(ours - others)

    def compared(self) -> Iterator[tuple[str, str]]:
        """Pairs of methods that are compared: each refined one with the plain pass of its network, others with the first."""
        for method in self.methods:
            plain = f"plain:{method.split(':')[1]}" if method.startswith("refined:") else ""
            other = plain if plain in self.methods else self.methods[0]
            if other != method:
                yield method, other

    @property
    def machines(self) -> list[str]:
        """The devices and versions that the rows were made with."""
        return sorted({row["made_with"] for row in self.records} - {""})

    def title(self, measure: str) -> str:
        """What a measure is called with the feature networks of this table."""
        return TABLE_1[measure].called(self.conditions.features)

    def __str__(self) -> str:
        return to_markdown(self)

    def write(self, folder: str | Path) -> list[Path]:
        """Writes ``table.md``, ``table.tex``, ``table.csv`` and all rows as one, ``rows.parquet``; returns the paths.

        Raises:
            OSError: where one cannot be written. It is there as it was, or not at all.
        """
        for name, text_of in TEXTS.items():
            with whole_file(Path(folder, name)) as part:
                part.write_text(text_of(self), encoding="utf-8")
        with whole_file(Path(folder, "rows.parquet")) as part:
            pq.write_table(self.rows, part)
        return [Path(folder, name) for name in FILES]


def _value(measure: Measure, rows, truths):
    if measure.per == "picture":
        return _mean(_numbers(rows, measure.name))
    value, spread = measure.of(rows, truths)
    return Value(value, len(rows), spread=spread)


def _numbers(rows, measure):
    """A column; not a number where a row was written before there was such a measure."""
    return torch.from_numpy(np.array([row[measure] for row in rows], np.float64))


def _mean(numbers):
    if numbers.isnan().any():
        return Value(np.nan, len(numbers))
    value, low, high = interval(numbers, lambda drawn: drawn.mean(-1))
    return Value(value, len(numbers), low, high)
