"""The heads of BYOL, SimSiam and MoCo v3: a projector after the backbone, and a predictor after the projector."""

from torch import nn

from ....models.heads import mlp
from ..config import Pretrain


def projector_and_predictor(width: int, settings: Pretrain) -> tuple[nn.Module, nn.Module]:
    """The projector of features [N, width], and the predictor, whose outputs have the projector's width."""
    projection = settings.projector[-1]
    projector = mlp(width, settings.projector, settings.projector_norm)
    return projector, mlp(projection, (settings.predictor, projection))
