"""Pictures in, a table out: rows as they come, bounded memory; a file that cannot be read is a row that says why."""

import contextlib
import os
import shlex
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.files import load_recipe_file
from ..config.schema import Config
from ..data.cache import cache_root
from ..data.decode.crash_guard import laid
from ..data.sources.scan import EXTENSIONS, left_out
from ..engine.memory import explained_memory
from ..errors import INTERRUPTED, SightlineError, counted
from ..runs import run_folder
from ..runs.csv_io import PREDICT_COLUMNS, class_columns
from ..runs.terminal import print_plain
from ..tasks.classify.predict import predictor
from .autotune import PRECISIONS, Way, fastest_way, threads_to_try
from .batching import Chunk, answered
from .inputs import Picture, pictures_in
from .predictor import Predictor, in_precision
from .resumable_csv import Growing
from .sharded_predict import own_target, put_together, share_of

if TYPE_CHECKING:
    import torch

OTHER_TABLES = (".xlsx", ".xls", ".ods", ".tsv", ".json", ".jsonl", ".feather", ".html")
"""Endings of tables that are not written: a CSV file under such a name opens nowhere."""

FEW = 64
"""Fewer images than this are not worth trying batches for."""
TOLD = 10.0
"""Seconds between two lines of progress."""


def predict(
    run: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    overwrite: bool = False,
    features: bool = False,
    overlay: bool = False,
    tile: int = 1024,
    precision: str = "run",
    quiet: bool = False,
) -> Path:
    """Classify or segment images with a run's shipped weights.

    images: what `pictures_in.pictures_in` takes: folders, images, patterns, lists, `-` for standard input. A classifier
    writes a table `out` (.csv or .parquet); its path is returned. A segmenter writes a mask an image into the folder
    `out`, see `predict_masks.predict_masks`; overlay and tile are for it alone.

    Columns: filename (relative to the folder), label, confidence, one probability a class, error. features: also the
    penultimate features, float32 [rows, D], into `NAME.features.npy` beside the table, NaN for a file that cannot be
    read; a run of pre-training gives these alone. Rows are added to `out.part` as they come, which becomes `out` when
    it is complete; the same command goes on with one that was interrupted. Under torchrun the processes share the
    pictures. How many images at once, threads and precision are found by trying, see `ways.fastest_way`.
    """
    folder = run_folder.existing(run)
    places = [os.fspath(images)] if isinstance(images, str | os.PathLike) else [os.fspath(place) for place in images]
    config = load_recipe_file(folder / "recipe.yaml")
    say = (lambda text: None) if quiet else print_plain
    if precision not in PRECISIONS:
        raise SightlineError(f"there is no precision {precision!r}", where="--precision", cure=" or ".join(PRECISIONS))
    if config.task == "segment":
        return masks_of(folder, config, places, Path(out), overwrite, features, overlay, tile, say)
    if config.task == "byol" and not features:
        why = "pre-training without labels knows no classes"
        cure = (
            "--features for its features, or train a classifier on it first: "
            f"sightline train ... --model.weights {shlex.quote(str(folder))}"
        )
        raise SightlineError("this run has nothing to predict", where=str(folder), why=why, cure=cure)
    target = usable_target(Path(out), overwrite)
    return table_of(folder, config, places, target, overwrite, features, precision, say)


def table_of(
    folder: Path,
    config: Config,
    places: list[str],
    target: Path,
    overwrite: bool,
    features: bool,
    precision: str,
    say: Callable[[str], None],
) -> Path:
    """The table of one prediction, or of this process's share of it."""
    tally: Counter[str] = Counter()
    share = share_of(os.environ)
    stream = islice(pictures_in(places, tally), share.rank, None, share.world)
    first = list(islice(stream, FEW))  # what cannot be found is said before a model is built
    answers = in_precision(predictor(folder, config, features), precision)
    head = [*PREDICT_COLUMNS, *class_columns(answers.classes), "error"] if answers.classes else ["filename", "error"]
    table = Growing(own_target(target, share), head)
    table.begin(origin_of(folder, places, features, precision), overwrite)
    progress = Progress(say, table.rows)
    threads = threads_to_try(config.train.threads, os.environ.get("OMP_NUM_THREADS", ""))

    def find_way(answers: Predictor, pixels: "torch.Tensor") -> Way:
        way = fastest_way(answers, pixels, precision, threads)
        say(way.said)
        return way

    with explained_memory(config, f"{folder}/recipe.yaml"), going_on(target, table), laid(cache_root()):
        rest = remaining(chain(first, stream), table)
        for chunk in answered(rest, answers, config, find_way if len(first) >= FEW else None):
            table.add(*chunk.rows(answers.classes))
            progress.add(chunk)
        table.finish()
    progress.end(left_out(tally))
    if share.world > 1 and put_together(target, head, share):
        say(f"put together the tables of {share.world} processes")
    return target


