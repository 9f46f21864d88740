"""The report of a multi-label run: summary, feature maps, curves, classes, confused classes, the worst mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...data.label_arrays import label_texts, strata
from ...errors import counted
from ...insight import figures as drawings
from ...insight.curves import History, MetricCurve, history
from ...insight.projection import EpochMap, epoch_maps, static_maps
from ...insight.style import png_rgb, short
from ...report import sections
from ...report.drawing import Plan, draw_all, kinds, plan_curves
from ...report.findings import GALLERY_IMAGES, IMAGES_PER_PAIR, PAIRS, without_map
from ...report.formatting import epochs_text, percent, section, status
from ...report.html import Child, Html, element, missing_note, png_uri, table
from ...report.live import items_block, live, map_block, numbers, with_live_views, with_mistakes
from ...report.maps import map_notes, sampled_note
from ...report.run import RunFiles, Thumbnails
from ...stats.groups import Groups, ids_in, read_groups, said
from ...stats.intervals import effective_images
from ...stats.units import FEWEST
from ..contract import Metric
from ..whole_image.class_maps import class_map_section
from .metrics import FEW, Decisions, Precision, decisions, precision_intervals
from .predictions import LabelSets, Pair, captions, confused_pairs, confusion, losses_of, read_label_sets

CLASS_TABLE = (
    "Sorted by average precision, lowest first; click a heading to sort. Average precision: the area under the curve "
    "of precision against recall over all thresholds. Its interval is over images or their groups. Precision, recall "
    "and F1 are at {at}."
)
CHOSEN = "the threshold of the class, which was chosen on images held out from training, not on these"
CONFUSION = (
    "Rows are true classes, columns predicted ones. The diagonal counts the images in which the class was found. If a "
    "class was missed in an image, its count is divided equally among the classes that were wrongly predicted in this "
    "image; without any, it is in the column “nothing”. The row “nothing” has wrong predictions in images where no "
    "class was missed. Errors have their own color scale, so that rare ones are visible."
)
PAIR_TABLE = (
    "Pairs of a missed and a wrongly predicted class in the same image. Those come first that occur in more images "
    "than expected if misses and wrong predictions were independent of each other."
)
TOGETHER = (
    "Each cell counts the validation images that have both classes. Its color shows the share of the images with the "
    "class of the row that also have the class of the column. Classes that nearly always occur together cannot be "
    "told apart by a model."
)
MAP = (
    "Penultimate features of the same {count} validation images after {epochs}. Choose a class to see where its images "
    "are. Predictions are those of the final weights. A map alone is no evidence; the class table has the numbers."
)
NOTHING = "nothing"


@dataclass(frozen=True)
class Summary:
    """What the report computes from the predictions for N images and K classes.

    ranked: average precision. at: precision, recall and F1 at the thresholds. wrong: rows of images with a wrong label
    set, the largest loss first. pairs: the most confused classes.
    """

    sets: LabelSets
    groups: Groups | None
    ranked: Precision
    at: Decisions
    wrong: np.ndarray
    pairs: list[Pair]

    @property
    def at_half(self) -> bool:
        """Whether all thresholds are 0.5, as without images held out to choose them."""
        return bool((self.sets.thresholds == 0.5).all())


def content(files: RunFiles, metrics: Mapping[str, Metric], watched: bool) -> sections.Content:
    """Sections and figures of a run's page. watched: whether the run is still training; t-SNE is then left out."""
    files, sets = read_label_sets(files)
    past, summary = history(files.records), summarize(sets, read_groups(files.path, sets.names)) if sets else None
    maps = maps_of(files, summary, with_tsne=not watched)
    images = thumbnails_by_row(files, len(sets.names)) if sets else {}
    curves = [MetricCurve(name, metrics[name].title) for name in ("mean_average_precision", "macro_f1")]
    figures = draw_all(plan_curves(past, curves) | plan(files, summary, maps, images))
    titled: list[tuple[str, list[Child]]] = [
        ("Summary", [*lead_and_facts(files, past, summary), sections.hints_list(hints(past, summary))]),
        (sections.maps_title(files), feature_maps(files, figures, maps, summary)),
        *sections.training_curves(files, figures, past, curves),
        ("Classes", class_table(summary) if summary else [missing_note(MISSING)]),
        ("Confused classes", confused(figures, summary, images) if summary else [missing_note(MISSING)]),
        ("Wrong label sets", gallery_of_wrong(summary, images) if summary else [missing_note(MISSING)]),
        *(class_map_section(files, sets.classes, captions(sets), "those with the largest loss") if sets else []),
    ]
    shown = sections.displayed_sentence([counted(len(images), "validation image")] if images else [])
    return sections.Content(files, titled, figures, past, shown)


MISSING = "predictions/val.csv is missing or cannot be read; it is written when training ends."


