"""SimSiam (arXiv 2011.10566): negative cosine similarity, without a target network."""

from torch import Tensor
from torch.nn import functional

from ..config import Pretrain


def simsiam_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """Half the mean of -cos(prediction, target) over the N rows of predictions and targets [N, P]; a scalar in -0.5 to
    0.5.

    Equations 1 and 2 of arXiv 2011.10566, for one of the two directions.
    """
    return -functional.cosine_similarity(predictions.float(), targets.float().detach(), dim=1).mean() / 2
