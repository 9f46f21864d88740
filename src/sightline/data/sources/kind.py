"""Whether data are labeled images, or images with masks."""

from ...config.schema import Data
from ...errors import SightlineError
from ..shards.index import is_sharded
from .open import open_source
from .pair_layouts import holds_pairs
from .pairs import labeled_by_folders

LIBRARIES = ("sklearn", "torchvision")


def is_segmentation(data: Data) -> bool:
    """Whether the data are images with masks, by the settings or by their layout."""
    if is_sharded(data):
        cure = "check the data before packing: sightline doctor DATA; or unpack them"
        raise SightlineError("doctor checks files, and these are shards", where=data.path, cure=cure)
    if data.mask or data.palette or data.colors:
        return True
    if data.layout != "auto" or data.path.partition(":")[0] in LIBRARIES:
        return False
    try:
        source = open_source(data, data.split_seed, hold_out=False)
    except SightlineError:
        return holds_pairs(data.path)
    return not labeled_by_folders(source) and holds_pairs(data.path)
