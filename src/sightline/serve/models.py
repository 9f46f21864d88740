"""Served models: convert the bytes of an image file to a prediction in the form of an API response.

Control characters in names of classes and files are escaped, because the data may be untrusted.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from ..config.schema import Config
from ..data.channels import Channels
from ..data.decode.geotiff import environment
from ..data.decode.images import planes
from ..data.decode.palettes import display_colors
from ..data.label_arrays import label_texts
from ..errors import printable
from ..inference.predictor import Predictor
from ..inference.reading import read_upload
from ..tasks.segment.evaluate import MaskInference
from ..tasks.segment.predict import predict_mask
from .neighbors import NeighborIndex
from .schemas import (  # fmt: skip
    ClassProbability,
    ClassShare,
    ExampleInfo,
    IndexProgress,
    LabelPrediction,
    MaskPrediction,
    ModelInfo,
    Neighbor,
)

NEIGHBORS = 8
MOST_PIXELS = 50_000_000
"""Maximum number of pixels of an image; `data.max_pixels` of the run applies too if it is lower."""
TILE = 1024


@dataclass(frozen=True)
class ExampleImages:
    """Validation images that a user of the page can try.

    pixels: [C, h, w] each. names: of the files. labels: true classes, "" if there are none.
    """

    pixels: Sequence[np.ndarray] = ()
    names: Sequence[str] = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """Base class of served models.

    name: shown on the page. neighbors: index for nearest training images, or None. returns: a phrase on the content of
    the API response, for the page.
    """

    name: str
    config: Config
    classes: tuple[str, ...]
    examples: ExampleImages
    neighbors: NeighborIndex | None = None
    returns: ClassVar[str]

    @property
    def max_pixels(self) -> int:
        return min(self.config.data.max_pixels, MOST_PIXELS)

    @property
    def channels(self) -> Channels:
        """The channels of the images that the network needs."""
        raise NotImplementedError

    def pixels(self, content: bytes) -> np.ndarray:
        """Decode an image file without resizing, [C, h, w]. Raises SightlineError if it cannot be read."""
        return planes(read_upload(content, self.channels, self.max_pixels))

    def read(self, content: bytes) -> np.ndarray:
        """Decode an image file to the model's input, [C, h, w]. Raises SightlineError if it cannot be read."""
        return self.pixels(content)

    def compute(self, images: Sequence[np.ndarray]) -> Sequence[LabelPrediction | MaskPrediction]:
        """Predict images [C, h, w] of the same shape; returns one prediction for each."""
        raise NotImplementedError

    def background(self) -> Iterator[None]:
        """An iterator; each step does a part of the work to be done while there are no requests."""
        return iter(())

    def info(self) -> ModelInfo:
        """The description of the model in the API's list of models."""
        index, progress = self.neighbors, None
        if index is not None:
            progress = IndexProgress(pictures=len(index.rows), done=index.done, note=index.note)
        examples = [
            ExampleInfo(name=printable(name), label=printable(label))
            for name, label in zip(self.examples.names, self.examples.labels, strict=True)
        ]
        return ModelInfo(
            name=self.name, task=self.config.task, classes=len(self.classes), near=progress, examples=examples
        )


