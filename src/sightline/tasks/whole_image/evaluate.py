"""What evaluation of whole-image tasks shares: open the split of the run's own data, or of other data."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...config.resolve import resolve
from ...config.schema import Config
from ...data.image_cache import decode
from ...data.sources.leakage import without_copies
from ...data.sources.open import open_source
from ...data.sources.splits import OUTER
from ...data.types import Decoded, Source
from ...inference.evaluation import chosen_split, require_channels, warn_if_changed
from ...inference.reading import channels_of_run
from ..contract import Say


class EvaluatedSplit(NamedTuple):
    """A split to evaluate. name: of the split. tests: whether its images chose nothing, so that it is logged as a
    test."""

    source: Source
    name: str
    decoded: Decoded
    tests: bool


def open_split(
    folder: Path,
    config: Config,
    data: str,
    split: str | None,
    say: Say,
    own_splits: Callable[[Source], Source] = lambda source: source,
) -> EvaluatedSplit:
    """Open and decode a split; the arguments are those of `Task.evaluate`.

    own_splits: a function that divides the run's own data further, as the task does for training.
    """
    own = not data
    if not own:
        config = resolve(config, {"data.path": data, "data.layout": "auto", "data.leave_out": ()})
    source = open_source(config.data, config.data.split_seed, hold_out=own)
    require_channels(source.channels, channels_of_run(folder), source.path)
    for note in source.notes if not own else ():
        say(note)
    source = own_splits(without_copies(source, config.data, lambda text: None)) if own else source
    name = chosen_split(split, source)
    decoded = decode(source, name, config.data.size, config.data, say)
    if own:
        warn_if_changed(folder, name, decoded.digest, say)
    return EvaluatedSplit(source, name, decoded, name in ("test", OUTER) or not own)
