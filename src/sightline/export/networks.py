"""What of a run goes into the graph: networks around its shipped weights that end in probabilities."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inference.tiles import moved, put_back
from ..models.segmenters import Segmenter


class Normalized(nn.Module):
    """Values 0..255 of images [N, 3, H, W], uint8 or float -> float32 normalized, as `augment.normalize` does it."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in std])[:, None, None])
        self.register_buffer("shift", torch.tensor([m / s for m, s in zip(mean, std, strict=True)])[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return images.float() * self.scale - self.shift


class ClassifierGraph(nn.Module):
    """Squares float [N, 3, S, S] of values 0..255 -> probabilities [N, K].

    The mean over the members of an ensemble; with `flip` also over each image and its mirror image.
    """

    def __init__(self, members: Sequence[nn.Module], mean: Sequence[float], std: Sequence[float], flip: bool):
        super().__init__()
        self.normalized, self.members, self.flip = Normalized(mean, std), nn.ModuleList(members), flip

    def forward(self, squares: Tensor) -> Tensor:
        images = self.normalized(squares)
        views = [images, images.flip(3)] if self.flip else [images]
        found = [member(view).softmax(1) for member in self.members for view in views]
        return torch.stack(found).mean(0) if len(found) > 1 else found[0]


class SegmenterGraph(nn.Module):
    """Images uint8 [N, 3, H, W] of any height and width -> (mask uint8 [N, H, W], probabilities [N, K, H, W]).

    motions: over which of the eight flips and quarter turns of `tiles.moved` the probabilities are averaged. It repeats
    `Segmenter.forward` without asking whether a side fits: a question that would bind the graph to the sides that it is
    traced with. coarse: whether the network's maps are smaller than its images.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        mean: Sequence[float],
        std: Sequence[float],
        motions: tuple[int, ...],
    ):
        super().__init__()
        self.normalized, self.network = Normalized(mean, std), segmenter.network
        self.run, self.stride, self.smallest = segmenter.run, segmenter.stride, segmenter.smallest
        self.motions = motions
        side = max(-(-64 // self.stride) * self.stride, self.smallest)
        with torch.no_grad():
            maps = self.run(self.network, torch.zeros(1, 3, side, side), False)["logits"]
        self.coarse = maps.shape[-2:] != (side, side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        prepared = self.normalized(images)
        found = [put_back(self.logits(moved(prepared, motion)).softmax(1), motion) for motion in self.motions]
        probabilities = torch.stack(found).mean(0) if len(found) > 1 else found[0]
        return probabilities.argmax(1).to(torch.uint8), probabilities

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, K, H, W] of normalized images."""
        height, width = images.shape[-2:]
        down, right = (cast(int, self.fitting(side)) for side in (height, width))
        if self.stride > 1 or self.smallest > 1:
            images = functional.pad(images, (0, right - width, 0, down - height), mode="replicate")
        maps = self.run(self.network, images, False)["logits"]
        if self.coarse:
            maps = functional.interpolate(maps, size=(down, right), mode="bilinear", align_corners=False)
        return maps[..., :height, :width]

    def fitting(self, side: int) -> int | torch.SymInt:
        """The next side that the network takes."""
        whole = (side + self.stride - 1) // self.stride * self.stride
        return torch.sym_max(whole, self.smallest) if self.smallest > self.stride else whole
