"""A trained model as an object for Python, which `sightline.load` returns."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..config.schema import Config
from ..data.channels import Channels
from ..engine.memory import explain_out_of_memory
from ..errors import SightlineError, counted
from ..models.class_maps import Layer, class_maps, enlarged, last_layer
from ..models.folding import unfold_norms
from ..runs.terminal import print_plain
from .batching import PredictedBatch, batch_size, predict_batches
from .images import images_in, is_several, item_image
from .predictor import Predictor


@dataclass(frozen=True, eq=False)
class Prediction:
    """The predicted label of an image.

    name: of the image: for files as in the table of `sightline predict`, else its position, such as `images[0]`.
    probabilities: float32 [classes], in the order of the model's `classes`.
    """

    name: str
    label: str
    confidence: float
    probabilities: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False, repr=False)
class Loaded:
    """The trained model of a run.

    An image is a path, a PIL image, an array [H, W, 3] or [H, W], or a tensor [3, H, W] or [H, W]; values are uint8, or
    floats from 0 to 1. For a network with other channels than RGB it is a path, or an array or tensor [C, H, W] with
    the values of the files. Several images are a list or another iterable of images, an array [N, H, W, 3], a tensor
    [N, C, H, W], a folder, a pattern, or a text file with paths. For one image a function returns one result, for
    several a list or array of results.

    All functions raise SightlineError with the name of an image that cannot be used.
    """

    run: Path
    config: Config

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; empty for a model that computes features only."""
        raise NotImplementedError

    @property
    def model(self) -> nn.Module:
        """The network in evaluation mode, on its device: images [N, C, h, w] of `transform` -> logits. Without classes,
        the backbone: images -> features. Its batch norms are layers of their own from now on, see `models.folding`."""
        raise NotImplementedError

    @property
    def size(self) -> str:
        """The size of the network's input, for the representation of the model."""
        raise NotImplementedError

    @property
    def channels(self) -> Channels:
        """The channels of the images that the network needs."""
        raise NotImplementedError

    def predict(self, images: Any) -> Any:
        """Predict one or several images, with the same result as `sightline predict`."""
        raise NotImplementedError

    def features(self, images: Any) -> np.ndarray:
        """The penultimate features of one image, float32 [D], or of several, [N, D]."""
        raise NotImplementedError

    def transform(self, image: Any) -> torch.Tensor:
        """Convert one image to the network's input, on the device of the network: resized and normalized, float32 [C,
        h, w]. The output for the image is `model(transform(image)[None])`."""
        raise NotImplementedError

    def class_map(self, image: Any, label: str = "") -> np.ndarray:
        """Where the image raises the network's output for a class; see `LoadedPredictor.class_map`."""
        cure = "predict a mask: loaded.predict(image)"
        raise SightlineError("only classifiers have class activation maps", where=str(self.run), cure=cure)

    def one(self, image: Any, side: int) -> Any:
        """Decode one image. Raises SightlineError for several. side: see `open_image`."""
        if is_several(image):
            cure = "transform the images one by one: torch.stack([loaded.transform(image) for image in images])"
            raise SightlineError("`transform` takes one image", why="these are several images", cure=cure)
        return item_image(image, "image").read(self.config.data.max_pixels, side, self.channels)

    @property
    def result(self) -> str:
        """What the model predicts, for the representation of the model."""
        count = len(self.classes)
        return "no classes" if not count else f"{count:,} class{'' if count == 1 else 'es'}"

    def __repr__(self) -> str:
        return f"<sightline model {self.config.model.name}, {self.result}, {self.size}, {self.run}>"