def masks_of(
    folder: Path,
    config: Config,
    places: list[str],
    out: Path,
    overwrite: bool,
    features: bool,
    overlay: bool,
    tile: int,
    say: Callable[[str], None],
) -> Path:
    """A mask for each image by a segmenter's run."""
    from .masks import predict_masks

    if features:
        raise SightlineError("a segmenter has no features of whole images", where="--features", cure="leave it out")
    tally: Counter[str] = Counter()
    pictures = list(pictures_in(places, tally))
    if left := left_out(tally):
        say(f"left out: {left}")
    with explained_memory(config, cure=f"smaller tiles: --tile {max(64, tile // 2)}"):
        return predict_masks(folder, config, pictures, out, overwrite, overlay, tile, say)


def usable_target(out: Path, overwrite: bool) -> Path:
    """The table to write: `out`, or predictions.csv in it where it is a folder; never a picture."""
    target = out / "predictions.csv" if out.is_dir() else out
    if target.name.lower().endswith(EXTENSIONS):
        why = "its name is that of an image"
        raise SightlineError("predictions are a table", where=str(target), why=why, cure="--out predictions.csv")
    if target.suffix.lower() in OTHER_TABLES:
        why = f"{target.suffix} is another format than what would be written"
        cure = "--out predictions.csv, or .parquet"
        raise SightlineError("predictions are written as CSV or Parquet", where=str(target), why=why, cure=cure)
    if target.suffix.lower() == ".parquet":
        from .parquet import require_parquet

        require_parquet()
    if target.is_dir() or (target.exists() and not overwrite):
        cure = "another --out" if target.is_dir() else "another --out, or --overwrite"
        raise SightlineError("the output exists", where=str(target), cure=cure)
    return target


def origin_of(folder: Path, places: list[str], features: bool, precision: str) -> dict[str, Any]:
    """What a table is of: an interrupted one is gone on with only where all of this is the same."""
    return {
        "weights": [*run_folder.weights_of(folder).values()],
        "pictures": places,
        "features": features,
        "precision": precision,
    }


def remaining(pictures: Iterator[Picture], table: Growing) -> Iterator[Picture]:
    """The pictures behind those that have rows already, which must be the first ones."""
    for name in table.names():
        picture = next(pictures, None)
        if picture is None or picture.name != name:
            why = f"its row {name!r} is " + (
                "of no picture now" if picture is None else f"that of {picture.name!r} now"
            )
            cure = "--overwrite to begin anew, or another --out"
            where = str(table.part)
            raise SightlineError("the pictures have changed since the interruption", where=where, why=why, cure=cure)
    yield from pictures


@contextlib.contextmanager
def going_on(target: Path, table: Growing) -> Generator[None]:
    """Ctrl-C leaves what is done, and says so."""
    try:
        yield
    except KeyboardInterrupt:
        why = f"{counted(table.rows, 'row')} are in {table.part}"
        cure = "the same command goes on with them"
        raise SightlineError("interrupted", where=str(target), why=why, cure=cure, status=INTERRUPTED) from None


class Progress:
    """Lines about how far a prediction has come."""

    def __init__(self, say: Callable[[str], None], before: int):
        self.say, self.before, self.done, self.bad, self.first = say, before, 0, 0, ""
        self.start = self.told = time.monotonic()
        if before:
            say(f"going on after {counted(before, 'row')} that are there")

    def add(self, chunk: Chunk) -> None:
        """Count a chunk; say something where it is time."""
        self.done += len(chunk.pictures)
        self.bad += len(chunk.errors)
        if chunk.errors and not self.first:
            self.first = chunk.pictures[next(iter(chunk.errors))].name
        now = time.monotonic()
        if now - self.told >= TOLD:
            self.told = now
            self.say(f"{counted(self.before + self.done, 'image')}, {self.done / (now - self.start):,.0f} a second")

    def end(self, left: str) -> None:
        """The last lines."""
        spent = max(time.monotonic() - self.start, 1e-9)
        speed = f", {self.done / spent:,.0f} a second" if spent > TOLD else ""
        done = self.before + self.done - self.bad
        self.say(f"{counted(done, 'image')} done{speed}" + (f"; left out: {left}" if left else ""))
        if self.bad:
            self.say(f"{self.bad:,} could not be read; their rows say why, the first: {self.first}")
