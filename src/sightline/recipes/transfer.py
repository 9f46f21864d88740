"""Recipes for transfer grids: models with and without pre-training, compared on a smaller target data set.

`transfer_a` and `transfer_b` have the settings of two course reports. Both reports pre-train on 38,400 images of 64
classes and fine-tune on Office-Home: 65 classes, 3,951 images for training and 406 for validation, listed in a CSV file
with the columns `id,filename,label`. Neither data set was available to us. The field `reported` of these grids has the
accuracies that the reports give for settings A to E, see `transfer.grid.SETTINGS`. The docstrings list what is from the
report and what is our choice, because the report does not give it.
"""

from ..config.schema import Augment, Config, Data, Model, Optim, Report, Schedule, Train
from ..tasks.classify.config import ClassifyConfig
from ..tasks.pretrain.config import Pretrain
from ..transfer.grid import Grid
from .masks import landcover_finetune, landcover_frozen
from .pretrain import byol_fast, byol_resnet50_a, byol_resnet50_b, moco_fast


def transfer_a() -> Grid:
    """ResNet-50 at 128 pixels, mlp head. Reported: A 0.4039 B 0.4581 C 0.4507 D 0.2635 E 0.4384.

    The reported accuracies are those of settings A to E in a course report, on 406 validation images of Office-Home.

    From the report: 300 epochs, batch size 64, Adam with learning rate 5e-4, weight decay 1e-3, learning rate halved
    after epochs 30, 100 and 200; images resized to 160 pixels; for training random crops of 128 pixels, flips and
    conversion to gray with probability 0.5; for evaluation the central 128 pixels; a head of four layers of width 1000.
    Pre-training without labels is the recipe `byol_resnet50_a`.

    Ours: the fourth layer of the head is the one whose outputs are the classes, and the first has the 2048 features as
    inputs; images are reduced to their center square first, so that random crops do not reach the ends of long images;
    100 epochs of pre-training with labels; no augmentation for frozen backbones, so that features are computed only
    once; the best epoch by validation accuracy; no tuning (`tune: none`), so that the settings stay those of the
    report. Not run on the report's data.

        sightline transfer transfer_a --data office/ --unlabeled mini/ --labeled mini_labeled/
    """
    full = ClassifyConfig(
        name="full",
        data=Data(size=128, fit="crop", eval_crop=0.8),
        model=Model(name="resnet50", head="mlp"),
        augment=Augment(resize=160, crop="random", horizontal_flip=0.5, grayscale=0.5),
        optim=Optim(name="adam", lr=5e-4, weight_decay=1e-3),
        schedule=Schedule(name="multi_step", milestone_epochs=(30, 100, 200), gamma=0.5),
        train=Train(epochs=300, batch_size=64),
    )
    return Grid(
        name="transfer_a",
        classifier="mlp",
        tune="none",
        labeled=with_epochs(full, 100),
        unlabeled=byol_resnet50_a(),
        full=full,
        frozen=without_augmentation(full),
        reported={"A": 0.4039, "B": 0.4581, "C": 0.4507, "D": 0.2635, "E": 0.4384},
    )


def transfer_b() -> Grid:
    """ResNet-50 at 128 pixels with TrivialAugment. Reported: A 0.5222 B 0.5320 C 0.4286 D 0.3473 E 0.2857.

    The reported accuracies are those of settings A to E in a course report, on 406 validation images of Office-Home.

    From the report: 100 epochs, batch size 32, Adam with learning rate 1e-3, cosine schedule with warm restarts,
    bicubic resize to 128, center crop, TrivialAugmentWide. Pre-training without labels is the recipe `byol_resnet50_b`.

    Ours: restarts every 50 epochs, a linear head, 100 epochs of pre-training with labels, no augmentation for frozen
    backbones, no weight decay, the best epoch by validation accuracy, no tuning (`tune: none`). Not run on the report's
    data.

        sightline transfer transfer_b --data office/ --unlabeled mini/ --labeled mini_labeled/
    """
    full = ClassifyConfig(
        name="full",
        data=Data(size=128, fit="crop", filter="bicubic"),
        model=Model(name="resnet50"),
        augment=Augment(policy="trivial"),
        optim=Optim(name="adam", lr=1e-3),
        schedule=Schedule(name="cosine_restarts", restart_epochs=50),
        train=Train(epochs=100, batch_size=32),
    )
    return Grid(
        name="transfer_b",
        tune="none",
        labeled=full,
        unlabeled=byol_resnet50_b(),
        full=full,
        frozen=without_augmentation(full),
        reported={"A": 0.5222, "B": 0.5320, "C": 0.4286, "D": 0.3473, "E": 0.2857},
    )