@dataclass(frozen=True, eq=False, repr=False)
class LoadedPredictor(Loaded):
    """A model that predicts one vector for a whole image: a classifier, or a backbone without classes."""

    predictor: Predictor

    @property
    def classes(self) -> tuple[str, ...]:
        return self.predictor.classes

    @property
    def channels(self) -> Channels:
        return self.predictor.channels

    @property
    def size(self) -> str:
        return f"{self.predictor.square.side} px"

    @property
    def result(self) -> str:
        return f"predicts {self.classes[0]}" if self.predictor.decision.label is None else super().result

    @property
    def model(self) -> nn.Module:
        self.require_one_network("model")
        network: Any = self.predictor.models[0]
        unfold_norms(network)
        return network if self.classes else network.backbone

    def predict(self, images: Any) -> Prediction | list[Prediction] | float | np.ndarray:
        """Predict the label of one or several images, with the same result as `sightline predict`.

        A model that predicts numbers returns a float for one image, float32 [N] for several.
        """
        if not self.classes:
            why, cure = "the model has no classes", "compute features: loaded.features(images)"
            raise SightlineError("this model predicts no labels", where=str(self.run), why=why, cure=cure)
        found, outputs, label = [], [], self.predictor.decision.label
        for batch in self.batches(images, self.predictor):
            assert batch.probabilities is not None
            outputs.append(batch.probabilities)
            for image, values in zip(batch.images, batch.probabilities, strict=True):
                found += [Prediction(image.name, *label(values, self.classes), values)] if label else []
        if label is None:
            numbers = np.concatenate(outputs)[:, 0]
            return numbers if is_several(images) else float(numbers[0])
        return found if is_several(images) else found[0]

    def features(self, images: Any) -> np.ndarray:
        self.require_one_network("features")
        found = []
        for batch in self.batches(images, replace(self.predictor, features=True, classes=())):  # without the head
            assert batch.features is not None
            found.append(batch.features)
        features = np.concatenate(found)
        return features if is_several(images) else features[0]

    def transform(self, image: Any) -> torch.Tensor:
        pixels = self.predictor.resized(self.one(image, self.predictor.square.side))
        return self.predictor.transform(torch.tensor(pixels[None], device=self.predictor.device))[0]

    def class_map(self, image: Any, label: str = "") -> np.ndarray:
        """Where the image raises the network's output for a class, by default the predicted one: float32 [H, W] of the
        image's size, from 0 to 1, see `models.class_maps`. Parts of the image that the network does not see are 0.

        Raises SightlineError for a network without such maps: a vision transformer, and neighbors' votes.
        """
        layer = self.layer_of_maps
        model: Any = self.model
        if label and label not in self.classes:
            near = difflib.get_close_matches(label, self.classes, 1) or self.classes[:1]
            raise SightlineError(f"there is no class {label!r}", where=str(self.run), cure=f"perhaps: {near[0]!r}")
        prepared, (width, height) = self.transform(image)[None].float(), self.one(image, 0).size
        with torch.no_grad():
            index = self.classes.index(label) if label else int(model(prepared).argmax())
        maps = class_maps(model.backbone, model.head, prepared, torch.tensor([index], device=prepared.device), layer)
        assert maps is not None
        left, top, right, bottom = (round(edge) for edge in self.predictor.seen(width, height))
        whole = np.zeros((height, width), np.float32)
        whole[top:bottom, left:right] = enlarged(maps[0].cpu().numpy(), bottom - top, right - left)
        return whole

    @cached_property
    def layer_of_maps(self) -> Layer:
        """The layer whose activations are in class activation maps. Raises SightlineError as `class_map` does."""
        cure = "use a trained classifier: sightline train photos_finetune"
        if not self.classes or self.config.model.head == "knn":
            why = "the model has no classes" if not self.classes else "its head is a vote of neighbors"
            raise SightlineError("this model has no class activation maps", where=str(self.run), why=why, cure=cure)
        model: Any = self.model
        side = self.predictor.square.side
        empty = torch.tensor(np.zeros((1, len(self.channels), side, side), self.channels.dtype))
        found = last_layer(model.backbone, self.predictor.transform(empty.to(self.predictor.device)).float())
        if found is None:
            why = "its last layer with positions has tokens, or there is none"
            cure = "use a convolutional network"
            raise SightlineError("this network has no class activation maps", where=str(self.run), why=why, cure=cure)
        return found

    def batches(self, images: Any, predictor: Predictor) -> Iterator[PredictedBatch]:
        """Yield the predictions of images in batches. Raises the SightlineError of the first unreadable image."""
        size = batch_size(predictor.device, self.config.train.eval_batch_size, predictor.square.side)
        with explain_out_of_memory(self.config, f"{self.run}/recipe.yaml"):
            given, limit = images_in(images), self.config.data.max_pixels
            for batch in predict_batches(given, predictor, limit, size, print_plain):
                for error in batch.errors.values():
                    raise error
                yield batch

    def require_one_network(self, name: str) -> None:
        """Raise SightlineError for an ensemble, which has no `name`."""
        count = len(self.predictor.models)
        if count > 1:
            why = f"the run is an ensemble of {counted(count, 'network')}, which only `predict` combines"
            cure = "use the networks one by one: loaded.predictor.models"
            raise SightlineError(f"an ensemble has no `{name}`", where=str(self.run), why=why, cure=cure)
