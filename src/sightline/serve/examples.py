"""Load what the page of a served run shows from the run's data: validation images and nearest training images."""

from collections.abc import Callable
from typing import TypeVar

from ..config.schema import Config
from ..data.image_cache import decode
from ..data.types import Source
from ..errors import SightlineError, printable
from .neighbors import MOST, NeighborIndex, sampled_rows

Say = Callable[[str], None]
Loaded = TypeVar("Loaded")
EXAMPLES = 8


def if_readable(find: Callable[[], Loaded], name: str, say: Say) -> tuple[Loaded | None, str]:
    """(the result of `find`, ""), or (None, a note for the page) if the run's data cannot be read.

    name: of the run, for the message in the terminal.
    """
    try:
        return find(), ""
    except SightlineError as error:
        why = ": ".join(filter(None, (error.what, error.where, error.why)))
        say(f"{name}: its data cannot be read ({why}); it is served without training and validation images")
        return None, f"No training images: {printable(error.what)}."


def index_of(source: Source, config: Config, say: Say) -> NeighborIndex:
    """Create the index for nearest training images. Its features are computed later, see `NeighborIndex.steps`."""
    train = decode(source, "train", config.data.size, config.data, say)
    count = len(train.names)
    note = f"{MOST:,} of {count:,} training images, drawn at random" if count > MOST else ""
    return NeighborIndex(train, sampled_rows(count, config.train.seed), note)
