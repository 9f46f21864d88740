"""What is trained without labels: a backbone with a projector and a predictor, and a slowly following copy of both."""

import copy

import torch
from torch import Tensor, nn


class Online(nn.Module):
    """Backbone, projector and predictor under the names that they have in a `Siamese`, for weights to load into."""

    def __init__(self, backbone: nn.Module, projector: nn.Module, predictor: nn.Module):
        super().__init__()
        self.backbone, self.projector, self.predictor = backbone, projector, predictor


class Siamese(nn.Module):
    """Images float [N, 3, H, W] -> what the views of an image are compared by, [N, P].

    `predict` is the online network: backbone, projector, predictor. `project` gives what it has to predict, without
    gradient: the projection by `target`, a copy of backbone and projector that `follow` moves, or, without a target,
    by the online network itself. In training mode each call is one batch to every batch norm: views are not mixed.

    The target's batch norms normalize by their own batch and keep their own running statistics, as in the published
    code of BYOL; parameters alone are averaged. The backbone is what is used afterwards.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, predictor: nn.Module, with_target: bool):
        super().__init__()
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.target = nn.Sequential(copy.deepcopy(backbone), copy.deepcopy(projector)) if with_target else None
        if self.target is not None:
            self.target.requires_grad_(False)

    def online(self) -> Online:
        """The same modules without the target."""
        return Online(self.backbone, self.projector, self.predictor)

    def restart_target(self) -> None:
        """Let the target equal the online network again, after that was given other weights."""
        if self.target is not None:
            self.target.load_state_dict(nn.Sequential(self.backbone, self.projector).state_dict())

    def features(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, D], what a classifier would be trained on."""
        return self.backbone(images)

    def predict(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> predictions [N, P] of another view's projection."""
        return self.predictor(self.projector(self.backbone(images)))

    @torch.no_grad()
    def project(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> target projections [N, P], without gradient."""
        return self.target(images) if self.target is not None else self.projector(self.backbone(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(predictions, target projections) of a view: all that a step computes of it."""
        if self.target is not None:
            return self.predict(images), self.project(images)
        projections = self.projector(self.backbone(images))
        return self.predictor(projections), projections.detach()

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the target by (1 - momentum) of the gap to the online network."""
        if self.target is None:
            return
        online: list[Tensor] = [*self.backbone.parameters(), *self.projector.parameters()]
        followers: list[Tensor] = list(self.target.parameters())
        torch._foreach_lerp_(followers, online, 1 - momentum)


class LastMap(nn.Module):
    """A segmenter's encoder as a backbone: images [N, 3, H, W] -> the mean [N, C] of its last feature map.

    An encoder gives one map, a list of them or a dict; smp's give the image itself first.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        maps = self.encoder(images)
        if isinstance(maps, dict):
            maps = list(maps.values())
        last = maps[-1] if isinstance(maps, list | tuple) else maps
        return last.mean((2, 3))
