"""Predict images with a classifier or a backbone, and write a table with one row per image."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from ..config.schema import Config
from ..data.parallel import share_of
from ..data.sources.scan import left_out
from ..data.test_ledger import TestImages
from ..engine.device import pick_precision, precision_name
from ..engine.memory import explain_out_of_memory
from ..errors import INTERRUPTED, SightlineError, counted
from ..runs import run_folder
from .batching import ProgressLines, batch_size, predict_batches
from .evaluation import SeenImages
from .inputs import InputImage, PredictOptions, input_images
from .parquet import require_parquet
from .predictor import Predictor
from .resumable_csv import ResumableTable
from .sharded_predict import merge_shards, shard_table


def predict_table(
    folder: Path,
    config: Config,
    inputs: Sequence[str],
    out: Path,
    options: PredictOptions,
    load: Callable[[], Predictor],
    say: Callable[[str], None],
    overlays: bool = False,
) -> Path:
    """Predict images and write the table, or under torchrun the part of this process; returns the path of the table.

    load: function that returns the predictor. It is called after the first images were found, so that wrong paths are
    reported at once. overlays: whether the caller draws what `options.overlay` asks for; else it is an error.
    """
    if options.overlay and not overlays:
        why = "overlays show masks, or the class activation maps of classifiers"
        raise SightlineError("--overlay has no effect on this prediction", why=why, cure="leave it out")
    target, overwrite = table_target(out, options.overwrite), options.overwrite
    features, precision = options.features, options.precision
    skipped, share, tests = Counter[str](), share_of(os.environ), TestImages()
    images = islice(tests.watched(input_images(inputs, skipped)), share.rank, None, share.world)
    first = list(islice(images, 1))  # before the model is loaded
    predictor = load()
    size = batch_size(predictor.device, config.train.eval_batch_size, predictor.square.side)
    shape = (size, len(predictor.channels), predictor.square.side, predictor.square.side)
    with torch.no_grad():
        dtype = pick_precision(precision, predictor.device, predictor.models[0], shape, features_of)
    predictor = replace(predictor, dtype=dtype)
    say(f"computing in {precision_name(predictor.dtype)}, {size} images per batch")
    columns = predictor.columns
    table = shard_table(target, columns, share)
    weights = [*run_folder.weight_digests(folder).values()]
    table.begin({"weights": weights, "images": list(inputs), "features": features, "precision": precision}, overwrite)
    if table.rows:
        say(f"resuming after {counted(table.rows, 'row')}")
    progress, seen, unreadable, example = ProgressLines(say), SeenImages(folder, config.data), 0, ""
    with explain_out_of_memory(config, f"{folder}/recipe.yaml"), resumable(table):
        given = remaining(chain(first, images), table)
        for batch in predict_batches(given, predictor, config.data.max_pixels, size, say):
            table.add(batch.rows(predictor), batch.features)
            progress.add(len(batch.images))
            seen.add(image.path for image in batch.images if isinstance(image, InputImage))
            unreadable += len(batch.errors)
            example = example or next((batch.images[index].name for index in batch.errors), "")
        table.finish()
    left = f"; skipped: {left_out(skipped)}" if skipped else ""
    say(f"{counted(table.rows - unreadable, 'image')} predicted, {progress.speed:,.0f} per second{left}")
    if seen.note:
        say(seen.note)
    if unreadable:
        say(f"{counted(unreadable, 'image')} could not be read, see the column `error`; the first: {example}")
    if share.rank == 0 and (look := tests.record("predict", folder, inputs)):
        say(look)
    if share.world > 1 and merge_shards(target, columns, share):
        say(f"merged the tables of the {share.world} processes")
    return target


def features_of(model: Any, images: torch.Tensor) -> torch.Tensor:
    """The features of images [N, C, H, W], the forward pass by which `auto` chooses the precision."""
    return model.features(images)


def table_target(out: Path, overwrite: bool) -> Path:
    """The path of the table: `out`, or predictions.csv in `out` if that is a folder.

    Raises SightlineError if the path ends neither in .csv nor in .parquet, if pyarrow is missing for Parquet, or if the
    file exists and `overwrite` is False.
    """
    target = out / "predictions.csv" if out.is_dir() else out
    if target.suffix.lower() not in (".csv", ".parquet"):
        what, cure = (
            "predictions can be written as CSV or Parquet only",
            "use --out predictions.csv or --out predictions.parquet",
        )
        raise SightlineError(what, where=str(target), why=f"the extension is {target.suffix!r}", cure=cure)
    if target.suffix.lower() == ".parquet":
        require_parquet()
    if target.is_dir() or (target.exists() and not overwrite):
        cure = "choose another file: --out FILE" + ("" if target.is_dir() else "; or replace it with --overwrite")
        raise SightlineError("the output exists already", where=str(target), cure=cure)
    return target


def remaining(images: Iterator[InputImage], table: ResumableTable) -> Iterator[InputImage]:
    """Yield the images that have no row in the resumed table yet. Raises SightlineError if the rows in the table are
    not those of the first images."""
    for name in table.names():
        image = next(images, None)
        if image is None or image.name != name:
            now = "there are fewer images now" if image is None else f"the image at this position is {image.name!r} now"
            cure = "start the prediction again with --overwrite, or choose another file: --out FILE"
            why, where = f"the table has a row for {name!r}, but {now}", str(table.part)
            raise SightlineError("the images have changed since the interruption", where=where, why=why, cure=cure)
    yield from images


@contextlib.contextmanager
def resumable(table: ResumableTable) -> Generator[None]:
    """Context manager: on Ctrl-C, flush the rows to disk and raise SightlineError that says how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        table.commit()
        why, cure = f"{counted(table.rows, 'row')} are saved in {table.part}", "repeat the command to predict the rest"
        where = str(table.target)
        raise SightlineError(
            "the prediction was interrupted", where=where, why=why, cure=cure, status=INTERRUPTED
        ) from None
