"""The table of an evaluation as Markdown, LaTeX and CSV, with the paper's figures where it has them."""

import collections
import csv
import io
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from refine_lib.evaluate.measures import NOTES, PER_PICTURE, TABLE_1

if TYPE_CHECKING:
    from refine_lib.evaluate.tables import Table, Value

MANY_PICTURES = 2000  # with fewer, a Fréchet distance says more about their number than about the method
# Table 1 of the paper, 1,000 photos (Unsplash) of 1024 px on an RTX A5000: for each kind of hole FID and LPIPS, and seconds.
PAPER = {
    "AOT-GAN": {"thin": (17.387, 0.133), "medium": (34.667, 0.144), "thick": (54.015, 0.184), "s": 0.43},
    "LatentDiffusion": {"thin": (18.505, 0.141), "medium": (31.445, 0.149), "thick": (38.743, 0.172), "s": 31.56},
    "MAT": {"thin": (16.284, 0.137), "medium": (27.829, 0.135), "thick": (38.120, 0.157), "s": 0.56},
    "ZITS": {"thin": (15.696, 0.125), "medium": (23.500, 0.121), "thick": (31.777, 0.140), "s": 4.14},
    "LaMa-Fourier": {"thin": (14.780, 0.124), "medium": (22.584, 0.120), "thick": (29.351, 0.140), "s": 0.16},
    "Big-LaMa": {"thin": (13.143, 0.114), "medium": (21.169, 0.116), "thick": (29.022, 0.140), "s": 0.26},
    "Big-LaMa + refinement": {"thin": (13.193, 0.112), "medium": (19.864, 0.115), "thick": (26.401, 0.135), "s": 4.56},
}
IN_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "%_#&${}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
)


def main_columns(table: "Table") -> dict[str, tuple[str, str]]:
    """The columns of the paper's form, from a title to (kind, measure)."""
    pairs = [(kind, name) for kind in table.kinds for name in ("frechet", "perceptual")]
    columns = {f"{kind}: {table.title(name)}": (kind, name) for kind, name in pairs}
    return columns | {f"s ({table.kinds[-1]})": (table.kinds[-1], "seconds")}


def main_rows(table: "Table") -> list[list[str]]:
    """The rows of the paper's form: a method and its cells."""
    columns, found = main_columns(table).values(), table.values.get
    return [[way, *(cell(found((kind, way, name)), name, alone=True) for kind, name in columns)] for way in table.methods]


def published_rows(table: "Table") -> Iterator[list[str]]:
    """The paper's own figures for those methods that it has, whatever their settings, in the same form: FID and LPIPS."""
    published = {name.lower().replace("-", ""): name for name in PAPER}
    ways = [method.split(":") for method in table.methods if ":" in method]
    called = [f"{name} + refinement" if way == "refined" else name * (way != "enlarged") for way, name, *_ in ways]
    for name in dict.fromkeys(published.get(one.lower().replace("-", "")) for one in called):
        if name is not None:
            pairs = [f"{value:.3f}" for kind in table.kinds for value in PAPER[name][kind]]
            yield [f"the paper's {name}", *pairs, f"{PAPER[name]['s']:.2f}"]


def cell(value: "Value | None", measure: str, sign: str = "", alone: bool = False) -> str:
    """A number in the digits of its measure, with its interval or its spread unless it is ``alone``; ``-`` for none.

    Args:
        sign: ``"+"`` where positive numbers are to show their sign too.
    """
    if value is None or np.isnan(value.value):
        return "-"
    written = f"{{:{sign}.{TABLE_1[measure].digits}f}}".format
    if not alone and not np.isnan(value.low):
        return f"{written(value.value)} [{written(value.low)}, {written(value.high)}]"
    if not alone and not np.isnan(value.spread):
        return f"{written(value.value)} ± {written(value.spread)}"
    return written(value.value)


def differences(table: "Table") -> Iterator[str]:
    """Sentences on pairs of methods: for each kind of hole each measure of single pictures."""
    for (method, other), kind in itertools.product(table.compared(), table.kinds):
        if table.compared_rows(kind, method) and table.compared_rows(kind, other):
            found = {name: table.difference(kind, method, other, name) for name in PER_PICTURE}
            told = [f"{table.title(name)} {cell(value, name, sign='+')}" for name, value in found.items()]
            yield f"{kind}: {method} beside {other}: {', '.join(told)}"


