"""A trained segmenter as an object for Python."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...data.channels import Channels
from ...data.decode.geotiff import has_windows
from ...data.decode.images import planes
from ...engine.memory import explain_out_of_memory
from ...errors import SightlineError
from ...inference.images import GivenImage, images_in, is_several
from ...inference.inputs import InputImage
from ...inference.loaded import Loaded
from ...inference.options import PredictOptions
from ...inference.reading import open_channels
from .config import SegmentConfig
from .evaluate import MaskInference, load_segmenter
from .predict import predict_mask, predict_scene_mask

TILE = PredictOptions().tile


@dataclass(frozen=True, eq=False, repr=False)
class LoadedSegmenter(Loaded):
    """A segmenter, which predicts masks of images of any size."""

    parts: MaskInference
    size = "any size"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.parts.palette.classes

    @property
    def channels(self) -> Channels:
        return self.parts.channels

    @property
    def model(self) -> nn.Module:
        return self.parts.learner.model

    def predict(self, images: Any) -> np.ndarray | list[np.ndarray]:
        """Predict the mask of one or several images: indices into `classes`, uint8 [H, W], of the size of the image.

        Pixels of a GeoTIFF without data are 255. Large images are predicted in tiles, as by `sightline predict`.
        """
        masks = [self.mask(image) for image in images_in(images)]
        return masks if is_several(images) else masks[0]

    def mask(self, image: InputImage | GivenImage) -> np.ndarray:
        """Class indices uint8 [H, W] of one image."""
        limit = self.config.data.max_pixels
        with explain_out_of_memory(
            self.config, cure=f"use smaller tiles: sightline predict {self.run} IMAGES --out masks --tile {TILE // 2}"
        ):
            if isinstance(image, InputImage) and has_windows(Path(image.path), limit, self.channels.plain):
                with open_channels(Path(image.path), self.channels) as scene:
                    return predict_scene_mask(self.parts, scene, TILE)
            return predict_mask(self.parts, planes(image.read(limit, 0, self.channels)), TILE)

    def features(self, images: Any) -> np.ndarray:
        """Raise SightlineError: a segmenter has no features of whole images."""
        why, cure = "its network computes features of pixels", "compute masks: loaded.predict(images)"
        raise SightlineError("a segmenter has no features of whole images", where=str(self.run), why=why, cure=cure)

    def transform(self, image: Any) -> torch.Tensor:
        pixels = torch.tensor(planes(self.one(image, 0))[None], device=self.parts.device)
        return self.parts.learner.normalize(pixels)[0]


def load(folder: Path, config: SegmentConfig) -> LoadedSegmenter:
    """The segmenter of a run for Python."""
    return LoadedSegmenter(folder, config, load_segmenter(folder, config))
