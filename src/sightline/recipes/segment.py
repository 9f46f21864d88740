"""Recipes for semantic segmentation: several from course reports, and our own.

The course reports train on 2,000 satellite images of 512x512 pixels with six classes and the class "unknown".
"Reported" is the mean IoU that a report gives for 257 validation images. It is the mean over the six classes, and
counts a class that is predicted on an unknown pixel as wrong: `mean_iou_course` in the reports of runs and in
`sightline score`. The `mean_iou` of runs ignores unknown pixels. The docstrings list what is from the report and what
is our choice, because the report does not give it.
"""

from ..config.schema import Augment, Data, Loss, Model, Optim, Report, Schedule, Train
from ..tasks.segment.config import SegmentConfig

LAND = Data(palette="landcover")
FLIPS = Augment(horizontal_flip=0.5, vertical_flip=0.5)
REPORT = Report(samples=24)


def scenes() -> SegmentConfig:
    """The demo: a small U-Net on synthetic land-cover images, which `sightline demo` generates.

    sightline demo
    """
    return SegmentConfig(
        name="scenes",
        data=Data(palette="landcover"),
        model=Model(name="unet", args={"width": 16, "blocks": [1, 1, 1, 1], "decoder": [48, 32, 32]}),
        augment=Augment(
            window=(96, 96), rare_crops=0.3, horizontal_flip=0.5, vertical_flip=0.5, rotate90=0.75, normalize="dataset"
        ),
        loss=Loss(class_weights="log"),
        optim=Optim(name="adamw", lr=6e-3, weight_decay=0.01, decay_norm_and_bias=False, ema=0.95),
        schedule=Schedule(name="one_cycle", peak_fraction=0.25),
        train=Train(epochs=24, batch_size=8, eval_batch_size=8, best_metric="mean_iou"),
        report=REPORT,
    )


def fcn32s_vgg16_dense() -> SegmentConfig:
    """FCN-32s on VGG16 with fc6 and fc7 as 1x1 convolutions. Reported: 0.6936.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: features of VGG16, 512 -> 4096 -> 4096 channels by 1x1 convolutions, ReLU, dropout 0.5, a 1x1
    convolution to the classes, one transposed convolution with kernel 64 and stride 32 without bias; 25 epochs.

    Ours: AdamW with learning rate 1e-4 and weight decay 1e-4, cosine schedule, batch size 8, flips, the best epoch by
    mean IoU; random weights. The reported score needs ImageNet weights: add --model.weights imagenet. Not run on the
    report's data.

    Measured on CamVid, 367 images for training and 101 for validation, without pre-trained weights, with windows of
    256x320, no vertical flips, 17 epochs: validation mean IoU 0.3649 [0.3594, 0.3701] at 9.96e14 training FLOPs. For
    comparison, `landcover_scratch` reaches 0.6928 at 9.89e14. See LOG.md.

        sightline train fcn32s_vgg16_dense --data landcover/
    """
    return SegmentConfig(
        name="fcn32s_vgg16_dense",
        data=LAND,
        model=Model(name="fcn32s", args={"head": "dense"}),
        augment=FLIPS,
        optim=Optim(name="adamw", lr=1e-4, weight_decay=1e-4),
        schedule=Schedule(name="cosine"),
        train=Train(epochs=25, batch_size=8, eval_batch_size=8, best_metric="mean_iou"),
        report=REPORT,
    )


def fcn32s_vgg16() -> SegmentConfig:
    """FCN-32s from ImageNet VGG16 as in Long et al. 2015 (7x7 fc6, arXiv 1411.4038). Reported: 0.6981.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: the network of Long et al. from ImageNet weights, early stopping.

    Ours: stop after 10 epochs without a higher mean IoU, at most 100 epochs, SGD with learning rate 1e-3, momentum 0.9
    and weight decay 5e-4, batch size 8, flips. Needs ImageNet weights. Not run.

        sightline train fcn32s_vgg16 --data landcover/
    """
    base = fcn32s_vgg16_dense()
    return base.replace(
        name="fcn32s_vgg16",
        model=Model(name="fcn32s", args={"head": "long"}, weights="imagenet"),
        optim=Optim(name="sgd", lr=1e-3, momentum=0.9, weight_decay=5e-4),
        schedule=Schedule(name="constant"),
        train=base.train.replace(epochs=100, patience=10),
    )


def fcn32s_vgg16_sgd() -> SegmentConfig:
    """FCN-32s on ImageNet VGG16, trained by SGD without augmentation. Reported: 0.5893 (another report: 0.57).

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: fc6 and fc7 replaced by convolutions, a transposed convolution from 16x16 to 512x512, 100 epochs,
    SGD with learning rate 0.003, cross-entropy, no augmentation, the best epoch chosen on the validation images.

    Ours: batch size 8, momentum 0.9, no weight decay, a constant learning rate; fc6 of 7x7 and fc7 of 1x1, kernel 64
    and stride 32 of the transposed convolution, and its bias. Needs ImageNet weights. Not run.

        sightline train fcn32s_vgg16_sgd --data landcover/
    """
    base = fcn32s_vgg16_dense()
    return base.replace(
        name="fcn32s_vgg16_sgd",
        model=Model(name="fcn32s", args={"head": "sgd"}, weights="imagenet"),
        augment=Augment(),
        optim=Optim(name="sgd", lr=0.003, momentum=0.9),
        schedule=Schedule(name="constant"),
        train=base.train.replace(epochs=100),
    )


