"""Segment Anything on the page: a cache of image embeddings, and masks for points and boxes."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..segment_anything.model import Sam
from .models import base64_png
from .schemas import PointPrompt, PromptMask, PromptMasks

KEPT = 8
"""Maximum number of cached embeddings, of a few megabytes each."""


class EmbeddingCache:
    """Cache of the most recently used image embeddings; the keys are the SHA-256 of the image files. Not
    thread-safe."""

    def __init__(self, sam: Sam):
        self.sam, self.name = sam, sam.name
        self.embeddings: OrderedDict[str, Any] = OrderedDict()

    def embed(self, images: Sequence[tuple[bytes, np.ndarray]]) -> list[str]:
        """Compute the embeddings of the images that are not in the cache; returns the keys of all images.

        images: (bytes of the file, pixels uint8 [3, H, W]) of each.
        """
        keys = [hashlib.sha256(content).hexdigest() for content, _ in images]
        for key, (_, pixels) in zip(keys, images, strict=True):
            if key not in self.embeddings:
                self.embeddings[key] = self.sam.embed(pixels)
            self.embeddings.move_to_end(key)
            while len(self.embeddings) > KEPT:
                self.embeddings.popitem(last=False)
        return keys

    def masks(self, prompts: Sequence[tuple[str, PointPrompt]]) -> list[PromptMasks | None]:
        """Masks for each (key of the image, prompt), highest score first; None for an image that is not in the
        cache."""
        return [self.mask(key, prompt) for key, prompt in prompts]

    def mask(self, key: str, prompt: PointPrompt) -> PromptMasks | None:
        """Masks for one prompt, highest score first; None if the image is not in the cache."""
        if key not in self.embeddings:
            return None
        self.embeddings.move_to_end(key)
        masks, scores = self.sam.predict_masks(self.embeddings[key], prompt.points, prompt.labels, prompt.box)
        found = [
            PromptMask(mask=base64_png(mask.astype(np.uint8) * 255), score=score, share=mask.mean())
            for mask, score in zip(masks, scores, strict=True)
        ]
        return PromptMasks(masks=found)
