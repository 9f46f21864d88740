"""BYOL (arXiv 2006.07733): the distance of prediction and target on the unit sphere."""

from torch import Tensor
from torch.nn import functional

from ..config import Pretrain


def byol_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """The mean of 2 - 2 cos(prediction, target) over predictions and targets [N, P]; 0 to 4.

    It is the squared distance of the two once both have length 1 (equation 2 of arXiv 2006.07733).
    """
    return 2 - 2 * functional.cosine_similarity(predictions.float(), targets.float().detach(), dim=1).mean()