def fcn32s_vgg16_small() -> SegmentConfig:
    """FCN-32s on ImageNet VGG16 with a small head. Reported: 0.395.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: VGG16 features, a 7x7 convolution from 512 to 1024 channels, ReLU, 2-d dropout, a 1x1 convolution
    to the classes, ReLU, one transposed convolution with kernel 44 and stride 52 and without bias.

    As the kernel is smaller than the stride, 26.1 % of the pixels get no input. Without bias their logits are all 0, so
    that they are always predicted as the first class.

    Ours: the training settings, which are those of `fcn32s_vgg16_sgd`. Needs ImageNet weights. Not run.

        sightline train fcn32s_vgg16_small --data landcover/
    """
    base = fcn32s_vgg16_sgd()
    return base.replace(
        name="fcn32s_vgg16_small", model=Model(name="fcn32s", args={"head": "small"}, weights="imagenet")
    )


def deeplabv3_resnet101() -> SegmentConfig:
    """DeepLabV3 on ResNet-101 with ImageNet weights. Reported: 0.7397, best epoch 18.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: the model, its ImageNet weights, and that epoch 18 was the best.

    Ours: 25 epochs, SGD with momentum 0.9, weight decay 1e-4 and a learning rate that decreases linearly from 0.01 to
    0, batch size 8, flips. Needs ImageNet weights. Not run.

        sightline train deeplabv3_resnet101 --data landcover/
    """
    base = fcn32s_vgg16_dense()
    return base.replace(
        name="deeplabv3_resnet101",
        model=Model(name="deeplabv3_resnet101", weights="imagenet"),
        optim=Optim(name="sgd", lr=0.01, momentum=0.9, weight_decay=1e-4),
        schedule=Schedule(name="linear"),
    )


def deeplabv3_resnet101_scratch() -> SegmentConfig:
    """DeepLabV3 on ResNet-101 without pre-training. Reported: 0.7344 after 25 epochs.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation. It is surprisingly close to the one reported with ImageNet
    weights, 0.7397. The likely cause: torchvision's function loads ImageNet weights into the backbone by default, also
    with `weights=None`; only `weights_backbone=None` prevents this. This recipe starts from random weights.

    From the report: the model, no pre-training, 25 epochs. Ours: all other settings, which are those of
    `deeplabv3_resnet101`. Not run.

        sightline train deeplabv3_resnet101_scratch --data landcover/
    """
    base = deeplabv3_resnet101()
    name = "deeplabv3_resnet101_scratch"
    return base.replace(name=name, model=Model(name="deeplabv3_resnet101"))


def deeplabv3_resnet50() -> SegmentConfig:
    """DeepLabV3 on ResNet-50 with ImageNet weights. Reported: 0.73.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: the model and its ImageNet weights. Ours: the training settings, which are those of
    `deeplabv3_resnet101`. Needs ImageNet weights. Not run.

        sightline train deeplabv3_resnet50 --data landcover/
    """
    base = deeplabv3_resnet101()
    model = Model(name="deeplabv3_resnet50", weights="imagenet")
    return base.replace(name="deeplabv3_resnet50", model=model)


def deeplabv3_focal() -> SegmentConfig:
    """DeepLabV3 on ResNet-50 with COCO weights and focal loss. Reported: 0.7438.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: COCO weights, 100 epochs, focal loss (alpha 0.2, gamma 2), SGD with learning rate 0.1, weight decay
    1e-5, PyTorch's one-cycle schedule with default arguments, horizontal and vertical flips. This schedule also varies
    the momentum from 0.95 to 0.85 and back.

    Ours: ResNet-50, batch size 8, the best epoch by mean IoU, a weight of 0.4 for the auxiliary output. Needs COCO
    weights. Not run.

        sightline train deeplabv3_focal --data landcover/
    """
    base = deeplabv3_resnet50()
    return base.replace(
        name="deeplabv3_focal",
        model=Model(name="deeplabv3_resnet50", weights="coco"),
        loss=Loss(name="focal", alpha=0.2, gamma=2.0),
        optim=Optim(name="sgd", lr=0.1, momentum=0.95, weight_decay=1e-5),
        schedule=Schedule(
            name="one_cycle_cosine", peak_fraction=0.3, initial_factor=0.04, final_factor=4e-6, momentum_at_peak=0.85
        ),
        train=base.train.replace(epochs=100),
    )


