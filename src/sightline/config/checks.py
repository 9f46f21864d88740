"""Checks across settings, each of which is valid on its own. Tasks compose theirs from these.

The configuration is untyped here: its class, in schema.py, calls these functions.
"""

from typing import Any

Rules = dict[str, Any]
"""What is wrong -> whether it is the case."""
DENSE = {"dice", "lovasz", "ohem"}
"""Losses of segmentation alone; label smoothing is not defined for them."""


def broken(rules: Rules) -> list[str]:
    """The messages of the rules that are violated, in order."""
    return [message for message, violated in rules.items() if violated]


def common_rules(config: Any) -> Rules:
    """Rules of every task."""
    one_cycle = config.schedule.name in ("one_cycle", "one_cycle_cosine")
    return {
        "schedule.momentum_at_peak is for optim.name sgd with schedule.name one_cycle or one_cycle_cosine": (
            config.schedule.momentum_at_peak and not (one_cycle and config.optim.name == "sgd")
        ),
        "optim.sam_from does nothing without optim.sam_radius": config.optim.sam_from and not config.optim.sam_radius,
    }


def metric_rules(config: Any, *metrics: str) -> Rules:
    """`train.best_metric` is one of these."""
    message = f"the task {config.task} needs train.best_metric {' or '.join(metrics)}"
    return {message: config.train.best_metric not in metrics}


def whole_image_rules(config: Any) -> Rules:
    """Rules of tasks that take an image as a whole: settings of segmentation have no effect on them."""
    augment, loss = config.augment, config.loss
    return {
        "report.samples can name images for segmentation only; give their number": not isinstance(
            config.report.samples, int
        ),
        "augment.window, scale and rare_crops are for segmentation": augment.window
        or augment.rare_crops
        or augment.scale != (1.0, 1.0),
        "train.turn_test is for segmentation": config.train.turn_test,
        "the losses dice, lovasz and ohem and sums of losses are for segmentation": loss.name in DENSE or loss.terms,
    }


def no_head_rules(config: Any) -> Rules:
    """Rules of tasks without a classifier's head on the backbone."""
    return {
        "report.train_samples is for classification": config.report.train_samples,
        "model.head is for classification": config.model.head != "linear",
        "train.ensemble is for classification": config.train.ensemble,
    }
