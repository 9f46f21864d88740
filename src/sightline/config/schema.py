"""The configuration of a run: frozen sections of settings with strict types, created by `resolve.resolve`."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field, NonNegativeFloat, PositiveFloat

from .augment import Augment as Augment
from .checks import Rules, common_rules, violated
from .fields import (
    LARGEST,
    Channel,
    Count,
    CountOrZero,
    Section,
    channel_names,
    count_or_names,
)
from .optim import Optim as Optim
from .optim import Schedule as Schedule

NO_GROUPS = "none"
"""The value of `data.group` with which no groups are used."""


def group_pattern(group: str) -> re.Pattern[str]:
    """The regular expression of `data.group`, whose group `group` is the group of a path.

    In a template, `{group}` and `*` stand for any characters but `/`, and the template for the end of the path without
    its extension.
    """
    if "{group}" not in group:
        return re.compile(group)
    parts = (re.escape(part).replace(r"\*", "[^/]*") for part in group.split("{group}", 1))
    return re.compile("(?:^|/)" + "(?P<group>[^/]+?)".join(parts) + r"(?:\.[^./]+)?$")


class Data(Section):
    path: str = ""
    """A folder, a CSV file, shards (docs/streaming.md), or a name: `torchvision:CIFAR100`, `sklearn:digits`."""
    layout: Literal[
        "auto", "splits", "classes", "filename", "csv", "unlabelled", "torchvision", "sklearn", "shards", "parquet",
        "coco", "yolo", "labelme", "cvat", "label_studio",
    ] = "auto"  # fmt: skip
    """How labels are found: in folder names, file names, a table and so on (docs/data.md); `auto`: recognized."""
    size: CountOrZero = 224
    """Height and width in pixels of a classifier's input; 0: the size for which the weights of the model were made.
    Segmentation does not use it, but `augment.window`."""
    fit: Literal["squash", "crop", "pretrained"] = "squash"
    """How images become square. `squash`: resize both sides, changing the aspect ratio. `crop`: resize the shorter side
    and crop the center. `pretrained`: as for the weights of the model (docs/weights.md)."""
    eval_crop: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Side of the central part that is used of an image for evaluation, as a share of the side that `fit` leaves: 0.8
    is torchvision's Resize(160) and CenterCrop(128) for a `size` of 128. Training images are cropped too, unless
    `augment.resize` is set. Images of exactly `size` x `size` pixels are not cropped. 0: as for the weights."""
    filter: Literal["bilinear", "bicubic", "pretrained"] = "bilinear"
    """Interpolation for resizing images when they are decoded, with antialiasing if they become smaller; `pretrained`:
    that of the weights."""
    pattern: str = "{label}_{id}"
    """For `data.layout filename`: where the label is in a file name without its extension."""
    labels: Literal["auto", "one", "several", "number"] = "auto"
    """Whether an image has one label or several in a table (`auto`: as it shows), or a number, as for regression."""
    file_column: str = ""
    """Name of a table's column of file names; empty: `filename`, `file`, `image`, `path` or a similar name."""
    label_column: str = ""
    """Name of a table's column of labels; empty: `label`, `class`, `category` or a similar name."""
    separator: str = ""
    """Text between the labels in a cell of a table, such as `;`; empty: found in the table."""
    classes: tuple[str, ...] = ()
    """Class names in index order; empty: taken from the data."""
    sampler: Literal["shuffle", "balanced", "sqrt"] = "shuffle"
    """How training images are drawn. `shuffle`: each once per epoch. `balanced`: equally many draws of each class;
    `sqrt`: in proportion to the square root of its number of images. An epoch has as many draws as images."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of each class that is held out for validation, if the data have no validation split."""
    inner_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Above 0: validate on this fraction of the training images, held out by `split_seed`, and do not read the
    validation images, so that nothing is chosen on them. They are then the split `outer` of `sightline evaluate`."""
    fold: Annotated[str, Field(pattern=r"^(\d+/\d+)?$")] = ""
    """Such as `2/5`: the second of five equal parts of the training images is the validation set, for data without a
    validation split. `sightline repeat --folds 5` trains on each of the five."""
    split_seed: CountOrZero = 0
    """Seed of the random validation split. As it is not `train.seed`, runs with several seeds share one split."""
    group: str = ""
    """Images that belong together, such as frames of a film: they are kept in one split, and intervals are over groups.
    A template of paths such as `{group}_*`, or a regular expression with a group `(?P<group>...)`. Empty: the column
    `group` of a CSV file if it has one, else groups that are found by name and pixels, for intervals only. `none`: no
    groups."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """What happens with images that cannot be read. `stop`: an error; `skip`: train without them."""
    on_copies: Literal["stop", "warn", "leave_out"] = "stop"
    """What happens if training images are identical to validation or test images: an error (`stop`), a warning, or they
    are left out of the training images. Files are compared; `transfer` and `pretrain.probe` compare pixels."""
    leave_out: tuple[str, ...] = ()
    """Paths of training images, relative to the data, that are left out. `transfer` writes them here for `on_copies
    leave_out`."""
    mask: str = ""
    """Path of an image's mask, for segmentation: a template such as `{stem}_mask.png` or `../masks/{stem}.png`,
    relative to the image's folder; empty: detected."""
    on_unpaired: Literal["stop", "leave_out"] = "stop"
    """What happens with images without a mask and masks without an image: an error (`stop`), or they are left out
    (`leave_out`)."""
    overlap: Literal["order", "smaller"] = "order"
    """Where shapes of an annotation file overlap: the last one in the order of the file (`order`), or the one with the
    fewest pixels (`smaller`)."""
    palette: str = ""
    """Meaning of the pixel values of masks: `landcover`, `camvid` or `binary` (0 and 255). Empty: the palette in
    `data.colors`, else class indices."""
    colors: dict[str, tuple[Channel, Channel, Channel]] = {}
    """A custom palette: for each class name the color (red, green, blue) of its pixels, in index order."""
    tolerance: Channel = 0
    """A pixel of a mask gets the nearest color of the palette if no channel differs from it by more than this."""
    threshold: Channel = 0
    """Above 0: change each channel to 255 if it is at least this, else to 0, before colors are looked up."""
    merge: dict[str, str] = {}
    """Classes to merge: name of a class -> name of the class that replaces it."""
    ignore: tuple[str, ...] = ()
    """Classes of masks that are left out of the loss and the metrics."""
    channels: Annotated[Literal["auto", "rgb"] | tuple[str, ...], pydantic.BeforeValidator(channel_names)] = "auto"
    """Channels of the images. `auto`: the channels and bits that the files have. `rgb`: convert to 8-bit RGB. Else a
    subset in this order, by names or numbers from 1: `[red, green, nir]`, `[4, 3, 2]`."""
    max_pixels: Count = 89_478_485
    """Images with more pixels are an error (decompression bombs?). The default is Pillow's warning limit."""
    cache_dir: str = ""
    """Cache folder for decoded images; empty: $SIGHTLINE_CACHE or ~/.cache/sightline."""
    resident: Literal["auto", "always", "never"] = "auto"
    """Whether all training images are copied to the device before the first step. `auto`: on a CUDA device, if they
    need at most a third of its free memory. Otherwise batches are copied one by one, each during the step before it."""
    stream_mb: Count = 256
    """For data in shards: megabytes of undecoded samples in memory. Samples are shuffled within half of it."""
    download: bool = False
    """Allow `torchvision:` data sets to be downloaded."""

    @pydantic.field_validator("group")
    @classmethod
    def _group_is_named(cls, value: str) -> str:
        try:
            named = value in ("", NO_GROUPS) or "group" in group_pattern(value).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"this is not a regular expression: {error}") from error
        if not named:
            raise ValueError("it needs {group}, such as '{group}_*', or (?P<group>...); or none")
        return value


