"""The models that answer: a picture's bytes in, what a classifier or a segmenter says of it out.

Names come from files that anybody may have named: in answers they are printable, which JSON and pages can hold.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..config.files import load_recipe_file
from ..config.schema import Config
from ..data.cache import decode
from ..data.decode.images import image_in, planes
from ..data.decode.palettes import display_colors
from ..data.pair_cache import decode_pairs
from ..data.sources.open import open_source
from ..data.sources.pairs import open_pairs
from ..errors import SightlineError, printable
from ..inference.masks import scene_mask
from ..inference.predictor import Predictor
from ..runs import run_folder
from ..tasks.classify.predict import predictor
from ..tasks.pretrain.build import open_images
from ..tasks.segment.evaluate import MaskInference, load_segmenter
from .near import MOST, Near, chosen
from .words import ClassAnswer, ClassProbability, ClassShare, Example, MaskAnswer, Model, NearPicture, NearState

Say = Callable[[str], None]
NEIGHBORS = 8
EXAMPLES = 8
MOST_PIXELS = 50_000_000
"""Pixels of a picture, unless `data.max_pixels` of the run is lower."""
TILE = 1024


@dataclass(frozen=True)
class Examples:
    """Validation pictures to try: uint8 [3, h, w] each, by name, with their true class where there is one."""

    pixels: Sequence[np.ndarray]
    names: Sequence[str]
    labels: Sequence[str]


NONE = Examples((), (), ())


@dataclass(frozen=True)
class Classifier:
    """A run that says classes, neighbors or both."""

    name: str
    config: Config
    answers: Predictor
    near: Near | None
    note: str
    examples: Examples

    @property
    def max_pixels(self) -> int:
        return min(self.config.data.max_pixels, MOST_PIXELS)

    def read(self, content: bytes) -> np.ndarray:
        """What the model sees of a picture, uint8 [3, h, w], by the rules of `chunks.read_chunk`."""
        image = image_in(content, self.max_pixels, self.answers.square.side)
        return planes(image) if image.size[::-1] == self.answers.kept else self.answers.square.of(image)

    def compute(self, pictures: Sequence[np.ndarray]) -> list[ClassAnswer]:
        """The answers for some pictures, in batches of one shape."""
        found: dict[int, ClassAnswer] = {}
        for shape in {picture.shape for picture in pictures}:
            places = [place for place, picture in enumerate(pictures) if picture.shape == shape]
            batch = torch.from_numpy(np.stack([pictures[place] for place in places]))
            probabilities, features = self.answers.of(batch)
            for row, place in enumerate(places):
                known = None if probabilities is None else probabilities[row]
                found[place] = self.answer(known, None if features is None else features[row])
        return [found[place] for place in range(len(pictures))]

    def answer(self, probabilities: np.ndarray | None, feature: np.ndarray | None) -> ClassAnswer:
        """Probabilities [K] and a feature [D] in words."""
        classes, near, likely = self.answers.classes, [], []
        if probabilities is not None:
            order = np.argsort(-probabilities, kind="stable")
            likely = [
                ClassProbability(name=printable(classes[place]), probability=probabilities[place]) for place in order
            ]
        if self.near is not None and feature is not None:
            near = [self.neighbor(row, similar) for row, similar in self.near.nearest(feature, NEIGHBORS)]
        label, confidence = (likely[0].name, likely[0].probability) if likely else ("", 0.0)
        whole = self.near is None or self.near.done == len(self.near.rows)
        note = self.note if whole else "Not all training pictures have been looked at yet."
        return ClassAnswer(
            model=self.name, label=label, confidence=confidence, probabilities=likely, near=near, note=note
        )

    def neighbor(self, row: int, similar: float) -> NearPicture:
        """A training picture in words."""
        assert self.near is not None
        train = self.near.train
        label = "" if train.labels is None else train.classes[train.labels[row]]
        return NearPicture(
            picture=row, name=printable(train.names[row]), label=printable(label), similarity=round(similar, 4)
        )

    def prepared(self) -> Iterator[None]:
        """What can be done while nobody asks, in steps: the features of the training pictures."""
        return iter(()) if self.near is None else self.near.steps(self.answers)

    def described(self) -> Model:
        """This model in the list of models."""
        near = None
        if self.near is not None:
            near = NearState(pictures=len(self.near.rows), done=self.near.done, note=self.near.note)
        task = "byol" if self.config.task == "byol" else "classify"
        return Model(
            name=self.name, task=task, classes=len(self.answers.classes), near=near, examples=listed(self.examples)
        )


@dataclass(frozen=True)
class Segmenter:
    """A run that says masks."""

    name: str
    config: Config
    parts: MaskInference
    examples: Examples

    @property
    def max_pixels(self) -> int:
        return min(self.config.data.max_pixels, MOST_PIXELS)

    def read(self, content: bytes) -> np.ndarray:
        """A picture at its own size, uint8 [3, h, w]."""
        return planes(image_in(content, self.max_pixels))

    def compute(self, pictures: Sequence[np.ndarray]) -> list[MaskAnswer]:
        """The masks of some pictures, one after the other: large ones in tiles, as `sightline predict`."""
        return [self.answer(scene_mask(self.parts, picture, TILE)) for picture in pictures]

    def answer(self, mask: np.ndarray) -> MaskAnswer:
        """A mask uint8 [h, w] in words."""
        palette = self.parts.palette
        counts = np.bincount(mask.ravel(), minlength=len(palette.classes))
        colors = ["#" + bytes(color.tolist()).hex() for color in display_colors(palette)]
        shares = [
            ClassShare(name=printable(name), color=color, share=count / mask.size)
            for name, color, count in zip(palette.classes, colors, counts, strict=True)
        ]
        height, width = mask.shape
        return MaskAnswer(model=self.name, width=width, height=height, mask=base64_png(mask), classes=shares)

    def prepared(self) -> Iterator[None]:
        """Nothing can be done before somebody asks."""
        return iter(())

    def described(self) -> Model:
        """This model in the list of models."""
        classes = len(self.parts.palette.classes)
        return Model(name=self.name, task="segment", classes=classes, examples=listed(self.examples))


Served = Classifier | Segmenter


def load(folder: Path, name: str, neighbors: bool, say: Say) -> Served:
    """The run in `folder`, ready to answer. neighbors: whether its training pictures are wanted."""
    config = load_recipe_file(folder / "recipe.yaml")
    if config.task == "segment":
        parts = load_segmenter(folder, config)
        return Segmenter(name, config, parts, or_none(lambda: scene_examples(config, parts, say), name, say)[0])
    one = len(run_folder.shipped_checkpoints(folder)) == 1
    answers = predictor(folder, config, features=one)
    near, note = None, ""
    if not one:
        note = "The run ships several epochs, whose features cannot be compared: no nearest pictures."
    elif neighbors:
        near, note = or_none(lambda: near_of(config, say), name, say)
    if config.task == "byol" and near is None:
        why = note or "--neighbors is off"
        cure = "a pre-training without labels can only say which of its pictures are near: its data has to be there"
        raise SightlineError("this run has nothing to answer", where=str(folder), why=why, cure=cure)
    examples = NONE if config.task == "byol" else or_none(lambda: picture_examples(config, say), name, say)[0]
    return Classifier(name, config, answers, near, note, examples or NONE)


def or_none(find: Callable[[], Any], name: str, say: Say) -> tuple[Any, str]:
    """(what `find` gives, ""), or (None, why not) where the run's data is not there: the model answers without it."""
    try:
        return find(), ""
    except SightlineError as error:
        why = ": ".join(filter(None, (error.what, error.where, error.why)))
        say(f"{name}: its data cannot be read ({why}); the model answers without it")
        return None, f"No training pictures: {printable(error.what)}."


