"""Recipes for your own images with masks, from the most frequent class to a fine-tuned encoder."""

from ..config.schema import Augment, Data, Loss, Model, Optim, Schedule, Train
from ..tasks.segment.config import SegmentConfig
from .segment import LAND, REPORT, camvid_fast

LIGHT = "light/tf_efficientnet_lite0"
"""The pre-trained network of the next recipes, with a light decoder: 18.8 MB of weights."""


def landcover_frozen() -> SegmentConfig:
    """A light decoder on a pre-trained encoder that does not change: minutes, and few images are enough.

    Needs ImageNet weights. For aerial images, add --augment.vertical_flip 0.5.

    Measured on CamVid, 266 images for training and 101 of a film that is not among them for validation, one seed: mean
    IoU 0.442 at 3.3e12 training FLOPs, in 90 seconds on one core of an AMD EPYC. `landcover_colors` has 0.149 and
    `landcover_constant` 0.034. See LOG.md.

        sightline train landcover_frozen --data landcover/
    """
    return SegmentConfig(
        name="landcover_frozen",
        data=LAND,
        model=Model(name=LIGHT, weights="pretrained", freeze=True),
        augment=Augment(
            window=(256, 256), scale=(0.75, 1.5), rare_crops=0.4, horizontal_flip=0.5, normalize="pretrained"
        ),
        loss=Loss(class_weights="log"),
        optim=Optim(name="adamw", lr=2e-3, weight_decay=0.01, decay_norm_and_bias=False, ema=0.99),
        schedule=Schedule(name="one_cycle", peak_fraction=0.2),
        train=Train(epochs=12, batch_size=8, eval_batch_size=8, best_metric="epoch"),
        report=REPORT,
    )


def landcover_finetune() -> SegmentConfig:
    """A pre-trained encoder with a light decoder, all of it trained; layers near the images have lower learning rates.

    Needs ImageNet weights. To begin with the decoder of a run of `landcover_frozen`, add --model.weights RUN.

    Measured as `landcover_frozen`, with --train.epochs 8: mean IoU 0.443 at 6.3e12 training FLOPs; from random weights
    and without layer-wise decay, at the same FLOPs, 0.295. The 30 epochs of this recipe are not measured.

        sightline train landcover_finetune --data landcover/
    """
    base = landcover_frozen()
    return base.replace(
        name="landcover_finetune",
        model=base.model.replace(freeze=False),
        optim=base.optim.replace(layer_decay=0.9, weight_decay=0.05, clip_norm=1.0),
        train=base.train.replace(epochs=30),
    )


def camvid_finetune() -> SegmentConfig:
    """Street scenes (CamVid) from a pre-trained encoder, for films that training does not have.

    Settings: `landcover_finetune` with the crops, the color changes and the mirror images of `camvid_fast`, on images
    that are enlarged by 1.5, because poles and signs have few pixels. Needs ImageNet weights.

    Measured with one seed on one busy core of an AMD EPYC: mean IoU 0.619 on film 0016E5 of CamVid's training files
    after training on the other two (5.4e13 training FLOPs, 23 minutes); without the enlargement 0.590 (2.4e13, 16
    minutes), then from random weights 0.398. On film 0006R0, with 20 epochs: 0.491, without 0.476. `camvid_fast`
    has 0.458 at 1.5e14 and 0.393 at 2.4e14. Trained on all 367 images without the enlargement (5.4e13): 0.7145 on the
    validation images, which are of a film that training knows. See LOG.md.

        sightline train camvid_finetune --data camvid/
    """
    base, street = landcover_finetune(), camvid_fast()
    return base.replace(
        name="camvid_finetune",
        data=Data(palette="camvid"),
        model=base.model.replace(args={"enlarge": 1.5}),
        augment=street.augment.replace(normalize="pretrained"),
        train=base.train.replace(epochs=40, evaluate_every=10, flip_test=True),
    )


def landcover_colors() -> SegmentConfig:
    """Logistic regression of the color statistics around each pixel: what an encoder must beat. Downloads nothing.

    sightline train landcover_colors --data landcover/
    """
    base = landcover_frozen()
    return base.replace(
        name="landcover_colors",
        model=Model(name="colors"),
        augment=Augment(window=(128, 128)),
        loss=Loss(),
        optim=Optim(name="adamw", lr=0.02),
        train=base.train.replace(epochs=5, evaluate_every=5),
    )


def landcover_constant() -> SegmentConfig:
    """The most frequent class for every pixel, with the frequencies of the classes as probabilities.

    They are set before the first step; the tiny learning rate keeps them.

        sightline train landcover_constant --data landcover/
    """
    base = landcover_colors()
    return base.replace(
        name="landcover_constant",
        model=Model(name="constant"),
        optim=Optim(name="sgd", lr=1e-3, momentum=0.0),
        train=base.train.replace(epochs=1),
    )
