"""The model of a segmenter for `sightline serve`, a web page for predictions."""

from pathlib import Path

import numpy as np

from ...data.pair_cache import decode_pairs
from ...data.sources.pairs import open_pairs
from ...runs.sampling import evenly_spread
from ...serve.examples import EXAMPLES, Say, if_readable
from ...serve.models import ExampleImages, ServedModel, ServedSegmenter
from .config import SegmentConfig
from .evaluate import load_segmenter


def served(folder: Path, config: SegmentConfig, name: str, neighbors: bool, say: Say) -> ServedModel:
    """Load a segmenter and example images for the web page. neighbors: has no effect, because a segmenter has no
    index of images."""
    parts = load_segmenter(folder, config)

    def examples() -> ExampleImages:
        source, palette = open_pairs(config.data, config.data.split_seed, known=parts.palette)
        val = decode_pairs(source, "val", palette, config.data, say)
        rows = evenly_spread(len(val.names), EXAMPLES).tolist()
        images = [np.array(val.images[row][:, : val.sizes[row][0], : val.sizes[row][1]]) for row in rows]
        return ExampleImages(images, [val.names[row] for row in rows], [""] * len(rows))

    found = if_readable(examples, name, say)[0] or ExampleImages()
    return ServedSegmenter(name=name, config=config, classes=parts.palette.classes, parts=parts, examples=found)