def near_of(config: Config, say: Say) -> Near:
    """The training pictures of a classifier or a pre-training, their features not yet known."""
    source = (
        open_images(config, lambda text: None)
        if config.task == "byol"
        else open_source(config.data, config.data.split_seed)
    )
    train = decode(source, "train", config.data.size, config.data, say)
    rows = chosen(len(train.names), config.train.seed)
    note = (
        f"{len(rows):,} of {len(train.names):,} training pictures, drawn at random" if len(train.names) > MOST else ""
    )
    return Near(train, rows, note)


def picture_examples(config: Config, say: Say) -> Examples:
    """Some validation pictures of a classifier, as they were decoded."""
    source = open_source(config.data, config.data.split_seed)
    val = decode(source, "val", config.data.size, config.data, say)
    assert val.labels is not None
    by_class = np.argsort(val.labels, kind="stable")
    rows = [int(by_class[place]) for place in spread(len(val.names))]
    return Examples(
        [np.array(val.images[row]) for row in rows],
        [val.names[row] for row in rows],
        [val.classes[val.labels[row]] for row in rows],
    )


def scene_examples(config: Config, parts: MaskInference, say: Say) -> Examples:
    """Some validation pictures of a segmenter."""
    source, palette = open_pairs(config.data, config.data.split_seed, known=parts.palette)
    val = decode_pairs(source, "val", palette, config.data, say)
    rows = spread(len(val.names))
    cut = [val.images[row][:, : val.sizes[row][0], : val.sizes[row][1]] for row in rows]
    return Examples([np.array(one) for one in cut], [val.names[row] for row in rows], [""] * len(rows))


def spread(count: int) -> list[int]:
    """EXAMPLES places, evenly over `count`."""
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, EXAMPLES)).round()})


def listed(examples: Examples) -> list[Example]:
    """The examples in words."""
    pairs = zip(examples.names, examples.labels, strict=True)
    return [Example(name=printable(name), label=printable(label)) for name, label in pairs]


def png_bytes(pixels: np.ndarray, side: int = 0) -> bytes:
    """A PNG of an image uint8 [3, h, w] or a mask uint8 [h, w]; side: at most so many pixels a side."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if pixels.ndim == 3 else pixels)
    if side:
        image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def base64_png(pixels: np.ndarray) -> str:
    """`png_bytes` as text."""
    return base64.b64encode(png_bytes(pixels)).decode("ascii")
