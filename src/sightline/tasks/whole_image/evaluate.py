"""What evaluation of whole-image tasks shares: open the split of the run's own data, or of other data."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...config.schema import Config
from ...data.image_cache import decode
from ...data.sources.leakage import without_copies
from ...data.sources.open import open_source
from ...data.sources.splits import OUTER
from ...data.types import Decoded, Source
from ...inference.evaluation import as_trained, chosen_split, open_other, warn_if_changed, warn_of_bits
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

    def opened(hold_out: bool) -> Source:
        return open_source(config.data, config.data.split_seed, hold_out)

    def decoded_of(source: Source, name: str) -> Decoded:
        return decode(source, name, config.data.size, config.data, say)

    if own:
        source = own_splits(without_copies(opened(True), config.data, lambda text: None))
    else:
        source, own = open_other(folder, opened, lambda held: decoded_of(held, "val"), say)
    channels = channels_of_run(folder)
    source = as_trained(source, channels, config.data.max_pixels, say)
    name = chosen_split(split, source)
    decoded = decoded_of(source, name)
    warn_of_bits(decoded.channels, channels, say)
    if own:
        warn_if_changed(folder, name, decoded.digest, say)
    return EvaluatedSplit(source, name, decoded, name in ("test", OUTER) or not own)
