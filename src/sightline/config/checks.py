"""Which settings go together: what `Config` checks once each value alone is right."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .schema import Config

Rules = dict[str, Any]
"""What is wrong -> whether it is the case."""
DENSE = {"dice", "lovasz", "ohem"}
"""Losses of segmentation alone; label smoothing has no place in them."""


def setting_faults(config: "Config") -> list[str]:
    """What is wrong with settings that are right by themselves, in words; [] where nothing is."""
    tasks = {"classify": classification_rules, "segment": segmentation_rules, "byol": pretraining_rules}
    return [fault for fault, broken in (common_rules(config) | tasks[config.task](config)).items() if broken]


def common_rules(config: "Config") -> Rules:
    """Settings that go together in no task."""
    augment, one_cycle = config.augment, config.schedule.name in ("one_cycle", "one_cycle_cosine")
    return {
        "schedule.momentum_at_peak is for optim.name sgd with schedule.name one_cycle or one_cycle_cosine": (
            config.schedule.momentum_at_peak and not (one_cycle and config.optim.name == "sgd")
        ),
        "report.samples can name images for segmentation only; give their number": config.task != "segment"
        and not isinstance(config.report.samples, int),
        "optim.sam_from does nothing without optim.sam_radius": config.optim.sam_from and not config.optim.sam_radius,
        "augment.window, scale and rare_crops are for segmentation": config.task != "segment"
        and (augment.window or augment.rare_crops or augment.scale != (1.0, 1.0)),
        "train.turn_test is for segmentation": config.task != "segment" and config.train.turn_test,
        "report.train_samples is for the task classify": config.task != "classify" and config.report.train_samples,
        "model.head is for the task classify": config.task != "classify" and config.model.head != "linear",
        "the settings pretrain.* are for the task byol": config.task != "byol"
        and config.pretrain != type(config.pretrain)(),
    }


def classification_rules(config: "Config") -> Rules:
    """Settings that a classifier cannot have."""
    loss = config.loss
    return {
        "the task classify needs train.best_metric accuracy or accuracy_top5 or loss": config.train.best_metric
        not in ("accuracy", "accuracy_top5", "loss"),
        "the losses dice, lovasz and ohem and sums of losses are for segmentation": loss.name in DENSE or loss.terms,
    }


def segmentation_rules(config: "Config") -> Rules:
    """Settings that a segmenter cannot have, or that would do nothing."""
    loss = config.loss
    return {
        "the task segment needs train.best_metric mean_iou or pixel_accuracy or loss": config.train.best_metric
        not in ("mean_iou", "pixel_accuracy", "loss"),
        "train.ensemble is for classification": config.train.ensemble,
        "data.fit and data.filter do nothing for the task segment, which leaves images as they are": (
            (config.data.fit, config.data.filter) != ("squash", "bilinear")
        ),
        "data.on_bad_image skip is for classification: wrong pairs must be mended or removed": config.data.on_bad_image
        == "skip",
        "loss.smoothing is for cross_entropy and focal": loss.smoothing and set(loss.terms or {loss.name}) <= DENSE,
    }


def pretraining_rules(config: "Config") -> Rules:
    """Settings that pre-training cannot have, or that would do nothing."""
    pretrain, augment = config.pretrain, config.augment
    own = type(pretrain)()
    simsiam = pretrain.method == "simsiam"
    return {
        "the settings loss.* are for labels": config.loss != type(config.loss)(),
        "simsiam has no target: leave pretrain.momentum* at their defaults, as simsiam_fast does": simsiam
        and (pretrain.momentum, pretrain.momentum_end, pretrain.momentum_batch)
        != (own.momentum, own.momentum_end, own.momentum_batch),
        "pretrain.small_scale does nothing without pretrain.small_crops": pretrain.small_scale != own.small_scale
        and not pretrain.small_crops,
        "the task byol needs train.best_metric epoch": config.train.best_metric != "epoch",
        "train.patience has nothing to wait for in pre-training": config.train.patience,
        "train.ensemble and train.flip_test are for classification": config.train.ensemble or config.train.flip_test,
        "augment.mixup and augment.cutmix need labels": augment.mixup or augment.cutmix,
        "optim.ema is for labels; the target of byol is an average already": config.optim.ema,
        "optim.layer_decay and model.freeze are for classification": config.optim.layer_decay < 1
        or config.model.freeze,
        "pretrain.projector needs a width": not pretrain.projector,
        "pretrain.momentum_end is below pretrain.momentum": pretrain.momentum_end < pretrain.momentum,
        "pretrain.small_size does nothing without pretrain.small_crops": pretrain.small_size
        and not pretrain.small_crops,
        "pretrain.temperature does nothing without pretrain.contrast": pretrain.temperature != own.temperature
        and not pretrain.contrast,
        "pretrain.small_crops go with augment.crop resized": pretrain.small_crops and augment.crop != "resized",
    }
