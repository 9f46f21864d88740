"""Generate masks for images one by one, resume an interrupted call, and record the results."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..data.channels import RGB
from ..data.decode.images import planes
from ..data.decode.masks import MAX_PIXELS
from ..data.decode.rasters import read_for
from ..engine.device import device_name, rounding, use_threads
from ..engine.memory import explain_out_of_memory
from ..errors import ENVIRONMENT, INTERRUPTED, SightlineError, counted
from ..inference.batching import ProgressLines
from ..runs.atomic import atomic_write, read_json, remove_stale_temporaries, sha256, write_json
from ..runs.lock import lock_run
from ..runs.provenance import describe_run
from ..tasks.contract import Say
from ..tasks.segment.predict import report_unreadable
from .automatic import NMS_IOU, Settings, find_segments
from .checkpoint import WEIGHTS, Checkpoint, find_checkpoint
from .clean_up import CleanUp, open_clean_up
from .model import load, sam_device
from .outputs import FORMAT, PAGE, RECORD, PlannedImage, finished_images, plan_images, write_image
from .page import render

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Job:
    """The validated arguments of a call of `sightline.masks`. inputs: paths that must not be overwritten."""

    images: list[PlannedImage]
    inputs: list[str]
    out: Path
    checkpoint: Checkpoint
    settings: Settings
    clean_up: CleanUp | None
    say: Say


def generate(
    images: AnyPath | Sequence[AnyPath],
    out: Path,
    settings: tuple[int, int, float, float],
    checkpoint: tuple[str, bool],
    clean_up: tuple[AnyPath | None, AnyPath | None],
    overwrite: bool,
    say: Say,
) -> Path:
    """Generate the masks; see `sightline.masks`.

    settings: the arguments of `Settings`. checkpoint: the arguments of `find_checkpoint`. clean_up: (run, truth), each
    may be None.
    """
    chosen, (run, truth) = Settings(*settings), clean_up
    chosen.check()
    planned, inputs = plan_images(images, out, say)
    opened = None if run is None else open_clean_up(Path(run), truth, [image.name for image in planned])
    inputs += opened.true.values() if opened else []
    job = Job(planned, inputs, out, find_checkpoint(*checkpoint), chosen, opened, say)
    cure = f"use --points-per-batch {max(1, chosen.points_per_batch // 4)}, or a smaller model: --model vit_b"
    try:
        with explain_out_of_memory(Config(), cure=cure), lock_run(out) as note:
            if note:
                say(note)
            return generate_all(job, overwrite)
    except KeyboardInterrupt:
        why, cure = "the masks of every finished image are saved", "repeat the command to process the remaining images"
        raise SightlineError(
            "the command was interrupted", where=str(out), why=why, cure=cure, status=INTERRUPTED
        ) from None


def generate_all(job: Job, overwrite: bool) -> Path:
    """Process all images, then write segments.json and segments.html."""
    out, say, clean_up, checkpoint = job.out, job.say, job.clean_up, job.checkpoint
    use_threads(0)
    remove_stale_temporaries(out)
    settings, weights = asdict(job.settings), sha256(checkpoint.folder / WEIGHTS)
    made_by = {"weights": weights} | {key: value for key, value in settings.items() if key != "points_per_batch"}
    before = finished_images(
        job.images, job.inputs, out, made_by, clean_up.origin["weights"] if clean_up else None, overwrite
    )
    earlier = {} if overwrite else read_json(out / RECORD) or {}
    if before:
        say(f"reusing the masks of {len(before):,} of {counted(len(job.images), 'image')}")
    record = describe_run(
        rounding(sam_device()),
        "fp32",
        segments=FORMAT,
        complete=False,
        checkpoint=checkpoint._asdict() | {"folder": str(checkpoint.folder), "sha256": weights},
        settings=settings | {"nms": NMS_IOU},
        clean_up=clean_up.facts() if clean_up else earlier.get("clean_up"),
    )
    record["versions"] |= {package: version(package) for package in ("transformers", "pycocotools")}
    write_json(out / RECORD, record)
    done, bad = process(job, before, made_by)
    report_unreadable(bad, out / "errors.csv", say)
    if not done:
        why, cure = (
            f"the first error: {bad[0][0]}: {bad[0][1]}",
            f"repair or remove the images listed in {out / 'errors.csv'}",
        )
        raise SightlineError("no image could be read", where=str(out), why=why, cure=cure)
    seconds = sum(one["seconds"] for one in done) / len(done)
    record |= {
        "complete": True,
        "seconds_per_image": round(seconds, 3),
        "images": done,
        "errors": [{"filename": name, "error": error} for name, error in bad],
    } | ({"clean_up": clean_up.facts()} if clean_up else {})
    write_json(out / RECORD, record)
    atomic_write(out / PAGE, render(out.resolve().name, job.images, record, clean_up))
    masks = sum(one["masks"] for one in done)
    say(f"{counted(masks, 'mask')} in {counted(len(done), 'image')}, {seconds:,.1f} s per image; {out / PAGE}")
    if not masks:
        say("no mask passed the thresholds: lower --quality and --stability")
    if clean_up and clean_up.before:
        say(record["clean_up"]["sentence"])
    return out


def process(
    job: Job, before: dict[str, dict[str, Any]], made_by: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    """Generate the masks of all images; returns (summaries of the images with masks, (name, error) of the unreadable
    images).

    before: summaries of the images that an earlier call finished, by name. Their masks are read again only for a
    clean-up. made_by: digest of the weights, and settings, for the files of each image.
    """
    new, points = len(job.images) - len(before), job.settings.points_per_side**2
    sam = load(job.checkpoint) if new else None
    if sam:
        job.say(f"generating masks of {counted(new, 'image')} with {sam.name} on {device_name(sam.device)}")
    progress = ProgressLines(job.say, "masks", new * points if sam else len(before)).add
    done: list[dict[str, Any]] = []
    bad: list[tuple[str, str]] = []
    for image in job.images:
        summary = before.get(image.name)
        if summary and not job.clean_up:
            done.append(summary)
            continue
        try:
            start, pixels = time.monotonic(), planes(read_for(image.path, RGB, MAX_PIXELS))
            truth = job.clean_up.true_mask(image.name, pixels.shape[1:]) if job.clean_up else None  # before slow work
            if summary or not sam:
                done.append(before[image.name])
                segments = read_json(image.file("_segments.json"))["annotations"]
            else:
                segments = find_segments(sam, sam.embed(pixels), job.settings, progress)
                done.append(write_image(image, pixels, segments, made_by, time.monotonic() - start))
            if job.clean_up:
                job.clean_up.add(image, pixels, segments, truth)
        except SightlineError as error:
            if error.status == ENVIRONMENT:
                raise
            bad.append((image.name, " ".join((error.why or error.what).split())))
        if not sam:
            progress(1)
    return done, bad
