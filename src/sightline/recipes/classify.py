"""Recipes for image classification.

Some recipes have the settings of course reports on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for
validation. "Reported" is the validation accuracy that a report gives. The docstrings list what is from the report and
what is our choice, because the report does not give it. docs/recipes.md has the accuracies that we measured, and LOG.md
describes our runs.
"""

from ..config.schema import Augment, Data, Loss, Model, Optim, Schedule, Train
from ..tasks.classify.config import ClassifyConfig


def digits() -> ClassifyConfig:
    """ResNet-9 on the handwritten digits of scikit-learn: the demo, which trains in about a minute on a laptop.

    sightline train digits
    """
    return ClassifyConfig(
        name="digits",
        data=Data(path="sklearn:digits", size=16, val_fraction=0.25),
        model=Model(name="resnet9", args={"widths": [16, 32, 64, 64]}),
        augment=Augment(crop="random", padding=2, normalize="dataset"),
        loss=Loss(smoothing=0.1),
        optim=Optim(name="sgd", lr=0.1, nesterov=True, weight_decay=5e-4),
        schedule=Schedule(name="one_cycle"),
        train=Train(epochs=12, batch_size=64),
    )


def alexnet_scratch() -> ClassifyConfig:
    """AlexNet followed by a linear layer, from scratch. Reported: 0.646.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.646.

    From the report: 200 epochs, batch size 64, SGD with learning rate 0.1 and without momentum (PyTorch's default),
    weight decay 1e-3, learning rate halved after epochs 10 and 50; early stopping after 30 epochs without a lower
    validation loss, which also selects the best epoch; training images resized to 256 pixels, random crops of 224
    pixels, horizontal flips, ImageNet's mean and standard deviation.

    Ours: the entire validation images, resized to 224 pixels; the initialization of the weights.

        sightline train alexnet_scratch --data objects50/
    """
    return ClassifyConfig(
        name="alexnet_scratch",
        data=Data(size=224),
        model=Model(name="alexnet"),
        augment=Augment(resize=256, crop="random", horizontal_flip=0.5, normalize="imagenet"),
        optim=Optim(name="sgd", lr=0.1, momentum=0.0, weight_decay=1e-3),
        schedule=Schedule(name="multi_step", milestone_epochs=(10, 50), gamma=0.5),
        train=Train(epochs=200, batch_size=64, patience=30, best_metric="loss"),
    )


def efficientnet_v2_m_finetune() -> ClassifyConfig:
    """EfficientNetV2-M with ImageNet weights and a linear layer. Reported: 0.8944.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.8944.

    From the report: ImageNet weights, 200 epochs, batch size 32, SGD with learning rate 0.01 and without momentum,
    weight decay 5e-4, learning rate halved after epoch 50; early stopping after 10 epochs without a lower validation
    loss, which also selects the best epoch; training images as in `alexnet_scratch` (resized to 256 pixels, random
    crops of 224 pixels, horizontal flips).

    Ours: the entire validation images, resized to 224 pixels; the initialization of the linear layer.

    Needs torchvision's ImageNet weights (the library downloads them, 208 MB).

        sightline train efficientnet_v2_m_finetune --data objects50/
    """
    base = alexnet_scratch()
    return base.replace(
        name="efficientnet_v2_m_finetune",
        model=Model(name="efficientnet_v2_m", weights="imagenet"),
        optim=base.optim.replace(lr=0.01, weight_decay=5e-4),
        schedule=base.schedule.replace(milestone_epochs=(50.0,)),
        train=base.train.replace(batch_size=32, patience=10),
    )


def small_cnn_scratch() -> ClassifyConfig:
    """Three convolutional blocks and a two-layer MLP, focal loss. Reported: 0.62.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.62.

    From the report: three convolutional blocks and a two-layer MLP, 50 epochs, batch size 250, learning rate 5e-4,
    weight decay 1e-5, cosine schedule, early stopping after 3 epochs without improvement, focal loss.

    Ours: two convolutions per block, the widths and dropout; Adam; random crops with a padding of 4 pixels, horizontal
    flips, normalization; accuracy as the metric of early stopping; gamma 2 and alpha 1 of the focal loss.

        sightline train small_cnn_scratch --data objects50/
    """
    return ClassifyConfig(
        name="small_cnn_scratch",
        data=Data(size=32),
        model=Model(name="small_cnn"),
        augment=Augment(crop="random", padding=4, horizontal_flip=0.5, normalize="imagenet"),
        loss=Loss(name="focal"),
        optim=Optim(name="adam", lr=5e-4, weight_decay=1e-5),
        schedule=Schedule(name="cosine"),
        train=Train(epochs=50, batch_size=250, patience=3),
    )


def efficientnet_v2_s_finetune() -> ClassifyConfig:
    """EfficientNetV2-S with ImageNet weights, fine-tuned with our settings. Reported: 0.88.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.88.

    From the report: the model and its ImageNet weights. Ours: all other settings, that is 15 epochs, batch size 64,
    AdamW with learning rate 5e-4, weight decay 0.05 and layer-wise decay 0.9, one warm-up epoch, cosine schedule,
    random resized crops, label smoothing 0.1, early stopping.

    Needs torchvision's ImageNet weights (the library downloads them, 83 MB).

        sightline train efficientnet_v2_s_finetune --data objects50/
    """
    return ClassifyConfig(
        name="efficientnet_v2_s_finetune",
        data=Data(size=224),
        model=Model(name="efficientnet_v2_s", weights="imagenet"),
        augment=Augment(crop="resized", crop_scale=(0.35, 1.0), horizontal_flip=0.5, normalize="imagenet"),
        loss=Loss(smoothing=0.1),
        optim=Optim(
            name="adamw", lr=5e-4, weight_decay=0.05, decay_norm_and_bias=False, layer_decay=0.9, clip_norm=1.0
        ),
        schedule=Schedule(name="cosine", warmup_epochs=1),
        train=Train(epochs=15, batch_size=64, patience=5),
    )


