"""Run all checks of `sightline doctor` on data or on a run's labels, and write doctor.html and doctor.json."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..config.paths import is_url
from ..config.resolve import resolve
from ..config.schema import Config
from ..data.decode.palettes import display_colors
from ..data.label_arrays import are_numbers, are_sets, class_counts
from ..data.sources.open import open_source
from ..data.sources.pairs import is_segmentation
from ..errors import SightlineError, counted, listing
from ..models.pretrained.preprocessing import without_own_preprocessing
from ..runs.atomic import atomic_write, read_json, write_json
from ..runs.run_folder import require_outside_data
from ..tasks import TASKS, task_learning_from
from ..tasks.contract import Say
from .checks import image_checks, imbalance, missing_classes, pixel_checks, with_odd_pixels
from .clean import check_clean_list, write_clean_list
from .copies import exact_checks, film_checks, near_checks
from .facts import Facts, gather, opener
from .features import OF_FEATURES, Network, feature_checks, network_of
from .findings import CLEAN, KINDS, SKIP, Diagnosis, Finding, Group
from .labels import label_checks
from .masks import mask_checks, open_masked
from .opened import OpenedData, open_labeled, with_set_indices
from .page import Opener, render
from .understood import pictures, understood

FORMAT = 1
PAGE, FACTS, CLEAN_LIST = "doctor.html", "doctor.json", "clean.csv"
CLASSES = ("classes missing in a split", "rare classes")


def diagnose(
    path: str,
    out: Path | None,
    network: tuple[str, str],
    fix: bool,
    overwrite: bool,
    settings: dict[str, Any],
    say: Say,
) -> Diagnosis:
    """Run all checks of `sightline.doctor`, write doctor.html and doctor.json, and print the findings. network: its
    weights and name, "" for the defaults."""
    if network[1] and not network[0]:
        cure = "say which weights to load: --weights pretrained, --weights FILE or --weights RUN"
        raise SightlineError("--model needs --weights", cure=cure)
    is_run = (Path(path) / "recipe.yaml").is_file()
    out = out or (Path(path) / "doctor" if is_run else Path("runs/doctor"))
    known = read_json(out / FACTS)
    if any((out / name).exists() for name in (PAGE, FACTS)) and not (
        isinstance(known, dict) and known.get("doctor") == FORMAT
    ):
        what = f"{PAGE} or {FACTS} of another program would be overwritten in this folder"
        raise SightlineError(what, where=str(out), cure="choose another folder: --out FOLDER")
    if is_run:
        found, open_named = of_run(Path(path), fix, out, network[0], settings)
    else:
        require_outside_data(out, path)
        clean = out / CLEAN_LIST if fix else None
        found, open_named = of_data(path, settings, network, clean, overwrite, out, say)
    write_json(found.json, as_json(found))
    atomic_write(found.page, render(found, open_named))
    say(text(found))
    return found


def of_run(run: Path, fix: bool, out: Path, weights: str, settings: dict[str, Any]) -> tuple[Diagnosis, Opener | None]:
    """Check the validation labels of a run: (diagnosis, function that opens an image by its name; None if there are
    no images). settings: `data.path` of data that were moved; others are errors."""
    if other := [key for key in settings if key != "data.path"]:
        cure = "leave it out; to check the data with it: sightline doctor DATA"
        why = "a run has the settings of its recipe"
        raise SightlineError(f"--{other[0]} has no effect on a run", where=str(run), why=why, cure=cure)
    if fix:
        cure = "pass the data instead of the run: sightline doctor DATA --fix"
        raise SightlineError("a clean list cannot be written for a run", where=str(run), cure=cure)
    if weights:
        cure = f"pass the data instead of the run: sightline doctor DATA --weights {shlex.quote(str(run))}"
        raise SightlineError("--weights is for checks of data, not of a run", where=str(run), cure=cure)
    findings, classes, count, config = label_checks(run)
    notes, open_named = (), None
    try:
        source = open_source(resolve(config, settings).data, config.data.split_seed)
        open_named = opener(source.splits, source.path, config.data.max_pixels, source.channels)
    except SightlineError as error:
        moved = f"if they were moved: sightline doctor {shlex.quote(str(run))} --data.path NEW"
        notes = (f"the page shows no images, because the data cannot be opened: {error.what}; {moved}",)
    known = (str(run), "labels", {"val": count}, classes, tuple(findings), checked("labels"), notes)
    return Diagnosis(*known, out / PAGE, out / FACTS), open_named


def of_data(
    path: str,
    settings: dict[str, Any],
    network: tuple[str, str],
    clean: Path | None,
    overwrite: bool,
    out: Path,
    say: Say,
) -> tuple[Diagnosis, Opener]:
    """Check a data set: (diagnosis, function that opens an image by its name)."""
    data = without_own_preprocessing(resolve(Config(), settings | {"data.path": path})).data
    if is_url(data.path):
        cure = "download the shards, and check their folder: sightline doctor FOLDER"
        raise SightlineError("`sightline doctor` does not check shards on a server", where=data.path, cure=cure)
    masked = is_segmentation(data)
    opened = open_masked(data) if masked else open_labeled(data)
    labels = {split: items.labels for split, items in opened.splits.items() if items.labels is not None}
    sets = any(are_sets(each) for each in labels.values())
    task = task_learning_from("masks" if masked else "label sets" if sets else "labels")
    chosen = network_of(task, settings | {"data.path": path}, *network) if network[0] else None
    numbers = any(are_numbers(each) for each in labels.values())
    if chosen and numbers:
        chosen = chosen._replace(probabilities=None)
    if clean:
        check_clean_list(clean, opened, overwrite)
    counts = {split: len(items.names) for split, items in opened.splits.items()}
    say(f"checking {counted(sum(counts.values()), 'image')} in {opened.root}")
    distinct = with_set_indices(opened) if sets or numbers else opened
    facts = gather(distinct.splits, opened.root if opened.files else "", data.max_pixels, say, opened.channels)
    one_kind = data.channels != "rgb"
    facts = with_odd_pixels(facts) if one_kind else facts
    open_named = opener(opened.splits, opened.root, data.max_pixels, opened.channels)
    can_list = opened.files and opened.regular and any(fact.label >= 0 for fact in facts)
    findings = [*opened.findings, *pixel_checks(facts, one_kind), *image_checks(facts)]
    findings += [*exact_checks(facts, distinct.classes, can_list)]
    stated = bool(data.group) or any(items.groups is not None for items in opened.splits.values())
    findings += film_checks(facts, distinct.classes, stated)
    found, notes = compared(distinct, facts, chosen, open_named, say)
    findings += found
    pixels: dict[str, np.ndarray] = {}
    if opened.palette:
        found, pixels = mask_checks(opened.masked, opened.palette, facts, opened.root)
        findings += found
    elif opened.regular:
        per_class = {split: class_counts(each, len(opened.classes)) for split, each in labels.items()}
        findings += task.check_labels(labels, opened.classes) if task.check_labels and labels else []
        findings += [*missing_classes(per_class, opened.classes), *imbalance(per_class, opened.classes)]
    kind = "several" if sets else "number" if numbers else "one"
    notes += write_clean_list(clean, facts, distinct, data, kind) if clean else []
    unusable = [SKIP] * masked + [CLEAN] * (not can_list)
    findings = [replace(one, cure=without(one.cure, unusable)) for one in findings]
    findings.sort(key=lambda finding: finding.severity != "error")
    looked_at = checked(task.name, bool(network[0]))
    about = (opened.root, task.name, counts, opened.classes, tuple(findings), looked_at, tuple(notes))
    shown = pictures(opened, data)
    colors = [tuple(color) for color in display_colors(opened.palette).tolist()] if opened.palette else []
    known = (clean, understood(opened, facts, pixels, data), tuple(shown), tuple(colors))
    return Diagnosis(*about, out / PAGE, out / FACTS, *known), open_named


def compared(
    opened: OpenedData, facts: Sequence[Facts], network: Network | None, open_named: Opener, say: Say
) -> tuple[list[Finding], list[str]]:
    """Compare images by their pixels and, with a network, by its features: (findings, notes).

    opened: data with at most one label for each image.
    """

    def read(fact: Facts) -> Image.Image:
        return open_named(fact.name)

    findings, notes = near_checks(facts, opened.classes, read)
    if network:
        more, said = feature_checks(opened, facts, findings, network, read, say)
        findings, notes = [*findings, *more], [*notes, *said]
    for note in notes:
        say(note)
    return findings, notes


def checked(task: str, features: bool = False) -> tuple[str, ...]:
    """Descriptions of everything that is checked for a task (`classify`, `segment` or `labels`), for the page.
    features: whether those of a network were used."""
    if task == "labels":
        return (KINDS["wrong_label"].what.replace("*", "s"),)
    of_masks = {name for name in KINDS if "mask" in name or "pair" in name}
    left_out = {
        "wrong_label",
        *(() if features else OF_FEATURES),
        *(of_masks if TASKS[task].learns_from != "masks" else ()),
    }
    return (*(kind.what.replace("*", "s") for name, kind in KINDS.items() if name not in left_out), *CLASSES)


def as_json(found: Diagnosis) -> dict[str, Any]:
    """The content of doctor.json."""
    errors = sum(finding.severity == "error" for finding in found.findings)
    return {
        "doctor": FORMAT,
        "data": found.data,
        "task": found.task,
        "understood": found.understood,
        "images": found.counts,
        "classes": found.classes,
        "errors": errors,
        "warnings": len(found.findings) - errors,
        "findings": [asdict(finding) | {"files": finding.files} for finding in found.findings],
        "looked_at": found.checks,
        "notes": found.notes,
        "clean_list": None if found.clean_list is None else str(found.clean_list),
    }


def text(found: Diagnosis) -> str:
    """The text that is printed: what was understood of the data, then all findings, each with its first files."""
    width = max(map(len, found.understood), default=0)
    lines = [f"  {topic:{width}}  {text}" for topic, text in found.understood.items()]
    for finding in found.findings:
        lines.append(f"\n{finding.severity}: {finding.what}")
        lines += [listing([line_of(group) for group in finding.groups], 5)] if finding.groups else []
        lines.append(f"  why:   {finding.why}\n  cure:  {finding.cure}")
    if not found.findings:
        lines.append(f"\nno problems found in {counted(sum(found.counts.values()), 'image')}")
    if found.clean_list or found.task == "labels":
        lines += found.notes[-2:]
    return "\n".join([*lines, f"details: {found.page}; as JSON: {found.json}"])


def without(text: str, parts: Sequence[str]) -> str:
    """The text without these parts."""
    for part in parts:
        text = text.replace(part, "")
    return text


def line_of(group: Group) -> str:
    """One line for a set of files: the first file names and the note."""
    files = ", ".join(group.files[:4]) + (f" and {len(group.files) - 4:,} more" if len(group.files) > 4 else "")
    return ": ".join(filter(None, (files, group.note)))
