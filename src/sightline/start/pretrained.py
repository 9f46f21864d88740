"""Whether the weights of pre-trained steps are available, before data are opened."""

from collections.abc import Iterator

from ..config.schema import Model
from ..errors import ENVIRONMENT, SightlineError
from ..models.encoder_weights import require_weights
from ..models.segmenters import pretrained_encoder
from ..recipes.ladders import LADDERS


def unavailable(weights: str, model: str) -> SightlineError | None:
    """The error for published weights of the pre-trained steps that are not on this machine and cannot be downloaded
    now; None if they are available. weights, model: instead of those of the steps, unless empty.

    Raises SightlineError for weights or a model that do not exist. Nothing is downloaded.
    """
    checked = {
        (weights or each.weights, pretrained_encoder(model or each.name) or model or each.name): each.args
        for each in models()
    }
    for (source, name), args in checked.items():
        try:
            require_weights(source, name, {} if model else args)
        except SightlineError as error:
            if error.status != ENVIRONMENT:
                raise
            return error
    return None


def models() -> Iterator[Model]:
    """The models of the pre-trained steps of all ladders."""
    for ladder in LADDERS.values():
        yield from (step.config.model for step in ladder(0) if step.pretrained)
