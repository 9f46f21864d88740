"""A trained segmenter as an object for Python, and its predictions as polygons for annotation programs."""

import contextlib
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...data.annotations.outlines import shapes_of
from ...data.channels import Channels
from ...data.decode.geotiff import Scene, has_windows
from ...data.decode.images import planes
from ...data.decode.palettes import BACKGROUND, IGNORE
from ...data.sources.scan import left_out
from ...data.test_ledger import TestImages
from ...engine.memory import explain_out_of_memory
from ...errors import ENVIRONMENT, SightlineError, counted
from ...inference.batching import ProgressLines
from ...inference.images import GivenImage, images_in, is_several
from ...inference.inputs import InputImage, PredictOptions, input_images
from ...inference.loaded import Loaded
from ...inference.prelabels import Prelabel, require_free, write_prelabels
from ...inference.reading import ValueRange, open_channels
from ...inference.tiles import Tiling, argmax_classes, scene_bands
from ...models.folding import unfold_norms
from ...runs.terminal import print_plain
from ..contract import Say
from .config import SegmentConfig
from .evaluate import MaskInference, load_segmenter
from .predict import predict_scene_mask

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
        unfold_norms(self.parts.learner.model)
        return self.parts.learner.model

    def predict(self, images: Any) -> np.ndarray | list[np.ndarray]:
        """Predict the mask of one or several images: indices into `classes`, uint8 [H, W], of the size of the image.

        Pixels of a GeoTIFF without data are 255 if the masks of the run have ignored pixels. Large images are predicted
        in tiles, as by `sightline predict`.
        """
        values = ValueRange(self.channels)
        masks = [self.mask(image, values) for image in images_in(images)]
        if values.warning:
            print_plain(values.warning)
        return masks if is_several(images) else masks[0]

    def mask(self, image: InputImage | GivenImage, values: ValueRange) -> np.ndarray:
        """Class indices uint8 [H, W] of one image. values: counts its values."""
        cure = f"use smaller tiles: sightline predict {self.run} IMAGES --out masks --tile {TILE // 2}"
        scene = opened_scene(image, self.config.data.max_pixels, values)
        with explain_out_of_memory(self.config, cure=cure), scene as opened:
            return predict_scene_mask(self.parts, opened, TILE)

    def features(self, images: Any) -> np.ndarray:
        """Raise SightlineError: a segmenter has no features of whole images."""
        why, cure = "its network computes features of pixels", "compute masks: loaded.predict(images)"
        raise SightlineError("a segmenter has no features of whole images", where=str(self.run), why=why, cure=cure)

    def transform(self, image: Any) -> torch.Tensor:
        pixels = torch.tensor(planes(self.one(image, 0))[None], device=self.parts.device)
        return self.parts.learner.normalize(pixels)[0]


@contextlib.contextmanager
def opened_scene(image: InputImage | GivenImage, max_pixels: int, values: ValueRange) -> Generator[Scene]:
    """Context manager: open an image in windows if `sightline predict` does so, else decode it. values: counts its
    values."""
    channels = values.channels
    if isinstance(image, InputImage) and has_windows(Path(image.path), max_pixels, channels.plain):
        with open_channels(Path(image.path), channels) as scene:
            yield values.watched(scene, image.name)
    else:
        yield Scene.of_array(values.add(image.name, planes(image.read(max_pixels, 0, channels))))


def load(folder: Path, config: SegmentConfig) -> LoadedSegmenter:
    """The segmenter of a run for Python."""
    return LoadedSegmenter(folder, config, load_segmenter(folder, config))


def prelabel(
    folder: Path, config: SegmentConfig, inputs: Sequence[str], out: Path, options: PredictOptions, say: Say
) -> Path:
    """Write the regions of all images to the JSON file `out`; returns `out`.

    A region is connected and of one class; pixels of the class `background` and those without data are left out. Its
    score is the mean probability of the class over its pixels. Large and georeferenced TIFF files are read in parts;
    memory: 5 bytes per pixel. Unreadable images are printed. An interrupted command starts again.
    """
    require_free(out, options, inputs)
    options.require_float32()
    skipped, tests, found, unreadable = Counter[str](), TestImages(), list[Prelabel](), list[str]()
    images = list(tests.watched(input_images(inputs, skipped)))
    parts, progress = load_segmenter(folder, config), ProgressLines(say, "images", len(images))
    values = ValueRange(parts.channels)
    with explain_out_of_memory(config, cure=f"use smaller tiles: --tile {max(64, options.tile // 2)}"):
        for image in images:
            try:
                with opened_scene(image, config.data.max_pixels, values) as scene:
                    found.append(predicted_regions(parts, image.name, scene, options.tile))
            except SightlineError as error:
                if error.status == ENVIRONMENT:
                    raise
                unreadable.append(f"{image.name}: {error.why or error.what}")
            progress.add(1)
    if unreadable and not found:
        raise SightlineError("no image could be read", where=unreadable[0], cure="repair the images, or give others")
    write_prelabels(out, found, parts.palette.classes, options)
    shapes = [shape for each in found for shape, _ in each.regions]
    holes = sum(shape.runs is not None for shape in shapes)
    say(f"{counted(len(shapes), 'region')} in {counted(len(found), 'image')}; {holes:,} with holes are run lengths")
    for line in [
        *filter(None, [values.warning]),
        *unreadable[:20],
        *([f"skipped: {left_out(skipped)}"] if skipped else []),
    ]:
        say(line)
    if look := tests.record("predict", folder, inputs):
        say(look)
    return out


def predicted_regions(parts: MaskInference, name: str, scene: Scene, tile: int) -> Prelabel:
    """The regions of an image, with their scores."""
    height, width = scene.height, scene.width
    mask, confidence = np.empty((height, width), np.uint8), np.empty((height, width), np.float32)

    def forward(pixels: torch.Tensor) -> torch.Tensor:
        return parts.learner.logits(pixels.to(parts.device))

    classes = parts.palette.classes
    for top, band in scene_bands(forward, scene.read, height, width, len(classes), Tiling(tile, tile // 4)):
        found = argmax_classes(band).cpu().numpy()
        known = True if scene.valid is None else scene.valid(top, 0, *found.shape)
        mask[top : top + band.shape[1]] = np.where(known, found, np.uint8(IGNORE))
        confidence[top : top + band.shape[1]] = band.amax(0).cpu().numpy()
    kept = [(index, label) for index, label in enumerate(classes) if label.lower() not in BACKGROUND]
    regions = [
        (shape, float(confidence[pixels].mean()))
        for index, label in kept
        for shape, pixels in shapes_of(mask, index, label)
    ]
    return Prelabel(name, (height, width), regions)