@dataclass(frozen=True, kw_only=True)
class ServedClassifier(ServedModel):
    """A classifier or a pre-trained backbone: returns class probabilities, nearest training images, or both.

    note: for the page, the reason if there are no nearest images.
    """

    predictor: Predictor
    note: str = ""
    returns = "all classes with probabilities"

    @property
    def channels(self) -> Channels:
        return self.predictor.channels

    def read(self, content: bytes) -> np.ndarray:
        """Decode and resize an image file in the same way as `sightline predict`, so that predictions are equal;
        [C, h, w]."""
        return self.predictor.resized(read_upload(content, self.channels, self.max_pixels, self.predictor.square.side))

    def compute(self, images: Sequence[np.ndarray]) -> list[LabelPrediction]:
        """Predict images [C, h, w] of the same shape as one batch; returns one prediction for each."""
        probabilities, features = self.predictor.predict(torch.from_numpy(np.stack(images)))
        missing = [None] * len(images)
        pairs = zip(*(missing if rows is None else rows for rows in (probabilities, features)), strict=True)
        return [self.response(*pair) for pair in pairs]

    def response(self, probabilities: np.ndarray | None, feature: np.ndarray | None) -> LabelPrediction:
        """The API response for class probabilities [K] and features [D] of an image; each may be None."""
        ranked, near, note = [], [], self.note
        if probabilities is not None:
            ranked = [
                ClassProbability(name=printable(self.classes[index]), probability=probabilities[index])
                for index in np.argsort(-probabilities, kind="stable")
            ]
        if self.neighbors is not None and feature is not None:
            near = [self.neighbor(*found) for found in self.neighbors.nearest(feature, NEIGHBORS)]
            if self.neighbors.done < len(self.neighbors.rows):
                note = "The index of training images is not complete yet."
        label, confidence = "", 0.0
        if probabilities is not None and self.predictor.decision.label:
            label, confidence = self.predictor.decision.label(probabilities, self.classes)
        return LabelPrediction(
            model=self.name, label=printable(label), confidence=confidence, probabilities=ranked, near=near, note=note
        )

    def neighbor(self, row: int, similarity: float) -> Neighbor:
        """The API response for one near training image. row: its index. similarity: cosine similarity."""
        assert self.neighbors is not None
        train = self.neighbors.train
        label = "" if train.labels is None else label_texts(train.labels[[row]], train.classes)[0]
        name = printable(train.names[row])
        return Neighbor(picture=row, name=name, label=printable(label), similarity=round(similarity, 4))

    def background(self) -> Iterator[None]:
        """An iterator that computes the features of the training images, one batch per step."""
        return iter(()) if self.neighbors is None else self.neighbors.steps(self.predictor)


@dataclass(frozen=True, kw_only=True)
class ServedSegmenter(ServedModel):
    """A segmenter, which predicts masks of images of any size."""

    parts: MaskInference
    returns = "a mask as PNG and the share of each class"

    @property
    def channels(self) -> Channels:
        return self.parts.channels

    def compute(self, images: Sequence[np.ndarray]) -> list[MaskPrediction]:
        """Predict images one by one; large images in tiles, with the tile size of `sightline predict`."""
        return [self.response(predict_mask(self.parts, image, TILE)) for image in images]

    def response(self, mask: np.ndarray) -> MaskPrediction:
        """The API response for a predicted mask, class indices uint8 [h, w]."""
        counts = np.bincount(mask.ravel(), minlength=len(self.classes))
        colors = ["#" + bytes(color.tolist()).hex() for color in display_colors(self.parts.palette)]
        shares = [
            ClassShare(name=printable(name), color=color, share=count / mask.size)
            for name, color, count in zip(self.classes, colors, counts, strict=True)
        ]
        height, width = mask.shape
        return MaskPrediction(model=self.name, width=width, height=height, mask=base64_png(mask), classes=shares)


def png_bytes(pixels: np.ndarray, side: int = 0) -> bytes:
    """Encode an image uint8 [3, h, w] or a mask uint8 [h, w] as PNG.

    side: if not 0, the image is reduced to at most side x side pixels.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if pixels.ndim == 3 else pixels)
    if side:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def tiff_bytes(pixels: np.ndarray, channels: Channels) -> bytes:
    """Encode an image [C, h, w] as a TIFF file with the names of its channels."""
    from rasterio.io import MemoryFile

    size = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": channels.dtype}
    with environment(), MemoryFile() as memory:
        with memory.open(driver="GTiff", photometric="MINISBLACK", **size) as file:
            file.write(pixels)
            file.descriptions = channels.names
        return memory.read()


def base64_png(pixels: np.ndarray) -> str:
    """Encode an image uint8 [3, h, w] or a mask uint8 [h, w] as PNG, in base64 text."""
    return base64.b64encode(png_bytes(pixels)).decode("ascii")