class Model(Section):
    name: str = "resnet18"
    """The network: a built-in name, `timm/NAME`, `smp/ARCHITECTURE/ENCODER` or `light/ENCODER` (docs/train.md)."""
    weights: str = "none"
    """Initial weights. `none`: random; a .safetensors or .pt file, or a run folder; or a download (docs/weights.md):
    `pretrained` (the library's weights of the model), `imagenet` (the same, if they were trained on ImageNet), `coco`
    (only DeepLabV3)."""
    args: dict[str, Any] = {}
    """Keyword arguments of the function that builds the model."""
    head: Literal["linear", "mlp", "knn"] = "linear"
    """Head of a classifier. `mlp`: four linear layers with hidden width 1000, LeakyReLU and dropout 0.5. `knn`: the 20
    nearest training images vote, see `optim.name`."""
    fresh_head: bool = False
    """Initialize the head, or the decoder of a segmenter, randomly even if `weights` contain one that fits."""
    fit_head: bool = False
    """Before training, set the head to a logistic regression of the features of the training images without
    augmentation, so that the first steps do not distort good features (arXiv 2202.10054)."""
    fixed_norm: bool = False
    """Use the statistics of the loaded weights in the batch norms of a classifier's backbone, also in training. In
    short fine-tunings, running statistics lag behind those of the batches with which the weights are trained."""
    freeze: bool = False
    """Train the head only. The weights and batch-norm statistics of the backbone stay constant."""


class Loss(Section):
    name: str = "cross_entropy"
    """The loss: one of the losses that the task defines."""
    terms: dict[str, PositiveFloat] = {}
    """For segmentation: a weighted sum of losses that replaces `loss.name`: name of a loss -> its weight."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing, 0 to 1; 0: off."""
    alpha: PositiveFloat = 1.0
    """Factor of the focal loss."""
    gamma: NonNegativeFloat = 2.0
    """Exponent of the focal loss."""
    hard_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """For `ohem` (online hard example mining): fraction of the pixels, with the largest loss, that is averaged."""
    auxiliary: NonNegativeFloat = 0.4
    """Weight of the loss of the model's auxiliary output, if it has one."""
    class_weights: Literal["none", "balanced", "log"] = "none"
    """Class weights. `balanced`: n / (classes * count of the class); `log`: 1 / log(1.02 + share of the class)."""


