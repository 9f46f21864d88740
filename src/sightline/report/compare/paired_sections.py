"""Sections of a comparison page: differences by class, images on which two classifiers differ, agreement."""

from collections.abc import Mapping

import numpy as np

from ...errors import counted
from ...insight.style import png_rgb
from ..findings import images_by_row
from ..formatting import percent
from ..html import Child, Html, element, missing_note, png_uri, table
from ..sections import Figures, figure
from .figures import CLASSES, most_different
from .kinds import Comparison, RunPair

GALLERY_IMAGES = 12
NO_PAIRS = "No two of these runs were validated on the same images."


def by_class(comparison: Comparison, drawn: Figures) -> list[Child]:
    """Section: for each pair of runs, a figure and a table of the classes that differ most."""
    if not comparison.pairs:
        return [missing_note(NO_PAIRS)]
    count = len(comparison.pairs[0].results[0].classes)
    chance = (
        f"Intervals are corrected for {count} classes: where nothing differs, about one table in twenty has a class "
        "whose interval excludes zero, for each measure."
    )
    parts: list[Child] = [element("p", comparison.kind.class_note + chance, class_="small")]
    for number, pair in enumerate(comparison.pairs, 1):
        name = f"{pair.second} against {pair.first}"
        if len(comparison.pairs) > 1:
            parts.append(element("h3", name))
        title = f"Difference in {next(iter(pair.numbers.classes))} of each class, {name}"
        more = f" The {CLASSES} that differ most." if count > CLASSES else ""
        parts += [figure(drawn, f"classes-{number}", title, f"{title}.{more}"), class_table(pair, title)]
    return parts


def class_table(pair: RunPair, title: str) -> Html:
    """Table of all classes: each measure of both runs and the difference. A difference is bold if its interval
    excludes zero."""
    measures, results = pair.numbers.classes, pair.results[0]
    first, truth = next(iter(measures.values())), results.truth
    support = np.bincount(truth, minlength=len(first.difference)) if truth.ndim == 1 else truth.sum(0)
    rows: list[list[Child]] = []
    for index in most_different(first.difference, len(first.difference)):
        row: list[Child] = [results.classes[index]]
        for apart in measures.values():
            row += [share(float(values[index])) for values in (apart.first, apart.second)]
            row.append(change(float(apart.difference[index]), float(apart.low[index]), float(apart.high[index])))
        rows.append([*row, f"{int(support[index]):,}"])
    head = ["Class"]
    for measure in measures:
        measure = f"{measure[0].upper()}{measure[1:]}"
        head += [f"{measure}, {pair.first}", f"{measure}, {pair.second}", "Difference, points"]
    return table(
        [*head, "Images" if truth.ndim == 1 or results.has_sets else "Pixels"], rows, title, numeric=1, sortable=True
    )


def share(value: float) -> str:
    """A share in percent; "" for NaN."""
    return percent(value) if value == value else ""


def change(value: float, low: float, high: float) -> Child:
    """A difference in percentage points with its interval; bold if the interval excludes zero."""
    if not np.isfinite([low, high]).all():
        return f"{100 * value:+.1f}" if value == value else ""
    text = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return element("b", text) if low > 0 or high < 0 else text


def galleries(comparison: Comparison, drawn: Figures) -> list[Child]:
    """Section: for each pair of runs, the images that only one of the two classifies correctly."""
    images, parts = thumbnails_by_name(comparison), []
    for pair in comparison.pairs:
        for second, winner, loser in ((True, pair.second, pair.first), (False, pair.first, pair.second)):
            count = pair.numbers.agreement["only second right" if second else "only first right"]
            rows = only_right(pair, images, second)
            parts.append(element("h3", f"{winner} is right, {loser} is wrong"))
            parts.append(element("p", gallery_note(count, len(rows)), class_="small"))
            if rows:
                figures = [element("li", gallery_image(pair, row, images)) for row in rows]
                parts.append(element("ul", figures, class_="gallery"))
    return parts


def thumbnails_by_name(comparison: Comparison) -> dict[str, np.ndarray]:
    """Thumbnails uint8 [3, h, w] by image name, from all runs that are compared image by image."""
    images: dict[str, np.ndarray] = {}
    for entry in comparison.paired:
        assert entry.results
        names = entry.results.names
        by_row = images_by_row(entry.files, len(names))
        images |= {names[row]: image for row, image in by_row.items() if names[row] not in images}
    return images


def only_right(pair: RunPair, images: Mapping[str, np.ndarray], second: bool) -> list[int]:
    """Indices of images that only one run of a pair classifies correctly: the second run, or if `second` is False the
    first.

    Only images with a thumbnail, at most GALLERY_IMAGES, by descending confidence of the run that is wrong.
    """
    a, b = pair.results
    right, wrong = (b, a) if second else (a, b)
    rows = np.flatnonzero(right.correct & ~wrong.correct)
    kept = [int(row) for row in rows[np.argsort(-wrong.confidence[rows], kind="stable")] if a.names[row] in images]
    return kept[:GALLERY_IMAGES]


def gallery_note(count: int, shown: int) -> str:
    """Sentence: the number of images of a gallery, and how many of them are displayed."""
    if not count:
        return "There are no such images."
    which = (
        "" if shown == count else f" {shown:,} of them are shown." if shown else " No thumbnails of them are stored."
    )
    order = " The most confident mistakes come first." if shown > 1 else ""
    return f"{counted(count, 'image')}.{which}{order}"


def gallery_image(pair: RunPair, row: int, images: Mapping[str, np.ndarray]) -> Html:
    """Figure of one image with its true class and the predictions of both runs. row: the image's index in the
    results."""
    first = pair.results[0]
    name, truth = first.names[row], first.label(row)
    image, alt, lines = images[name], [], []
    for run, one in zip((pair.first, pair.second), pair.results, strict=True):
        label, share = one.label(row, predicted=True), f", {percent(float(one.confidence[row]), 0)}%"
        alt.append(f"{run} predicts {label}")
        text = f"{run}: {label}{'' if one.has_sets else share}"
        lines.append(element("span", text, class_="sure" if one.correct[row] else "wrong"))
    source, kind = png_uri(png_rgb(image.transpose(1, 2, 0))), "pixels" if max(image.shape[1:]) <= 40 else None
    text = f"{name}: {truth}; {'; '.join(alt)}"
    picture = element("img", src=source, alt=text, title=name, loading="lazy", class_=kind)
    return element("figure", picture, element("figcaption", element("span", truth), lines))


def agreement(comparison: Comparison) -> list[Child]:
    """Section: table of the numbers of images on which each run and the reference agree or differ."""
    if not comparison.pairs:
        return [missing_note(NO_PAIRS)]
    first, heads = comparison.reference.name, comparison.kind.agreement or {}
    rows: list[list[Child]] = []
    for pair in comparison.pairs:
        counts = [pair.numbers.agreement[key] for key in heads]
        rows.append([pair.second, *[f"{count:,} ({percent(count / pair.count)}%)" for count in counts]])
    note = f"Each run against {first}, on {comparison.pairs[0].count:,} images."
    head = ["Run", *(text.replace("{first}", first) for text in heads.values())]
    return [element("p", note, class_="small"), table(head, rows, "Agreement", numeric=1)]
