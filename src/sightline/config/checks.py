"""Checks of combinations of settings, each of which is valid alone. Tasks compose their checks from these. `config`
is a `schema.Config`. It has no type here, because schema.py imports this module."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import SightlineError, listing, nearest_hint

FITTED = {"lbfgs": "linear", "knn": "knn"}
"""Values of `optim.name` with which the head is not trained, but computed from features -> the head that they need."""

OF_MASKS = ("palette", "colors", "mask", "merge", "ignore")
"""Settings of `data` that only masks have."""

Rules = dict[str, Any]
"""{error message: whether the configuration violates the rule}; any value counts as true or false."""


def violated(rules: Rules) -> list[str]:
    """The error messages of the rules that are violated, in order."""
    return [message for message, broken in rules.items() if broken]


def common_rules(config: Any) -> Rules:
    """Rules for combinations of settings that apply to every task."""
    one_cycle = config.schedule.name in ("one_cycle", "one_cycle_cosine")
    return {
        "schedule.momentum_at_peak needs optim.name sgd, and schedule.name one_cycle or one_cycle_cosine": (
            config.schedule.momentum_at_peak and not (one_cycle and config.optim.name == "sgd")
        ),
        "optim.sam_from has no effect without optim.sam_radius": config.optim.sam_from and not config.optim.sam_radius,
        "optim.name lbfgs and knn, and model.fit_head, are available for classifiers of images only": (
            (config.optim.name in FITTED or config.model.fit_head) and not config.fits_heads
        ),
    }


def check_effects(config: Any, masks: bool = True) -> None:
    """Raise SightlineError for settings that have no effect on a training. Runs that have them can still be used.

    masks: whether the data may have masks.
    """
    optim, fitted = config.optim, config.optim.name in FITTED
    penalty = {name: getattr(optim, name) for name in ("name", "weight_decay", "decay_choices")}
    rules = {
        "train.patience needs a train.best_metric other than epoch: the last epoch is always the newest": (
            config.train.patience and config.train.best_metric == "epoch" and not fitted
        ),
        "schedule.name multi_step needs schedule.milestone_epochs, such as [10, 15]": (
            config.schedule.name == "multi_step" and not config.schedule.milestone_epochs
        ),
        f"optim.name {optim.name} computes the head; of the settings of optim it has weight_decay and decay_choices": (
            fitted and optim != type(optim)(**penalty)
        ),
    }
    faults = violated(rules)
    if not masks:
        of_masks = [key for key in OF_MASKS if getattr(config.data, key) != getattr(type(config.data)(), key)]
        faults += [f"data.{key} is for masks, in segmentation only" for key in of_masks]
    if faults:
        cure = "leave these settings out, or correct them"
        raise SightlineError("settings without effect", where="the recipe", why="\n" + listing(faults), cure=cure)


def warm_up_note(config: Any) -> str:
    """A note if the learning rate only increases, because the warm-up is as long as the training; otherwise ""."""
    warm_up, epochs = config.schedule.warmup_epochs, config.train.epochs
    if warm_up < epochs or config.optim.name in FITTED:
        return ""
    return f"the learning rate only increases: schedule.warmup_epochs is {warm_up:g}, and the training has {epochs}"


def has_fixed_features(config: Any) -> bool:
    """Whether the backbone is frozen and no augmentation changes its input between epochs."""
    unaugmented = config.augment.model_copy(update={"resize": 0, "normalize": "imagenet", "mean": (), "std": ()})
    return config.model.freeze and unaugmented == type(config.augment)()


def head_rules(config: Any) -> Rules:
    """Rules for heads that are fitted to features: by `optim.name` lbfgs or knn, or before training by
    `model.fit_head`."""
    optim, head, name = config.optim, config.model.head, config.optim.name
    fitted, tried = name in FITTED, config.optim.decay_choices
    plain = not optim.ema and not config.train.ensemble
    return {
        f"optim.name {name} needs model.head {FITTED.get(name)}": fitted and head != FITTED[name],
        "model.head knn needs optim.name knn": head == "knn" and name != "knn",
        f"optim.name {name} needs model.freeze true, no augmentation and train.epochs 1": (
            fitted and not (has_fixed_features(config) and config.train.epochs == 1)
        ),
        f"optim.name {name} uses every image once, with data.sampler shuffle": (
            fitted and config.data.sampler != "shuffle"
        ),
        f"optim.name {name} does not train, so that optim.ema and train.ensemble have no effect": fitted and not plain,
        "optim.name lbfgs minimizes cross-entropy, without other settings of loss": (
            name == "lbfgs" and config.loss != type(config).model_fields["loss"].default
        ),
        "model.fit_head needs model.head linear": config.model.fit_head and head != "linear",
        "optim.decay_choices is for optim.name lbfgs or model.fit_head": (
            tried and name != "lbfgs" and not config.model.fit_head
        ),
    }


def metric_rules(config: Any, *metrics: str) -> Rules:
    """Rules that require `train.best_metric` to be one of `metrics`."""
    message = f"for the task {config.task}, train.best_metric must be {' or '.join(metrics)}"
    return {message: config.train.best_metric not in metrics}


def whole_image_rules(config: Any) -> Rules:
    """Rules for tasks that predict one output per image: the settings for segmentation must not be used."""
    augment = config.augment
    return {
        "report.samples must be a number of images; only segmentation accepts their names": not isinstance(
            config.report.samples, int
        ),
        "augment.window, augment.scale and augment.rare_crops are available for segmentation only": augment.window
        or augment.rare_crops
        or augment.scale != (1.0, 1.0),
        "train.turn_test is available for segmentation only": config.train.turn_test,
        "loss.terms, a sum of losses, is available for segmentation only": config.loss.terms,
    }


def class_rules(config: Any) -> Rules:
    """Rules for tasks whose labels are classes."""
    return {"data.labels number is for tasks that predict a number": config.data.labels == "number"}


def no_head_rules(config: Any) -> Rules:
    """Rules for tasks without a classification head: the settings of the head must not be used."""
    return {
        "report.train_samples is available for classification only": config.report.train_samples,
        "model.head is available for classification only": config.model.head != "linear",
        "model.fixed_norm and optim.decay_choices are available for classification only": (
            config.model.fixed_norm or config.optim.decay_choices
        ),
        "train.ensemble is available for classification only": config.train.ensemble,
    }


def loss_arguments(function: Callable[..., Any], loss: Any) -> dict[str, Any]:
    """Those settings of the section `loss` that a loss function has as keyword arguments."""
    settings = {"smoothing": loss.smoothing, "alpha": loss.alpha, "gamma": loss.gamma, "share": loss.hard_share}
    accepted = inspect.signature(function).parameters
    return {name: value for name, value in settings.items() if name in accepted}


def check_scalar(loss: Any, config: Any) -> Any:
    """Return the loss of a batch, a tensor; raise SightlineError if it is not a scalar tensor."""
    shape = getattr(loss, "shape", None)
    if shape is None or len(shape):
        why = f"it is a {type(loss).__name__}" if shape is None else f"it has the shape {list(shape)}"
        cure = "return the mean, for example loss.mean()"
        raise SightlineError(
            "the loss of a batch is not a scalar", where=f"loss {config.loss.name}", why=why, cure=cure
        )
    return loss


def check_loss_names(config: Any, known: Mapping[str, Callable[..., Any]]) -> None:
    """Raise SightlineError if `loss.name`, or a name in `loss.terms`, is not one of the task's losses, or if none of
    them has the label smoothing that is set."""
    names = [*config.loss.terms] or [config.loss.name]
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = nearest_hint(unknown[0], known)
        what = f"there is no loss {', '.join(map(repr, unknown))} for the task {config.task}{hint}"
        where = "loss.terms" if config.loss.terms else "loss.name"
        cure = f"use one of {', '.join(known)}; for a loss of your own, add --code FILE"
        raise SightlineError(what, where=where, cure=cure)
    own, has = type(config.loss)(), {key for name in names for key in loss_arguments(known[name], config.loss)}
    fields = {"alpha": "alpha", "gamma": "gamma", "share": "hard_share"}
    if idle := [f for key, f in fields.items() if key not in has and getattr(config.loss, f) != getattr(own, f)]:
        what = f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} no {' and '.join(idle)}"
        cure = "leave it out, or use another loss: --loss.name NAME"
        raise SightlineError(what, where=", ".join(f"loss.{field}" for field in idle), cure=cure)
    smoothed = [name for name, function in known.items() if "smoothing" in loss_arguments(function, config.loss)]
    if config.loss.smoothing and not {*names} & {*smoothed}:
        cure = f"set --loss.smoothing 0, or use a loss that has it: {', '.join(smoothed)}"
        raise SightlineError("this loss has no label smoothing", where="loss.smoothing", cure=cure)
