"""Networks of timm as encoders of a light decoder: few weights, so that few images and a frozen encoder are enough."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..library import check_reserved, unknown_model

ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False})
"""timm arguments by which transformers of a fixed image size accept others: vision transformers; Swin."""


class TimmEncoder(nn.Module):
    """Some feature maps of a network of timm: images [N, C, H, W] -> list of maps [N, D, h, w], the largest first.

    indices: of the maps in the network's `feature_info`. The layers that these maps do not need are removed.
    """

    def __init__(self, model: Any, indices: Sequence[int]):
        super().__init__()
        self.widths = [model.feature_info[index]["num_chs"] for index in indices]
        self.stride: int = model.feature_info[indices[-1]]["reduction"]
        self.indices = model.prune_intermediate_layers(list(indices), prune_norm=True, prune_head=True)
        self.model = model

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.model.forward_intermediates(
            images, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )


class LightNetwork(nn.Module):
    """An encoder and a light decoder: images [N, C, H, W] -> logits [N, classes, h, w] at the largest map's resolution.

    As in SegFormer (arXiv 2105.15203), a 1x1 convolution projects each map to `width` channels; the projected maps are
    interpolated to the largest one, and a 1x1 convolution combines them to the classes. Images are first enlarged by
    the factor `enlarge`.
    """

    def __init__(self, encoder: TimmEncoder, classes: int, width: int, dropout: float, enlarge: float = 1.0):
        super().__init__()
        self.encoder, self.enlarge = encoder, enlarge
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)) for inputs in encoder.widths
        )
        self.mix = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout2d(dropout))
        self.classes = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        if self.enlarge != 1:
            images = functional.interpolate(images, scale_factor=self.enlarge, mode="bilinear")
        maps = self.encoder(images)
        projected = [project(each) for project, each in zip(self.projections, maps, strict=True)]
        size = projected[0].shape[-2:]
        total = projected[0]
        for each in projected[1:]:
            larger = each.shape[-2:] != size
            total = total + (functional.interpolate(each, size, mode="bilinear") if larger else each)
        return self.classes(self.mix(total))


def light_network(
    name: str,
    classes: int,
    channels: int,
    width: int = 64,
    maps: int = 4,
    dropout: float = 0.1,
    enlarge: float = 1.0,
    **args: Any,
) -> LightNetwork:
    """Build a light decoder on the network `name` of timm.

    width: channels of the decoder. maps: number of feature maps that it gets, see `map_indices`. dropout: of the
    decoder. enlarge: factor by which images are enlarged, 1 to 4, for objects of a few pixels. args: arguments of
    timm's network. Raises SightlineError for an unknown name.
    """
    import timm

    check_reserved(args)
    if not 1 <= enlarge <= 4:
        raise ValueError(f"enlarge must be 1 to 4, found {enlarge}")
    if not timm.is_model(name):
        why = "it must be light/ENCODER with a network in timm.list_models()"
        raise unknown_model(f"light/{name}", timm.list_models(), "segmenter", why, "light/")
    more: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
    model: Any = of_any_size(name, lambda size: timm.create_model(name, num_classes=0, **size | more | args))
    return LightNetwork(TimmEncoder(model, map_indices(reductions_of(model), maps)), classes, width, dropout, enlarge)


def of_any_size(name: str, build: Callable[[dict[str, Any]], nn.Module]) -> nn.Module:
    """build(the arguments by which the network `name` of timm accepts images of any size, if it has such arguments)."""
    import timm

    for more in ANY_SIZE if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False) else ():
        try:
            return build(more)
        except TypeError:  # this network does not have the argument
            continue
    return build({})


def reductions_of(model: Any) -> list[int]:
    """The image side divided by the side of each feature map of a network of timm."""
    return [each["reduction"] for each in model.feature_info]


def map_indices(reductions: Sequence[int], maps: int) -> list[int]:
    """Indices of the feature maps for a light decoder: the last ones, without those of more than a quarter of the
    resolution; `maps` blocks at equal distances if all have the same resolution, as in vision transformers."""
    if maps < 1:
        raise ValueError(f"maps must be at least 1, found {maps}")
    if len(set(reductions)) > 1:
        return [index for index, factor in enumerate(reductions) if factor >= 4][-maps:]
    maps = min(maps, len(reductions))
    return [(number + 1) * len(reductions) // maps - 1 for number in range(maps)]
