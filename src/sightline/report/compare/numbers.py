"""Compute a comparison. Every run is compared with the reference, which is the first run on the command line."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...data.sources.splits import OUTER
from ...errors import SightlineError, counted
from ...stats.intervals import LEVEL, verdict
from ...stats.paired import bonferroni
from ...stats.units import count_units
from ..formatting import device, known, percent, section
from ..origin import flat, shown
from .kinds import ComparedRun, Comparison, RunPair, TaskComparison, UnpairedRun
from .matching import aligned_to, common_groups, digest_of, examples, mismatch, why_unverified
from .runs import read_entries

UNSET = "(not set)"


def compare(folders: Sequence[str | Path], split: str = "val") -> Comparison:
    """Compare two or more runs on a split, from the files in their folders.

    Raises SightlineError for folders that are not runs, a folder that is listed twice, runs of different tasks, and
    runs that were not evaluated on the split. Runs that cannot be compared image by image are in `unpaired` of the
    result.
    """
    if len(folders) < 2:
        raise SightlineError(
            "a comparison needs at least two runs",
            cure="list the folders of two or more runs: sightline report RUN RUN",
        )
    task, kind, entries = read_entries(folders, split)
    reference, pairs, unpaired = entries[0], [], []
    for other in entries[1:] if kind.paired else ():
        fault = mismatch(reference, other, kind)
        if fault:
            unpaired.append(UnpairedRun(other.name, *fault))
        else:
            pairs.append(compare_pair(reference, other, kind))
    chances, level = bonferroni([pair.p for pair in pairs])
    pairs = tuple(with_verdict(pair, p, level, kind, len(pairs)) for pair, p in zip(pairs, chances, strict=True))
    if split != "val":
        of_split = ", on which nothing was selected" if split == OUTER else f" of the split {split}"
        pairs = tuple(replace(pair, sentence=f"{pair.sentence}{of_split}") for pair in pairs)
    notes = [
        *([kind.no_pairs] if kind.no_pairs else []),
        *split_notes(entries, split),
        *choice_notes(entries, split),
        *other_differences(entries, kind),
        *kind.notes(entries),
    ]
    return Comparison(task, kind, tuple(entries), pairs, tuple(unpaired), recipe_differences(entries), tuple(notes))


def split_notes(entries: Sequence[ComparedRun], split: str) -> list[str]:
    """A list of one sentence on images that chose nothing and on the looks at them; empty for the split `val`."""
    if split == "val":
        return []
    note = f"The results are on the split {split}, on which no run's epoch was chosen."
    latest = max((one.files.evaluation for one in entries), key=lambda record: record.get("look", 0))
    if "look" not in latest:
        return [note]
    runs = counted(latest["look_runs"], "run")
    return [f"{note} The last of these evaluations is look {latest['look']:,} at this test set, from {runs}."]


def choice_notes(entries: Sequence[ComparedRun], split: str) -> list[str]:
    """A list of one sentence if only some runs had their best epoch chosen on the images of the comparison. With 50
    epochs and equal runs, such a run then "beat" another one on 10 to 17 % of simulated pages."""
    chosen = [one.name for one in entries if one.chosen]
    others = [one.name for one in entries if not one.chosen]
    if split != "val" or not chosen or not others:
        return []
    return [
        f"The best epoch of {examples(chosen)} was chosen on these images, which makes its value optimistic; no epoch "
        f"of {examples(others)} was. For an even comparison, train with --train.best_metric epoch."
    ]


def compare_pair(reference: ComparedRun, other: ComparedRun, kind: TaskComparison) -> RunPair:
    """Compare a run with the reference image by image.

    The fields `corrected`, `level` and `sentence` of the result are not set here, see `with_verdict`.
    """
    assert reference.results and other.results and kind.paired
    a, b = reference.results, aligned_to(reference.results, other.results)
    notes = []
    if other.results.names != a.names:
        notes.append(f"{other.name} has the images in another order: they were matched by name.")
    if other.results.classes != a.classes:
        notes.append(f"{other.name} has the classes in another order: they were matched by name.")
    groups = common_groups(a, other.results)
    if len({count_units(len(a.names), ids) for ids in (a.groups, other.results.groups, groups)}) > 1:
        notes.append(f"{reference.name} and {other.name} have different groups of images: those of both are joined.")
    a, b = replace(a, groups=groups), replace(b, groups=groups)
    if doubt := why_unverified(reference, other, kind):
        notes.append(
            f"{reference.name} and {other.name}: the images have the same names and labels; whether their pixels are "
            f"equal is unknown ({doubt})."
        )
    return RunPair(reference.name, other.name, (a, b), kind.paired(a, b), float("nan"), LEVEL, "", tuple(notes))


def with_verdict(pair: RunPair, corrected: float, level: float, kind: TaskComparison, several: int) -> RunPair:
    """Add the corrected p value, the level of the interval and the sentence to a pair.

    corrected: p value after the correction. several: number of comparisons in this correction.
    """
    pair = replace(pair, corrected=corrected, level=level)
    sentence = verdict(pair.difference, pair.interval, pair.first, pair.second, kind.name)
    for_all = f", corrected for {several} comparisons," if several > 1 else ""
    groups = pair.results[0].groups
    units = "" if groups is None else f" in {counted(int(groups.max()) + 1, 'group')}"
    return replace(pair, sentence=f"{sentence}{for_all} on the same {counted(pair.count, 'image')}{units}")


def recipe_differences(entries: Sequence[ComparedRun]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(dotted key, value of each run) of every setting that differs between the runs."""
    recipes = [flat(entry.files.recipe) for entry in entries]
    rows = []
    for key in dict.fromkeys(key for recipe in recipes for key in recipe):
        values = [recipe.get(key, UNSET) for recipe in recipes]
        if any(value != values[0] for value in values):
            rows.append((key, tuple(UNSET if value == UNSET else shown(value) for value in values)))
    return tuple(rows)


