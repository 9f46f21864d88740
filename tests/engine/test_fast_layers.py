"""Convolutions of small maps as matrix products, gradients of depthwise convolutions and of means: equal to torch's,
and used only for their shapes."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.engine import fast_layers
from sightline.engine.device import autocast
from sightline.engine.fast_layers import DepthwiseConvolution, FastLayers, Plan, SmallConvolution, plan_for

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
    assert by_torch(small, FastLayers()).dtype == torch.float32, "not used without autocast"
    with pytest.raises(AssertionError, match="was used"):
        by_torch(small, autocast(CPU, half))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [2, 7, 15])
def test_strided_1x1_convolutions_of_few_channels_stay_within_their_memory(channels: int, dtype: torch.dtype) -> None:
    images, weight, bias = drawn(2, channels, 9, 8), drawn(8, channels, 1, 1), drawn(1, 8, 1, 1).flatten()
    with mock.patch.object(torch, "conv2d", wraps=torch.conv2d) as convolution, autocast(CPU, dtype):
        result = functional.conv2d(images, weight, bias, 2)
    assert convolution.call_args.args[3] == 1, "oneDNN's gradient for stride 2 writes outside its memory"
    exact = functional.conv2d(images.double(), weight.double(), bias.double(), 2)
    gradient = torch.ones_like(exact)
    expected = torch.autograd.grad(exact, (images, weight, bias), gradient)
    ours = torch.autograd.grad(result, (images, weight, bias), gradient.to(result.dtype))
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.05}
    for found, true in zip((result, *ours), (exact, *expected), strict=True):
        torch.testing.assert_close(found.double(), true.double(), **tolerance)


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
        with mock.patch.object(fast_layers, "image_gradient", wraps=fast_layers.image_gradient) as function:
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


DEPTHWISE = [
    (8, 3, 1, 1),
    (9, 3, 2, 1),
    (7, 3, 2, 0),
    (4, 5, 1, 2),
    (11, 5, 2, 0),
    (3, 7, 1, 3),
    (9, 4, 3, 1),
    (2, 2, 1, 0),
]
"""Side of the map, kernel, stride and padding."""


@pytest.mark.parametrize(("side", "kernel", "stride", "padding"), DEPTHWISE)
def test_in_double_precision_gradients_of_depthwise_convolutions_equal_torchs(
    side: int, kernel: int, stride: int, padding: int
) -> None:
    images, weight = drawn(3, 4, side, side + 1, dtype=torch.double), drawn(4, 1, kernel, kernel, dtype=torch.double)
    given = (images, weight, torch.randn(4, dtype=torch.double, requires_grad=True))
    expected = functional.conv2d(*given, stride, padding, 1, 4)
    result = DepthwiseConvolution.apply(*given, stride, padding)
    assert torch.equal(result, expected)
    gradient = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, given, gradient)
    torch.testing.assert_close(torch.autograd.grad(result, given, gradient), theirs)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("side", "kernel", "stride", "padding"), DEPTHWISE)
def test_errors_of_depthwise_gradients_are_at_most_those_of_torch(
    side: int, kernel: int, stride: int, padding: int, half: bool
) -> None:
    images, weight, dtype = (
        drawn(4, 32, side, side),
        drawn(32, 1, kernel, kernel),
        [torch.float32, torch.bfloat16][half],
    )

    def computed(context: Any, kind: torch.dtype) -> list[Tensor]:
        given = [tensor.detach().to(kind).requires_grad_() for tensor in (images, weight)]
        with context:
            output = functional.conv2d(given[0], given[1], None, stride, padding, 1, 32)
        gradients = torch.autograd.grad(output, given, torch.ones_like(output))
        assert output.dtype == (kind if kind == torch.double else dtype)
        return [output.double(), *(gradient.double() for gradient in gradients)]

    exact = computed(nullcontext(), torch.double)
    theirs = computed(torch.autocast("cpu", torch.bfloat16, enabled=half), torch.float32)
    with mock.patch.object(DepthwiseConvolution, "apply", wraps=DepthwiseConvolution.apply) as apply:
        ours = computed(autocast(CPU, dtype), torch.float32)
    assert apply.called == (half or stride == 1 or kernel > 3)
    assert torch.equal(ours[0], theirs[0]), "the output is torch's"
    for true, library, own in zip(exact, theirs, ours, strict=True):
        assert (own - true).norm() <= 1.5 * (library - true).norm() + 1e-6 * true.norm()


def test_other_grouped_convolutions_use_torchs() -> None:
    images, weight, half = drawn(2, 32, 6, 6), drawn(32, 1, 3, 3), torch.bfloat16
    cases: list[Callable[[], Tensor]] = [
        lambda: functional.conv2d(images, drawn(64, 1, 3, 3), None, 1, 1, 1, 32),
        lambda: functional.conv2d(images, drawn(32, 2, 3, 3), None, 1, 1, 1, 16),
        lambda: functional.conv2d(images, drawn(32, 1, 1, 1), None, 1, 0, 1, 32),
        lambda: functional.conv2d(images, drawn(32, 1, 3, 1), None, 1, (1, 0), 1, 32),
        lambda: functional.conv2d(images, weight, None, 1, 3, 1, 32),
        lambda: functional.conv2d(images, weight, None, 1, 2, 2, 32),
        lambda: functional.conv2d(images.double(), weight.double(), None, 1, 1, 1, 32),
        torch.no_grad()(lambda: functional.conv2d(images, weight, None, 1, 1, 1, 32)),
    ]
    with mock.patch.object(DepthwiseConvolution, "apply", side_effect=AssertionError("was used")):
        for case in cases[:-2]:
            with autocast(CPU, half):
                assert case().dtype == half
        with autocast(CPU, torch.float32):
            assert [case().dtype for case in cases[-2:]] == [torch.double, torch.float32]
        with pytest.raises(AssertionError, match="was used"), autocast(CPU, half):
            functional.conv2d(images, weight, None, 1, 1, 1, 32)
    with pytest.raises(RuntimeError, match="size"), autocast(CPU, half):
        functional.conv2d(images, drawn(32, 1, 7, 7), None, 1, 0, 1, 32)
    with pytest.raises(RuntimeError, match="size"), autocast(CPU, half):
        functional.conv2d(images, drawn(32, 1, 9, 9), None, 1, 1, 1, 32)


def test_only_the_needed_gradients_of_depthwise_convolutions_are_computed() -> None:
    images, weight, bias = drawn(2, 8, 4, 4), drawn(8, 1, 5, 5), torch.zeros(8, requires_grad=True)
    weight.requires_grad_(False)
    with mock.patch.object(fast_layers, "depthwise_weight_gradient", side_effect=AssertionError("was computed")):
        with autocast(CPU, torch.bfloat16):
            output = functional.conv2d(images, weight, bias, 1, 2, 1, 8)
        output.sum().backward()
    assert images.grad is not None and bias.grad is not None and torch.equal(bias.grad, torch.full((8,), 32.0))


MEANS: list[Callable[[Tensor], Tensor]] = [
    lambda images: images.mean((2, 3)),
    lambda images: images.mean([-2, -1], keepdim=True),
    lambda images: images.mean(dim=(2, 3), keepdim=True),
    lambda images: functional.adaptive_avg_pool2d(images, 1),
    nn.AdaptiveAvgPool2d((1, 1)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("function", MEANS)
def test_the_gradient_of_a_mean_over_pixels_is_torchs_in_channels_last_format(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    images = drawn(2, 8, 3, 5)

    def computed(context: Any) -> list[Tensor]:
        half = images.to(dtype)
        with context:
            means = function(half)
        return [means, *torch.autograd.grad(means.float().square().sum(), half)]

    theirs = computed(torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16))
    ours = computed(autocast(CPU, dtype))
    for library, own in zip(theirs, ours, strict=True):
        assert own.dtype == library.dtype and own.shape == library.shape and torch.equal(own, library)
    assert ours[1].is_contiguous(memory_format=torch.channels_last)


def test_other_means_are_torchs() -> None:
    images = drawn(2, 8, 3, 5)
    cases: list[Callable[[], Tensor]] = [
        lambda: images.mean(),
        lambda: images.mean(1),
        lambda: images.mean((1, 2), True),
        lambda: images.mean((2, 3), dtype=torch.double),
        lambda: images.detach().mean((2, 3)),
        lambda: images.contiguous().mean((2, 3)),
        lambda: images[0].mean((-2, -1)),
        lambda: functional.adaptive_avg_pool2d(images, 2),
        lambda: functional.adaptive_avg_pool2d(images, (1, None)),
        torch.no_grad()(lambda: images.mean((2, 3))),
    ]
    with mock.patch.object(fast_layers.PixelMean, "apply", side_effect=AssertionError("was used")):
        for case in cases:
            expected = case()
            with autocast(CPU, torch.float32):
                result = case()
            assert result.dtype == expected.dtype and torch.equal(result, expected)
        with pytest.raises(AssertionError, match="was used"), autocast(CPU, torch.float32):
            images.mean((2, 3))