def mobilenetv3_smp() -> SegmentConfig:
    """U-Net of segmentation-models-pytorch with a MobileNetV3 encoder. Reported: 0.726.

    The reported score is the validation mean IoU in a course report on satellite images with six classes and the class
    "unknown", 2,000 for training and 257 for validation.

    From the report: the encoder `tu-tf_mobilenetv3_large_100` with ImageNet weights, 150 epochs.

    Ours: the U-Net, AdamW with learning rate 5e-4 and weight decay 1e-4, cosine schedule, batch size 8, flips. Needs
    ImageNet weights. Not run.

        sightline train mobilenetv3_smp --data landcover/
    """
    base = fcn32s_vgg16_dense()
    return base.replace(
        name="mobilenetv3_smp",
        model=Model(name="smp/unet/tu-tf_mobilenetv3_large_100", weights="imagenet"),
        optim=Optim(name="adamw", lr=5e-4, weight_decay=1e-4),
        train=base.train.replace(epochs=150),
    )


def landcover_best() -> SegmentConfig:
    """Our recommended settings for land cover; the best score in a course report is 0.7438 (`deeplabv3_focal`).

    DeepLabV3 on ResNet-50, crops that favor rare classes, cross-entropy and Lovasz-softmax, a moving average of the
    weights, and predictions averaged over all eight flips and quarter turns, because aerial images have no preferred
    orientation. Needs ImageNet weights. Not run: neither the data nor the weights were available.

        sightline train landcover_best --data landcover/
    """
    return SegmentConfig(
        name="landcover_best",
        data=LAND,
        model=Model(name="deeplabv3_resnet50", weights="imagenet"),
        augment=Augment(
            window=(384, 384),
            scale=(0.75, 1.5),
            rare_crops=0.5,
            horizontal_flip=0.5,
            vertical_flip=0.5,
            rotate90=0.75,
            brightness=0.2,
            contrast=0.2,
            saturation=0.2,
        ),
        loss=Loss(terms={"cross_entropy": 1.0, "lovasz": 0.5}),
        optim=Optim(name="adamw", lr=3e-4, weight_decay=0.01, decay_norm_and_bias=False, ema=0.999),
        schedule=Schedule(name="cosine", warmup_epochs=1),
        train=Train(epochs=60, batch_size=8, eval_batch_size=4, best_metric="mean_iou", turn_test=True),
        report=REPORT,
    )


def landcover_scratch() -> SegmentConfig:
    """Your own images with masks, from random weights and for little compute: a narrow U-Net. Downloads nothing.

    Randomly scaled crops that favor rare classes, class weights 1 / log(1.02 + frequency), one-cycle schedule, moving
    average of the weights. For aerial images, add --augment.vertical_flip 0.5.

    These were the settings of `camvid_fast` in earlier versions, with a score for a film that training knows: mean IoU
    0.6928 and 0.6906 on CamVid's validation images (seeds 0 and 1, 9.89e14 training FLOPs, 142 and 165 minutes on one
    shared core of an AMD EPYC), all of one drive of which training has frames too. A repetition (seed 7, 0.6936),
    evaluated by others on CamVid's 233 test frames, most of another drive, had 0.575. On land cover it is not measured.

        sightline train landcover_scratch --data landcover/
    """
    return SegmentConfig(
        name="landcover_scratch",
        data=LAND,
        model=Model(name="unet"),
        augment=Augment(
            window=(256, 320),
            scale=(0.7, 2.0),
            rare_crops=0.4,
            horizontal_flip=0.5,
            brightness=0.3,
            contrast=0.3,
            saturation=0.3,
            normalize="dataset",
        ),
        loss=Loss(class_weights="log"),
        optim=Optim(name="adamw", lr=2e-3, betas=(0.9, 0.99), weight_decay=0.05, decay_norm_and_bias=False, ema=0.99),
        schedule=Schedule(name="one_cycle", peak_fraction=0.2, initial_factor=0.04, final_factor=0.0),
        train=Train(epochs=190, batch_size=8, eval_batch_size=8, best_metric="mean_iou"),
        report=REPORT,
    )


def camvid_fast() -> SegmentConfig:
    """Street scenes (CamVid) from scratch, for little compute and for films that training does not have.

    Settings: `landcover_scratch` with instance norm (each image standardized by its own mean and deviation, and in two
    stages of the network: `model.args.invariant`), strong changes of color, the mean of the predictions for an image
    and its mirror image, and the weights of the last epoch. They were chosen by leaving films out of the training
    images.

    Measured on one film of CamVid's training files after training on the other two, 64 epochs, one seed: mean IoU 0.458
    on film 0016E5 (1.5e14 training FLOPs, 17 minutes on one core of an Intel Xeon with AMX) and 0.393 on film 0006R0
    (2.4e14); 0.356 and 0.388 with the settings of earlier versions, which are now `landcover_scratch`. The 190 epochs
    of this recipe on all 367 training images (9.9e14 FLOPs, 103 minutes) have mean IoU 0.711 on CamVid's validation
    images, frames of a film that training knows; earlier settings had 0.693. See LOG.md.

        sightline train camvid_fast --data camvid/
    """
    base = landcover_scratch()
    return base.replace(
        name="camvid_fast",
        data=Data(palette="camvid"),
        model=Model(name="unet", args={"invariant": 2}),
        augment=base.augment.replace(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.05, grayscale=0.1, blur=0.2),
        train=base.train.replace(best_metric="epoch", evaluate_every=10, flip_test=True),
    )
