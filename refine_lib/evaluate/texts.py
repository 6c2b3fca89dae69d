"""The table of an evaluation as Markdown, LaTeX and CSV, with the paper's figures where it has them."""

import collections
import csv
import io

import numpy as np
import pyarrow.compute as pc

from refine_lib.evaluate.rows import column, without_features

FORMS = {  # of the measures, in the order in which they are shown
    "frechet": "{:.3f}",
    "kernel": "{:.4f}",
    "perceptual": "{:.4f}",
    "l1": "{:.4f}",
    "psnr": "{:.2f}",
    "ssim": "{:.3f}",
    "seconds": "{:.2f}",
}
# Measures of single pictures: they have means and intervals, and methods are compared by them in pairs.
COMPARED = ("perceptual", "l1", "psnr", "ssim")
FEW = 2000  # pictures, below which a Fréchet distance says more about their number than about the method
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
OURS = {
    "plain:aot-gan": "AOT-GAN",
    "plain:lama-fourier": "LaMa-Fourier",
    "plain:big-lama": "Big-LaMa",
    "refined:big-lama": "Big-LaMa + refinement",
}


def titles_of(table):
    """What each measure is called."""
    names = table.names
    features = {"frechet": names.frechet, "kernel": names.kernel, "perceptual": names.perceptual}
    return features | {"l1": "L1", "psnr": "PSNR (dB)", "ssim": "SSIM", "seconds": "s"}


def main_columns(table):
    """The columns of the paper's form: pairs of a title and a pair (kind, measure)."""
    titles = titles_of(table)
    pairs = [(f"{kind}: {titles[name]}", (kind, name)) for kind in table.kinds for name in ("frechet", "perceptual")]
    return [*pairs, (f"s ({table.kinds[-1]})", (table.kinds[-1], "seconds"))]


def main_rows(table):
    """The rows of the paper's form: a method and its cells."""
    for method in table.methods:
        values = [table.values.get((kind, method, measure)) for _, (kind, measure) in main_columns(table)]
        forms = [FORMS[measure] for _, (_, measure) in main_columns(table)]
        yield [
            method,
            *("-" if v is None or np.isnan(v.value) else form.format(v.value) for v, form in zip(values, forms, strict=True)),
        ]


def published_rows(table):
    """The paper's own figures for those methods that it has, in the same form: FID and LPIPS."""
    for name in filter(None, map(paper_name, table.methods)):
        pairs = [f"{value:.3f}" for kind in table.kinds for value in PAPER[name][kind]]
        yield [f"the paper's {name}", *pairs, f"{PAPER[name]['s']:.2f}"]


def paper_name(method):
    """What the paper calls a method; None where it has no such row."""
    way, _, rest = method.partition(":")
    name = rest.partition(":")[0] if way == "folder" else OURS.get(method)
    return name if name in PAPER else None


def kind_rows(table, kind):
    """For a kind of hole the rows of all measures, with what is known of their uncertainty."""
    for method in table.methods:
        values = [(table.values.get((kind, method, measure)), form) for measure, form in FORMS.items()]
        yield [method, *("-" if value is None else in_words(value, form) for value, form in values)]


def in_words(value, form):
    """A ``Value`` with its interval or its spread."""
    if np.isnan(value.value):
        return "-"
    if not np.isnan(value.spread):
        return f"{form} ± {form}".format(value.value, value.spread)
    if np.isnan(value.low):
        return form.format(value.value)
    return f"{form} [{form}, {form}]".format(value.value, value.low, value.high)


def differences(table):
    """Sentences on pairs of methods: for each kind of hole each measure of single pictures."""
    titles = titles_of(table)
    for method, other in table.compared():
        for kind in table.kinds:
            if all((kind, name, "l1") in table.values for name in (method, other)):
                found = {name: table.difference(kind, method, other, name) for name in COMPARED}
                told = [f"{titles[name]} {in_words(v, FORMS[name].replace('{:', '{:+'))}" for name, v in found.items()]
                yield f"{kind}: {method} beside {other}: {', '.join(told)}"


