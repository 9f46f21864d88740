"""Recipes for self-supervised pre-training: two from course reports, and our own.

The two course reports pre-train on 38,400 unlabeled 84x84 images of 64 classes. The accuracies that they reach on a
target data set are in recipes/transfer.py. The docstrings list what is from the report and what is our choice, because
the report does not give it.
"""

from ..config.schema import Augment, Data, Model, Optim, Schedule, Train
from ..tasks.pretrain.config import Pretrain, PretrainConfig


def byol_resnet50_a() -> PretrainConfig:
    """BYOL on ResNet-50 at 128 pixels with random resized crops and color jitter; from a course report.

    From the report: 800 epochs, batch size 128, Adam with learning rate 3e-4, weight decay 1e-6, resize to 160, random
    crops of 128 pixels. The report used the weights after epoch 500; therefore this recipe trains 500 epochs.

    From the defaults of the package that the report used (byol-pytorch, judging by its learner): constant target
    momentum 0.99, projector and predictor of widths 4096 and 256; for both views, color jitter with probability 0.3,
    conversion to gray, horizontal flips, blur with probability 0.2, and a random resized crop. That crop is cut from
    the report's random crop of 128 of 160 pixels, so that it has 0.05 to 0.64 of the image's area.

    Ours: both views are cut from the image, not from one crop that they share. Augmentations are random for each image;
    the package draws them once for a batch. Crops are made before color changes and blur, not after them, and the blur
    is not limited to 3x3 pixels. For the k-NN accuracy, images are resized to 160 pixels and cropped to the central
    128. Not trained: the data of the report, and a graphics card for the days that 500 epochs take, were not at hand.

        sightline train byol_resnet50_a --data unlabeled/
    """
    return PretrainConfig(
        name="byol_resnet50_a",
        data=Data(size=128, eval_crop=0.8),
        model=Model(name="resnet50"),
        augment=Augment(
            resize=160,
            crop="resized",
            crop_scale=(0.05, 0.64),
            horizontal_flip=0.5,
            jitter=0.3,
            brightness=0.8,
            contrast=0.8,
            saturation=0.8,
            hue=0.2,
            grayscale=0.2,
            blur=0.2,
            blur_sigma=(1.0, 2.0),
        ),
        pretrain=Pretrain(momentum=0.99, momentum_end=0.99, momentum_batch=0, second_blur=0.2, second_solarize=0.0),
        optim=Optim(name="adam", lr=3e-4, weight_decay=1e-6),
        train=Train(epochs=500, batch_size=128, best_metric="epoch", preview=True),
    )


def byol_resnet50_b() -> PretrainConfig:
    """BYOL on ResNet-50 at 128 pixels with TrivialAugment; from a second course report.

    From the report: 50 + 50 epochs, batch size 32, Adam with learning rate 1e-2, cosine schedule with warm restarts;
    bicubic resize to 128, center crop, TrivialAugmentWide.

    Ours: the restart after 50 epochs, projector and predictor of the BYOL paper, constant target momentum 0.99, no
    other augmentation, no weight decay. Not run on the report's data.

        sightline train byol_resnet50_b --data unlabeled/
    """
    base = byol_resnet50_a()
    return base.replace(
        name="byol_resnet50_b",
        data=Data(size=128, fit="crop", filter="bicubic"),
        augment=Augment(policy="trivial"),
        pretrain=base.pretrain.replace(second_blur=0.0),
        optim=Optim(name="adam", lr=1e-2),
        schedule=Schedule(name="cosine_restarts", restart_epochs=50),
        train=base.train.replace(epochs=100, batch_size=32),
    )


def byol_paper() -> PretrainConfig:
    """BYOL as published (arXiv 2006.07733), scaled to batch size 256: ResNet-50 at 224 pixels, for many images.

    The paper's settings for 300 epochs at batch size 4096: LARS with learning rate 4.8 (0.3 x batch size / 256), weight
    decay 1e-6 except on normalization layers and biases, 10 warm-up epochs, cosine schedule, target momentum from 0.99
    to 1, and the paper's augmentations; for evaluation, bicubic resizing of the shorter side to 256 pixels and a center
    crop of 224. For batch size 256, the learning rate is scaled linearly, and the target momentum is raised to the
    power 256 / 4096 (`pretrain.momentum_batch`).

    Differences from the paper: random crops are cut from the center square of an image, resized to 256 pixels, and are
    resized bilinearly; brightness, contrast, saturation and hue are applied in this order instead of a random one. Not
    run: ImageNet was not available.

        sightline train byol_paper --data imagenet/train
    """
    return PretrainConfig(
        name="byol_paper",
        data=Data(size=224, fit="crop", filter="bicubic", eval_crop=0.875),
        model=Model(name="resnet50"),
        augment=byol_augment(Augment(resize=256)),
        pretrain=Pretrain(momentum=0.99),
        optim=Optim(name="lars", lr=0.3, momentum=0.9, weight_decay=1e-6, decay_norm_and_bias=False),
        schedule=Schedule(name="cosine", warmup_epochs=10),
        train=Train(epochs=300, batch_size=256, best_metric="epoch", preview=True),
    )


def byol_augment(augment: Augment) -> Augment:
    """Copy of `augment` with the augmentations of BYOL's first view (table 6 of arXiv 2006.07733)."""
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


