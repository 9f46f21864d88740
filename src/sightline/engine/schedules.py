"""Learning-rate schedules: pure functions of the step, as factors on the learning rate.

A step is one optimizer update; steps count from 0, and `total_steps - 1` is the last, after which the factor is
constant.
"""

import math
from collections.abc import Callable

from ..config.resolve import resolve
from ..config.schema import Config, Schedule
from ..errors import SightlineError


def factor(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """The factor on the learning rate at `step`: the product of schedule and warm-up.

    The warm-up rises linearly over `warmup_epochs`, from 1/n at the first of its n steps to 1 at the last. The
    schedule does not wait for the end of the warm-up: it starts at step 0 too.
    """
    step = min(step, total_steps - 1)
    value = SCHEDULES[schedule.name](step, total_steps, steps_per_epoch, schedule)
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    return value * min(1.0, (step + 1) / warmup_steps) if warmup_steps else value


def cycled_momentum(step: int, total_steps: int, steps_per_epoch: int, config: Config) -> float:
    """SGD's momentum at `step`: constant `optim.momentum`, or, if `schedule.momentum_at_peak` is set, cycled to it and
    back.

    The cycle follows the learning-rate schedule with `initial_factor` and `final_factor` 0 (arXiv 1708.07120).
    """
    ends, peak = config.optim.momentum, config.schedule.momentum_at_peak
    if not peak:
        return ends
    shape = config.schedule.model_copy(update={"initial_factor": 0.0, "final_factor": 0.0})
    return ends + (peak - ends) * SCHEDULES[shape.name](min(step, total_steps - 1), total_steps, steps_per_epoch, shape)


def schedule_epochs(config: Config) -> int:
    """Number of epochs over which the schedules extend: `schedule.total_epochs`, or `train.epochs` if that is 0."""
    return config.schedule.total_epochs or config.train.epochs


def training_side(config: Config, epoch: int) -> int:
    """Side in pixels of the training images in an epoch (from 0). It follows the steps of `augment.progressive`, and
    is `data.size` after the last one."""
    for side, until in sorted(config.augment.progressive, key=lambda pair: pair[1]):
        if until >= 1 or epoch < until * schedule_epochs(config):
            return side
    return config.data.size


def mixes(config: Config, epoch: int) -> bool:
    """Whether mixup or cutmix is switched on, and not yet ended by `augment.mix_until`, in an epoch (from 0)."""
    augment = config.augment
    lasts = augment.mix_until >= 1 or epoch < augment.mix_until * schedule_epochs(config)
    return bool(augment.mixup or augment.cutmix) and lasts


def sam_active(config: Config, epoch: int) -> bool:
    """Whether sharpness-aware minimization (`optim.sam_radius`) is active in an epoch (from 0)."""
    return bool(config.optim.sam_radius) and epoch >= config.optim.sam_from * schedule_epochs(config)


def ends_at_zero(config: Config) -> bool:
    """Whether the learning rate is 0 after the end of the schedule."""
    steps = 1000 * schedule_epochs(config)
    return factor(steps, steps, 1000, config.schedule) == 0


def progress(step: int, total_steps: int) -> float:
    """The fraction of the steps completed: 0 at the first step, 1 at the last; 0 if there is only one."""
    return step / max(1, total_steps - 1)


def half_cosine(share: float, final: float) -> float:
    """Half a cosine wave, from 1 at share 0 to `final` at share 1. share: fraction of the wave, 0 to 1."""
    return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2


def constant(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """The factor 1 at every step."""
    return 1.0


def multi_step(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """`gamma` to the power of the number of `milestone_epochs` passed."""
    passed = sum(step >= round(epoch * steps_per_epoch) for epoch in schedule.milestone_epochs)
    return schedule.gamma**passed


def cosine(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """Half a cosine (arXiv 1608.03983) from 1 at the first step to `final_factor` at the last."""
    return half_cosine(progress(step, total_steps), schedule.final_factor)


def cosine_restarts(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """Half a cosine from 1 towards 0, restarted every `restart_epochs` (arXiv 1608.03983)."""
    cycle = max(1, round(schedule.restart_epochs * steps_per_epoch))
    return half_cosine(step % cycle / cycle, 0.0)


def one_cycle(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """Linear from `initial_factor` to 1 at `peak_fraction` of the run, then linear to `final_factor`.

    arXiv 1708.07120; torch's OneCycleLR uses cosines by default, see `one_cycle_cosine`.
    """
    peak = round(schedule.peak_fraction * (total_steps - 1))
    if step < peak:
        return schedule.initial_factor + (1 - schedule.initial_factor) * step / peak
    return 1 + (schedule.final_factor - 1) * progress(step - peak, total_steps - peak)


def one_cycle_cosine(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """torch's OneCycleLR: half a cosine up to 1 at `peak_fraction`, then half a cosine down to `final_factor`.

    torch's defaults are peak_fraction 0.3, initial_factor 1/25 and final_factor 1/250,000.
    """
    peak = max(schedule.peak_fraction * total_steps - 1, 0.0)
    if step <= peak:
        return half_cosine(1 - step / peak if peak else 0.0, schedule.initial_factor)
    return half_cosine((step - peak) / (total_steps - 1 - peak), schedule.final_factor)


def linear(step: int, total_steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """A straight line from 1 at the first step to `final_factor` at the last."""
    return 1 + (schedule.final_factor - 1) * progress(step, total_steps)


SCHEDULES: dict[str, Callable[[int, int, int, Schedule], float]] = {
    "constant": constant,
    "multi_step": multi_step,
    "cosine": cosine,
    "cosine_restarts": cosine_restarts,
    "one_cycle": one_cycle,
    "one_cycle_cosine": one_cycle_cosine,
    "linear": linear,
}


def with_schedule_length(old: Config, new: Config, extend: str) -> Config:
    """`new` with `schedule.total_epochs` set, if it has more epochs than `old` and does not set that itself; else
    `new`.

    extend: "stretch" rescales the schedule of `old` to the new number of epochs, "continue" keeps its length. Raises
    SightlineError for "continue" if the old schedule ends at a learning rate of 0.
    """
    if new.train.epochs <= old.train.epochs or new.schedule.total_epochs != old.schedule.total_epochs:
        return new
    if extend == "continue" and ends_at_zero(old):
        why = f"the schedule {old.schedule.name} has ended: the learning rate is 0"
        cure = "use --extend stretch, which rescales the schedule to the new number of epochs"
        raise SightlineError("more epochs would have no effect", where="--extend continue", why=why, cure=cure)
    return resolve(new, {"schedule.total_epochs": schedule_epochs(old) if extend == "continue" else 0})
