"""When a network that is trained without labels no longer tells images apart; no torch, for the report asks too."""

from collections.abc import Mapping

COLLAPSED_STD, COLLAPSED_RANK = 0.05, 2.0
"""Below one of these the network no longer tells images apart."""


def collapse(numbers: Mapping[str, float]) -> str:
    """A warning with the cure where features have collapsed, or "". numbers: as `PretrainLearner.metrics` returns them.

    A spread of 0 is one and the same projection for all images; an effective rank of 1 is a line. "" too for numbers of
    other tasks, which have neither.
    """
    std, rank = numbers.get("feature_std", 1.0), numbers.get("effective_rank", COLLAPSED_RANK)
    if std >= COLLAPSED_STD and rank >= COLLAPSED_RANK:
        return ""
    return (
        f"collapsed: all images look all but the same to the network (spread {std:.3f} of 1, effective rank "
        f"{rank:.1f}); begin again with a lower --optim.lr, --schedule.warmup_epochs 10, a larger --train.batch_size, "
        "or, of BYOL, a target that follows more slowly (--pretrain.momentum)"
    )
