"""The configuration of a run: frozen, strict, resolved once (resolve.py)."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field, NonNegativeFloat, PositiveFloat

from .checks import Rules, broken, common_rules
from .fields import (
    LARGEST,
    Channel,
    Count,
    CountOrZero,
    Decay,
    Probability,
    Range,
    Section,
    ShareRange,
    Window,
    count_or_names,
)


class Data(Section):
    path: str = ""
    """Folder, CSV file, shards (docs/streaming.md), or a name such as `torchvision:CIFAR100` or `sklearn:digits`."""
    layout: Literal[
        "auto", "splits", "classes", "filename", "csv", "unlabelled", "torchvision", "sklearn", "shards"
    ] = "auto"
    size: Count = 224
    """Height and width in pixels of the square that a classifier sees; segmentation has `augment.window` instead."""
    fit: Literal["squash", "crop"] = "squash"
    """How an image that is not square becomes one: resized in each direction, or the center of it once its shorter side
    fits."""
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    """How pixels are mixed when an image is decoded to its size; antialiased where it shrinks."""
    pattern: str = "{label}_{id}"
    """Where the label stands in a file's stem, for the layout `filename`."""
    classes: tuple[str, ...] = ()
    """Class names in index order; empty: taken from the data."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each class held out where the data has no validation split."""
    split_seed: CountOrZero = 0
    """Chooses which images those are; apart from `train.seed`, so that runs of several seeds share one split."""
    group: str = ""
    """A regular expression with a part `(?P<group>...)`, looked for in an image's path: images of one group, such as
    frames of a film, are held out together or not at all. Empty: the column `group` of a table, where it has one."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    on_copies: Literal["stop", "warn"] = "stop"
    """What training does where files of two splits have the same bytes."""
    mask: str = ""
    """Where an image's mask lies, for segmentation: a template such as `{stem}_mask.png` or `../masks/{stem}.png`,
    relative to the image's folder; empty: recognized."""
    palette: str = ""
    """What the pixels of a mask mean: `landcover`, `camvid`, `binary` (0 and 255), or empty: class ids, or `colors`."""
    colors: dict[str, tuple[Channel, Channel, Channel]] = {}
    """A palette of your own: class name to (red, green, blue), in index order."""
    tolerance: Channel = 0
    """A color counts as the nearest of the palette's if no channel differs by more."""
    threshold: Channel = 0
    """Above 0: channels of at least this become 255 and others 0 before colors are looked up."""
    merge: dict[str, str] = {}
    """Class name to the name of the class that it becomes."""
    ignore: tuple[str, ...] = ()
    """Classes that count neither in the loss nor in the metrics."""
    max_pixels: Count = 89_478_485
    """Images with more pixels are refused (decompression bombs). Pillow's own warning limit."""
    cache_dir: str = ""
    """Folder of the decoded images; empty: $SIGHTLINE_CACHE or ~/.cache/sightline."""
    resident: Literal["auto", "always", "never"] = "auto"
    """Whether all training images are copied to the device before the first step. `auto`: on a CUDA device, where they
    take no more than a third of its free memory; others are copied batch by batch, one ahead of the step."""
    stream_mb: Count = 256
    """Megabytes of undecoded samples that lie in memory where data come in shards. Samples are mixed within half of
    it while the other half is read, so it shapes the order of an epoch."""
    download: bool = False
    """Allow `torchvision:` data sets to be downloaded."""

    @pydantic.field_validator("group")
    @classmethod
    def _group_is_named(cls, value: str) -> str:
        try:
            named = not value or "group" in re.compile(value).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"this is no regular expression: {error}") from error
        if not named:
            raise ValueError("it needs a part (?P<group>...), such as '(?P<group>[^/]+)_[0-9]+'")
        return value


class Model(Section):
    name: str = "resnet18"
    weights: str = "none"
    """`none`, `imagenet` or, of DeepLabV3, `coco` (the library's own downloads), a .safetensors or .pt file, a run."""
    args: dict[str, Any] = {}
    """Keyword arguments of the model's builder."""
    head: Literal["linear", "mlp"] = "linear"
    """What a classifier has on its backbone; `mlp`: four layers 1000 wide with LeakyReLU and dropout 0.5."""
    fresh_head: bool = False
    """Begin with a new head even where `weights` have one that fits."""
    freeze: bool = False
    """Train the head only; the backbone keeps its weights and its batch-norm statistics."""


