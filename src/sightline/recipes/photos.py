"""Recipes for your own photographs with one label each, from frozen features to training from scratch."""

from ..config.optim import PENALTIES
from ..config.schema import Augment, Data, Loss, Model, Optim, Schedule, Train
from ..tasks.classify.config import ClassifyConfig

BACKBONE = "timm/tf_efficientnet_lite0"
"""The pre-trained network of these recipes: 18.8 MB of weights, 0.4 billion multiply-adds at 224 pixels."""


def photos_probe() -> ClassifyConfig:
    """Logistic regression on the frozen features of a pre-trained network: minutes, and few images are enough.

    The features are computed once, without augmentation, and stored in the cache folder. The penalty is chosen on a
    fifth of the training images, then the regression is fitted to all of them. With fewer than 50 images it is 0.1:
    with 4 or 5 images of each of 3 or 4 classes, the loss of eight drawings was 0.44 (0.58 without a penalty), see
    LOG.md.

    Measured on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, enlarged to 224 pixels,
    which was best of 64 to 224 on a fifth of the training images: accuracy 0.785 [0.768, 0.800] in 4 minutes on two
    cores of an AMD EPYC, 1.7e13 training FLOPs. See docs/recipes.md.

        sightline train photos_probe --data photos/
    """
    return ClassifyConfig(
        name="photos_probe",
        data=Data(size=224, filter="pretrained"),
        model=Model(name=BACKBONE, weights="pretrained", freeze=True),
        augment=Augment(normalize="pretrained"),
        optim=Optim(name="lbfgs", weight_decay=0.1, decay_choices=PENALTIES),
        train=Train(epochs=1, batch_size=256),
    )


def photos_knn() -> ClassifyConfig:
    """K-nearest neighbors by the frozen features of a pre-trained network; nothing is trained.

    sightline train photos_knn --data photos/
    """
    base = photos_probe()
    return base.replace(name="photos_knn", model=base.model.replace(head="knn"), optim=Optim(name="knn"))


def photos_finetune() -> ClassifyConfig:
    """A pre-trained network, first its head and then all of it, for your own photographs; a good first choice.

    The head begins as the logistic regression of `photos_probe` (arXiv 2202.10054), but with a penalty of 1: with the
    penalty that is best for frozen features, often 0.01, the head leaves too little for the rest of the network to
    learn. Batch norms keep the statistics of the weights.

    Chosen on a fifth of 3,000 training images of 50 classes, 96 pixels, 4 epochs, seeds 0 and 1: accuracy 0.743 and
    0.735 (in bfloat16 0.750 and 0.738); with the best penalty for frozen features, 0.03, 0.725 and 0.725; without
    these statistics as well 0.627; with learning rates of 1e-4 and 2e-4 0.702 and 0.710. See LOG.md, which has the
    same for other numbers of images.

        sightline train photos_finetune --data photos/
    """
    base = photos_probe()
    return base.replace(
        name="photos_finetune",
        model=base.model.replace(freeze=False, fit_head=True, fixed_norm=True),
        augment=Augment(crop="resized", crop_scale=(0.35, 1.0), horizontal_flip=0.5, normalize="pretrained"),
        loss=Loss(smoothing=0.1),
        optim=Optim(
            name="adamw",
            lr=5e-4,
            weight_decay=0.05,
            decay_norm_and_bias=False,
            layer_decay=0.9,
            clip_norm=1.0,
            decay_choices=(1.0,),
        ),
        schedule=Schedule(name="cosine", warmup_epochs=1),
        train=Train(epochs=15, batch_size=64, patience=5),
    )


def photos_scratch() -> ClassifyConfig:
    """ResNet-18 from scratch at 128 pixels, for your own photographs; downloads nothing.

    sightline train photos_scratch --data photos/
    """
    return ClassifyConfig(
        name="photos_scratch",
        data=Data(size=128),
        model=Model(name="resnet18"),
        augment=Augment(resize=160, crop="resized", crop_scale=(0.25, 1.0), horizontal_flip=0.5),
        loss=Loss(smoothing=0.1),
        optim=Optim(name="sgd", lr=0.1, nesterov=True, weight_decay=5e-4, decay_norm_and_bias=False),
        schedule=Schedule(name="cosine", warmup_epochs=2),
        train=Train(epochs=40, batch_size=64),
    )
