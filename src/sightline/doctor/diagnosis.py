"""Run all checks on data or on a run's labels, and write doctor.html and doctor.json."""

import os
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from ..config.resolve import resolve
from ..config.schema import Config, Data
from ..data.decode.images import Header, open_image
from ..errors import SightlineError, counted, listing
from ..runs.atomic import atomic_write, read_json, write_json
from ..runs.run_folder import refuse_inside
from ..tasks import task_learning_from
from .checks import image_checks, imbalance, label_counts, missing_classes
from .clean import check_clean_list, write_clean_list
from .copies import exact_checks, near_checks
from .facts import gather, jobs_of, read
from .findings import Diagnosis, Group
from .labels import label_checks, open_validation
from .masks import mask_checks, open_masked
from .opened import Opened, is_segmentation, open_labeled
from .page import Opener, render

FORMAT = 1
PAGE, FACTS = "doctor.html", "doctor.json"
CHECKED = (
    "Every file is opened and decoded completely: unreadable, truncated and empty files, broken links.",
    "Formats that differ from the extension; hidden folders and files, and images without an image extension.",
    "Images with the same pixels: within a split, across splits, with different labels.",
    "Near copies, by 8 x 8 colors and then by the correlation of 64 x 64 pixels.",
    "Tiny, huge and long images; a single color; gray among color; transparency, 16 bits, CMYK, EXIF, frames.",
)
CHECKED_CLASSES = "Classes missing in a split, and classes with a tenth or less of the images of the largest."
CHECKED_MASKS = (
    "Images and masks without their other half; masks that cannot be read, differ in size from their image, or have "
    "values or colors outside the palette; pixels of each class."
)
CHECKED_LABELS = "The labels of predictions/val.csv against out-of-sample probabilities, by confident learning."


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
    refuse_inside(out, path)
    if (Path(path) / "recipe.yaml").is_file():
        found, open_picture = of_run(Path(path), clean, out)
    else:
        found, open_picture = of_data(path, settings, clean, overwrite, out, say)
    write_json(found.json, as_json(found))
    atomic_write(found.page, render(found, open_picture))
    say(text(found))
    return found


def of_run(run: Path, clean: Path | None, out: Path) -> tuple[Diagnosis, Opener | None]:
    """The labels of a run, and a function that opens its images."""
    if clean:
        cure = "sightline doctor DATA --write-clean-list FILE.csv"
        raise SightlineError("a clean list needs data, and this is a run", where=str(run), cure=cure)
    findings, classes, count, config = label_checks(run)
    notes, open_picture = (), None
    try:
        open_picture = open_validation(config)
    except SightlineError as error:
        notes = (f"the images are not shown: {error.what}",)
    known = (str(run), "labels", {"val": count}, classes, tuple(findings), (CHECKED_LABELS,), notes)
    return Diagnosis(*known, out / PAGE, out / FACTS), open_picture


def of_data(
    path: str, settings: dict[str, Any], clean: Path | None, overwrite: bool, out: Path, say: Callable[[str], None]
) -> tuple[Diagnosis, Opener]:
    """All checks of data, and a function that opens an image by its name."""
    data = resolve(Config(), settings | {"data.path": path}).data
    task, checked, open_data = task_of(data)
    opened = open_data(data)
    if clean:
        check_clean_list(clean, opened, overwrite)
    jobs = jobs_of(opened.root, opened.splits, opened.files)
    by_name = {job.name: job for job in jobs}
    say(f"checking {counted(len(jobs), 'image')} in {opened.root}")
    facts = gather(jobs, data.max_pixels, say)

    def open_picture(name: str) -> Image.Image:
        if name in by_name:
            return read(by_name[name], data.max_pixels, Header())
        return open_image(os.path.join(opened.root, name), data.max_pixels, 128)  # a mask

    can_list = opened.files and opened.regular and any(fact.label >= 0 for fact in facts)
    findings = [*opened.findings, *image_checks(facts), *exact_checks(facts, opened.classes, can_list)]
    near, notes = near_checks(facts, opened.classes, lambda fact: open_picture(fact.name))
    findings += near
    for note in notes:
        say(note)
    if opened.palette:
        findings += mask_checks(opened.masked, opened.palette, facts, opened.root)
    elif opened.regular:
        counts = label_counts(facts, opened.classes)
        findings += [*missing_classes(counts, opened.classes), *imbalance(counts, opened.classes)]
    notes = [*opened.notes, *notes, *([write_clean_list(clean, facts, opened)] if clean else [])]
    counts = {split: len(items.names) for split, items in opened.splits.items()}
    findings.sort(key=lambda finding: finding.severity != "error")
    known = (opened.root, task, counts, opened.classes, tuple(findings), (*CHECKED, checked), tuple(notes))
    return Diagnosis(*known, out / PAGE, out / FACTS, clean), open_picture


def task_of(data: Data) -> tuple[str, str, Callable[[Data], Opened]]:
    """(task, sentence on its checks, function that opens its data)."""
    if is_segmentation(data):
        return task_learning_from("masks").name, CHECKED_MASKS, open_masked
    return task_learning_from("labels").name, CHECKED_CLASSES, open_labeled


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
