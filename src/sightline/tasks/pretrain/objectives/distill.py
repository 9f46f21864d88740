"""Distillation: learn the features that a trained network, the teacher, has for the same view of an image."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ....config.schema import Config, Model
from ....data.augment.batch import NORMALIZATIONS
from ....errors import SightlineError
from ....models import build_backbone, forward_flops
from ....models.folding import fold_norms
from ....models.heads import mlp
from ....models.library import require_whole_patches
from ....models.pretrained.preprocessing import own_preprocessing
from ....models.weights import LoadReport, load_weights
from ...contract import Say
from ..config import Pretrain

STANDARDIZED_AT_ONCE = 100
"""Number of images of a forward pass of `Teacher.standardize`."""
Scale = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of the channels."""


class Teacher(nn.Module):
    """A trained network without its head: views [N, 3, H, W], normalized for the trained network -> features [N, D].

    The views get the size and the normalization that the weights of the teacher were made for. After `standardize`,
    each feature has mean 0 and standard deviation 1. own, views: the normalization of the teacher and of the views.
    """

    def __init__(self, network: nn.Module, size: int, own: Scale, views: Scale):
        super().__init__()
        self.network, self.size = network, size
        ours, theirs = ([torch.tensor(values)[:, None, None] for values in scale] for scale in (own, views))
        self.normalize: Tensor
        self.register_buffer("normalize", torch.stack([theirs[1] / ours[1], (theirs[0] - ours[0]) / ours[1]]))
        self.standard: Tensor
        self.register_buffer("standard", torch.tensor([[1.0], [0.0]]))

    @torch.no_grad()
    def standardize(self, views: Tensor) -> None:
        """Give each feature mean 0 and standard deviation 1 over these views [N, 3, H, W]; a constant one becomes 0.

        Otherwise the features of two images are nearly parallel: the mean of features after a ReLU is not 0.
        """
        features = torch.cat([self(part) for part in views.split(STANDARDIZED_AT_ONCE)]).float()
        deviation, mean = torch.std_mean(features, 0)
        scale = torch.where(deviation > 1e-3 * deviation.max(), 1 / deviation, 0.0)
        self.standard = torch.stack([scale, -mean * scale])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        views = images * self.normalize[0] + self.normalize[1]
        if views.shape[-1] != self.size:
            views = functional.interpolate(views, (self.size, self.size), mode="bicubic", antialias=True)
        features = self.network(views.contiguous(memory_format=torch.channels_last))
        return features * self.standard[0] + self.standard[1]


def preprocessing_of(settings: Pretrain) -> tuple[int, Scale]:
    """(height and width of the teacher's images in pixels, their normalization)."""
    asked = Config(model=Model(name=settings.teacher, weights=settings.teacher_weights))
    _, known = own_preprocessing(asked)
    mean, std = NORMALIZATIONS["imagenet"]
    normalization = tuple(known.get("augment.mean", mean)), tuple(known.get("augment.std", std))
    return settings.teacher_size or int(known.get("data.size", 224)), normalization


def untrained_teacher(settings: Pretrain) -> tuple[nn.Module, int, int]:
    """(the teacher's network without memory for its weights, the number of its features, side of its images)."""
    size, _ = preprocessing_of(settings)
    with torch.device("meta"):
        network, width = build_backbone(settings.teacher, size)
    return network, width, size


def teacher_flops(settings: Pretrain) -> float:
    """Floating-point operations of the teacher for one image."""
    network, _, size = untrained_teacher(settings)
    with torch.device("meta"):
        return forward_flops(network, size)


def load_teacher(
    settings: Pretrain, views: Scale, device: torch.device, say: Say = lambda text: None
) -> tuple[Teacher, LoadReport]:
    """(the teacher with its weights on the device, which tensors were loaded). views: normalization of the views.

    The teacher is no part of the checkpoints. torch's global generator is left unchanged.
    """
    size, own = preprocessing_of(settings)
    with torch.random.fork_rng(devices=[]):
        network, _ = build_backbone(settings.teacher, size)
    require_whole_patches(settings.teacher, network, size, "pretrain.teacher_size")
    holder = nn.ModuleDict({"backbone": network})
    try:
        report = load_weights(holder, settings.teacher_weights, settings.teacher, size, say=say)
    except SightlineError as error:
        raise of_the_teacher(error) from error
    say(f"teacher: {report}; images of {size} x {size} pixels")
    teacher = Teacher(network.eval().requires_grad_(False), size, own, views)
    teacher.to(device).to(memory_format=torch.channels_last)
    fold_norms(network, (3, size, size))
    return teacher, report


def of_the_teacher(error: SightlineError) -> SightlineError:
    """An error of loading weights, with the settings of the teacher in place of those of the trained network."""
    cure = error.cure.split("; or train from random weights")[0]
    for setting, own in (("model.weights", "pretrain.teacher_weights"), ("model.name", "pretrain.teacher")):
        cure = cure.replace(setting, own)
    return SightlineError(
        f"the teacher: {error.what}", where=error.where, why=error.why, cure=cure, status=error.status
    )


def distill_heads(width: int, settings: Pretrain) -> tuple[nn.Module, nn.Module]:
    """The projector of features [N, width] to the number of the teacher's features; there is no predictor."""
    return mlp(width, (*settings.projector, untrained_teacher(settings)[1])), nn.Identity()


def distill_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """The mean squared distance of predictions and the teacher's standardized features [N, D] after scaling to length
    1, which is 2 - 2 cos(prediction, feature); a scalar in 0 to 4."""
    return 2 - 2 * functional.cosine_similarity(predictions.float(), targets.float().detach(), dim=1).mean()