def moco_fast() -> PretrainConfig:
    """Small photographs: MoCo v3 (arXiv 2104.02057), for short pre-trainings.

    Settings: `fastnet` with a narrow projector, progressive resizing (16 to 24 pixels in the first 85% of the epochs),
    random resized crops and color jitter without blur, Muon, and a target network with momentum 0.95.

    The target network and the symmetric loss are those of MoCo v3; the networks are not ViTs. Some of its settings were
    chosen on the images of the k-NN accuracy below. Earlier versions called this recipe `byol_fast`.

    Measured after pre-training on 25,000 photographs of 32x32, seed 0, on 50 classes that were not used for
    pre-training (chance: 0.02): k-NN accuracy 0.434 [0.415, 0.453], linear head on frozen features 0.515 [0.495,
    0.534]. Cost: 8.8e14 training FLOPs, 108 minutes on one shared core of an AMD EPYC (Zen 4). See LOG.md.

        sightline train moco_fast --data unlabeled/ --pretrain.probe labeled/
    """
    return PretrainConfig(
        name="moco_fast",
        data=Data(size=32),
        model=Model(name="fastnet", args={"widths": [64, 128, 256]}),
        augment=byol_augment(Augment(normalize="dataset", progressive=((16, 0.3), (20, 0.6), (24, 0.85)))).replace(
            crop_scale=(0.2, 1.0), blur=0.0
        ),
        pretrain=Pretrain(
            method="moco",
            projector=(1024, 256),
            predictor=1024,
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
        train=Train(epochs=36, batch_size=256, best_metric="epoch", preview=True),
    )


def byol_fast() -> PretrainConfig:
    """Small photographs: BYOL with its own loss (arXiv 2006.07733), for short pre-trainings.

    From the paper: the two networks and the loss. Ours: SGD, a predictor with 100 times the learning rate of the other
    layers, momentum of the target from 0.95 to 0.99, views of 16 pixels in all epochs; network, heads and augmentation
    are those of `moco_fast`.

    The predictor's rate decides whether BYOL learns in a short run: docs/pretrain.md has what was tried, on images
    other than those of the next figures. Measured after pre-training on 25,000 photographs of 32x32, seed 0, on 50
    classes that were not used for pre-training (k-NN on raw pixels: 0.181, on the untrained network: 0.208): k-NN
    accuracy 0.390 [0.371, 0.409], logistic regression 0.465. Cost: 8.9e14 training FLOPs, 56 minutes on one core of an
    Intel Xeon with AMX. See LOG.md.

        sightline train byol_fast --data unlabeled/ --pretrain.probe labeled/
    """
    base = moco_fast()
    return base.replace(
        name="byol_fast",
        augment=base.augment.replace(progressive=((16, 1.0),)),
        pretrain=base.pretrain.replace(method="byol", predictor_rate=100.0, momentum=0.95, momentum_end=0.99),
        optim=Optim(name="sgd", lr=0.06, momentum=0.9, weight_decay=5e-4),
        train=base.train.replace(epochs=68, batch_size=128),
    )


def simsiam_fast() -> PretrainConfig:
    """Small photographs: SimSiam (arXiv 2011.10566), which has no target network, for short pre-trainings.

    From the paper: a three-layer projector with batch norm on its output, a predictor with a bottleneck, SGD. Ours: the
    optimizer, the predictor's learning rate and the views of `byol_fast`. With 2e14 training FLOPs it is a little
    better than `byol_fast` (docs/pretrain.md); the 68 epochs of the recipe were not measured.

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
            predictor_rate=100.0,
            second_blur=0.0,
            second_solarize=0.0,
        ),
        schedule=Schedule(name="cosine"),
    )


def dino_fast() -> PretrainConfig:
    """Small photographs: DINO (arXiv 2104.14294), for short pre-trainings.

    From the paper: centering with momentum 0.9, temperatures 0.1 and 0.04, normalized prototypes. Ours: 1,024
    prototypes, batch norm and ReLU in the projector, momentum of the target from 0.95 to 0.99, views of 16 pixels in
    all epochs and no small ones, no warm-up of the temperature, the last layer is trained from the first epoch, network
    and optimizer of `moco_fast`. In pilots of 8 epochs, other temperatures, 4,096 prototypes, and two small views of
    each image were worse (docs/pretrain.md). For a vision transformer: --model.name timm/vit_tiny_patch16_224
    --model.args '{patch_size: 4, dynamic_img_size: true}'.

        sightline train dino_fast --data unlabeled/ --pretrain.probe labeled/
    """
    base = moco_fast()
    return base.replace(
        name="dino_fast",
        augment=base.augment.replace(progressive=((16, 1.0),)),
        pretrain=Pretrain(
            method="dino",
            projector=(1024, 1024, 256),
            prototypes=1024,
            momentum=0.95,
            momentum_end=0.99,
            momentum_batch=0,
            second_blur=0.0,
        ),
        train=base.train.replace(epochs=68),
    )


def distill_fast() -> PretrainConfig:
    """Small photographs: a small network learns the features of a large one that was trained on other images.

    Teacher and trained network see the same view; the loss is the squared distance of their features, the teacher's
    standardized over 1,000 training images, after scaling to length 1. The default teacher is small enough for a CPU;
    others, such as timm/vit_small_patch14_dinov2.lvd142m, need a GPU or few images. Ours: the teacher's images of 64
    pixels, network, views and optimizer of `moco_fast`.

    Measured after 9 epochs of 25,000 photographs of 32x32 (1.9e14 training FLOPs with those of the teacher, three
    seeds), on 50 other classes: k-NN accuracy 0.447 (0.439 to 0.452), logistic regression 0.517. `moco_fast` has 0.333
    and 0.405 at equal compute (docs/pretrain.md). The 36 epochs of the recipe were not measured.

        sightline train distill_fast --data unlabeled/ --pretrain.probe labeled/
    """
    base = moco_fast()
    return base.replace(
        name="distill_fast",
        pretrain=Pretrain(
            method="distill",
            projector=(1024,),
            teacher="timm/tf_efficientnet_lite0",
            teacher_size=64,
            second_blur=0.0,
            second_solarize=0.0,
        ),
    )
