import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.config.schema import Augment, Config, Optim, Schedule, Train
from sightline.engine.schedules import SCHEDULES, cycled_momentum, factor, mixes, training_side


def factors(schedule: Schedule, total: int, per_epoch: int = 1) -> list[float]:
    return [factor(step, total, per_epoch, schedule) for step in range(total)]


def torch_factors(make, total: int, every: int = 1) -> list[float]:
    """The learning rates of a torch scheduler for lr=1, stepped every `every` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return rates


def test_names_equal_those_of_the_configuration():
    assert set(SCHEDULES) == set(get_args(Schedule.model_fields["name"].annotation))


def test_momentum_cycles_as_in_torch():
    config = Config(
        optim=Optim(momentum=0.95),
        schedule=Schedule(name="one_cycle_cosine", initial_factor=0.04, final_factor=4e-6, momentum_at_peak=0.85),
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=40)
    for step in range(40):
        assert cycled_momentum(step, 40, 10, config) == pytest.approx(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step < 39:
            scheduler.step()
    assert cycled_momentum(12, 40, 10, Config(optim=Optim(momentum=0.9))) == 0.9


def test_constant():
    assert factors(Schedule(), 3) == [1, 1, 1]


def test_multi_step_by_formula_and_against_torch():
    schedule = Schedule(name="multi_step", milestone_epochs=(2, 3), gamma=0.1)
    ours = factors(schedule, 8, per_epoch=2)
    assert ours == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    reference = torch_factors(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 3], gamma=0.1), 8, every=2)
    assert ours == pytest.approx(reference)


def test_multi_step_at_a_fraction_of_an_epoch():
    assert 2.2 * 25 > 55  # in floating point; the milestone is step 55
    assert factors(Schedule(name="multi_step", milestone_epochs=(2.2,)), 60, per_epoch=25) == [1] * 55 + [0.1] * 5


def test_cosine_by_formula_and_against_torch():
    assert factors(Schedule(name="cosine"), 5) == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    )
    ours = factors(Schedule(name="cosine", final_factor=0.05), 11)
    reference = torch_factors(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=10, eta_min=0.05), 11)
    assert ours == pytest.approx(reference)


def test_cosine_restarts_by_formula_and_against_torch():
    schedule = Schedule(name="cosine_restarts", restart_epochs=2)
    ours = factors(schedule, 10, per_epoch=2)
    assert ours[:5] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 1])
    reference = torch_factors(lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=4), 10)
    assert ours == pytest.approx(reference)


def test_one_cycle_by_hand():
    schedule = Schedule(name="one_cycle", peak_fraction=0.4, initial_factor=0.2, final_factor=0.1)
    assert factors(schedule, 11) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1])


def test_one_cycle_reaches_1_if_the_peak_is_between_steps():
    for total in range(2, 40):
        ours = factors(Schedule(name="one_cycle", peak_fraction=0.23), total)
        assert max(ours) == 1 and ours[-1] == pytest.approx(0)


def test_one_cycle_cosine_equals_torchs_with_its_default_arguments():
    schedule = Schedule(name="one_cycle_cosine", peak_fraction=0.3, initial_factor=0.04, final_factor=4e-6)
    for total in (10, 57, 200):
        theirs = torch_factors(lambda o, n=total: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, total_steps=n), total - 1)
        assert factors(schedule, total)[:-1] == pytest.approx(theirs)
        assert factors(schedule, total)[-1] == pytest.approx(4e-6)


def test_linear_by_hand():
    assert factors(Schedule(name="linear", final_factor=0.2), 5) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_warmup_multiplies_the_schedule():
    assert factors(Schedule(warmup_epochs=2), 6, per_epoch=2) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    line = factors(Schedule(name="linear"), 6)
    warmed = factors(Schedule(name="linear", warmup_epochs=2), 6, per_epoch=1)
    assert warmed == pytest.approx([line[0] / 2, *line[1:]])


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_factor_is_constant_after_the_last_step(name):
    schedule = Schedule(name=name, milestone_epochs=(2,), restart_epochs=3, final_factor=0.3)
    assert factor(25, 10, 1, schedule) == factor(9, 10, 1, schedule)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 50),
    st.integers(1, 40),
    st.floats(0, 10),
    st.floats(0.01, 0.99),
    st.floats(0.01, 1),
    st.floats(0, 1),
)
def test_factors_are_finite_and_between_0_and_1(name, per_epoch, epochs, warmup, peak, initial, final):
    schedule = Schedule(
        name=name,
        warmup_epochs=warmup,
        peak_fraction=peak,
        initial_factor=initial,
        final_factor=final,
        milestone_epochs=(0.5, 3),
        restart_epochs=0.3 + warmup,
    )
    total = per_epoch * epochs
    values = [factor(step, total, per_epoch, schedule) for step in {0, total // 3, total // 2, total - 1}]
    assert all(0 <= value <= 1 + 1e-12 for value in values)
    assert factor(0, total, per_epoch, schedule) > 0


def test_mixing_and_sizes_until_the_end_hold_in_later_epochs() -> None:
    augment = Augment(mixup=0.2, crop="resized", progressive=((16, 1.0),))
    config = Config(augment=augment, schedule=Schedule(total_epochs=4), train=Train(epochs=6))
    assert all(mixes(config, epoch) and training_side(config, epoch) == 16 for epoch in range(6))
    half = Config(augment=augment.model_copy(update={"mix_until": 0.5, "progressive": ((16, 0.5),)}))
    half = half.model_copy(update={"schedule": config.schedule, "train": config.train})
    assert [mixes(half, epoch) for epoch in range(6)] == [True] * 2 + [False] * 4
    assert [training_side(half, epoch) for epoch in range(6)] == [16] * 2 + [half.data.size] * 4
