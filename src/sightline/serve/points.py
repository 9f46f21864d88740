"""Segment Anything for the page: a few pictures that it has looked at, and masks for points and boxes on them."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .models import base64_png
from .words import Point, PointMask, PointMasks

if TYPE_CHECKING:
    from ..segment_anything.model import Sam

KEPT = 8
"""Pictures whose embeddings are kept; each has some megabytes."""


class Pictures:
    """The pictures that came last, by the SHA-256 of their bytes. Only the models' thread comes here."""

    def __init__(self, sam: "Sam"):
        self.sam, self.name = sam, sam.name
        self.known: OrderedDict[str, Any] = OrderedDict()

    def look(self, pictures: Sequence[tuple[bytes, np.ndarray]]) -> list[str]:
        """The names of pictures (bytes, uint8 [3, H, W]), each looked at unless it is known."""
        names = []
        for content, pixels in pictures:
            name = hashlib.sha256(content).hexdigest()
            if name not in self.known:
                self.known[name] = self.sam.embedded(pixels)
            self.known.move_to_end(name)
            names.append(name)
            while len(self.known) > KEPT:
                self.known.popitem(last=False)
        return names

    def masks(self, prompts: Sequence[tuple[str, Point]]) -> list[PointMasks | None]:
        """The masks for each (picture's name, prompt), best first; None for a picture that is not known."""
        return [self.mask(name, prompt) for name, prompt in prompts]

    def mask(self, name: str, prompt: Point) -> PointMasks | None:
        """The masks for one prompt."""
        if name not in self.known:
            return None
        self.known.move_to_end(name)
        masks, scores = self.sam.masks_at(self.known[name], prompt.points, prompt.labels, prompt.box)
        found = [
            PointMask(mask=base64_png(mask.astype(np.uint8) * 255), score=score, share=mask.mean())
            for mask, score in zip(masks, scores, strict=True)
        ]
        return PointMasks(masks=found)