def summarize(sets: LabelSets, groups: Groups | None) -> Summary:
    """Compute the content of the report from predictions/val.csv. groups: of the images, or None."""
    ids = ids_in(groups)
    ranked, predicted = precision_intervals(sets.probabilities, sets.truth, ids), sets.predicted
    losses = losses_of(sets)
    wrong = np.flatnonzero((predicted != sets.truth).any(1))
    return Summary(
        sets=sets,
        groups=groups,
        ranked=ranked,
        at=decisions(predicted, sets.truth),
        wrong=wrong[np.argsort(-losses[wrong], kind="stable")],
        pairs=confused_pairs(sets, PAIRS),
    )


def lead_and_facts(files: RunFiles, past: History, summary: Summary | None) -> list[Child]:
    """The lead sentence, the metrics with their intervals, and the facts of the run."""
    model = str(section(files.recipe, "model").get("name") or "a model")
    if summary is None:
        sentence = f"{model} is {status(past)} at {epochs_text([past.last_epoch])}."
        return [element("p", sentence, class_="lead"), sections.fact_cards(files, past, [])]
    sets, ranked, at = summary.sets, summary.ranked, summary.at
    edges = sections.interval_text(ranked.interval)
    sentence = (
        f"{model} finds the labels of {counted(len(sets.names), 'validation image')} with a mean average precision of "
        f"{percent(ranked.mean)}% ({edges}) over {int((ranked.positives > 0).sum())} classes."
    )
    facts = [("Mean average precision", f"{percent(ranked.mean, 2)}%", edges)]
    where = "at a probability of 0.5" if summary.at_half else "at the chosen thresholds"
    for title, value in (("Macro F1", at.macro_f1), ("Micro F1", at.micro_f1), ("Exactly right", at.exact)):
        facts.append((title, f"{percent(float(value[0]))}%", where))
    return [
        element("p", sentence, class_="lead"),
        sections.fact_cards(files, past, facts),
        sections.baselines_line(files),
        element("p", " ".join(notes(summary, bool(past.best_epoch))), class_="small"),
    ]


def notes(summary: Summary, chosen: bool) -> list[str]:
    """Sentences on what the interval covers, and on classes and images that the metrics leave out. chosen: whether the
    epoch was chosen on these images."""
    ranked, found = summary.ranked, []
    exact, groups = (summary.sets.predicted == summary.sets.truth).all(1), summary.groups
    if not ranked.few:
        effective = effective_images(exact, ids_in(groups))
        found.append(sections.interval_note(len(exact), groups, effective, chosen))
    absent = [name for name, count in zip(summary.sets.classes, ranked.positives, strict=True) if not count]
    if absent:
        found.append(f"Left out, because no validation image has them: {', '.join(absent)}.")
    if ranked.few:
        few = f"{ranked.few} class{'es' * (ranked.few > 1)} with fewer than {FEWEST} images, or groups of them"
        found.append(f"{few}: no interval of the mean average precision can be given{said(groups, {})}.")
    if bare := int((~summary.sets.truth.any(1)).sum()):
        found.append(f"{counted(bare, 'validation image')} without any label.")
    return found


def hints(past: History, summary: Summary | None) -> list[sections.Hint]:
    """Hints on the class with the lowest average precision, the most frequent confusion, and the training curves."""
    found: list[sections.Hint] = []
    if summary is not None:
        values = np.where(summary.ranked.positives >= FEW, summary.ranked.by_class, np.inf)
        weakest = int(values.argmin())
        if np.isfinite(values[weakest]) and values[weakest] < summary.ranked.mean - 0.1:
            name, value = summary.sets.classes[weakest], percent(float(values[weakest]))
            found.append((f"{name} has the lowest average precision, {value}%", "classes"))
        if summary.pairs and len(summary.pairs[0].rows) > 1:
            pair = summary.pairs[0]
            text = f"{pair.missed} missed and {pair.predicted} predicted instead in {len(pair.rows)} images"
            found.append((text, "confused-classes"))
    return found + sections.curve_hints(past)


def class_table(summary: Summary) -> list[Child]:
    """Section: a table of the classes, and which classes occur together."""
    sets, ranked, at = summary.sets, summary.ranked, summary.at
    order = np.lexsort((np.arange(len(sets.classes)), ranked.by_class))  # NaN, for classes without an image, is last
    rows: list[list[Child]] = []
    for index in order:
        value, (low, high) = ranked.by_class[index], ranked.class_intervals[index]
        known = bool(ranked.positives[index])
        row: list[Child] = [sets.classes[index], sections.bar(float(value) if known else 0.0), share(value)]
        row += [f"{percent(low)} to {percent(high)}" if np.isfinite(low) else ""]
        row += [share(each[0, index]) for each in (at.precision, at.recall, at.f1)]
        rows.append([*row, f"{sets.thresholds[index]:.3f}", f"{ranked.positives[index]:,}"])
    head = ["Class", "", "Average precision, %", "95% interval", "Precision, %", "Recall, %", "F1, %", "Threshold",
            "Images"]  # fmt: skip
    text = CLASS_TABLE.format(at="a probability of 0.5" if summary.at_half else CHOSEN)
    return [element("p", text, class_="small"), table(head, rows, "Class by class", numeric=2, sortable=True)]


