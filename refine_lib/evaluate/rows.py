"""What an evaluation found: a Parquet file for each row, written as soon as it is found, so that a stopped run can go on."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from refine_lib.evaluate.measures import PER_PICTURE
from refine_lib.evaluate.methods import Method
from refine_lib.evaluate.pictures import Picture, stamp_of
from refine_lib.whole import whole_file

# The columns. ``kind`` is the kind of hole, empty for the truth. ``seconds`` were needed by the method, where they mean
# something, and ``other_seconds`` to read the picture, draw its hole, and so on. ``made_with`` names the device and versions.
# ``note`` is what the method had to say. ``error`` says why there is nothing else; it is empty where there is.
TEXTS = ("picture", "kind", "method", "made_with", "note", "error")
NUMBERS = ("hole_share", *PER_PICTURE, "seconds", "measure_seconds", "other_seconds")
TYPES = dict.fromkeys(TEXTS, pa.string()) | dict.fromkeys(NUMBERS, pa.float64()) | {"features": pa.list_(pa.float32())}
SCHEMA = pa.schema(TYPES)


@dataclass(frozen=True)
class Conditions:
    """What all rows of a folder have in common."""

    size: int = 1024  # px, a side of the pictures
    seed: int = 0  # of the holes
    features: str = "inception"  # or "scenes"


def key_of(picture: Picture, kind: str, method: Method) -> str:
    """What a row is found by. It changes with the files behind a row, so that a row of other files is not taken for it."""
    of = (picture.name, stamp_of(picture.path), kind, method.name, method.stamp(picture, kind))
    return hashlib.sha256(repr(of).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Task:
    """A picture and a kind of hole, to be filled by some methods; or a picture itself: no kind, and ``TRUTH`` alone."""

    picture: Picture
    kind: str
    methods: dict[str, Method]  # by the keys of their rows
    kept: bool  # whether what is filled is wanted as a picture too

    def failed(self, error: str, made_with: str = "") -> list[dict[str, Any]]:
        """A row for each method, with its key and nothing but an error."""
        same = dict(picture=self.picture.name, kind=self.kind, error=error, made_with=made_with)
        return [same | {"key": key, "method": method.name} for key, method in self.methods.items()]


@dataclass(frozen=True)
class Rows:
    """The rows of a folder."""

    folder: Path

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def path(self, key: str) -> Path:
        """Where the row of a key is, or would be."""
        return self.folder / f"{key}.parquet"

    def write(self, key: str, row: dict[str, Any]) -> None:
        """Writes a row whole or not at all. The same row again takes its own place, so that nothing is counted twice."""
        row = dict.fromkeys(TEXTS, "") | {name: value for name, value in row.items() if value is not None}
        row |= {name: row[name].encode("utf-8", "backslashreplace").decode() for name in TEXTS}  # a path may have other bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path(key)) as part:
            pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), part, write_page_checksum=True)

    def whole(self, key: str, said: dict[str, str], n_features: int) -> dict[str, Any]:
        """The row of a key, where it is all that a table takes it for. Numbers that it was written without may be missing.

        Args:
            said: what it must say of its picture, kind and method.
            n_features: how many features a row without an error must have.

        Raises:
            OSError: where the file cannot be opened.
            ValueError: where it is damaged, or of something else.
        """
        try:
            with pq.ParquetFile(self.path(key), page_checksum_verification=True) as file:
                types = {column.name: column.type for column in file.schema_arrow}
                if file.metadata.num_rows != 1 or not types.items() <= TYPES.items():
                    raise ValueError("expected one row with the columns of an evaluation")
                [row] = file.read().to_pylist()
            if not all(isinstance(row.get(name), str) for name in TEXTS) or not said.items() <= row.items():
                raise ValueError(f"expected the row of {said}")
            if not row["error"] and np.isfinite(np.array(row["features"], np.float64)).sum() != n_features:
                raise ValueError(f"expected {n_features} features")
        except Exception as error:  # whatever PyArrow trips over
            if isinstance(error, OSError) and error.errno:  # of the disk, and not of what is in the file
                raise
            raise ValueError(f"{self.path(key)} is damaged: {error}") from error
        return row

    def read(self, keys: Iterable[str]) -> pa.Table:
        """The rows of keys that are there, as one table, in the order of picture, kind and method."""
        paths = [str(self.path(key)) for key in keys if key in self]
        table = dataset(paths, schema=SCHEMA, format="parquet").to_table() if paths else SCHEMA.empty_table()
        return table.sort_by([(name, "ascending") for name in ("picture", "kind", "method")]).combine_chunks()
