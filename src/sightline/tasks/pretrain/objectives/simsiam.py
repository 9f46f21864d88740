"""SimSiam (arXiv 2011.10566): the negative cosine, without a second network."""

from torch import Tensor
from torch.nn import functional

from ..config import Pretrain


def simsiam_loss(predictions: Tensor, targets: Tensor, settings: Pretrain) -> Tensor:
    """Half the mean of -cos(prediction, target) over [N, P] (equations 1 and 2 of arXiv 2011.10566); -0.5 to 0.5."""
    return -functional.cosine_similarity(predictions.float(), targets.float().detach(), dim=1).mean() / 2