def vgg13_scratch() -> ClassifyConfig:
    """VGG-13 with batch norm, from scratch. Reported: 0.7454.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.7454.

    From the report: channels [64,64,M,128,128,M,256,256,M,512,512,M,512,512,M] (M: max pooling), 300 epochs, AdamW with
    learning rate 1e-3 and without weight decay, random crops, horizontal flips, cross-entropy, best epoch by validation
    accuracy.

    Ours: global average pooling before the fully connected layers, where torchvision's VGG-13 flattens a map of 7x7,
    so that the model has 28.5 instead of 129 million parameters; batch size 128; images of 32 pixels; a padding of 4
    pixels for the crops; normalization; a constant learning rate.

        sightline train vgg13_scratch --data objects50/
    """
    return ClassifyConfig(
        name="vgg13_scratch",
        data=Data(size=32),
        model=Model(name="vgg13_bn"),
        augment=Augment(crop="random", padding=4, padding_mode="zeros", horizontal_flip=0.5, normalize="imagenet"),
        optim=Optim(name="adamw", lr=1e-3, weight_decay=0.0),
        train=Train(epochs=300, batch_size=128),
    )


def beit_finetune() -> ClassifyConfig:
    """BEiT base with ImageNet-22k weights and a linear layer on the class token. Reported: 0.9367.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.9367.

    From the report: BEiT base with patches of 16 pixels, images of 224 pixels, timm's ImageNet-22k weights; 6 epochs,
    SGD with learning rate 0.003, mixup 0.1 and cutmix with equal probability, label smoothing 0.1.

    Ours: momentum 0.9, alpha 1 of cutmix, batch size 32, a constant learning rate, no weight decay.

    Needs timm's weights (the library downloads them, about 350 MB).

        sightline train beit_finetune --data objects50/
    """
    return ClassifyConfig(
        name="beit_finetune",
        data=Data(size=224),
        model=Model(name="beit_base", weights="imagenet"),
        augment=Augment(normalize="half", mixup=0.1, cutmix=1.0),
        loss=Loss(smoothing=0.1),
        optim=Optim(name="sgd", lr=0.003),
        train=Train(epochs=6, batch_size=32),
    )


def resnet101_ensemble() -> ClassifyConfig:
    """ResNet-101, an ensemble of the five epochs with the lowest loss. Reported: 0.8748.

    Source: a course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, with a
    validation accuracy of 0.8748.

    From the report: the model and the ensemble. Ours: ImageNet weights, which the reported accuracy suggests; all other
    settings, which are those of `efficientnet_v2_m_finetune` with 30 epochs.

    Needs torchvision's ImageNet weights (the library downloads them, 171 MB).

        sightline train resnet101_ensemble --data objects50/
    """
    base = efficientnet_v2_m_finetune()
    return base.replace(
        name="resnet101_ensemble",
        model=Model(name="resnet101", weights="imagenet"),
        train=base.train.replace(epochs=30, ensemble=5, ensemble_by="loss"),
    )


def objects_fast() -> ClassifyConfig:
    """Small photographs from scratch: the highest accuracy per training FLOP that we found.

    Model: `fastnet`, a residual network with a whitening first layer. Training: Muon, one-cycle schedule, moving
    average of the weights, progressive resizing (20, 24, 32 pixels), alternating flips, label smoothing, cutmix in the
    first 80% of the epochs, and sharpness-aware minimization in the epochs with the full image size.

    Measured on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation, without test-time
    augmentation: validation accuracy 0.8056, 0.8024 and 0.8048 for seeds 0, 1 and 2, mean 0.8043. Each run took 1.27e15
    training FLOPs; seeds 1 and 2 took 112 and 119 minutes on one shared core of an AMD EPYC (Zen 4). Without
    sharpness-aware minimization: 0.7996 (seed 0) at 8.78e14 FLOPs. See LOG.md. These accuracies may not be comparable
    with the 0.7454 that a report gives for `vgg13_scratch`, because the images may differ.

        sightline train objects_fast --data objects50/
    """
    return ClassifyConfig(
        name="objects_fast",
        data=Data(size=32),
        model=Model(name="fastnet", args={"widths": [64, 256, 384], "blocks": [1, 1, 1]}),
        augment=Augment(
            crop="random",
            padding=4,
            horizontal_flip=0.5,
            alternate_flip=True,
            normalize="dataset",
            cutmix=1.0,
            mix_probability=0.7,
            mix_until=0.8,
            progressive=((20, 0.35), (24, 0.72)),
        ),
        loss=Loss(smoothing=0.15),
        optim=Optim(
            name="muon",
            lr=4e-3,
            betas=(0.9, 0.95),
            weight_decay=0.01,
            decay_norm_and_bias=False,
            muon_lr=0.15,
            muon_momentum=0.8,
            muon_normalize=True,
            ema=0.98,
            sam_radius=0.2,
            sam_from=0.72,
        ),
        schedule=Schedule(name="one_cycle", peak_fraction=0.1, initial_factor=0.0),
        train=Train(epochs=40, batch_size=512),
    )