class Augment(Section):
    """What training images go through, in this order. Probabilities are per image.

    Evaluation only resizes and normalizes.
    """

    resize: CountOrZero = 0
    """Side in pixels to which images are resized before the crop; 0: `data.size`."""
    crop: Literal["none", "random", "resized"] = "none"
    """`random`: a `data.size` square out of the resized, padded image. `resized`: of random area and shape."""
    padding: CountOrZero = 0
    padding_mode: Literal["zeros", "reflect"] = "reflect"
    crop_scale: ShareRange = (0.08, 1.0)
    crop_ratio: Range = (0.75, 4 / 3)
    horizontal_flip: Probability = 0.0
    alternate_flip: bool = False
    """Flip each image in every other epoch instead of at random (arXiv 2404.00498); needs horizontal_flip > 0."""
    vertical_flip: Probability = 0.0
    rotate90: Probability = 0.0
    """Probability of a rotation by 90, 180 or 270 degrees."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """TrivialAugmentWide (arXiv 2103.10158) or RandAugment (arXiv 1909.13719)."""
    rand_ops: Count = 2
    rand_magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    brightness: NonNegativeFloat = 0.0
    contrast: NonNegativeFloat = 0.0
    saturation: NonNegativeFloat = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    jitter: Probability = 1.0
    """Probability that brightness, contrast, saturation and hue are changed at all."""
    grayscale: Probability = 0.0
    blur: Probability = 0.0
    blur_sigma: Range = (0.1, 2.0)
    solarize: Probability = 0.0
    """Probability that pixels of half the largest value or more are inverted."""
    erase: Probability = 0.0
    erase_scale: ShareRange = (0.02, 0.33)
    erase_ratio: Range = (0.3, 3.3)
    normalize: Literal["imagenet", "half", "dataset"] = "imagenet"
    """Mean and standard deviation: ImageNet's, 0.5 and 0.5, or measured on the training split."""
    mixup: NonNegativeFloat = 0.0
    """Alpha of mixup (arXiv 1710.09412); 0: off. With cutmix on too, each image takes either with equal probability."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha of cutmix (arXiv 1905.04899); 0: off."""
    mix_probability: Probability = 1.0
    """Share of the images that are mixed at all."""
    mix_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the epochs after which images are no longer mixed."""
    progressive: tuple[tuple[Count, Probability], ...] = ()
    """(side, share of the epochs) pairs: until that share images are shrunk to that side; afterwards `data.size`."""
    window: Window = ()
    """Height and width of the training crops of segmentation; empty: whole images, which must share one size."""
    scale: Range = (1.0, 1.0)
    """Range of the random enlargement of what a `window` shows, log-uniform; never beyond the image's edges."""
    rare_crops: Probability = 0.0
    """Share of the windows that are laid around a pixel of a class chosen by rarity, instead of anywhere."""

    @pydantic.model_validator(mode="after")
    def _flip_can_alternate(self) -> Self:
        if self.alternate_flip and not self.horizontal_flip:
            raise ValueError("alternate_flip needs horizontal_flip above 0")
        return self


class Loss(Section):
    name: Literal["cross_entropy", "focal", "dice", "lovasz", "ohem"] = "cross_entropy"
    """The last three are for segmentation."""
    terms: dict[Literal["cross_entropy", "focal", "dice", "lovasz", "ohem"], PositiveFloat] = {}
    """For segmentation: several losses and their weights in a sum, instead of `name`."""
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    alpha: PositiveFloat = 1.0
    """Factor of the focal loss."""
    gamma: NonNegativeFloat = 2.0
    """Exponent of the focal loss."""
    hard_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the pixels, the hardest ones, that `ohem` counts."""
    auxiliary: NonNegativeFloat = 0.4
    """Weight of the loss of a model's auxiliary output, where it has one."""
    class_weights: Literal["none", "balanced", "log"] = "none"
    """`balanced`: each class weighs n / (classes * count of the class). `log`: 1 / log(1.02 + share of the class)."""


class Optim(Section):
    name: Literal["sgd", "adam", "adamw", "lars", "muon"] = "sgd"
    """`lars` (arXiv 1708.03888) is for large batches: each weight's step is lr / 1000 of the weight's own length."""
    lr: PositiveFloat = 0.1
    momentum: Decay = 0.9
    nesterov: bool = False
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.0
    decay_norm_and_bias: bool = True
    """Whether weight decay also falls on normalization layers and biases."""
    muon_lr: PositiveFloat = 0.02
    """Learning rate of the hidden weights under `muon`; all others take `lr` with AdamW and `betas`."""
    muon_momentum: Decay = 0.95
    muon_normalize: bool = False
    """Keep each hidden weight at norm sqrt(rows) and make each step lr times that long, for nets with batch norm."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate from each layer to the one below it; the head keeps `lr`."""
    clip_norm: NonNegativeFloat = 0.0
    """Largest norm of the gradient; 0: no clipping."""
    accumulate: Count = 1
    """Batches whose mean gradient makes one step. The learning rate is not touched."""
    ema: Decay = 0.0
    """Decay per step of an average of the weights, used for evaluation and saved as the model; 0: off."""
    sam_radius: NonNegativeFloat = 0.0
    """Sharpness-aware minimization (arXiv 2010.01412): the gradient is that at the worst point within this distance of
    the weights, to first order. Each step then costs two. 0: off."""
    sam_from: Probability = 0.0
    """Share of the epochs after which sharpness-aware steps begin; late ones do most of the good (arXiv 2410.10373)."""

    @pydantic.model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.name in ("sgd", "lars") and not self.momentum:
            raise ValueError("nesterov needs momentum above 0")
        return self


