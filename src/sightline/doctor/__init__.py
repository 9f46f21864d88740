"""`sightline doctor`: what is wrong with data, before any training, all at once, with what mends each."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import SightlineError, counted, listing
from ..runs.atomic import read_json
from ..runs.terminal import print_plain
from .findings import Diagnosis, Finding, Group, in_order

FORMAT = 1
PAGE, FACTS = "doctor.html", "doctor.json"
LOOKED = (
    "Every file was opened and decoded whole: unreadable, truncated and empty files, links that lead nowhere.",
    "Content against the file's ending; hidden folders and files, and images under other endings.",
    "Pictures that are the same to the pixel: within a split, across splits, under different labels.",
    "Pictures that are nearly the same, by 8 x 8 colors and then by the correlation of 64 x 64 pixels.",
    "Tiny, huge and long images; one color; gray among color; transparency, 16 bits, CMYK, EXIF turns, frames.",
)
LOOKED_CLASSES = "Classes that a split lacks, and classes with a tenth or less of the images of the largest."
LOOKED_MASKS = (
    "Images and masks without their other half; masks that cannot be read, of another size than their image, with "
    "values or colors outside the palette; pixels of each class."
)
LOOKED_LABELS = "The labels of predictions/val.csv against the out-of-sample probabilities, by confident learning."


def doctor(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] = "runs/doctor",
    write_clean_list: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Diagnosis:
    """What is wrong with `data`, whatever `train` takes; of a run, which validation labels are likely wrong.

    out: the folder for doctor.html and doctor.json. write_clean_list: a CSV for `train --data` without unreadable
    files, copies and pictures of several labels; overwrite: replace it. settings: `data.*`, as of `train`. No file of
    the data is changed. Raises SightlineError where there is nothing to look at.
    """
    from ..runs.run_folder import refuse_inside

    say = (lambda text: None) if quiet else print_plain
    folder, clean = Path(out), None if write_clean_list is None else Path(write_clean_list)
    refuse_strangers(folder)
    refuse_inside(folder, os.fspath(data))
    if (Path(data) / "recipe.yaml").is_file():
        found, open_picture = of_run(Path(data), clean, folder)
    else:
        found, open_picture = of_data(os.fspath(data), settings, clean, overwrite, folder, say)
    write(found, open_picture)
    say(text(found))
    return found


Opener = Callable[[str], Any]


def of_run(run: Path, clean: Path | None, out: Path) -> tuple[Diagnosis, Opener | None]:
    """The labels of a run, and what opens its pictures."""
    from .labels import label_checks, pictures_of

    if clean:
        cure = "sightline doctor DATA --write-clean-list FILE.csv"
        raise SightlineError("a clean list is of data, and this is a run", where=str(run), cure=cure)
    findings, classes, count, config = label_checks(run)
    notes, opener = (), None
    try:
        opener = pictures_of(config)
    except SightlineError as error:
        notes = (f"the pictures are not shown: {error.what}",)
    known = (str(run), "labels", {"val": count}, classes, tuple(findings), (LOOKED_LABELS,), notes)
    return Diagnosis(*known, out / PAGE, out / FACTS), opener


def of_data(
    path: str, settings: dict[str, Any], clean: Path | None, overwrite: bool, out: Path, say: Callable[[str], None]
) -> tuple[Diagnosis, Opener]:
    """Everything about data, and what opens its pictures."""
    from ..config.resolve import resolve
    from ..config.schema import Config
    from .checks import class_checks, image_checks, label_counts
    from .clean import refuse_list, write_clean_list
    from .copies import exact_checks, near_checks
    from .facts import Facts, Job, gather, jobs_of, read
    from .masks import mask_checks, open_masked
    from .opened import is_segmentation, open_labeled

    data = resolve(Config(), settings | {"data.path": path}).data
    segmentation = is_segmentation(data)
    opened = open_masked(data) if segmentation else open_labeled(data)
    if clean:
        refuse_list(clean, opened, overwrite)
    jobs = jobs_of(opened.root, opened.splits, opened.files)
    by_name = {job.name: job for job in jobs}
    say(f"looking at {counted(len(jobs), 'image')} in {opened.root}")
    facts = gather(jobs, data.max_pixels, say)

    def open_picture(name: str) -> Any:
        from ..data.decode.images import Header, open_image

        job = by_name.get(name) or Job(name, "", -1, os.path.join(opened.root, name))
        return read(job, data.max_pixels, Header()) if job.items else open_image(job.path, data.max_pixels, 128)

    def read_fact(fact: Facts) -> Any:
        return open_picture(fact.name)

    can_list = opened.files and opened.regular and any(fact.label >= 0 for fact in facts)
    findings = [*opened.findings, *image_checks(facts, data), *exact_checks(facts, opened.classes, can_list)]
    near, unseen = near_checks(facts, opened.classes, read_fact)
    findings += near
    for note in unseen:
        say(note)
    if opened.palette:
        findings += mask_checks(opened.masked, opened.palette, facts, opened.root)
    elif opened.regular:
        findings += class_checks(label_counts(facts, opened.classes), opened.classes)
    notes, looked = [*opened.notes, *unseen], (*LOOKED, LOOKED_MASKS if segmentation else LOOKED_CLASSES)
    if clean:
        notes.append(write_clean_list(clean, facts, opened))
    counts = {split: len(items.names) for split, items in opened.splits.items()}
    task = "segment" if segmentation else "classify"
    known = (opened.root, task, counts, opened.classes, in_order(findings), looked, tuple(notes))
    return Diagnosis(*known, out / PAGE, out / FACTS, clean), open_picture


def refuse_strangers(folder: Path) -> None:
    """SightlineError where a file of somebody else would be replaced."""
    if not (folder / PAGE).exists() and not (folder / FACTS).exists():
        return
    known = read_json(folder / FACTS)
    if not (isinstance(known, dict) and known.get("doctor") == FORMAT):
        what = f"{PAGE} or {FACTS} in this folder is not the doctor's"
        raise SightlineError(what, where=str(folder), cure="choose another folder with --out")


def write(found: Diagnosis, open_picture: Opener | None) -> None:
    """doctor.html and doctor.json."""
    from ..runs.atomic import atomic_write, write_json
    from .page import render

    write_json(found.json, as_json(found))
    atomic_write(found.page, render(found, open_picture))


def as_json(found: Diagnosis) -> dict[str, Any]:
    """The findings for programs."""
    errors = sum(finding.severity == "error" for finding in found.findings)
    return {
        "doctor": FORMAT,
        "data": found.data,
        "task": found.task,
        "images": found.counts,
        "classes": list(found.classes),
        "errors": errors,
        "warnings": len(found.findings) - errors,
        "findings": [finding_json(finding) for finding in found.findings],
        "looked_at": list(found.looked),
        "notes": list(found.notes),
        "clean_list": None if found.clean_list is None else str(found.clean_list),
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding for programs."""
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "what": finding.what,
        "why": finding.why,
        "cure": finding.cure,
        "files": list(finding.files),
        "groups": [{"files": list(group.files), "note": group.note} for group in finding.groups],
    }


def text(found: Diagnosis) -> str:
    """The findings for the terminal: the first files of each, and where all of them are."""
    lines = []
    for finding in found.findings:
        lines.append(f"\n{finding.severity}: {finding.what}")
        lines += [listing([line_of(group) for group in finding.groups], 5)] if finding.groups else []
        lines.append(f"  why:   {finding.why}\n  cure:  {finding.cure}")
    if not found.findings:
        lines.append(f"nothing found in {counted(sum(found.counts.values()), 'image')}")
    lines += [note for note in found.notes if found.clean_list and str(found.clean_list) in note]
    if found.clean_list:
        lines.append(f"train on it: sightline train RECIPE --data {shlex.quote(str(found.clean_list))}")
    return "\n".join([*lines, f"{found.page} shows all of it; {found.json} is for programs"])


def line_of(group: Group) -> str:
    """A group in one line."""
    files = ", ".join(group.files[:4]) + (f" and {len(group.files) - 4:,} more" if len(group.files) > 4 else "")
    return f"{files}: {group.note}" if files and group.note else files or group.note
