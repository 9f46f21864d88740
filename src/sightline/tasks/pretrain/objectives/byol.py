"""BYOL (arXiv 2006.07733): squared distance between normalized prediction and target."""

from torch import Tensor
from torch.nn import functional

from ..config import Pretrain


def byol_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """The mean of 2 - 2 cos(prediction, target) over the N rows of predictions and targets [N, P]; a scalar in 0 to 4.

    It equals the squared distance of the two vectors after scaling to length 1 (equation 2 of arXiv 2006.07733).
    """
    return 2 - 2 * functional.cosine_similarity(predictions.float(), targets.float().detach(), dim=1).mean()
