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
from ..runs.lock import lock_output
from .batching import PredictedBatch, ProgressLines, batch_size, predict_batches
from .evaluation import SeenImages
from .images import GivenImage
from .inputs import InputImage, PredictOptions, absolute_inputs, input_images, without_maps
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
    complete: Callable[[Path, Path], None] = lambda rows, target: None,
    replaced: Sequence[Path] = (),
) -> Path:
    """Predict images and write the table, or under torchrun the part of this process; returns the path of the table.

    load: function that returns the predictor. It is called after the first images were found, so that wrong paths are
    reported at once. overlays: whether the caller draws what `options.overlay` asks for; else it is an error. complete:
    function that writes other files, from the path of all rows as CSV and that of the table. It is called before the
    table has its name, so that an interruption there can be resumed. replaced: files that a new prediction removes.
    """
    if options.overlay and not overlays:
        why = "overlays show masks, or the class activation maps of classifiers"
        raise SightlineError("--overlay has no effect on this prediction", why=why, cure="leave it out")
    target, share = table_target(out, options.overwrite, options.features), share_of(os.environ)
    tests, skipped = TestImages(), Counter[str]()
    given = without_maps(input_images(inputs, skipped), target, skipped)
    images = islice(tests.watched(given), share.rank, None, share.world)
    first = list(islice(images, 1))  # before the model is loaded
    predictor = in_precision(load(), config, options.precision)
    size = batch_size(predictor.device, config.train.eval_batch_size, predictor.square.side)
    say(f"computing in {precision_name(predictor.dtype)}, {size} images per batch")
    columns = predictor.columns
    table, whole = shard_table(target, columns, share), ResumableTable(target, columns)
    origin = {
        "weights": [*run_folder.weight_digests(folder).values()],
        "images": absolute_inputs(inputs),
        "features": options.features,
        "precision": options.precision,
    }
    progress, counts = ProgressLines(say), ImageCounts(SeenImages(folder, config.data))
    with explain_out_of_memory(config, f"{folder}/recipe.yaml"), lock_output(table.target) as note:
        if note:
            say(note)
        if share.world == 1:
            table_target(out, options.overwrite, options.features)  # another command may have written it since
        table.begin(origin, options.overwrite, [*whole.outputs, *replaced] if options.overwrite else ())
        if table.rows:
            say(f"resuming after {counted(table.rows, 'row')}")
        with resumable(table, options.overwrite):
            rest = remaining(chain(first, images), table, counts)
            for batch in predict_batches(rest, predictor, config.data.max_pixels, size, say):
                table.add(batch.rows(predictor), batch.features)
                progress.add(len(batch.images))
                counts.add_batch(batch)
            complete(table.part, target)
            table.finish_share() if share.world > 1 else table.finish()
    left = f"; skipped: {left_out(skipped)}" if skipped else ""
    say(f"{counted(table.rows - counts.unreadable, 'image')} predicted, {progress.speed:,.0f} per second{left}")
    for line in counts.lines:
        say(line)
    if share.world == 1 and counts.unreadable and counts.unreadable == table.rows:
        raise SightlineError("no image could be predicted", where=str(target), why=counts.why, cure="see the table")
    if share.rank == 0 and (look := tests.record("predict", folder, inputs)):
        say(look)
    if share.world > 1 and merge_shards(target, columns, share, origin):
        say(f"merged the tables of the {share.world} processes")
    return target


class ImageCounts:
    """Counts the images of a table: unreadable ones, and those on which the run was trained."""

    def __init__(self, seen: SeenImages):
        self.seen, self.unreadable, self.example, self.why = seen, 0, "", ""

    def add(self, image: InputImage | GivenImage, error: bool) -> None:
        """Count an image. error: whether it is unreadable."""
        if isinstance(image, InputImage):
            self.seen.add([image.path])
        self.unreadable += error
        self.example = self.example or (image.name if error else "")

    def add_batch(self, batch: PredictedBatch) -> None:
        """Count the images of a batch."""
        for index, image in enumerate(batch.images):
            self.add(image, index in batch.errors)
            if index in batch.errors and not self.why:
                self.why = batch.errors[index].why or batch.errors[index].what

    @property
    def lines(self) -> list[str]:
        """Sentences on these images; none without such images."""
        lines = [self.seen.note] if self.seen.note else []
        if self.unreadable:
            count, why = counted(self.unreadable, "image"), f", {self.why}" if self.why else ""
            lines.append(f"{count} could not be predicted, see the column `error`; the first: {self.example}{why}")
        return lines


def in_precision(predictor: Predictor, config: Config, precision: str) -> Predictor:
    """The predictor with the dtype of an option --precision."""
    side, channels = predictor.square.side, len(predictor.channels)
    shape = (batch_size(predictor.device, config.train.eval_batch_size, side), channels, side, side)
    with torch.no_grad():
        return replace(
            predictor, dtype=pick_precision(precision, predictor.device, predictor.models[0], shape, features_of)
        )


def features_of(model: Any, images: torch.Tensor) -> torch.Tensor:
    """The features of images [N, C, H, W], the forward pass by which `auto` chooses the precision."""
    return model.features(images)


def table_target(out: Path, overwrite: bool, features: bool = False) -> Path:
    """The path of the table: `out`, or predictions.csv in `out` if that is a folder.

    Raises SightlineError if the path ends neither in .csv nor in .parquet, if pyarrow is missing for Parquet, or if the
    file, or features of an earlier table of this name, exist and `overwrite` is False. features: whether features will
    be written.
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
    table = ResumableTable(target, [])  # an unfinished one may have written its features already
    outputs = [target] if table.record.is_file() else [*table.outputs, *[table.features] * features]
    found = None if overwrite else next((path for path in outputs if path.exists()), None)
    if target.is_dir() or found:
        cure = "choose another file: --out FILE" + ("" if target.is_dir() else "; or replace it with --overwrite")
        raise SightlineError("the output exists already", where=str(found or target), cure=cure)
    return target


def remaining(images: Iterator[InputImage], table: ResumableTable, counts: ImageCounts) -> Iterator[InputImage]:
    """Yield the images that have no row in the resumed table yet, and count the others. Raises SightlineError if the
    rows in the table are not those of the first images."""
    for name, error in table.saved():
        image = next(images, None)
        if image is None or image.name != name:
            now = "there are fewer images now" if image is None else f"the image at this position is {image.name!r} now"
            cure = "start the prediction again with --overwrite, or choose another file: --out FILE"
            why, where = f"the table has a row for {name!r}, but {now}", str(table.part)
            raise SightlineError("the images have changed since the interruption", where=where, why=why, cure=cure)
        counts.add(image, bool(error))
    yield from images


@contextlib.contextmanager
def resumable(table: ResumableTable, overwrite: bool) -> Generator[None]:
    """Context manager: on Ctrl-C, flush the rows to disk and raise SightlineError that says how to resume. overwrite:
    whether the command has the option --overwrite, with which it would start again."""
    try:
        yield
    except KeyboardInterrupt:
        table.commit()
        why, where = f"{counted(table.rows, 'row')} are saved in {table.part}", str(table.target)
        cure = f"repeat the command {'without --overwrite ' if overwrite else ''}to predict the rest"
        raise SightlineError(
            "the prediction was interrupted", where=where, why=why, cure=cure, status=INTERRUPTED
        ) from None
