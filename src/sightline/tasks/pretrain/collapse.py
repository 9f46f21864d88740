"""Detection of collapsed features: all images have nearly the same representation. Imports no torch."""

from collections.abc import Mapping

COLLAPSED_STD, COLLAPSED_RANK = 0.05, 2.0
"""Features have collapsed if `feature_std`, the spread of the projections, is below COLLAPSED_STD, or if
`effective_rank`, that of the backbone's features, is below COLLAPSED_RANK."""


def collapse(numbers: Mapping[str, float], stage: str = "") -> str:
    """A warning with a remedy if the features have collapsed (are nearly equal for all images), else "".

    numbers: metrics of `PretrainLearner.metrics`. If `feature_std` is 0, all images have the same projection; if
    `effective_rank` is 1, all features are on a line. The result is "" for metrics of other tasks than pre-training,
    which lack both. stage: prefix of the options in the remedy, such as "unlabeled." for a stage of a transfer grid.
    """
    std, rank = numbers.get("feature_std", 1.0), numbers.get("effective_rank", COLLAPSED_RANK)
    if not (std < COLLAPSED_STD or rank < COLLAPSED_RANK):  # also for NaN
        return ""
    return (
        f"collapsed: the features of all images are nearly the same (spread {std:.3f} of 1, effective rank "
        f"{rank:.1f}); start again with a lower --{stage}optim.lr, --{stage}schedule.warmup_epochs 10, a larger "
        f"--{stage}train.batch_size, or, for BYOL, a slower target (a larger --{stage}pretrain.momentum); for DINO, a "
        f"lower --{stage}pretrain.teacher_temperature"
    )