def sentences(table):
    """What has to be said beside the numbers."""
    told = []
    for kind in table.kinds:
        rows = without_features(table.rows.filter(pc.equal(table.rows["kind"], kind)))
        shares = {row["picture"]: row["hole_share"] for row in rows if row["hole_share"] is not None}
        share = f"{np.mean(list(shares.values())):.0%}" if shares else "-"
        told.append(f"{kind} ({len(table.common(kind))} pictures, holes of {share} on average)")
    yield f"{table.settings.size} px, seed {table.settings.seed}: {', '.join(told)}"
    yield f"s: seconds of the method alone, median over the pictures; {'; '.join(table.machines)}"
    yield table.names.note
    if table.why:
        yield f"the official networks were not used: {table.why}"
    if min(len(table.common(kind)) for kind in table.kinds) < FEW:
        yield (
            f"a Fréchet distance of fewer than {FEW} pictures hangs on how many they are: compare rows with one another, on"
            " the same pictures, and not with other tables"
        )
    if table.errors:
        *what, error = table.errors[0]
        wrong = f"{len(table.errors)} rows hold an error, and their pictures count for no method"
        yield f"{wrong}. The first: {', '.join(filter(None, what))}: {error}"
    for note, n in collections.Counter(filter(None, table.rows["note"].to_pylist())).most_common(5):
        yield f"said of {n} fill{'s' * (n > 1)}: {note}"
    yield times(table)


def times(table):
    """Where the time went, over all rows."""
    method, measure, other = (
        np.nansum(column(table.rows, f"{what}seconds").astype(float)) for what in ("", "measure_", "other_")
    )
    shares = [f"{part / method:.1%}" if method else "-" for part in (measure, other)]
    return (
        f"time of all rows: methods {method:.0f} s, measures {measure:.1f} s ({shares[0]} of that), reading pictures and"
        f" drawing holes {other:.1f} s ({shares[1]})"
    )


def to_markdown(table):
    """The paper's form, a table of every measure for each kind of hole, differences, and what has to be said."""
    lines = _markdown(["method", *(title for title, _ in main_columns(table))], main_rows(table))
    published = list(published_rows(table))
    if published:
        pairs = [f"{kind}: {what}" for kind in table.kinds for what in ("FID", "LPIPS")]
        lines += ["", "### What the paper has", "", "1,000 photos (Unsplash) of 1024 px, on an RTX A5000.", ""]
        lines += _markdown(["method", *pairs, "s"], published)
    for kind in table.kinds:
        lines += ["", f"### {kind.capitalize()} holes", ""]
        lines += ["In brackets 95% of bootstrap samples of the pictures; ± the standard deviation over subsets.", ""]
        lines += _markdown(["method", *(titles_of(table)[measure] for measure in FORMS)], kind_rows(table, kind))
    lines += ["", "### Differences", "", "On the same pictures, with their paired 95% intervals.", ""]
    lines += [f"- {sentence}" for sentence in differences(table)] or ["- one method, nothing to compare"]
    lines += ["", "### Notes", "", *(f"- {sentence}" for sentence in sentences(table))]
    return "\n".join(lines) + "\n"


def to_latex(table):
    """The paper's form, for the package booktabs."""
    columns = main_columns(table)
    rows = [*main_rows(table), *(published_rows(table) if table.settings.features == "inception" else ())]
    head, *body = (" & ".join(map(_escaped, row)) + r" \\" for row in [["method", *(title for title, _ in columns)], *rows])
    lines = [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *(f"% {sentence}" for sentence in sentences(table))]) + "\n"


def to_csv(table):
    """A line for each number: method, kind, measure, what it is called, value, low, high, spread, pictures."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "kind", "measure", "name", "value", "low", "high", "spread", "pictures"])
    for (kind, method, measure), v in table.values.items():
        known = ["" if np.isnan(number) else number for number in (v.low, v.high, v.spread)]
        writer.writerow([method, kind, measure, titles_of(table)[measure], v.value, *known, v.n])
    return file.getvalue()


def _markdown(titles, rows):
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _escaped(text):
    for_latex = {c: f"\\{c}" for c in "%_#&${}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
    return "".join(for_latex.get(c, c) for c in text)
