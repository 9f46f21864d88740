"""A predictor with the final weights of a run, for tasks that predict one vector for a whole image, and pictures of its
class activation maps."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ...config.schema import Config
from ...data.decode.images import planes
from ...data.parallel import share_of
from ...errors import SightlineError
from ...inference.inputs import STDIN, PredictOptions, input_images, maps_folder, without_maps
from ...inference.loaded import LoadedPredictor
from ...inference.predictor import Decision, Predictor, with_weights
from ...inference.tables import predict_table
from ...insight.class_maps import overlay
from ...runs import run_folder
from ...runs.atomic import atomic_write
from ..contract import Say
from .build import build_for_inference
from .learner import ImageLearner

LARGEST = 1024
"""Longest side in pixels of the pictures of class activation maps."""


def predictor(
    learner_class: type[ImageLearner],
    folder: Path,
    config: Config,
    features: bool,
    decision: Decision | None = None,
    outputs: int | None = None,
) -> Predictor:
    """Load the final weights of a run. decision: how logits become probabilities and a label; None: of one label.
    outputs: of the network for an image; None: one for each class.

    Raises SightlineError if features are requested from an ensemble.
    """
    parts = build_for_inference(learner_class, folder, config, outputs)
    shipped = run_folder.shipped_checkpoints(folder)
    if features and len(shipped) > 1:
        why = f"the run is an ensemble of {len(shipped)} epochs, whose features cannot be averaged"
        raise SightlineError("an ensemble has no features", where=str(folder), why=why, cure="omit --features")
    models = [with_weights(parts.learner.model, checkpoint) for checkpoint in shipped]
    rest = (parts.square, parts.decoded_size, parts.device, config.train.flip_test, features)
    transform, chosen = parts.learner.transform, decision or Decision()
    return Predictor(
        models, parts.classes, transform, *rest, chosen, channels=parts.channels, normalization=parts.normalization
    )


def predict_with_maps(
    folder: Path,
    config: Config,
    inputs: Sequence[str],
    out: Path,
    options: PredictOptions,
    load: Callable[[], Predictor],
    say: Say,
) -> Path:
    """Write the table of predictions and, with `options.overlay`, a picture for each image beside the table: where the
    image raises the output for the predicted class, of several labels for the most probable one.

    For `predictions.csv` and `a/1.jpg`, the picture is `predictions.maps/a/1.jpg.png`. Raises SightlineError for
    networks without class activation maps, before the table is computed.
    """

    @cache
    def explained() -> LoadedPredictor:
        """The network once more: unfolding the batch norms of this one would change the last digits of the table."""
        return LoadedPredictor(folder, config, load())

    def checked() -> Predictor:
        if options.overlay:
            _ = explained().layer_of_maps
        return load()

    if options.overlay and set(inputs) & set(STDIN):
        cure = "write the list of paths to a file: sightline predict RUN list.txt --overlay"
        raise SightlineError("--overlay reads the images twice, and standard input can be read once", cure=cure)

    def draw(rows: Path, target: Path) -> None:
        if not options.overlay:
            return
        share, maps = share_of(os.environ), maps_folder(target)
        images = without_maps(input_images(inputs, Counter()), target, Counter())
        for image in islice(images, share.rank, None, share.world):
            try:
                picture = map_picture(explained(), image.path)
            except SightlineError:  # which is in the table
                continue
            name = PurePosixPath(
                *(part for part in Path(image.name).parts if part not in ("..", Path(image.name).anchor))
            )
            atomic_write(maps / f"{name}.png", lambda file, drawn=picture: drawn.save(file, "PNG"))
        say(f"class activation maps: {maps}")

    return predict_table(folder, config, inputs, out, options, checked, say, overlays=True, complete=draw)


def map_picture(model: LoadedPredictor, path: str) -> Image.Image:
    """The class activation map of the predicted class over the image, at most LARGEST pixels wide and high."""
    strength, pixels = model.class_map(path), planes(model.one(path, 0))
    shown = Image.fromarray(model.channels.composite(pixels).transpose(1, 2, 0))
    shown.thumbnail((LARGEST, LARGEST))
    small = np.asarray(Image.fromarray(strength).resize(shown.size, Image.Resampling.BILINEAR)).clip(0, 1)
    return Image.fromarray(overlay(np.asarray(shown).transpose(2, 0, 1), small))
