"""Convolutions of small maps as matrix products: equal to torch's, and used only for shapes with a plan."""

import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.engine import small_maps
from sightline.engine.device import autocast
from sightline.engine.small_maps import Plan, SmallConvolution, SmallMaps, plan_for

PLANS = [Plan(*both) for both in itertools.product((False, True), repeat=2)]
CPU = torch.device("cpu")


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)
    return values.to(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding"),
    [(1, 3, 1, 1), (2, 3, 1, 1), (4, 3, 2, 1), (5, 3, 2, 1), (3, 1, 1, 0), (5, 1, 2, 0), (4, 1, 1, 1), (6, 5, 3, 2)],
)
def test_in_double_precision_output_and_gradients_equal_torchs(
    side: int, kernel: int, stride: int, padding: int, plan: Plan
) -> None:
    images, weight = drawn(3, 4, side, side + 1, dtype=torch.double), drawn(5, 4, kernel, kernel, dtype=torch.double)
    expected = functional.conv2d(images, weight, None, stride, padding)
    result = SmallConvolution.apply(images, weight, stride, padding, plan)
    torch.testing.assert_close(result, expected)
    gradient = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, (images, weight), gradient)
    torch.testing.assert_close(torch.autograd.grad(result, (images, weight), gradient), theirs)


@pytest.mark.parametrize(
    ("count", "channels", "outputs", "side", "kernel", "stride"),
    [(16, 64, 32, 2, 3, 1), (8, 64, 64, 8, 3, 2), (8, 64, 96, 4, 1, 2), (8, 512, 32, 7, 3, 1), (300, 64, 32, 4, 3, 1)],
)
def test_in_bfloat16_the_error_is_at_most_twice_that_of_torch(
    count: int, channels: int, outputs: int, side: int, kernel: int, stride: int
) -> None:
    images, weight = drawn(count, channels, side, side), drawn(outputs, channels, kernel, kernel)
    assert plan_for(tuple(images.shape), tuple(weight.shape), stride, kernel // 2)

    def computed(context: Any) -> list[Tensor]:
        with context:
            output = functional.conv2d(images, weight, None, stride, kernel // 2)
        return [output.float(), *torch.autograd.grad(output, (images, weight), torch.ones_like(output))]

    exact = computed(torch.autocast("cpu", enabled=False))
    theirs = computed(torch.autocast("cpu", torch.bfloat16))
    ours = computed(autocast(CPU, torch.bfloat16))
    for name, true, library, product in zip(("output", "images", "weight"), exact, theirs, ours, strict=True):
        allowed = 2 * (library - true).norm() + 1e-4 * true.norm()
        assert (product - true).norm() <= allowed, name


def test_bias_and_modules() -> None:
    module = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    images = drawn(4, 64, 3, 3)
    with mock.patch.object(SmallConvolution, "apply", wraps=SmallConvolution.apply) as apply:
        with autocast(CPU, torch.bfloat16):
            output = module(images)
        output.sum().backward()
    assert apply.call_count == 1 and output.dtype == torch.bfloat16
    assert module.bias.grad is not None and torch.equal(module.bias.grad, torch.full((64,), 36.0))
    torch.testing.assert_close(output.float(), module(images), atol=0.03, rtol=0.03)


def by_torch(function: Callable[[], Tensor], context: Any) -> Tensor:
    """The result of `function`; raises AssertionError if it uses SmallConvolution."""
    with context, mock.patch.object(SmallConvolution, "apply", side_effect=AssertionError("was used")):
        return function()


def test_other_shapes_use_torchs_convolution() -> None:
    half = torch.bfloat16
    wide, weight = drawn(2, 64, 4, 4), drawn(64, 64, 3, 3)
    cases: list[Callable[[], Tensor]] = [
        lambda: functional.conv2d(drawn(2, 32, 32, 32), drawn(32, 32, 3, 3), None, 1, 1),
        lambda: functional.conv2d(drawn(2, 3, 4, 4), drawn(64, 3, 3, 3), None, 1, 1),
        lambda: functional.conv2d(wide, drawn(64, 32, 3, 3), None, 1, 1, 1, 2),
        lambda: functional.conv2d(wide, weight, None, 1, 2, 2),
        lambda: functional.conv2d(wide, weight, padding="same"),
        lambda: functional.conv2d(wide, weight, None, (1, 2), 1),
        lambda: functional.conv2d(wide, drawn(64, 64, 3, 1), None, 1, (1, 0)),
        lambda: functional.conv2d(wide[0], weight, None, 1, 1),
        lambda: functional.conv_transpose2d(wide, weight),
    ]
    for case in cases:
        assert torch.equal(by_torch(case, autocast(CPU, half)), by_torch(case, torch.autocast("cpu", half)))

    def small() -> Tensor:
        return functional.conv2d(wide, weight, None, 1, 1)

    assert by_torch(small, autocast(CPU, torch.float32)).dtype == torch.float32, "not used in float32"
    assert by_torch(small, SmallMaps()).dtype == torch.float32, "not used without autocast"
    with pytest.raises(AssertionError, match="was used"):
        by_torch(small, autocast(CPU, half))


def test_invalid_convolutions_raise_as_in_torch() -> None:
    with pytest.raises(RuntimeError, match="size"), autocast(CPU, torch.bfloat16):
        functional.conv2d(drawn(2, 64, 2, 2), drawn(64, 64, 3, 3))
    with pytest.raises(RuntimeError, match="channels"), autocast(CPU, torch.bfloat16):
        functional.conv2d(drawn(2, 64, 2, 2), drawn(64, 32, 3, 3), padding=1)


def test_gradients_are_computed_only_for_inputs_that_require_them() -> None:
    images, weight = drawn(4, 64, 2, 2), drawn(64, 64, 3, 3)
    for learns in (images, weight):
        other = weight if learns is images else images
        other.requires_grad_(False)
        with autocast(CPU, torch.bfloat16):
            output = functional.conv2d(images, weight, None, 1, 1)
        with mock.patch.object(small_maps, "image_gradient", wraps=small_maps.image_gradient) as function:
            output.sum().backward()
        assert learns.grad is not None and other.grad is None and function.call_count == (learns is images)
        other.requires_grad_(True)
        learns.grad = None


def test_results_are_bit_identical_when_repeated() -> None:
    images, weight = drawn(16, 128, 2, 2), drawn(64, 128, 3, 3)

    def step() -> list[Tensor]:
        with autocast(CPU, torch.bfloat16):
            output = functional.conv2d(images, weight, None, 1, 1)
        return [output, *torch.autograd.grad(output.float().square().sum(), (images, weight))]

    assert all(torch.equal(first, second) for first, second in zip(step(), step(), strict=True))
