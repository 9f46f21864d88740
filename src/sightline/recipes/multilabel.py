"""Recipes for images with any number of labels."""

from ..config.optim import PENALTIES
from ..config.schema import Augment, Data, Loss, Model, Optim, Schedule, Train
from ..tasks.multilabel.config import MultilabelConfig
from .photos import BACKBONE


def multilabel_scratch() -> MultilabelConfig:
    """ResNet-18 from scratch at 128 pixels, for images with several labels; downloads nothing.

    Measured on 2 x 2 mosaics of 32x32 photographs of 50 classes (9,000 for training, 1,000 for validation, seed 0):
    mean average precision 0.478 [0.455, 0.491]; the same scores for every image give 0.050. 1.15e15 training FLOPs, 73
    minutes on one core of an AMD EPYC (AVX512). See LOG.md.

        sightline train multilabel_scratch --data labels.csv
    """
    return MultilabelConfig(
        name="multilabel_scratch",
        data=Data(size=128, labels="several"),
        model=Model(name="resnet18"),
        augment=Augment(resize=144, crop="random", horizontal_flip=0.5),
        loss=Loss(name="asymmetric"),
        optim=Optim(name="adamw", lr=1e-3, weight_decay=0.05, decay_norm_and_bias=False),
        schedule=Schedule(name="one_cycle_cosine", initial_factor=0.04, peak_fraction=0.2),
        train=Train(epochs=40, batch_size=64, best_metric="mean_average_precision"),
    )


def multilabel_probe() -> MultilabelConfig:
    """Logistic regression for each class on the frozen features of a pre-trained network: minutes.

    As `photos_probe`, for images with several labels.

        sightline train multilabel_probe --data labels.csv
    """
    return MultilabelConfig(
        name="multilabel_probe",
        data=Data(size=224, labels="several", filter="pretrained"),
        model=Model(name=BACKBONE, weights="pretrained", freeze=True),
        augment=Augment(normalize="pretrained"),
        optim=Optim(name="lbfgs", weight_decay=0.1, decay_choices=PENALTIES),
        train=Train(epochs=1, batch_size=256, best_metric="mean_average_precision"),
    )


def multilabel_knn() -> MultilabelConfig:
    """The labels of the nearest neighbors by the frozen features of a pre-trained network; nothing is trained.

    sightline train multilabel_knn --data labels.csv
    """
    base = multilabel_probe()
    return base.replace(name="multilabel_knn", model=base.model.replace(head="knn"), optim=Optim(name="knn"))


def multilabel_finetune() -> MultilabelConfig:
    """A pre-trained network, first its heads and then all of it, for images with several labels.

    Measured without the fitted head and with another normalization, at 128 pixels with 5 epochs instead of 12, on the
    mosaics of `multilabel_scratch`: mean average precision 0.651 [0.631, 0.664], 3.0e13 training FLOPs, 11 minutes on
    two cores of an AMD EPYC (AVX512). See LOG.md.

        sightline train multilabel_finetune --data labels.csv
    """
    scratch, probe = multilabel_scratch(), multilabel_probe()
    return scratch.replace(
        name="multilabel_finetune",
        data=probe.data,
        model=probe.model.replace(freeze=False, fit_head=True, fixed_norm=True),
        augment=Augment(resize=256, crop="random", horizontal_flip=0.5, normalize="pretrained"),
        optim=Optim(
            name="adamw",
            lr=1e-3,
            weight_decay=0.05,
            decay_norm_and_bias=False,
            layer_decay=0.8,
            decay_choices=PENALTIES,
        ),
        train=Train(epochs=12, batch_size=32, best_metric="mean_average_precision"),
    )