class Schedule(Section):
    name: Literal["constant", "multi_step", "cosine", "cosine_restarts", "one_cycle", "one_cycle_cosine", "linear"] = (
        "constant"
    )
    total_epochs: CountOrZero = 0
    """Epochs over which the rate, `augment.progressive` and `augment.mix_until` are laid; what they are at the end
    holds from there on. 0: `train.epochs`."""
    warmup_epochs: NonNegativeFloat = 0.0
    milestone_epochs: tuple[PositiveFloat, ...] = ()
    """Epochs after which the rate is multiplied by `gamma` (multi_step)."""
    gamma: PositiveFloat = 0.1
    restart_epochs: PositiveFloat = 10.0
    """Length of a cosine_restarts cycle."""
    peak_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the run at which one_cycle peaks."""
    initial_factor: NonNegativeFloat = 0.04
    """Learning rate at one_cycle's first step, as a share of `optim.lr`."""
    final_factor: NonNegativeFloat = 0.0
    """Learning rate at the last step, as a share of `optim.lr` (cosine, one_cycle, linear)."""
    momentum_at_peak: Decay = 0.0
    """Momentum of sgd where a one_cycle rate is highest, from and back to `optim.momentum`; 0: the same throughout."""


class Train(Section):
    epochs: Count = 30
    batch_size: Count = 64
    seed: CountOrZero = 0
    max_minutes: NonNegativeFloat = 0.0
    """Stop, evaluated and saved, after this long; 0: no limit."""
    patience: CountOrZero = 0
    """Stop after so many epochs without a better `best_metric`; 0: never."""
    best_metric: str = "accuracy"
    """The validation metric that selects checkpoints/best and that `patience` is about, one of the task's own:
    `accuracy` of a classifier, `mean_iou` of a segmenter. Pre-training has `epoch`, the newest weights: a selection by
    labels would let labels into a result without labels."""
    evaluate_every: Count = 1
    """Epochs between evaluations, where these take longer than the epochs; the first and the last have one anyway."""
    ensemble: CountOrZero = 0
    """Also average the probabilities of the k best epochs; 0: off."""
    ensemble_by: Literal["accuracy", "loss"] = "loss"
    flip_test: bool = False
    """Average each evaluation over the image and its mirror image."""
    turn_test: bool = False
    """For segmentation of images from above: average over all eight flips and turns."""
    eval_batch_size: Count = 256
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    compile: bool = False
    preview: bool = False
    """Save figures/preview.png, a sheet of what the model sees."""
    checkpoint_minutes: NonNegativeFloat = 5.0
    """Save for resumption this often within an epoch, beside the end of every epoch; 0: every step."""
    threads: CountOrZero = 0
    """Processor threads; 0: all that this process may use."""
    sync_batch_norm: bool = True
    """Under torchrun: batch norm over the batch of all processes, as one process would have it. Without it each takes
    its own part, which is quicker and, with parts of 32 images or more, rarely worse."""
    shard_model: bool = False
    """Under torchrun: each process holds a part of weights, gradients and moments (PyTorch's FSDP2), for models whose
    training does not fit on one device. With sgd, adam and adamw. What is saved is whole, as without it."""
    rank_timeout_seconds: PositiveFloat = 300.0
    """Under torchrun: how long a process that hangs may keep the others waiting before the run ends."""
    on_out_of_memory: Literal["stop", "halve"] = "stop"
    """What a step does whose batch does not fit into memory. `halve`: it takes the mean gradient of the same batch in
    smaller parts, from then on, and says so; batch normalization then sees the images of a part at a time."""


class Report(Section):
    samples: CountOrZero | tuple[str, ...] = 2500
    """Validation images that are followed over the epochs: how many, or for segmentation which, `0013,0062,0104`."""
    train_samples: CountOrZero = 0
    """Training images of a classifier that are followed too, as they are without augmentation."""
    snapshots: Count = 8
    """How many epochs of features stay on disk; thinned while the run goes on."""

    @pydantic.field_validator("samples", mode="before")
    @classmethod
    def _a_text_counts_or_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return count_or_names(value)
        names = isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value)
        if not names and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST):
            raise ValueError("give a number of images, or a list of their names in quotes")
        return value


class Config(Section):
    """The sections that every task has. A task's subclass, `TASKS[name].config`, adds its own sections and checks.

    name: the default name of the run folder.
    """

    path_keys: ClassVar[tuple[str, ...]] = ("data.path", "model.weights")
    """Settings that hold a path, which `train` makes absolute."""

    name: str = "run"
    task: str = ""
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    loss: Loss = Loss()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    train: Train = Train()
    report: Report = Report()

    def rules(self) -> Rules:
        """What is wrong -> whether it is the case: settings that a task cannot have, or that would do nothing."""
        return {}

    @pydantic.model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        if faults := broken(common_rules(self) | self.rules()):
            raise ValueError("; ".join(faults))
        return self
