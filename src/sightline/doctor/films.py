"""Films and scenes, found before a split is made, that a random split would divide."""

from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from ..config.schema import Data
from ..data.near import thumbnail
from ..data.sources.splits import ALL
from ..data.types import Source
from ..errors import SightlineError, counted
from ..stats.groups import found_by_name, name_parts

MOST = 1000
"""In data with more images, films are not searched, because all images would have to be read."""
SIDE = 64
"""Images are read at about this side."""


def divided_films(source: Source, data: Data) -> str:
    """A sentence on the films or scenes that a random split of these images would divide, with the option that keeps
    them together; "" if there are none, if groups are stated, and for more than MOST images.

    source: the data before a validation split is held out. Images that cannot be read are left to the training.
    """
    items = source.splits.get(ALL) or source.splits.get("train")
    if items is None or "val" in source.splits or data.group or items.groups is not None or len(items.names) > MOST:
        return ""
    try:
        pictures = [items.read(row, SIDE) for row in range(len(items.names))]
    except (SightlineError, OSError, ValueError):
        return ""
    plain = [picture.convert("RGB") for picture in pictures if isinstance(picture, Image.Image)]
    if len(plain) < len(pictures):
        return ""  # other channels than red, green and blue
    thumbs = [np.frombuffer(thumbnail(picture), np.uint8) for picture in plain]
    labels = items.labels.tolist() if items.labels is not None and items.labels.ndim == 1 else [0] * len(items.names)
    parts = [name_parts(PurePosixPath(name).name) for name in items.names]
    found = found_by_name(parts, np.stack(thumbs).astype(np.float32), labels) if parts else None
    if found is None:
        return ""
    sizes = np.bincount(found.ids)
    films = counted(int((sizes > 1).sum()), "film")
    return (
        f"{int(sizes[sizes > 1].sum()):,} of {len(items.names):,} images are of {films} or scenes, by their names and "
        "pixels. A random split divides them: the scores are those for films that the model knows, and are lower for "
        "new ones. To keep films together: --data.group '{group}_*', where {group} is the name of the film in the file "
        "names"
    )
