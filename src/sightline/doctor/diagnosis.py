"""Run all checks on data or on a run's labels, and write doctor.html and doctor.json."""

import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..config.resolve import resolve
from ..config.schema import Config, Data
from ..data.sources.kind import is_segmentation
from ..data.sources.open import open_source
from ..errors import SightlineError, counted, listing
from ..runs.atomic import atomic_write, read_json, write_json
from ..runs.run_folder import require_outside_data
from ..tasks import TASKS, task_learning_from
from .checks import image_checks, imbalance, missing_classes
from .clean import check_clean_list, write_clean_list
from .copies import exact_checks, near_checks
from .facts import gather, opener
from .findings import KINDS, Diagnosis, Group
from .labels import label_checks
from .masks import mask_checks, open_masked
from .opened import Opened, open_labeled
from .page import Opener, render

FORMAT = 1
PAGE, FACTS = "doctor.html", "doctor.json"
CLASSES = ("classes missing in a split", "rare classes")


def diagnose(
    path: str,
    out: Path,
    clean: Path | None,
    overwrite: bool,
    settings: dict[str, Any],
    say: Callable[[str], None],
) -> Diagnosis:
    """`sightline.doctor`: all checks, the page and the JSON."""
    known = read_json(out / FACTS)
    if any((out / name).exists() for name in (PAGE, FACTS)) and not (known and known.get("doctor") == FORMAT):
        what = f"{PAGE} or {FACTS} in this folder is not of `sightline doctor`"
        raise SightlineError(what, where=str(out), cure="choose another folder with --out")
    require_outside_data(out, path)
    if (Path(path) / "recipe.yaml").is_file():
        found, open_named = of_run(Path(path), clean, out)
    else:
        found, open_named = of_data(path, settings, clean, overwrite, out, say)
    write_json(found.json, as_json(found))
    atomic_write(found.page, render(found, open_named))
    say(text(found))
    return found


def of_run(run: Path, clean: Path | None, out: Path) -> tuple[Diagnosis, Opener | None]:
    """The labels of a run, and a function that opens its images."""
    if clean:
        cure = "sightline doctor DATA --write-clean-list FILE.csv"
        raise SightlineError("a clean list needs data, and this is a run", where=str(run), cure=cure)
    findings, classes, count, config = label_checks(run)
    notes, open_named = (), None
    try:
        source = open_source(config.data, config.data.split_seed)
        open_named = opener(source.splits, source.path, config.data.max_pixels)
    except SightlineError as error:
        notes = (f"the images are not shown: {error.what}",)
    known = (str(run), "labels", {"val": count}, classes, tuple(findings), checked("labels"), notes)
    return Diagnosis(*known, out / PAGE, out / FACTS), open_named


def of_data(
    path: str, settings: dict[str, Any], clean: Path | None, overwrite: bool, out: Path, say: Callable[[str], None]
) -> tuple[Diagnosis, Opener]:
    """All checks of data, and a function that opens an image by its name."""
    data = resolve(Config(), settings | {"data.path": path}).data
    task, open_data = task_of(data)
    opened = open_data(data)
    if clean:
        check_clean_list(clean, opened, overwrite)
    counts = {split: len(items.names) for split, items in opened.splits.items()}
    say(f"checking {counted(sum(counts.values()), 'image')} in {opened.root}")
    facts = gather(opened.splits, opened.root if opened.files else "", data.max_pixels, say)
    open_named = opener(opened.splits, opened.root, data.max_pixels)
    can_list = opened.files and opened.regular and any(fact.label >= 0 for fact in facts)
    findings = [*opened.findings, *image_checks(facts), *exact_checks(facts, opened.classes, can_list)]
    near, notes = near_checks(facts, opened.classes, lambda fact: open_named(fact.name))
    findings += near
    for note in notes:
        say(note)
    if opened.palette:
        findings += mask_checks(opened.masked, opened.palette, facts, opened.root)
    elif opened.regular:
        labels = {split: items.labels for split, items in opened.splits.items() if items.labels is not None}
        numbers = {split: np.bincount(each[each >= 0], minlength=len(opened.classes)) for split, each in labels.items()}
        findings += [*missing_classes(numbers, opened.classes), *imbalance(numbers, opened.classes)]
    notes = [*opened.notes, *notes, *([write_clean_list(clean, facts, opened)] if clean else [])]
    findings.sort(key=lambda finding: finding.severity != "error")
    about = (opened.root, task, counts, opened.classes, tuple(findings), checked(task), tuple(notes))
    return Diagnosis(*about, out / PAGE, out / FACTS, clean), open_named


def task_of(data: Data) -> tuple[str, Callable[[Data], Opened]]:
    """(task, function that opens its data)."""
    if is_segmentation(data):
        return task_learning_from("masks").name, open_masked
    return task_learning_from("labels").name, open_labeled


def checked(task: str) -> tuple[str, ...]:
    """The kinds of findings that were looked for."""
    if task == "labels":
        return (KINDS["wrong_label"].what.replace("*", "s"),)
    of_masks = {name for name in KINDS if "mask" in name or "pair" in name}
    left_out = {"wrong_label", *(of_masks if TASKS[task].learns_from != "masks" else ())}
    return (*(kind.what.replace("*", "s") for name, kind in KINDS.items() if name not in left_out), *CLASSES)


def as_json(found: Diagnosis) -> dict[str, Any]:
    """The findings for programs."""
    errors = sum(finding.severity == "error" for finding in found.findings)
    return {
        "doctor": FORMAT,
        "data": found.data,
        "task": found.task,
        "images": found.counts,
        "classes": found.classes,
        "errors": errors,
        "warnings": len(found.findings) - errors,
        "findings": [asdict(finding) | {"files": finding.files} for finding in found.findings],
        "looked_at": found.looked,
        "notes": found.notes,
        "clean_list": None if found.clean_list is None else str(found.clean_list),
    }


def text(found: Diagnosis) -> str:
    """The findings for the terminal, with the first files of each."""
    lines = []
    for finding in found.findings:
        lines.append(f"\n{finding.severity}: {finding.what}")
        lines += [listing([line_of(group) for group in finding.groups], 5)] if finding.groups else []
        lines.append(f"  why:   {finding.why}\n  cure:  {finding.cure}")
    if not found.findings:
        lines.append(f"nothing found in {counted(sum(found.counts.values()), 'image')}")
    if found.clean_list:
        lines += [found.notes[-1], f"train on it: sightline train RECIPE --data {shlex.quote(str(found.clean_list))}"]
    return "\n".join([*lines, f"{found.page} has all of it; {found.json} is for programs"])


def line_of(group: Group) -> str:
    """A group in one line."""
    files = ", ".join(group.files[:4]) + (f" and {len(group.files) - 4:,} more" if len(group.files) > 4 else "")
    return ": ".join(filter(None, (files, group.note)))