def transfer_fast() -> Grid:
    """Small photographs with few labels, pre-trained by `moco_fast` (MoCo v3).

    Two pre-trainings of each kind, three seeds from each; learning rate and epochs of each setting are chosen by the
    same small grid (`tune: small`). Frozen backbones have logistic regression and k-NN. Setting F is A with the compute
    of the pre-training without labels. For less: `--settings AC --pretrain-seeds 0`.

    Measured with 25,000 unlabeled photographs and 2,997 labeled ones of 50 other classes, on 1,250 test images that
    chose nothing: C 0.583 beats A 0.518 by 6.5 points [3.7, 9.3] and F 0.533, A with the compute of C, by 5.0 points
    [1.8, 8.1]; B 0.566, D 0.465, E 0.496. Cost on one core of an Intel Xeon with AMX: pre-training with labels 1.2e14
    FLOPs and 5 to 8 minutes, without labels 5.7e14 FLOPs and 25 minutes, training of a full model for 50 epochs 9.0e13
    FLOPs and 4 to 5 minutes. See LOG.md.

        sightline transfer transfer_fast --data target/ --unlabeled images/ --labeled labeled/
    """
    moco = moco_fast()
    pretraining = moco.replace(train=moco.train.replace(epochs=24))
    full = ClassifyConfig(
        name="full",
        data=pretraining.data,
        model=pretraining.model,
        augment=Augment(
            crop="random",
            padding=4,
            horizontal_flip=0.5,
            normalize="dataset",
            cutmix=1.0,
            mix_probability=0.5,
            progressive=((24, 0.5),),
        ),
        optim=Optim(name="adamw", lr=1e-3, weight_decay=0.05, decay_norm_and_bias=False),
        schedule=Schedule(name="cosine", warmup_epochs=2),
        train=Train(epochs=20, batch_size=128, evaluate_every=5),
    )
    labeled = full.replace(
        augment=full.augment.replace(progressive=((20, 0.4), (24, 0.75))),
        optim=full.optim.replace(lr=2e-3),
        train=full.train.replace(epochs=12),
    )
    return Grid(
        name="transfer_fast",
        settings=("A", "B", "C", "D", "E", "F"),
        pretrain_seeds=(0, 1),
        labeled=labeled,
        unlabeled=pretraining,
        full=full,
        frozen=linear_evaluation(full),
    )


def transfer_masks() -> Grid:
    """Your own images with masks: does a pre-trained encoder help, and which one?

    EfficientNet-Lite0 with a light decoder, settings of `landcover_finetune` without layer-wise decay, and of
    `landcover_frozen` for D and E, whose only trained part is the decoder. Pre-training without labels: MoCo v3 on
    views of 96 pixels of your own images, which need no masks. B and D need --labeled: the weights of a classifier with
    this network, such as those that timm publishes, or a run on other images with masks. Validation images and near
    copies of them are left out of the pre-training.

    Measured on CamVid, one seed, 30 epochs without tuning: mean IoU A 0.575, B 0.712 (ImageNet weights), C 0.604, D
    0.627, E 0.369, on films that training knows. See docs/pretrain.md and LOG.md.

        sightline transfer transfer_masks --data land/ --unlabeled land/ --labeled encoder.safetensors
    """
    tuned, frozen, moco = landcover_finetune(), landcover_frozen(), moco_fast()
    full = tuned.replace(
        name="full",
        model=tuned.model.replace(weights="none"),
        optim=tuned.optim.replace(layer_decay=1.0),
        train=tuned.train.replace(epochs=12),
    )
    return Grid(
        name="transfer_masks",
        settings=("A", "B", "C", "D", "E"),
        labeled=full,
        unlabeled=moco.replace(
            name="transfer_masks",
            data=moco.data.replace(size=96, on_copies="leave_out"),
            model=full.model,
            augment=moco.augment.replace(resize=256, progressive=(), normalize="pretrained"),
            train=moco.train.replace(epochs=50, batch_size=64),
        ),
        full=full,
        frozen=frozen.replace(name="frozen", model=frozen.model.replace(weights="none")),
    )


def transfer_digits() -> Grid:
    """The demo: pre-training on the digits 0 to 4, target data of ten labeled images for each of the digits 5 to 9.

    sightline demo
    """
    train = Train(epochs=40, batch_size=25)
    full = ClassifyConfig(
        name="full",
        data=Data(size=16),
        model=Model(name="fastnet", args={"widths": [32, 64, 64]}),
        augment=Augment(crop="random", padding=2, padding_mode="zeros", normalize="dataset"),
        optim=Optim(name="adamw", lr=2e-3, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=Schedule(name="cosine", warmup_epochs=2),
        train=train,
        report=Report(samples=0),
    )
    unlabeled = byol_fast().replace(
        data=full.data,
        model=full.model,
        augment=Augment(
            crop="resized", crop_scale=(0.5, 1.0), brightness=0.4, contrast=0.4, blur=0.3, normalize="dataset"
        ),
        pretrain=Pretrain(
            projector=(256, 64), predictor=256, momentum=0.98, momentum_batch=0, second_blur=0.3, second_solarize=0.0
        ),
        optim=Optim(name="lars", lr=1.0, weight_decay=1e-5, decay_norm_and_bias=False),
        train=Train(epochs=30, batch_size=64, best_metric="epoch"),
    )
    return Grid(
        name="transfer_digits",
        tune="none",
        labeled=full.replace(train=Train(epochs=10, batch_size=64)),
        unlabeled=unlabeled,
        full=full,
        frozen=linear_evaluation(full),
    )


def linear_evaluation(config: Config) -> Config:
    """The recipe of a frozen backbone with the data and the model of `config`: logistic regression of features that are
    computed once, in float32, from images without augmentation."""
    return without_augmentation(config).replace(
        model=config.model.replace(freeze=True),
        optim=Optim(name="lbfgs", weight_decay=1e-2),
        schedule=Schedule(),
        train=config.train.replace(epochs=1, precision="fp32"),
    )


def without_augmentation(config: Config) -> Config:
    """A recipe without its augmentation, so that the features of a frozen backbone are computed only once."""
    augment = config.augment
    return config.replace(augment=Augment(normalize=augment.normalize, mean=augment.mean, std=augment.std))


def with_epochs(config: Config, epochs: int) -> Config:
    """Copy of a recipe with `epochs` epochs."""
    return config.replace(train=config.train.replace(epochs=epochs))
