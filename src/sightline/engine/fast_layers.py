"""Faster layers on the CPU: convolutions of small feature maps, gradients of depthwise convolutions and of means.

In the last layers of a network the feature maps are a few pixels wide and the weights are large. For such shapes, the
bfloat16 convolutions of oneDNN, in particular the gradients of the weights, have at most a tenth of the speed of
oneDNN's matrix products. They are computed as matrix products of unfolded images (im2col).

oneDNN computes some gradients of depthwise convolutions without vector instructions: those of the weights for kernels
wider than 3, and in bfloat16 those of the images for strides above 1. They are computed by fast functions of oneDNN:
the former as gradients of kernels that are 3 wide, the latter as a depthwise convolution.

The gradient of a mean over all pixels, as in global pooling and squeeze-and-excitation, is not in channels_last memory
format. It makes the gradients of earlier layers slow, which is avoided by another order of the same operations.

For 1x1 convolutions with a stride and fewer than 16 input channels, oneDNN writes the gradient of the weights outside
its memory (https://github.com/uxlfoundation/oneDNN/issues/6035), so the process may abort. For these, every stride-th
pixel is selected first, and the convolution has stride 1.

Within `FastLayers` this is done in models of all libraries. `benchmarks/convolutions.py` and `benchmarks/depthwise.py`
measured which shapes are faster; docs/performance.md has the results.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

MAX_UNFOLDED = 2**24
"""Maximum number of elements of an unfolded batch. With more elements, unfolding takes more time than it saves."""


@dataclass(frozen=True)
class Plan:
    """Which parts of a convolution are computed as matrix products. The gradient of the weights always is."""

    output: bool
    image_gradient: bool


class FastLayers(TorchFunctionMode):
    """Context manager: compute those layers on the CPU for which this module has a faster function.

    Matrix products replace convolutions only in `torch.autocast` to bfloat16. It is active in the current thread only.
    Results differ from torch's by rounding only: sums are computed in float32 and rounded to bfloat16 once (twice in
    the gradient of the images by matrix products).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return FASTER.get(func, func)(*args, **(kwargs or {}))


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """Replacement of `torch.conv2d` that uses a faster function for the shapes that have one."""
    step, border = single(stride), single(padding)
    plain = single(dilation) == 1 and step is not None and border is not None
    if plain and input.device.type == "cpu" and input.dim() == 4:
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else input.dtype
        shape = tuple(weight.shape)
        if step > 1 and border == 0 and groups == 1 and shape[1] < 16 and shape[2:] == (1, 1):
            input, step, stride = input[:, :, ::step, ::step], 1, 1
        if groups > 1 and is_slow_depthwise(tuple(input.shape), shape, groups, step, border, dtype):
            rest = None if bias is None else bias.to(dtype)
            depthwise: Tensor = DepthwiseConvolution.apply(input.to(dtype), weight.to(dtype), rest, step, border)
            return depthwise
        plan = plan_for(tuple(input.shape), shape, step, border) if groups == 1 and autocast else None
        if plan is not None:
            output: Tensor = SmallConvolution.apply(input.to(dtype), weight.to(dtype), step, border, plan)
            return output if bias is None else output + bias.to(dtype)[:, None, None]
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def single(value: int | tuple[int, ...] | str) -> int | None:
    """An option of a convolution, such as its stride, as one number; None if it differs between the two directions,
    or is a string ("same")."""
    if isinstance(value, str):
        return None
    both = (value,) if isinstance(value, int) else tuple(value)
    return both[0] if len(set(both)) == 1 else None


def plan_for(images: tuple[int, ...], weight: tuple[int, ...], stride: int, padding: int) -> Plan | None:
    """The fastest way to compute a convolution, by limits from measurements; None: torch's convolution. images:
    shape [N, C, H, W]. weight: shape [O, C, k, k]."""
    count, channels, height, width = images
    kernel = weight[2]
    if weight[1:] != (channels, kernel, kernel) or min(channels, weight[0]) < 32:
        return None
    area = output_side(height, kernel, stride, padding) * output_side(width, kernel, stride, padding)
    if area <= 0 or count * area * kernel * kernel * channels > MAX_UNFOLDED:
        return None
    if kernel == 1:
        return Plan(output=True, image_gradient=True) if area <= 256 else None
    if area <= 16:
        return Plan(output=True, image_gradient=area <= 4 or count * area <= 1024)
    if area <= 64 and channels >= 512:
        return Plan(output=False, image_gradient=False)
    return None