def other_differences(entries: Sequence[ComparedRun], kind: TaskComparison) -> list[str]:
    """Notes on runs that cannot be compared in all respects.

    Their machines or precisions differ, or they were trained on other images or labels than the reference.
    """
    notes: list[str] = []
    machines: dict[str, list[str]] = {}
    for one in entries:
        precision = known(one.files.provenance.get("precision"))
        machines.setdefault(f"{device(one.files.provenance)}, {precision}", []).append(one.name)
    if len(machines) > 1:
        each = "; ".join(f"{examples(names)} on {machine}" for machine, names in machines.items())
        notes.append(
            f"The runs were timed on different machines or in different precisions: {each}. Compare FLOPs instead."
        )
    first, settings = entries[0], (*kind.decoding, ("resize", None)) if kind.decoding else ()
    for other in entries[1:]:
        data = [section(one.files.recipe, "data") | {"resize": section(one.files.recipe, "augment").get("resize")}
                for one in (first, other)]  # fmt: skip
        digests = [digest_of(one, "train") for one in (first, other)]
        alike = all(data[0].get(key, usual) == data[1].get(key, usual) for key, usual in settings)
        if alike and None not in digests and digests[0] != digests[1]:
            notes.append(f"{other.name} and {first.name} were trained on different images or labels.")
    return notes


def quality_text(entry: ComparedRun, kind: TaskComparison) -> str:
    """The metric of a run with its interval, without the unit; "" if unknown."""
    if entry.quality != entry.quality:
        return ""
    value, *edges = (
        percent(value, 2) if kind.percent else f"{value:.4g}" for value in (entry.quality, *(entry.interval or ()))
    )
    if not edges:
        return f"{value}{' so far' if entry.so_far else ''}"
    return f"{value} [{edges[0]}, {edges[1]}]"
