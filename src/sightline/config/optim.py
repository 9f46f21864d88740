"""The settings of the optimizer and of the schedule of its learning rate."""

from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field, NonNegativeFloat, PositiveFloat

from .fields import Count, CountOrZero, Decay, Probability, Section

PENALTIES = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
"""Penalties of a logistic regression on features that are tried, in recipes and in checks of data."""


class Optim(Section):
    name: str = "sgd"
    """The optimizer. `sgd`, `adam`, `adamw`, `muon` or `lars`, which is for large batches (arXiv 1708.03888): the step
    of each weight tensor has lr / 1000 times its norm. `lbfgs` and `knn` compute the head of a classifier with a
    frozen backbone from the features of the training images: logistic regression of standardized features, by
    L-BFGS, with `weight_decay` as its penalty; k-nearest neighbors by cosine similarity."""
    lr: PositiveFloat = 0.1
    """Learning rate; the largest one, if `schedule.name` changes it."""
    momentum: Decay = 0.9
    """Momentum of sgd and lars."""
    nesterov: bool = False
    """Use Nesterov's momentum."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay per step of the means of the gradient and of its square, for adam and adamw."""
    weight_decay: NonNegativeFloat = 0.0
    """Pull of the weights towards zero, by which large weights are penalized."""
    decay_choices: tuple[NonNegativeFloat, ...] = ()
    """For `lbfgs` and `model.fit_head`: penalties to try. The one with the lowest loss on a fifth of the training
    images, after a fit to the others, replaces `weight_decay`, unless these are fewer than 10. A single one always
    replaces it; without any, `weight_decay` is the penalty."""
    decay_norm_and_bias: bool = True
    """Whether weight decay also applies to normalization layers and biases."""
    muon_lr: PositiveFloat = 0.02
    """Learning rate of the hidden weights with `muon`; all other weights are trained by AdamW with `lr` and `betas`."""
    muon_momentum: Decay = 0.95
    """Momentum of the hidden weights with `muon`."""
    muon_normalize: bool = False
    """Keep the norm of each hidden weight at sqrt(rows), that of each step at lr times this; for batch norm nets."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The learning rate of each layer is this factor times that of the layer after it; that of the head is `lr`."""
    clip_norm: NonNegativeFloat = 0.0
    """Largest norm of the gradient; 0: no clipping."""
    accumulate: Count = 1
    """Largest number of batches whose gradients are averaged for one step; the numbers of the steps of an epoch differ
    by at most one. The learning rate is not scaled."""
    ema: Decay = 0.0
    """Decay per step of an exponential moving average of the weights, which is evaluated and saved; 0: off."""
    sam_radius: NonNegativeFloat = 0.0
    """Radius of sharpness-aware minimization (arXiv 2010.01412): the gradient is computed where the loss is largest
    within this distance of the weights, to first order. A step then costs as much as two without it. 0: off."""
    sam_from: Probability = 0.0
    """Sharpness-aware steps begin after this fraction of the epochs; the last ones matter most (arXiv 2410.10373)."""

    @pydantic.model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.name in ("sgd", "lars") and not self.momentum:
            raise ValueError("nesterov needs momentum above 0")
        return self


class Schedule(Section):
    name: Literal["constant", "multi_step", "cosine", "cosine_restarts", "one_cycle", "one_cycle_cosine", "linear"] = (
        "constant"
    )
    """How the learning rate changes over the epochs."""
    total_epochs: CountOrZero = 0
    """Length in epochs of the schedules of the learning rate, `augment.progressive` and `augment.mix_until`. Their
    final values hold for later epochs. 0: `train.epochs`."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Number of epochs at the start in which the learning rate increases linearly from 0."""
    milestone_epochs: tuple[PositiveFloat, ...] = ()
    """For multi_step: epochs after which the learning rate is multiplied by `gamma`."""
    gamma: PositiveFloat = 0.1
    """For multi_step: factor of the learning rate at each milestone."""
    restart_epochs: PositiveFloat = 10.0
    """For cosine_restarts: number of epochs per cycle."""
    peak_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """For one_cycle: fraction of the run after which the learning rate is largest."""
    initial_factor: NonNegativeFloat = 0.04
    """For one_cycle: learning rate at the first step / `optim.lr`."""
    final_factor: NonNegativeFloat = 0.0
    """For cosine, one_cycle and linear: learning rate at the last step / `optim.lr`."""
    momentum_at_peak: Decay = 0.0
    """For sgd with one_cycle: momentum at the peak; at the start and end `optim.momentum`. 0: constant."""
