"""What an evaluation found, a Parquet file for each row, written as it is found: a stopped run goes on where it was."""

import hashlib
import os
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.dataset import dataset

from refine_lib.evaluate.pictures import whole_file

SCHEMA = pa.schema(
    [
        ("picture", pa.string()),
        ("kind", pa.string()),  # of hole; empty for the truth
        ("method", pa.string()),
        ("hole_share", pa.float64()),
        ("l1", pa.float64()),
        ("psnr", pa.float64()),
        ("ssim", pa.float64()),
        ("perceptual", pa.float64()),
        ("features", pa.list_(pa.float32())),
        ("seconds", pa.float64()),  # of the method, where they mean something
        ("measure_seconds", pa.float64()),
        ("other_seconds", pa.float64()),  # to read the picture, draw its hole, and so on
        ("made_with", pa.string()),  # device and versions
        ("note", pa.string()),  # what the method had to say
        ("error", pa.string()),  # why there is nothing else; empty where there is
    ]
)
TRUTH = "truth"  # the method that leaves the picture as it is


@dataclass(frozen=True)
class Key:
    """What a row is of. The stamps change with the files behind it, so that a row of other files is not taken for it."""

    picture: str
    picture_stamp: str
    kind: str
    method: str
    method_stamp: str

    @classmethod
    def of(cls, picture, kind="", method=None):
        """The key of a method's fill, or without one of the picture itself."""
        if method is None:
            return cls(picture.name, picture.stamp, "", TRUTH, "")
        return cls(picture.name, picture.stamp, kind, method.name, method.stamp(picture, kind))

    @property
    def file_name(self):
        return f"{hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:24]}.parquet"


class Rows:
    """The rows of a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._names = set(os.listdir(self.folder)) if self.folder.is_dir() else set()

    def __contains__(self, key):
        return key.file_name in self._names

    def write(self, key, row):
        """Writes a row; it is there whole or not at all. The same row again takes its own place: nothing is counted twice."""
        known = {name: row.get(name) for name in SCHEMA.names} | {name: row.get(name) or "" for name in ("note", "made_with")}
        with whole_file(self.folder / key.file_name) as part, part.open("wb") as file:
            pq.write_table(pa.Table.from_pylist([known], schema=SCHEMA), file)
            file.flush()
            os.fsync(file.fileno())  # before its name says that it is there
        self._names.add(key.file_name)

    def read(self, keys):
        """The rows of keys that are there, as one table, in the order of picture, kind and method."""
        paths = [str(self.folder / key.file_name) for key in keys if key in self]
        table = dataset(paths, schema=SCHEMA, format="parquet").to_table() if paths else SCHEMA.empty_table()
        return table.sort_by([(name, "ascending") for name in ("picture", "kind", "method")]).combine_chunks()

    def forget_errors(self, keys):
        """Removes those rows of keys that hold an error, so that they are tried again."""
        for key in keys:
            path = self.folder / key.file_name
            if key in self and pq.read_table(path, columns=["error"])["error"][0].as_py():
                path.unlink(missing_ok=True)
                self._names.discard(path.name)


def column(table, name):
    """A column as an array; ``features`` as (N, D)."""
    values = table[name].combine_chunks()
    if name == "features":
        return np.asarray(values.flatten()).reshape(len(values), -1)
    return values.to_numpy(zero_copy_only=False)


def without_features(table):
    """The rows of a table as dictionaries, without what is long."""
    return table.drop_columns(["features"]).to_pylist()
