"""Build the networks of a pre-training run from its configuration, and count their operations."""

from torch import nn

from ...errors import SightlineError
from ...models import MODELS, PartialForward, build_backbone, feature_width, forward_flops
from ...models.segmenters import SEGMENTERS, build_segmenter
from .config import PretrainConfig
from .objectives import OBJECTIVES
from .objectives.distill import teacher_flops
from .siamese import LastMap, Siamese


def build_siamese(config: PretrainConfig, channels: int = 3) -> Siamese:
    """Build the networks: backbone, projector, predictor, and the target network if the method has one.

    The weights are initialized with torch's global generator. The backbone is that of a classifier, or the encoder of a
    segmenter. channels: of the images.
    """
    pretrain = config.pretrain
    name, size, args = config.model.name, config.data.size, dict(config.model.args)
    if name not in MODELS and (name in SEGMENTERS or name.startswith(("smp/", "light/"))):
        backbone = LastMap(build_segmenter(name, 2, args, channels).encoder)
        width = feature_width(backbone, name, size, channels)
    else:
        backbone, width = build_backbone(name, size, args, channels)
    if not any(True for _ in backbone.parameters()):
        cure = "choose a network: --model.name fastnet"
        raise SightlineError(f"the model {name} has no weights to pre-train", where="model.name", cure=cure)
    objective = OBJECTIVES[pretrain.method]
    projector, predictor = objective.heads(width, pretrain)
    if pretrain.small_crops:
        check_small_views(config, backbone, channels)
    with_target, whole = objective.with_target, objective.whole_target
    return Siamese(backbone, projector, predictor, with_target, channels, whole, pretrain.predictor_rate)


def check_small_views(config: PretrainConfig, backbone: nn.Module, channels: int) -> None:
    """Raise SightlineError if the small views of any epoch are too small for the backbone."""
    side = small_side(config, min([config.data.size, *(side for side, _ in config.augment.progressive)]))
    try:
        forward_flops(backbone, side, channels)
    except (RuntimeError, ValueError, AssertionError) as error:  # timm asserts the size
        what, why = (
            f"the model {config.model.name} does not support small views of {side} x {side} pixels",
            str(error).splitlines()[0],
        )
        cure = (
            "use larger views: --pretrain.small_size NUMBER; a vision transformer of timm accepts several sizes with "
        )
        cure += "--model.args '{dynamic_img_size: true}'"
        raise SightlineError(what, where="pretrain.small_size", why=why, cure=cure) from error


def small_side(config: PretrainConfig, side: int) -> int:
    """Height and width of the small views in pixels, when the large ones have `side`: in proportion to it."""
    full = config.pretrain.small_size or max(1, config.data.size // 2)
    return max(1, full * side // config.data.size)


def step_flops(config: PretrainConfig, model: Siamese, side: int) -> float:
    """Floating-point operations of one training step per image, with large views of side x side pixels.

    A forward pass takes 2 x multiply-adds, and a pass with gradients takes 3 times as many. Large views pass through
    the online network with gradients, and through the target network or the teacher without. Small views pass through
    the online network only.
    """
    online = forward_flops(PartialForward(model, model.predict), side, model.channels)
    projected = PartialForward(model, model.project)
    target = forward_flops(projected, side, model.channels) if model.target is not None else 0.0
    count, predicted = config.pretrain.small_crops, PartialForward(model, model.predict)
    small = forward_flops(predicted, small_side(config, side), model.channels) if count else 0.0
    target += teacher_flops(config.pretrain) if config.pretrain.teacher else 0.0
    return 2 * (3 * online + target) + 3 * count * small
