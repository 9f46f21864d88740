"""Features of a network that is not trained on the data, for checks of the data: from the cache, or computed once."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from ...config.optim import PENALTIES
from ...config.schema import Config
from ...data.augment.batch import evaluation_transform
from ...data.image_cache import decode
from ...data.sources.splits import ALL
from ...data.types import Decoded, Source
from ...engine.device import pick_device, use_threads
from ...engine.parts import normalization
from ...models.folding import fold_norms
from ...models.pretrained.preprocessing import with_own_preprocessing
from ..contract import Say
from .build import Inference, build_network
from .features import FeatureExtractor
from .fitted import choose_penalty, logistic_regression, parts_of, standardization

FOLDS = 5
"""Number of parts into which images are divided; the images of each get their probabilities from the others."""


@torch.no_grad()
def features(config: Config, source: Source, say: Say) -> dict[str, tuple[Decoded, np.ndarray]]:
    """The decoded images and their features float32 [N, D] of each split, by the weights in `model.weights`."""
    config, line = with_own_preprocessing(config)
    say(line)
    use_threads(config.train.threads)
    device = pick_device(config.train.device)
    torch.manual_seed(config.train.seed)
    model = build_network(config, source, max(2, len(source.classes)), say, True)[0]
    model.to(device).to(memory_format=torch.channels_last)
    fold_norms(model, (len(source.channels), config.data.size, config.data.size))
    splits = {split: decode(source, split, config.data.size, config.data, say) for split in source.splits}
    first = splits.get("train", splits.get(ALL, next(iter(splits.values()))))
    mean, std = normalization(config, first, say)
    transform = evaluation_transform(config.data.size, mean, std, config.data.eval_crop, source.channels)
    preprocessing = [mean, std, config.data.eval_crop, source.channels.description()]
    compute = FeatureExtractor(config, model, transform, preprocessing, device, say).features
    return {split: (each, compute(each, split, torch.float32).cpu().numpy()) for split, each in splits.items()}


def of_run(inference: Inference, config: Config, say: Say) -> Callable[[Decoded, str], torch.Tensor]:
    """A function (images, split) -> features float32 [N, D] by the network of a run with a frozen backbone. Those that
    training stored are used again. The function is called after the weights are loaded."""
    mean, std = inference.normalization

    def features(decoded: Decoded, split: str) -> torch.Tensor:
        fits = decoded.images.shape[2:] == (config.data.size, config.data.size)
        share = config.data.eval_crop if fits else 1.0  # that of the transform, which crops other images only
        preprocessing = [mean, std, share, decoded.channels.description()]
        learner = inference.learner
        rest = (preprocessing, inference.device, say)
        return FeatureExtractor(config, learner.model, learner.transform, *rest).features(decoded, split, torch.float32)

    return features


def of_images(
    features: Callable[[Decoded, str], torch.Tensor], decoded: Decoded, split: str
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    """The value of `ImageLearner.fixed` with which the images of a split are evaluated by their `features`, computed at
    their first use, and not by passing each batch through the backbone. Those of the training images are empty."""
    return (lambda: torch.empty(0), cache(lambda: features(decoded, split)))


def held_out_probabilities(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probabilities float64 [N, K] of each image by logistic regression on the features of other images.

    features: float32 [N, D]. labels: class indices int64 [N], from 0 to K - 1. groups: int64 [N]; the images of a group
    are in the same fold, so that a copy with the same wrong label does not support it. The penalty is chosen on the
    first fold.
    """
    classes = int(labels.max()) + 1
    inputs, targets, folds = torch.from_numpy(features), torch.from_numpy(labels), folds_of(labels, groups)
    penalty = choose_penalty(inputs, targets, classes, PENALTIES, folds == 0)[0]
    found = np.zeros((len(labels), classes))
    for fold in range(FOLDS):
        out = torch.from_numpy(folds == fold)
        if not out.any() or out.all():
            continue
        mean, scale = standardization(inputs[~out])
        values = logistic_regression((inputs[~out] - mean) / scale, targets[~out], classes, penalty)
        weights, biases = parts_of(values, classes, inputs)
        found[out] = (((inputs[out] - mean) / scale) @ weights.T + biases).double().softmax(1)
    return found


def folds_of(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The fold of each image, int64 [N], about the same share of each class; groups stay together."""
    _, first, whose = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(first))
    order = shuffled[np.argsort(labels[first][shuffled], kind="stable")]
    folds = np.empty(len(first), np.int64)
    folds[order] = np.arange(len(first)) % FOLDS
    return folds[whose]
