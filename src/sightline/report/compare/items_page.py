"""The sections of a comparison on common items: classes, images on which two classifiers differ, agreement."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import counted
from ...insight.style import png_rgb
from ..findings import images_by_row
from ..html import Child, Html, element, missing_note, png_uri, table
from ..sections import Figures, figure
from ..words import percent
from .figures import CLASSES, most_different
from .kinds import Comparison, RunPair

TILES = 12
NO_PAIRS = "No two of these runs were validated on the same images."


@dataclass(frozen=True)
class RunAnswer:
    """The prediction of one run for an image."""

    run: str
    label: str
    sure: float
    right: bool


@dataclass(frozen=True)
class SameTile:
    """One image with the predictions of both runs of a pair. image: uint8 [3, h, w]."""

    image: np.ndarray
    name: str
    truth: str
    answers: tuple[RunAnswer, ...]


def by_class(found: Comparison, drawn: Figures) -> list[Child]:
    """For each pair the classes that differ most, in a figure and a table."""
    if not found.pairs:
        return [missing_note(NO_PAIRS)]
    count = len(found.pairs[0].answers[0].classes)
    chance = (
        f"Of {count} classes, some intervals exclude zero by chance: about one in twenty where nothing differs, and "
        "more where a class has few images."
    )
    parts: list[Child] = [element("p", found.kind.class_note + chance, class_="small")]
    for number, pair in enumerate(found.pairs, 1):
        name = f"{pair.second} against {pair.first}"
        if len(found.pairs) > 1:
            parts.append(element("h3", name))
        title = f"Difference in {next(iter(pair.numbers.classes))} of each class, {name}"
        more = f" The {CLASSES} that differ most." if count > CLASSES else ""
        parts += [figure(drawn, f"classes-{number}", title, f"{title}.{more}"), class_table(pair, title)]
    return parts


def class_table(pair: RunPair, title: str) -> Html:
    """Every class with each measure of both runs and the difference; bold where the interval excludes zero."""
    measures, answers = pair.numbers.classes, pair.answers[0]
    first, truth = next(iter(measures.values())), answers.truth
    support = np.bincount(truth, minlength=len(first.difference)) if truth.ndim == 1 else truth.sum(0)
    rows: list[list[Child]] = []
    for index in most_different(first.difference, len(first.difference)):
        row: list[Child] = [answers.classes[index]]
        for apart in measures.values():
            row += [share(float(values[index])) for values in (apart.first, apart.second)]
            row.append(change(float(apart.difference[index]), float(apart.low[index]), float(apart.high[index])))
        rows.append([*row, f"{int(support[index]):,}"])
    head = ["Class"]
    for measure in measures:
        measure = f"{measure[0].upper()}{measure[1:]}"
        head += [f"{measure}, {pair.first}", f"{measure}, {pair.second}", "Difference, points"]
    return table([*head, "Images" if truth.ndim == 1 else "Pixels"], rows, title, numeric=1, sortable=True)


def share(value: float) -> str:
    """A share in percent; "" for NaN."""
    return percent(value) if value == value else ""


def change(value: float, low: float, high: float) -> Child:
    """A difference in points with its interval, bold where that excludes zero."""
    if not np.isfinite([low, high]).all():
        return f"{100 * value:+.1f}" if value == value else ""
    text = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return element("b", text) if low > 0 or high < 0 else text


def galleries(found: Comparison, drawn: Figures) -> list[Child]:
    """For each pair the images that only one of the two classifies correctly."""
    images, parts = thumbnails_by_name(found), []
    for pair in found.pairs:
        for second, winner, loser in ((True, pair.second, pair.first), (False, pair.first, pair.second)):
            often = pair.numbers.agreement["only second right" if second else "only first right"]
            tiles = only_right(pair, images, second)
            parts.append(element("h3", f"{winner} is right, {loser} is wrong"))
            parts.append(element("p", gallery_note(often, len(tiles)), class_="small"))
            if tiles:
                parts.append(element("ul", [element("li", tile(one)) for one in tiles], class_="gallery"))
    return parts


def thumbnails_by_name(found: Comparison) -> dict[str, np.ndarray]:
    """The thumbnail uint8 [3, h, w] of each validation image that a paired run has kept."""
    images: dict[str, np.ndarray] = {}
    for entry in found.paired:
        assert entry.answers
        names = entry.answers.names
        by_row = images_by_row(entry.files, len(names))
        images |= {names[row]: image for row, image in by_row.items() if names[row] not in images}
    return images


def only_right(pair: RunPair, images: Mapping[str, np.ndarray], second: bool) -> list[SameTile]:
    """Images that only the second (or first) run classifies correctly, by descending confidence of the other."""
    a, b = pair.answers
    right, wrong = (b, a) if second else (a, b)
    rows = np.flatnonzero(right.correct & ~wrong.correct)
    shown = [int(row) for row in rows[np.argsort(-wrong.sure[rows], kind="stable")] if a.names[row] in images]
    return [same_tile(pair, row, images[a.names[row]]) for row in shown[:TILES]]


def same_tile(pair: RunPair, row: int, image: np.ndarray) -> SameTile:
    """One image of a pair."""
    first, classes = pair.answers[0], pair.answers[0].classes
    answers = tuple(
        RunAnswer(name, classes[one.given[row]], float(one.sure[row]), bool(one.correct[row]))
        for name, one in zip((pair.first, pair.second), pair.answers, strict=True)
    )
    return SameTile(image, first.names[row], classes[first.truth[row]], answers)


def gallery_note(often: int, shown: int) -> str:
    """The number of such images, and how many of them are shown."""
    if not often:
        return "There is no such image."
    which = "" if shown == often else f" {shown:,} of them are shown." if shown else " No thumbnail of them was kept."
    order = " The most confident mistakes come first." if shown > 1 else ""
    return f"{counted(often, 'image')}.{which}{order}"


def tile(one: SameTile) -> Html:
    """One image with its truth and the predictions of both runs."""
    small = max(one.image.shape[1:]) <= 40
    source = png_uri(png_rgb(one.image.transpose(1, 2, 0)))
    alt = f"{one.name}: {one.truth}; " + "; ".join(f"{answer.run} predicts {answer.label}" for answer in one.answers)
    lines = [
        element("span", f"{answer.run}: {answer.label}, {percent(answer.sure, 0)}%",
                class_="sure" if answer.right else "wrong")
        for answer in one.answers
    ]  # fmt: skip
    return element(
        "figure",
        element("img", src=source, alt=alt, title=one.name, loading="lazy", class_="pixels" if small else None),
        element("figcaption", element("span", one.truth), lines),
    )


def agreement(found: Comparison) -> list[Child]:
    """How often each run agrees with the reference."""
    if not found.pairs:
        return [missing_note(NO_PAIRS)]
    first, heads = found.reference.name, found.kind.agreement or {}
    rows: list[list[Child]] = []
    for pair in found.pairs:
        counts = [pair.numbers.agreement[key] for key in heads]
        rows.append([pair.second, *[f"{count:,} ({percent(count / pair.items)}%)" for count in counts]])
    note = f"Each run against {first}, on {found.pairs[0].items:,} images."
    head = ["Run", *(text.replace("{first}", first) for text in heads.values())]
    return [element("p", note, class_="small"), table(head, rows, "Agreement", numeric=1)]