def share(value: float) -> str:
    """A share in percent; "" for NaN."""
    return percent(float(value)) if value == value else ""


def confused(figures: sections.Figures, summary: Summary, images: Mapping[int, np.ndarray]) -> list[Child]:
    """Section: the matrix of confused classes, the most confused pairs with images, and what occurs together."""
    classes = summary.sets.classes
    counts = dict(zip(classes, summary.ranked.positives, strict=True))
    rows: list[list[Child]] = [
        [one.missed, one.predicted, f"{len(one.rows):,}", percent(len(one.rows) / counts[one.missed])]
        for one in summary.pairs
    ]
    more = f" The figure has the {drawings.MAX_ROWS} classes with the most errors." if len(classes) > 100 else ""
    parts: list[Child] = [
        element("h3", "What is confused with what"),
        sections.figure(figures, "confusion", "Matrix of missed and wrongly predicted classes", CONFUSION + more, True),
    ]
    if rows:
        parts.append(element("p", PAIR_TABLE, class_="small"))
    head = ["Missed", "Predicted instead", "Images", "Of the images with the missed class, %"]
    parts.append(table(head, rows, "Most confused pairs", numeric=2) if rows else
                 element("p", "In no image was one class missed and another predicted instead."))  # fmt: skip
    for one in summary.pairs:
        shown = [row for row in one.rows.tolist() if row in images][:IMAGES_PER_PAIR]
        if len(one.rows) > 1 and shown:
            text = [element("b", one.missed), " missed, ", element("b", one.predicted), " predicted"]
            parts += [element("p", text, class_="row"), gallery(summary.sets, shown, images)]
    return [
        *parts,
        element("h3", "What occurs together"),
        sections.figure(figures, "together", "Matrix of classes that occur in the same images", TOGETHER, wide=True),
    ]


def gallery_of_wrong(summary: Summary, images: Mapping[int, np.ndarray]) -> list[Child]:
    """Section: the images with a wrong label set and the largest loss."""
    if not len(summary.wrong):
        return [element("p", "Every label set is right.")]
    rows = [row for row in summary.wrong.tolist() if row in images][:GALLERY_IMAGES]
    if not rows:
        return [missing_note("No thumbnails of these images are stored in snapshots/mistakes.npz and samples.npz.")]
    wrong, count = len(summary.wrong), len(summary.sets.names)
    text = f"{wrong:,} of {count:,} images have a wrong label set. These have the largest loss."
    text += " Check them first for labels that are wrong or missing." * (2 * wrong < count)
    return [element("p", text, class_="small"), gallery(summary.sets, rows, images)]


def gallery(sets: LabelSets, rows: Sequence[int], images: Mapping[int, np.ndarray]) -> Html:
    """Images in a responsive grid, each with the labels that were found, missed and wrongly predicted."""
    return element("ul", [element("li", gallery_figure(sets, row, images[row])) for row in rows], class_="gallery")


def gallery_figure(sets: LabelSets, row: int, image: np.ndarray) -> Html:
    """One image, uint8 [3, h, w], with its labels; the file name as title and alternative text."""
    truth, predicted = sets.truth[row], sets.predicted[row]
    parts = (("found", truth & predicted), ("missed", truth & ~predicted), ("false", predicted & ~truth))
    lines = [(name, ", ".join(sets.classes[k] for k in np.flatnonzero(which))) for name, which in parts if which.any()]
    text = "; ".join(f"{name}: {labels}" for name, labels in lines) or "no label, and none predicted"
    name, pixels = sets.names[row], "pixels" if max(image.shape[1:]) <= 40 else None
    source = png_uri(png_rgb(image.transpose(1, 2, 0)))
    picture = element("img", src=source, alt=f"{name}: {text}", title=name, loading="lazy", class_=pixels)
    captions = [
        element("span", f"{name}: {labels}", class_="sure" if name == "found" else "wrong") for name, labels in lines
    ]
    return element("figure", picture, element("figcaption", captions))


def thumbnails_by_row(files: RunFiles, count: int) -> dict[int, np.ndarray]:
    """Thumbnails uint8 [3, h, w] of validation images by row in predictions/val.csv, which has `count` rows."""
    kept: list[Thumbnails] = [one for one in (files.samples, files.mistakes) if one is not None]
    pairs = [pair for one in kept for pair in zip(one.rows.tolist(), one.images, strict=True)]
    return {row: image for row, image in pairs if 0 <= row < count}