def sentences(table: "Table") -> Iterator[str]:
    """The notes: what a reader must know beside the numbers."""
    told = []
    for kind in table.kinds:
        shares = {row["picture"]: row["hole_share"] for row in table.records if row["kind"] == kind and row["hole_share"]}
        share = f"{np.mean(list(shares.values())):.0%}" if shares else "-"
        told.append(f"{kind} ({len(table.common(kind))} pictures, holes of {share} on average)")
    yield f"{table.conditions.size} px, seed {table.conditions.seed}: {', '.join(told)}"
    yield f"s: seconds of the method alone, median over the pictures; {'; '.join(table.machines)}"
    higher = ", ".join(table.title(name) for name, measure in TABLE_1.items() if measure.better == "higher")
    yield f"higher is better: {higher}; of all other measures lower is better"
    yield NOTES[table.conditions.features]
    if table.why:
        yield f"the official networks were not used: {table.why}"
    if min(len(table.common(kind)) for kind in table.kinds) < MANY_PICTURES:
        yield (
            f"a Fréchet distance of fewer than {MANY_PICTURES} pictures depends on how many they are: compare rows with one"
            " another, on the same pictures, and not with other tables"
        )
    if table.errors:
        *what, error = table.errors[0]
        wrong = f"{len(table.errors)} rows hold an error, and their pictures count for no method"
        yield f"{wrong}. The first: {', '.join(filter(None, what))}: {error}"
    notes = collections.Counter(row["note"] for row in table.records if row["note"])
    for note, n in notes.most_common(5):
        yield f"said of {n} fill{'s' * (n > 1)}: {note}"
    method, measures, other = (sum(row[f"{what}seconds"] or 0 for row in table.records) for what in ("", "measure_", "other_"))
    shares = [f"{part / method:.1%}" if method else "-" for part in (measures, other)]
    yield (
        f"time of all rows: methods {method:.0f} s, measures {measures:.1f} s ({shares[0]} of that), reading pictures and"
        f" drawing holes {other:.1f} s ({shares[1]})"
    )


def to_markdown(table: "Table") -> str:
    """The paper's form, then a table of every measure for each kind of hole, the differences and the notes."""
    lines = _markdown(["method", *main_columns(table)], main_rows(table))
    published = list(published_rows(table))
    if published:
        pairs = [f"{kind}: {what}" for kind in table.kinds for what in ("FID", "LPIPS")]
        lines += ["", "### What the paper has", "", "1,000 photos (Unsplash) of 1024 px, on an RTX A5000.", ""]
        lines += _markdown(["method", *pairs, "s"], published)
    for kind in table.kinds:
        rows = [[way, *(cell(table.values.get((kind, way, name)), name) for name in TABLE_1)] for way in table.methods]
        lines += ["", f"### {kind.capitalize()} holes", ""]
        lines += ["In brackets 95% of bootstrap samples of the pictures; ± the standard deviation over subsets.", ""]
        lines += _markdown(["method", *map(table.title, TABLE_1)], rows)
    lines += ["", "### Differences", "", "On the same pictures, with their paired 95% intervals.", ""]
    lines += [f"- {sentence}" for sentence in differences(table)] or ["- one method, nothing to compare"]
    lines += ["", "### Notes", "", *(f"- {sentence}" for sentence in sentences(table))]
    return _one_text(lines)


def to_latex(table: "Table") -> str:
    """The paper's form, for the package booktabs."""
    columns = main_columns(table)
    rows = [*main_rows(table), *(published_rows(table) if table.conditions.features == "inception" else ())]
    head, *body = (" & ".join(text.translate(IN_LATEX) for text in row) + r" \\" for row in [["method", *columns], *rows])
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", head, r"\midrule", *body]
    return _one_text([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {sentence}" for sentence in sentences(table))])


def to_csv(table: "Table") -> str:
    """A line for each number: method, kind, measure, what it is called, value, low, high, spread, pictures."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "kind", "measure", "name", "value", "low", "high", "spread", "pictures"])
    for (kind, method, measure), v in table.values.items():
        known = ["" if np.isnan(number) else number for number in (v.low, v.high, v.spread)]
        writer.writerow([method, kind, measure, table.title(measure), v.value, *known, v.n])
    return file.getvalue()


def _markdown(titles, rows):
    lines = [titles, ["---"] * len(titles), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _one_text(lines):
    """Lines as a text. A name or an error that has several lines itself stays in its own."""
    return "".join(" ".join(line.split()) + "\n" for line in lines)