def output_side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Height or width in pixels of the output of a convolution."""
    return (side + 2 * padding - kernel) // stride + 1


class SmallConvolution(torch.autograd.Function):
    """Convolution of images [N, C, H, W] with weights [O, C, k, k], both bfloat16 -> [N, O, h, w].

    Only bfloat16 tensors are saved for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int, plan: Plan) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = (stride, padding, plan)
        if not plan.output:
            return torch.conv2d(images, weight, None, stride, padding)
        count, _, height, width = images.shape
        kernel = weight.shape[2]
        sides = (output_side(height, kernel, stride, padding), output_side(width, kernel, stride, padding))
        return as_maps(unfolded(images, kernel, stride, padding) @ as_matrix(weight).t(), count, *sides)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, plan = ctx.settings
        kernel, grad_images, grad_weight = weight.shape[2], None, None
        if ctx.needs_input_grad[0]:
            function = image_gradient if plan.image_gradient else library_image_gradient
            grad_images = function(gradient, images, weight, stride, padding)
        if ctx.needs_input_grad[1]:
            product = as_rows(gradient).t() @ unfolded(images, kernel, stride, padding)
            grad_weight = product.view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
        return grad_images, grad_weight, None, None, None


def unfolded(images: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The kernel's window at each output position as a row (im2col): [N, C, H, W] -> [N h w, k k C]."""
    count, channels, height, width = images.shape
    channels_last = images.permute(0, 2, 3, 1)
    if padding:
        channels_last = functional.pad(channels_last, (0, 0, padding, padding, padding, padding))
    channels_last = channels_last.contiguous()
    sides = (output_side(height, kernel, stride, padding), output_side(width, kernel, stride, padding))
    image, row, pixel, one = channels_last.stride()
    windows = channels_last.as_strided(
        (count, *sides, kernel, kernel * channels), (image, row * stride, pixel * stride, row, one)
    )
    return windows.reshape(-1, kernel * kernel * channels)


def image_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient with respect to the images: the sum of the gradients of overlapping windows (col2im)."""
    count, channels, height, width = images.shape
    kernel, (rows, columns) = weight.shape[2], gradient.shape[2:]
    windows = (as_rows(gradient) @ as_matrix(weight)).view(count, rows, columns, kernel, kernel, channels)
    if kernel == stride == 1 and not padding:
        return windows.view(count, height, width, channels).permute(0, 3, 1, 2)
    padded = (count, height + 2 * padding, width + 2 * padding, channels)
    total = gradient.new_zeros(padded, dtype=torch.promote_types(gradient.dtype, torch.float32))
    for y, x in itertools.product(range(kernel), range(kernel)):
        pixels = total[:, y : y + stride * rows : stride, x : x + stride * columns : stride]
        pixels += windows[:, :, :, y, x]
    cropped = total[:, padding : padding + height, padding : padding + width]
    return cropped.to(gradient.dtype).permute(0, 3, 1, 2)


def library_image_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient with respect to the images, computed by oneDNN, which is only slow for maps of a few pixels."""
    return library_gradients(gradient, images, weight, stride, padding, [True, False, False])[0]


def library_gradients(
    gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int, wanted: list[bool]
) -> tuple[Tensor, ...]:
    """torch's gradients with respect to images, weights and bias, of which the `wanted` are computed."""
    groups = images.shape[1] // weight.shape[1]
    settings = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, wanted)
    result: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(gradient, images, weight, None, *settings)
    return result


def as_rows(maps: Tensor) -> Tensor:
    """Maps [N, C, H, W] as one row per pixel, [N H W, C]; a view if `maps` is in channels_last format."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def as_matrix(weight: Tensor) -> Tensor:
    """Weights of a convolution [O, C, k, k] as a matrix [O, k k C], with columns in the order of `unfolded`."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def as_maps(rows: Tensor, count: int, height: int, width: int) -> Tensor:
    """Rows of pixels [N H W, C] as feature maps [N, C, H, W], in channels_last memory format."""
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)


