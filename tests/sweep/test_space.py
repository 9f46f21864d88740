"""Parsing and validation of the search space: ranges, choices and single values."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config_toys import configured
from sightline.errors import SightlineError
from sightline.recipes import load_recipe
from sightline.sweep.space import GRID_POINTS, Choices, Range, combinations, grid, range_of, read_space, read_spec

BASE = load_recipe("digits")
NUMBERS = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False).map(lambda value: float(f"{value:.6g}"))


def faults(settings: dict) -> str:
    with pytest.raises(SightlineError) as caught:
        read_space(BASE, settings)
    assert caught.value.status == 2 and caught.value.cure
    return caught.value.why


def test_ranges_choices_and_single_values_are_distinguished() -> None:
    fixed, space, first = read_space(
        BASE,
        {"optim.lr": "1e-3..1e-1", "train.batch_size": "16..128", "optim.name": "sgd,adamw", "train.epochs": "3",
         "optim.nesterov": "true,false", "optim.weight_decay": "lin:0..1", "loss.smoothing": "0, 0.1",
         "schedule.milestone_epochs": "[1, 2],[3]", "optim.betas": "[0.9, 0.99]", "model.args.dropout": "0..0.5"},
    )  # fmt: skip
    assert fixed == {"train.epochs": 3, "optim.betas": [0.9, 0.99]}
    assert space["optim.lr"] == Range(1e-3, 1e-1, False, True), "logarithmic from a factor of ten on"
    assert space["train.batch_size"] == Range(16, 128, True, False)
    assert space["optim.name"] == Choices(("sgd", "adamw")) and space["optim.nesterov"] == Choices((True, False))
    assert space["loss.smoothing"] == Choices((0, 0.1))
    assert space["schedule.milestone_epochs"] == Choices(([1, 2], [3]))
    assert space["model.args.dropout"] == Range(0.0, 0.5, False, False)
    assert first == {key: spec.candidates[0] for key, spec in space.items()}
    given_lists = read_space(BASE, {"optim.name": ["sgd", "adamw"], "optim": {"betas": [0.9, 0.99]}})
    assert given_lists[:2] == ({"optim.betas": [0.9, 0.99]}, {"optim.name": Choices(("sgd", "adamw"))})


@given(NUMBERS, NUMBERS, st.sampled_from([None, "log", "lin"]))
def test_a_range_is_parsed_or_rejected_and_round_trips(low: float, high: float, scale: str | None) -> None:
    text = f"{f'{scale}:' if scale else ''}{low!r}..{high!r}"
    if low >= high or (scale == "log" and low <= 0):
        with pytest.raises(ValueError):
            read_spec("optim.lr", text)
        return
    found = read_spec("optim.lr", text)
    assert (found.low, found.high) == (low, high) and not found.integer
    assert found.log == (scale == "log" or (scale is None and low > 0 and high >= 10 * low))
    assert read_spec("optim.lr", str(found)) == found
    points = found.values()
    assert len(points) == GRID_POINTS and points[0] == low and points[-1] == high
    assert all(low <= one <= high for one in points) and sorted(points) == list(points)
    steps = [math.log(one) for one in points] if found.log else points
    widths = [b - a for a, b in itertools.pairwise(steps)]
    assert max(widths) - min(widths) <= 1e-6 * max(1.0, abs(steps[-1]), abs(steps[0]))


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_grid_values_of_integer_ranges_are_integers(low: int, high: int) -> None:
    if low >= high:
        return
    found = range_of(int, None, str(low), str(high))
    assert found.integer and found.count == high - low + 1
    points = found.values()
    assert all(isinstance(one, int) and low <= one <= high for one in points)
    assert len(set(points)) == len(points) == min(GRID_POINTS, found.count)


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("optim.betas", "[0.8, 0.9],[0.9, 0.99]", ([0.8, 0.9], [0.9, 0.99])),
        ("model.args", "{widths: [8, 8], depth: 2},{widths: [4]}", ({"widths": [8, 8], "depth": 2}, {"widths": [4]})),
        ("model.args.norm", "'p,q',batch", ("p,q", "batch")),
        ("model.name", "resnet18, 01", ("resnet18", "01")),
        ("train.batch_size", "32,064", (32, "064")),
    ],
)
def test_choices_are_separated_by_commas_outside_brackets_and_quotes(key: str, text: str, values: tuple) -> None:
    assert read_spec(key, text) == Choices(values)


def test_all_errors_are_reported_together_with_the_nearest_key() -> None:
    why = faults(
        {"optim.lrr": "1..2", "optim.lr": "-1..0.1", "train.batch_size": "1.5..3", "schedule.name": "linear,cosinee",
         "train.epochs": "9..3", "optim.momentum": "0.5..1", "augment.mixup": "0,0", "optim.clip_norm": "log:0.5",
         "loss.smoothing": "log:0..0.2", "optim.nesterov": "yes,no"},
    )  # fmt: skip
    lines = why.strip().splitlines()
    assert len([line for line in lines if line.strip()]) >= 10
    for expected in (
        "did you mean optim.lr?",
        "found -1.0",
        "whole numbers at its ends",
        "found 'cosinee'",
        "9..3 is empty",
        "found 1.0",
        "given twice",
        "found 'log:0.5'",
        "above 0",
        "nesterov",
    ):
        assert expected in why, expected


def test_settings_that_make_trials_incomparable_cannot_vary() -> None:
    why = faults({"data.val_fraction": "0.1,0.2", "train.best_metric": "accuracy,loss", "data.split_seed": "0..3"})
    assert why.count("cannot be compared") == 2 and "--metric" in why
    assert read_space(BASE, {"data.size": "8,16", "data.path": "a,b"})[0] == {"data.path": "a,b"}, (
        "a path may contain commas"
    )


def test_a_value_is_rejected_only_if_it_is_in_no_valid_combination() -> None:
    assert "has no effect without optim.sam_radius" in faults({"optim.sam_from": "0.5,0.7"})
    space = read_space(BASE, {"optim.sam_from": "0,0.7", "optim.sam_radius": "0,0.1"})[1]
    assert set(space) == {"optim.sam_from", "optim.sam_radius"}
    why = faults({"train.turn_test": "false,true", "optim.lr": "0.1,0.2"})
    assert "train.turn_test = " in why and "optim.lr" not in why, why


def test_every_choice_of_a_large_space_is_validated_in_few_combinations() -> None:
    space = {f"k{n}": Choices(tuple(range(9))) for n in range(9)}
    sampled = [set(values.items()) for values in combinations(space)]
    assert len(sampled) < 1000 and len(set.union(*sampled)) == 81


def test_a_grid_has_every_combination_once() -> None:
    space = {"a": Choices((1, 2)), "b": Range(1, 3, True, False), "c": Range(0.0, 1.0, False, False)}
    rows = grid({key: spec.values() for key, spec in space.items()})
    assert len(rows) == 2 * 3 * GRID_POINTS == len({tuple(row.items()) for row in rows})
    assert len(Range(1, 100, True, False).values(limit=100)) == 100


def test_ranges_beyond_the_limits_of_a_setting_are_rejected() -> None:
    base = configured({})
    for text in ("0..1", "0.5..2"):
        with pytest.raises(SightlineError):
            read_space(base, {"optim.ema": text})
