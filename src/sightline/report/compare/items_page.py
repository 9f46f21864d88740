"""The sections of a comparison that are about the same items: classes, pictures, agreement."""

import numpy as np

from ...errors import counted
from ...insight.style import png_rgb
from ..html import Child, Html, element, missing_note, png_uri, table
from ..sections import Figures, figure
from ..words import percent
from .figures import CLASSES, most_different
from .kinds import Comparison, RunPair
from .pictures import Said, SameMasks, SameTile, only_right, thumbnails_by_name


def by_class(found: Comparison, drawn: Figures) -> list[Child]:
    """For each pair the classes that differ most, drawn and in a table."""
    if not found.pairs:
        return [missing_note("No two of these runs were validated on the same images.")]
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
        measure = next(iter(pair.classes))
        title = f"Difference in {measure} of each class, {name}"
        more = f" The {CLASSES} that differ most." if count > CLASSES else ""
        parts.append(figure(drawn, f"classes-{number}", title, f"{title}.{more}"))
        parts.append(class_table(pair, title))
    return parts


def class_table(pair: RunPair, title: str) -> Html:
    """Every class with each measure under both runs and the difference; bold where the interval excludes zero."""
    first = next(iter(pair.classes.values()))
    order = most_different(first.difference, len(first.difference))
    truth = pair.answers[0].truth
    support = np.bincount(truth, minlength=len(first.difference)) if truth.ndim == 1 else truth.sum(0)
    rows: list[list[Child]] = []
    for index in order:
        row: list[Child] = [pair.answers[0].classes[index]]
        for apart in pair.classes.values():
            row += [share(float(values[index])) for values in (apart.first, apart.second)]
            row.append(change(float(apart.difference[index]), float(apart.low[index]), float(apart.high[index])))
        rows.append([*row, f"{int(support[index]):,}"])
    head = ["Class"]
    for measure in pair.classes:
        measure = f"{measure[0].upper()}{measure[1:]}"
        head += [f"{measure}, {pair.first}", f"{measure}, {pair.second}", "Difference, points"]
    return table([*head, "Images" if truth.ndim == 1 else "Pixels"], rows, title, numeric=1, sortable=True)


def share(value: float) -> str:
    """A share in percent; "" where there is none."""
    return percent(value) if value == value else ""


def change(value: float, low: float, high: float) -> Child:
    """A difference in points with its interval, bold where that excludes zero."""
    if not np.isfinite([low, high]).all():
        return f"{100 * value:+.1f}" if value == value else ""
    text = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return element("b", text) if low > 0 or high < 0 else text


def pictures(found: Comparison, masks: SameMasks | None, drawn: Figures) -> list[Child]:
    """Images of which one run is right and the other wrong; of segmenters, the masks of all runs side by side."""
    if not found.pairs:
        return [missing_note("No two of these runs were validated on the same images.")]
    if found.kind.masks:
        if masks is None or "same-pictures" not in drawn:
            return [missing_note("No run has kept pictures of the images on which they differ (report.samples).")]
        says = "The images that each run gains and loses most against the reference, of those with a kept picture"
        note = f"{says}: image, truth, and the mask of each run. Gray pixels count nowhere."
        return [figure(drawn, "same-pictures", f"{says}, with the masks of all runs", note, wide=True)]
    known, parts = thumbnails_by_name(found), []
    for pair in found.pairs:
        for second, winner, loser in ((True, pair.second, pair.first), (False, pair.first, pair.second)):
            often = pair.agreement["only second right" if second else "only first right"]
            tiles = only_right(pair, known, second)
            parts.append(element("h3", f"{winner} is right, {loser} is wrong"))
            parts.append(element("p", told(often, len(tiles)), class_="small"))
            parts.append(
                element("ul", [element("li", tile(one)) for one in tiles], class_="gallery") if tiles else None
            )
    return parts


def told(often: int, shown: int) -> str:
    """How many images there are, and how many of them are shown."""
    if not often:
        return "There is no such image."
    which = "" if shown == often else f" {shown:,} of them are shown." if shown else " None of them has a kept picture."
    order = " Those first of which the wrong one is surest." if shown > 1 else ""
    return f"{counted(often, 'image')}.{which}{order}"


def tile(one: SameTile) -> Html:
    """One picture with its truth and what both runs say."""
    small = max(one.image.shape[1:]) <= 40
    source = png_uri(png_rgb(one.image.transpose(1, 2, 0)))
    says = f"{one.name}: {one.truth}; " + "; ".join(f"{said.run} says {said.answer}" for said in one.said)
    return element(
        "figure",
        element("img", src=source, alt=says, title=one.name, loading="lazy", class_="pixels" if small else None),
        element("figcaption", element("span", one.truth), [answer(said) for said in one.said]),
    )


def answer(said: Said) -> Html:
    """What one run says of an image."""
    text = f"{said.run}: {said.answer}, {percent(said.sure, 0)}%"
    return element("span", text, class_="sure" if said.right else "wrong")


def agreement(found: Comparison) -> list[Child]:
    """How often the reference and each run say the same."""
    if not found.pairs:
        return [missing_note("No two of these runs were validated on the same images.")]
    first = found.reference.name
    heads = {
        "both right": "Both right",
        "only first right": f"Only {first}",
        "only second right": "Only this run",
        "both wrong": "Both wrong",
        "same answer": "Same answer",
        "first better": f"{first} has more pixels right",
        "equal": "Equally many",
        "second better": "This run has more",
    }
    kinds = list(found.pairs[0].agreement)
    rows: list[list[Child]] = []
    for pair in found.pairs:
        counts = [pair.agreement[kind] for kind in kinds]
        rows.append([pair.second, *[f"{count:,} ({percent(count / pair.items)}%)" for count in counts]])
    note = f"Each run against {first}, on {found.pairs[0].items:,} images."
    return [
        element("p", note, class_="small"),
        table(["Run", *[heads[kind] for kind in kinds]], rows, "Agreement", numeric=1),
    ]
