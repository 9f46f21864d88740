"""What a run's shipped weights say of images: probabilities and features, whatever task they were trained by."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...config.resolve import resolve
from ...config.schema import Config
from ...data.augment.batch import evaluation_transform
from ...data.decode.images import Square
from ...engine.device import autocast, pick_device, pick_precision, use_threads
from ...errors import SightlineError
from ...runs import run_folder
from ...runs.checkpoint import description_of, load_model
from .build import build_for_inference
from .task import mirror_mean


@dataclass(frozen=True)
class Answers:
    """models: networks with weights, in evaluation mode; several are an ensemble. classes: empty where none are known.

    transform: uint8 [N, 3, h, w] -> float. square: what pictures become before, unless they have the `kept` size.
    flip: mirrors count too. features: whether these are wanted.
    """

    models: Sequence[nn.Module]
    classes: tuple[str, ...]
    transform: Callable[[torch.Tensor], torch.Tensor]
    square: Square
    kept: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    flip: bool
    features: bool

    @torch.inference_mode()
    def of(self, pixels: torch.Tensor) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(probabilities float32 [N, K], features float32 [N, D]) of images uint8 [N, 3, h, w]; None for what is not
        known or not wanted. Probabilities are the mean over models and mirrors, features of the image as it is."""
        images, found, features = self.transform(pixels.to(self.device)), [], None
        for model in self.models:
            with autocast(self.device, self.dtype):
                wide = model.features(images)  # ty: ignore[not-callable]
                logits = model.head(wide) if self.classes else None  # ty: ignore[not-callable]
                if self.flip and logits is not None:
                    logits = mirror_mean(logits, model(images.flip(3)))
            if logits is not None:
                found.append(logits.float().softmax(1).cpu().numpy())
            if self.features:
                features = wide.float().cpu().numpy()
        return np.stack(found).mean(0, dtype=np.float64).astype(np.float32) if found else None, features


def answers_of(folder: Path, config: Config, features: bool) -> Answers:
    """The shipped weights of a classifier's or a pre-training's run.

    SightlineError where features are wanted of several epochs at once, each of which has its own.
    """
    precision = run_folder.precision_of(folder)
    if config.task == "byol":
        return backbone_answers(folder, config, precision)
    parts = build_for_inference(folder, config, precision)
    places = run_folder.shipped_checkpoints(folder)
    if features and len(places) > 1:
        why = f"the run ships {len(places)} epochs, whose features have nothing to do with each other"
        raise SightlineError("an ensemble has no features", where=str(folder), why=why, cure="leave out --features")
    models = [with_weights(parts.model, place) for place in places]
    rest = (parts.square, parts.kept, parts.device, parts.dtype, config.train.flip_test, features)
    return Answers(models, parts.classes, parts.transform, *rest)


def backbone_answers(folder: Path, config: Config, precision: str) -> Answers:
    """The backbone of a pre-training's run, which gives features alone."""
    from ..pretrain.build import build_siamese

    run_folder.require_weights(folder)
    use_threads(config.train.threads)
    device = pick_device(config.train.device, fallback=True)
    (shipped,) = run_folder.shipped_checkpoints(folder)
    with description_of(shipped) as description:
        preprocessing, built = description["preprocessing"], description["model"]
        size, kept = preprocessing["size"], tuple(preprocessing["kept"])
        square = Square(size, preprocessing.get("fit", "squash"), preprocessing["resize"])
        transform = evaluation_transform(size, tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
        known = {"data.size": size, "model.name": built["name"], "model.args": built["args"]}
    model = build_siamese(resolve(config, known))
    model.load_state_dict(load_model(shipped)[0])
    model.to(device).to(memory_format=torch.channels_last)
    dtype = pick_precision(precision, device)
    return Answers([model.eval()], (), transform, square, kept, device, dtype, flip=False, features=True)


def in_precision(answers: Answers, name: str) -> Answers:
    """The answers in float32 or bfloat16 where the name is one of these; else as they are."""
    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return replace(answers, dtype=known[name]) if name in known else answers


def with_weights(model: nn.Module, checkpoint: Path) -> nn.Module:
    """A copy of the model with the weights of a checkpoint folder, ready to evaluate."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(load_model(checkpoint)[0])
    return copied.eval()