def plan(files: RunFiles, summary: Summary | None, maps: Sequence[EpochMap], images: Mapping[int, np.ndarray]) -> Plan:
    """Functions that draw the figures other than curves, by file name without extension."""
    if summary is None:
        return {}
    sets, todo = summary.sets, {}
    todo["confusion"] = lambda: drawings.draw_confusion(confusion(sets), sets.classes, NOTHING)
    todo["together"] = lambda: drawings.draw_together(sets.truth.T.astype(np.int64) @ sets.truth, sets.classes)
    if rows := [row for row in summary.wrong.tolist() if row in images][:GALLERY_IMAGES]:
        truth, predicted = (label_texts(part[rows], sets.classes) for part in (sets.truth, sets.predicted))
        captions = [
            f"{short(a or 'no label', 17)}\nas {short(b or 'no label', 15)}"
            for a, b in zip(truth, predicted, strict=True)
        ]
        todo["mistakes"] = lambda: drawings.draw_image_grid([images[row] for row in rows], captions)
    if maps:
        assert files.samples is not None
        rarest, classes = strata(sets.truth[files.samples.rows]), (*sets.classes, "no label")
        hard = np.argsort(np.nan_to_num(summary.ranked.by_class, nan=np.inf), kind="stable").tolist()
        chosen = static_maps(maps)
        for kind in kinds(maps):
            points, titles = [getattr(one, kind) for one in chosen], drawings.map_titles(chosen, kind)
            todo[kind] = lambda p=points, t=titles: drawings.draw_maps(p, t, rarest, classes, hard)
    return todo


def maps_of(files: RunFiles, summary: Summary | None, with_tsne: bool) -> list[EpochMap]:
    """The maps of the features of the sample images; [] if the run stored too few, or has no predictions yet."""
    samples, snapshots = files.samples, files.snapshots
    if summary is None or samples is None or not len(samples.rows):
        return []
    if len(summary.sets.names) <= samples.rows.max() or any(len(s.features) != len(samples.rows) for s in snapshots):
        return []
    return epoch_maps([one.epoch for one in snapshots], [one.features for one in snapshots], None, with_tsne)


def feature_maps(
    files: RunFiles, figures: sections.Figures, maps: Sequence[EpochMap], summary: Summary | None
) -> list[Child]:
    """Section: PCA and t-SNE maps at the stored epochs, colored by a class that the reader chooses."""
    without: list[Child] = [missing_note(f"{note[0].upper()}{note[1:]}.") for note in without_map(files.snapshots)]
    if not maps or summary is None or files.samples is None:
        return without or [missing_note("No maps: the run has no stored features, or is not finished.")]
    static = "Each point has the color of its label that the fewest images have."
    titles = {"tsne": "Neighborhoods: t-SNE", "pca": "Directions of largest variance: PCA"}
    still: list[Child] = []
    for kind in kinds(maps):
        text = f"{titles[kind]}: map of {len(files.samples.rows)} validation images. {static}"
        still += [element("h3", titles[kind]), sections.figure(figures, kind, text, static, wide=True)]
    text = MAP.format(count=f"{len(files.samples.rows):,}", epochs=epochs_text([one.epoch for one in maps]))
    return [
        *without,
        element("p", text),
        sampled_note(len(files.samples.rows), files.stored),
        points_block(files.samples, files.mistakes, summary.sets),
        with_live_views(still, map_block("map-data", maps, files.snapshots, 0), live("map", "map-data", "items-data")),
        *map_notes(len(maps), "tsne" in figures),
    ]


def points_block(samples: Thumbnails, mistakes: Thumbnails | None, sets: LabelSets) -> Html:
    """The JSON block of the thumbnails with their label sets, `Items` in web/src/data.ts.

    Its classes are the distinct label sets of these images.
    """
    images, rows = with_mistakes(samples, mistakes, len(sets.names))
    truth, predicted = sets.truth[rows], sets.predicted[rows]
    texts = [[text or "no label" for text in label_texts(part, sets.classes)] for part in (truth, predicted)]
    index = {text: number for number, text in enumerate(dict.fromkeys([*texts[0], *texts[1]]))}
    facts = {
        "names": [sets.names[row] for row in rows.tolist()],
        "truth": numbers(np.array([index[text] for text in texts[0]])),
        "predicted": numbers(np.array([index[text] for text in texts[1]])),
        "confidence": None,
        "sets": {
            "names": list(sets.classes),
            "truth": [numbers(np.flatnonzero(column)) for column in truth.T],
            "predicted": [numbers(np.flatnonzero(column)) for column in predicted.T],
        },
    }
    return items_block("items-data", tuple(index), images, facts)
