"""Convolutions of small maps as matrix products: what oneDNN is slow at in bfloat16.

Deep in a network the maps are a few pixels wide and the weights are large. There oneDNN's bfloat16 convolutions, and
above all the gradients of their weights, run at a tenth or less of the speed of its matrix products. So within
`SmallMaps` those convolutions are written as products of the unfolded images, whatever library the model is from.
Which shapes gain was measured: `benchmarks/small_maps.py`, with its table in docs/performance.md.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LARGEST_UNFOLDED = 2**24
"""Elements of an unfolded batch beyond which making it costs more than it saves."""


@dataclass(frozen=True)
class Plan:
    """Which of a convolution's parts are matrix products; the gradient of its weights always is one."""

    output: bool
    image_gradient: bool


class SmallMaps(TorchFunctionMode):
    """While it is active, bfloat16 convolutions on the processor that gain by it are matrix products.

    Equal to torch's but for rounding: sums are taken in float32 and rounded to bfloat16 once, in the gradient of the
    images twice. Meant for use within `torch.autocast`; a model needs no change. Of this thread only.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return (convolve if func is torch.conv2d else func)(*args, **(kwargs or {}))


def convolve(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.conv2d`, by `SmallConvolution` where `planned` says so."""
    step, rim = single(stride), single(padding)
    plain = groups == 1 and single(dilation) == 1 and step is not None and rim is not None
    if plain and input.device.type == "cpu" and input.dim() == 4 and torch.is_autocast_enabled("cpu"):
        plan = planned(tuple(input.shape), tuple(weight.shape), step, rim)
        if plan is not None:
            half = (input.to(torch.bfloat16), weight.to(torch.bfloat16))
            output: Tensor = SmallConvolution.apply(*half, step, rim, plan)
            return output if bias is None else output + bias.to(torch.bfloat16)[:, None, None]
    return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)


def single(value: int | tuple[int, ...] | str) -> int | None:
    """The one number that holds for both directions; None where they differ, or for a word."""
    if isinstance(value, str):
        return None
    both = (value,) if isinstance(value, int) else tuple(value)
    return both[0] if len(set(both)) == 1 else None


def planned(image: tuple[int, ...], weight: tuple[int, ...], stride: int, padding: int) -> Plan | None:
    """How to convolve [N, C, H, W] with [O, C, k, k]; None: as torch does. The bounds are measured, not derived."""
    count, channels, height, width = image
    kernel = weight[2]
    if weight[1:] != (channels, kernel, kernel) or min(channels, weight[0]) < 32:
        return None
    area = extent(height, kernel, stride, padding) * extent(width, kernel, stride, padding)
    if area <= 0 or count * area * kernel * kernel * channels > LARGEST_UNFOLDED:
        return None
    if kernel == 1:
        return Plan(output=True, image_gradient=True) if area <= 256 else None
    if area <= 16:
        return Plan(output=True, image_gradient=area <= 4 or count * area <= 1024)
    if area <= 64 and channels >= 512:
        return Plan(output=False, image_gradient=False)
    return None


def extent(side: int, kernel: int, stride: int, padding: int) -> int:
    """Pixels of the output along a side."""
    return (side + 2 * padding - kernel) // stride + 1


class SmallConvolution(torch.autograd.Function):
    """Images [N, C, H, W] with weights [O, C, k, k], both bfloat16, to [N, O, h, w]; nothing of float32 is kept."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int, plan: Plan) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.settings = (stride, padding, plan)
        if not plan.output:
            return torch.conv2d(images, weight, None, stride, padding)
        count, _, height, width = images.shape
        kernel = weight.shape[2]
        sides = (extent(height, kernel, stride, padding), extent(width, kernel, stride, padding))
        return folded(unfolded(images, kernel, stride, padding) @ flat(weight).t(), count, *sides)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, plan = ctx.settings
        kernel, of_images, of_weight = weight.shape[2], None, None
        if ctx.needs_input_grad[0]:
            way = image_gradient if plan.image_gradient else library_image_gradient
            of_images = way(gradient, images, weight, stride, padding)
        if ctx.needs_input_grad[1]:
            product = pixels(gradient).t() @ unfolded(images, kernel, stride, padding)
            of_weight = product.view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
        return of_images, of_weight, None, None, None


def unfolded(images: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """What lies under the kernel at each place of the output: [N, C, H, W] -> [N h w, k k C]."""
    count, channels, height, width = images.shape
    last = images.permute(0, 2, 3, 1)
    if padding:
        last = torch.nn.functional.pad(last, (0, 0, padding, padding, padding, padding))
    last = last.contiguous()
    sides = (extent(height, kernel, stride, padding), extent(width, kernel, stride, padding))
    image, row, pixel, one = last.stride()
    windows = last.as_strided(
        (count, *sides, kernel, kernel * channels), (image, row * stride, pixel * stride, row, one)
    )
    return windows.reshape(-1, kernel * kernel * channels)


def image_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient in the images: each window's, added up where windows overlap."""
    count, channels, height, width = images.shape
    kernel, (tall, wide) = weight.shape[2], gradient.shape[2:]
    windows = (pixels(gradient) @ flat(weight)).view(count, tall, wide, kernel, kernel, channels)
    if kernel == stride == 1 and not padding:
        return windows.view(count, height, width, channels).permute(0, 3, 1, 2)
    rim = (count, height + 2 * padding, width + 2 * padding, channels)
    total = gradient.new_zeros(rim, dtype=torch.promote_types(gradient.dtype, torch.float32))
    for down, right in itertools.product(range(kernel), range(kernel)):
        places = total[:, down : down + stride * tall : stride, right : right + stride * wide : stride]
        places += windows[:, :, :, down, right]
    inner = total[:, padding : padding + height, padding : padding + width]
    return inner.to(gradient.dtype).permute(0, 3, 1, 2)


def library_image_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The same by oneDNN, which does it well unless the maps are tiny."""
    settings = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False])
    result: Tensor = torch.ops.aten.convolution_backward(gradient, images, weight, None, *settings)[0]
    return result


def pixels(maps: Tensor) -> Tensor:
    """[N, C, H, W] -> [N H W, C], without a copy of what lies in memory channels last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def flat(weight: Tensor) -> Tensor:
    """[O, C, k, k] -> [O, k k C], in the order of `unfolded`."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def folded(rows: Tensor, count: int, height: int, width: int) -> Tensor:
    """[N H W, C] -> [N, C, H, W], channels last in memory."""
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)