def is_slow_depthwise(
    images: tuple[int, ...], weight: tuple[int, ...], groups: int, stride: int, padding: int, dtype: torch.dtype
) -> bool:
    """Whether the gradients of a convolution are computed faster by `DepthwiseConvolution`: of all depthwise ones but
    those in float32 with a small kernel and a stride above 1. images: shape [N, C, H, W]. weight: [C, 1, k, k]."""
    kernel = weight[2]
    depthwise = groups == images[1] and weight == (groups, 1, kernel, kernel) and padding < kernel > 1
    valid = min(images[2:]) + 2 * padding >= kernel  # torch raises an error otherwise
    slow = dtype == torch.bfloat16 or (dtype == torch.float32 and (kernel > 3 or stride == 1))
    return depthwise and valid and slow and torch.is_grad_enabled()


class DepthwiseConvolution(torch.autograd.Function):
    """Convolution of images [N, C, H, W] with one kernel per channel [C, 1, k, k] -> [N, C, h, w]; all of one dtype."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = (stride, padding)
        return torch.conv2d(images, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        given = (gradient, *ctx.saved_tensors, *ctx.settings)
        of_images = depthwise_image_gradient(*given) if ctx.needs_input_grad[0] else None
        of_weight = depthwise_weight_gradient(*given) if ctx.needs_input_grad[1] else None
        return of_images, of_weight, gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None, None


def depthwise_image_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient with respect to the images: a convolution of the gradient with the mirrored kernels. For a stride
    above 1, there are zeros between the pixels of the gradient."""
    kernel = weight.shape[2]
    if stride > 1 and gradient.dtype == torch.float32:
        return library_gradients(gradient, images, weight, stride, padding, [True, False, False])[0]
    if stride > 1:
        sides = [output_side(side, kernel, 1, padding) for side in images.shape[2:]]
        spread = gradient.new_zeros(len(gradient), *sides, gradient.shape[1]).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    return torch.conv2d(gradient, weight.flip(2, 3), None, 1, kernel - 1 - padding, 1, len(weight))


def depthwise_weight_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient with respect to the weights, computed for at most 3 columns of the kernels at a time."""
    kernel = weight.shape[2]
    if kernel <= 3:
        return library_gradients(gradient, images, weight, stride, padding, [False, True, False])[1]
    (height, width), (rows, columns) = images.shape[2:], gradient.shape[2:]
    below, right = (rows - 1) * stride + kernel - height - padding, (columns - 1) * stride + 3 - width - padding
    result = torch.empty_like(weight)
    for first in (min(first, kernel - 3) for first in range(0, kernel, 3)):
        part = functional.pad(images, (padding - first, right + first, padding, below))
        narrow = (gradient, part, weight[..., :3], stride, 0, [False, True, False])
        result[..., first : first + 3] = library_gradients(*narrow)[1]
    return result


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, **options: Any) -> Tensor:
    """Replacement of `torch.Tensor.mean` that uses `PixelMean` for the mean over height and width."""
    pixels = isinstance(dim, tuple | list) and tuple(dim) in ((2, 3), (-2, -1), (-1, -2))
    if pixels and not options and has_slow_mean(input):
        means: Tensor = PixelMean.apply(input)
        return means if keepdim else means.flatten(1)
    return input.mean(**options) if dim is None else input.mean(dim, keepdim, **options)


def average_pool(input: Tensor, output_size: Any) -> Tensor:
    """Replacement of `torch.nn.functional.adaptive_avg_pool2d` that uses `PixelMean` for an output of one pixel."""
    if output_size in (1, (1, 1), [1, 1]) and has_slow_mean(input):
        means: Tensor = PixelMean.apply(input)
        return means
    return functional.adaptive_avg_pool2d(input, output_size)


def has_slow_mean(images: Tensor) -> bool:
    """Whether torch's gradient of the mean over height and width is slow: for images [N, C, H, W] on the CPU that need
    gradients, in channels_last memory format."""
    learns = images.device.type == "cpu" and images.requires_grad and torch.is_grad_enabled()
    return learns and images.dim() == 4 and images.is_contiguous(memory_format=torch.channels_last)


class PixelMean(torch.autograd.Function):
    """Mean of images [N, C, H, W] over height and width -> [N, C, 1, 1], with a gradient in channels_last format."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        return images.mean((2, 3), keepdim=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        _, _, height, width = ctx.shape
        return (gradient / (height * width)).expand(ctx.shape).contiguous(memory_format=torch.channels_last)


FASTER: dict[Any, Callable[..., Tensor]] = {
    torch.conv2d: convolve,
    torch.Tensor.mean: mean,
    functional.adaptive_avg_pool2d: average_pool,
}
"""Functions of torch and their replacements, which take the same arguments."""