class Train(Section):
    epochs: Count = 30
    """Number of times that the training images are used."""
    batch_size: Count = 64
    """Largest number of images in a batch. The sizes of an epoch's batches differ by at most one."""
    seed: CountOrZero = 0
    """Seed of the initial weights, the order of the images and their augmentation."""
    max_minutes: NonNegativeFloat = 0.0
    """Stop training after this time; the run is then evaluated and saved. 0: no limit. A fitted head has none."""
    patience: CountOrZero = 0
    """Early stopping: stop after this number of epochs without a better `best_metric`; 0: off."""
    best_metric: str = "accuracy"
    """Validation metric that selects checkpoints/best and that `patience` watches: for example `accuracy` for
    classification, `mean_iou` for segmentation. `epoch` selects the newest weights: nothing is then chosen on the
    validation images."""
    evaluate_every: Count = 1
    """Epochs between evaluations. The first and the last epoch are always evaluated."""
    ensemble: CountOrZero = 0
    """Number of best epochs whose probabilities are averaged in the final model; 0: only the best epoch is used."""
    ensemble_by: Literal["accuracy", "loss"] = "loss"
    """Validation metric that selects the epochs of the ensemble."""
    flip_test: bool = False
    """Test-time augmentation: average the prediction over each image and its mirror image."""
    turn_test: bool = False
    """Test-time augmentation for segmentation of aerial images: average all eight flips and quarter turns."""
    eval_batch_size: Count = 256
    """Largest number of images in a batch of an evaluation; processors use fewer if the images are large."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the training: float32, bfloat16, or, for graphics cards without bfloat16, float16 with a scaled
    loss. `auto`: the faster one, by timing steps of the network on this machine; on cards with bfloat16 that, without
    timing; on `mps` float32."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1` or `mps`; `auto`: cuda if there is one, else cpu. Nothing was run on `mps` yet."""
    compile: bool = False
    """Compile the network with torch.compile, which takes a minute or more at the start."""
    preview: bool = False
    """Write figures/preview.png, which shows one augmented training batch."""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """Minutes between checkpoints within an epoch, in addition to the one at the end of every epoch; 0: every step."""
    threads: CountOrZero = 0
    """Number of CPU threads; 0: $OMP_NUM_THREADS, else one per processor that this process may use."""
    sync_batch_norm: bool = True
    """Under torchrun: compute batch-norm statistics over the batches of all processes, as one process would. Otherwise
    each process uses its own batch, which is faster and, from 32 images per process on, rarely less accurate."""
    shard_model: bool = False
    """Under torchrun: distribute weights, gradients and optimizer states over the processes (PyTorch's FSDP2), for
    models whose training does not fit on one device. Needs sgd, adam or adamw. Checkpoints hold the full model."""
    rank_timeout_seconds: PositiveFloat = 300.0
    """Under torchrun: the run ends with an error if a process does not respond to the others for this time."""
    on_out_of_memory: Literal["stop", "halve"] = "stop"
    """What happens if a batch does not fit into memory. `halve`: from then on, split each batch into smaller parts, and
    average their gradients. Batch normalization then uses the statistics of each part."""
    log: Literal["none", "tensorboard"] = "none"
    """A log beside metrics.jsonl. `tensorboard`: scalars and figures for TensorBoard, in the folder tensorboard/ of the
    run; needs `pip install 'sightline-vision[tensorboard]'`."""


class Report(Section):
    samples: CountOrZero | tuple[str, ...] = 2500
    """Validation images whose features or masks are recorded over the epochs: their number, or, for segmentation, their
    names (`0013,0062,0104`)."""
    train_samples: CountOrZero = 0
    """Number of training images of a classifier whose features are recorded too, without augmentation."""
    snapshots: Count = 8
    """Number of epochs whose features or masks are kept on disk, evenly spaced over the run so far."""
    baselines: bool = True
    """Whether to compute scores that need no training, such as k-NN on raw pixels, to read beside the final score."""

    @pydantic.field_validator("samples", mode="before")
    @classmethod
    def _count_or_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return count_or_names(value)
        names = isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)
        if not names and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST):
            raise ValueError("give a number of images, or a list of their names as strings")
        return value


class Config(Section):
    """The sections common to all tasks. The configuration class of each task adds its own sections and checks. name:
    the default name of the run folder."""

    path_keys: ClassVar[tuple[str, ...]] = ("data.path", "model.weights")
    """Settings whose values are paths; `train` makes them absolute."""
    former_keys: ClassVar[dict[str, str]] = {}
    """Settings of earlier versions, and what to use instead."""
    fits_heads: ClassVar[bool] = False
    """Whether the task has `optim.name lbfgs` and `knn`, and `model.fit_head`."""

    name: str = "run"
    """Default name of the run folder, in runs/."""
    task: str = ""
    """What is trained; set by the recipe."""
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    loss: Loss = Loss()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    train: Train = Train()
    report: Report = Report()

    def rules(self) -> Rules:
        """Rules of the task: {error message: whether settings violate it, being invalid or without effect}."""
        return {}

    @pydantic.model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if faults := violated(common_rules(self) | self.rules()):
            raise ValueError("; ".join(faults))
        return self
