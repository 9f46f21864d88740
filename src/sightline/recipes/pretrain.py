"""Recipes for self-supervised pre-training: those of the course reports, and ours.

The reports pre-train on 38,400 unlabeled 84x84 images of 64 classes; what came of it is in recipes/transfer.py. They
leave out some settings; a docstring says which values are theirs.
"""

from ..config.schema import Augment, Data, Model, Optim, Schedule, Train
from ..tasks.pretrain.config import Pretrain, PretrainConfig


def byol_resnet50_a() -> PretrainConfig:
    """BYOL on ResNet-50 at 128 pixels, with crops alone; of one report, which took the weights of epoch 500.

    From the report: 800 epochs, of which the weights of epoch 500 were used; batch 128, Adam 3e-4, weight decay 1e-6,
    resize to 160, random crop of 128. Ours: flips, projector and predictor of BYOL, target momentum 0.99 throughout
    (the default of the package that it used). Not run on that data.

    sightline train byol_resnet50_a --data unlabeled/
    """
    return PretrainConfig(
        name="byol_resnet50_a",
        data=Data(size=128),
        model=Model(name="resnet50"),
        augment=Augment(resize=160, crop="random", horizontal_flip=0.5),
        pretrain=Pretrain(momentum=0.99, momentum_end=0.99, momentum_batch=0, second_blur=0.0, second_solarize=0.0),
        optim=Optim(name="adam", lr=3e-4, weight_decay=1e-6),
        train=Train(epochs=500, batch_size=128, best_metric="epoch"),
    )


def byol_resnet50_b() -> PretrainConfig:
    """BYOL on ResNet-50 at 128 pixels with TrivialAugment, batch 32; of another report.

    From the report: 50 + 50 epochs, batch 32, Adam 1e-2, cosine with warm restarts; bicubic resize to 128, center crop,
    TrivialAugmentWide. Ours: the restart after 50 epochs, projector and predictor of BYOL, target momentum 0.99
    throughout. Not run on that data.

    sightline train byol_resnet50_b --data unlabeled/
    """
    base = byol_resnet50_a()
    return base.replace(
        name="byol_resnet50_b",
        data=Data(size=128, fit="crop", filter="bicubic"),
        augment=Augment(policy="trivial"),
        optim=Optim(name="adam", lr=1e-2),
        schedule=Schedule(name="cosine_restarts", restart_epochs=50),
        train=base.train.replace(epochs=100, batch_size=32),
    )


def byol_paper() -> PretrainConfig:
    """BYOL as published (arXiv 2006.07733), for ResNet-50 at 224 pixels and many images.

    The paper's settings at batch 4096: LARS 4.8 (0.3 x batch / 256 for 300 epochs), weight decay 1e-6 but on no norm or
    bias, 10 epochs of warm-up, cosine, target momentum 0.99 to 1, its augmentations; scaled to batch 256: the rate in
    proportion, the momentum as a power (`pretrain.momentum_batch`). Brightness, contrast, saturation and hue come in
    this order where the paper draws the order; resizing is bilinear. Not run: ImageNet cannot be had here.

    sightline train byol_paper --data imagenet/train
    """
    return PretrainConfig(
        name="byol_paper",
        data=Data(size=224),
        model=Model(name="resnet50"),
        augment=strong(Augment(resize=256)),
        pretrain=Pretrain(momentum=0.99),
        optim=Optim(name="lars", lr=0.3, momentum=0.9, weight_decay=1e-6, decay_norm_and_bias=False),
        schedule=Schedule(name="cosine", warmup_epochs=10),
        train=Train(epochs=300, batch_size=256, best_metric="epoch"),
    )


def strong(augment: Augment) -> Augment:
    """BYOL's augmentation of the first view on top of these settings (table 6 of arXiv 2006.07733)."""
    return augment.replace(
        crop="resized",
        crop_scale=(0.08, 1.0),
        horizontal_flip=0.5,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grayscale=0.2,
        blur=1.0,
    )


def byol_fast() -> PretrainConfig:
    """BYOL's two networks with a contrastive loss, on small photographs: much frozen accuracy for little compute.

    `fastnet` with a narrow projector, views of 16 to 24 pixels for most of the epochs, strong crops and colors without
    blur (small pictures have no detail to spare), Muon, a target that follows within a few steps. The loss is that of
    MoCo v3 (`pretrain.contrast` 1): with BYOL's own, whatever the optimizer, the features of some hundred steps were
    little better than those of random weights, with the contrastive one they were twice as good (LOG.md).

    Measured on 25,000 photographs of 32x32, seed 0: k-NN accuracy 0.434 [0.415, 0.453] on 50 other classes (chance
    0.02), a linear head on frozen features 0.515 [0.495, 0.534]; 8.8e14 training FLOPs, 108 minutes of one core of an
    AMD EPYC (Zen 4) beside other work (LOG.md).

    sightline train byol_fast --data unlabeled/ --pretrain.probe labeled/
    """
    return PretrainConfig(
        name="byol_fast",
        data=Data(size=32),
        model=Model(name="fastnet", args={"widths": [64, 128, 256]}),
        augment=strong(Augment(normalize="dataset", progressive=((16, 0.3), (20, 0.6), (24, 0.85)))).replace(
            crop_scale=(0.2, 1.0), blur=0.0
        ),
        pretrain=Pretrain(
            projector=(1024, 256),
            predictor=1024,
            contrast=1.0,
            momentum=0.95,
            momentum_batch=0,
            second_blur=0.0,
            second_solarize=0.2,
        ),
        optim=Optim(
            name="muon",
            lr=1e-3,
            weight_decay=0.01,
            decay_norm_and_bias=False,
            muon_lr=0.02,
            muon_momentum=0.9,
            muon_normalize=True,
        ),
        schedule=Schedule(name="cosine", warmup_epochs=2),
        train=Train(epochs=36, batch_size=256, best_metric="epoch"),
    )


def simsiam_fast() -> PretrainConfig:
    """SimSiam (arXiv 2011.10566) in the setting of `byol_fast`: no second network.

    From the paper: a projector of three layers with a norm on its output, a predictor that is narrow in the middle,
    SGD. Not measured yet.

    sightline train simsiam_fast --data unlabeled/ --pretrain.probe labeled/
    """
    base = byol_fast()
    return base.replace(
        name="simsiam_fast",
        pretrain=Pretrain(
            method="simsiam",
            projector=(1024, 1024, 1024),
            projector_norm=True,
            predictor=256,
            second_blur=0.0,
            second_solarize=0.0,
        ),
        optim=Optim(name="sgd", lr=0.03, momentum=0.9, weight_decay=5e-4),
        schedule=Schedule(name="cosine"),
    )
