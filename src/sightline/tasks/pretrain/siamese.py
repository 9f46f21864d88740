"""The networks of pre-training: backbone, projector and predictor, and the target network, a moving average of the
first two."""

import copy

import torch
from torch import Tensor, nn


class Siamese(nn.Module):
    """Online and target network: images float [N, C, H, W] -> predictions and target projections [N, P] each.

    The online network (`predict`) consists of backbone, projector and predictor. From one view of an image it learns to
    predict the projection of another view. That projection (`project`) is computed without gradient: by `target`, a
    moving average of backbone and projector, or, if the method has no target network, by the online backbone and
    projector. Each view has its own forward pass, and is a batch of its own for batch norm.

    The batch norms of the target network use the statistics of their own batch and their own running statistics, as in
    the published code of BYOL; only parameters are averaged. whole_target: the target network also has a predictor, as
    in DINO. predictor_rate: factor of the predictor's learning rate. After training, only the backbone is used.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        with_target: bool,
        channels: int = 3,
        whole_target: bool = False,
        predictor_rate: float = 1.0,
    ):
        super().__init__()
        self.backbone, self.projector, self.predictor = backbone, projector, predictor
        self.channels = channels
        self.whole_target = whole_target
        self.rate_scales = {"predictor": predictor_rate}
        self.target = copy.deepcopy(self.averaged()) if with_target else None
        if self.target is not None:
            self.target.requires_grad_(False)

    def averaged(self) -> nn.Sequential:
        """The parts of the online network whose moving average is the target network."""
        last = [self.predictor] if self.whole_target else []
        return nn.Sequential(self.backbone, self.projector, *last)

    def online(self) -> nn.ModuleDict:
        """The modules of the online network, for loading weights."""
        return nn.ModuleDict({"backbone": self.backbone, "projector": self.projector, "predictor": self.predictor})

    def restart_target(self) -> None:
        """Copy the weights of the online network to the target, for example after pretrained weights were loaded."""
        if self.target is not None:
            self.target.load_state_dict(self.averaged().state_dict())

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of images [N, C, H, W]; a classifier's head would get these as input."""
        return self.backbone(images)

    def predict(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> predictions [N, P] of the projection of another view."""
        return self.predictor(self.projector(self.backbone(images)))

    @torch.no_grad()
    def project(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> target projections [N, P], without gradient."""
        return self.target(images) if self.target is not None else self.projector(self.backbone(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(predictions [N, P], target projections [N, P]) of a large view."""
        if self.target is not None:
            return self.predict(images), self.project(images)
        projections = self.projector(self.backbone(images))
        return self.predictor(projections), projections.detach()

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Update the moving average: target = momentum * target + (1 - momentum) * online network."""
        if self.target is None:
            return
        online: list[Tensor] = list(self.averaged().parameters())
        target: list[Tensor] = list(self.target.parameters())
        torch._foreach_lerp_(target, online, 1 - momentum)


class LastMap(nn.Module):
    """A segmenter's encoder as a backbone: images [N, C, H, W] -> the spatial mean [N, C] of its last feature map.

    encoder: returns a feature map, or a list or dict of feature maps.
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
