"""What architecture.json is made of: the pass of a task's model that a step of training takes, at its size."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import Config
from ..data.pair_cache import DecodedPairs
from .architecture.file import write_architecture
from .architecture.tree import trace

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.parts import Parts

CHANNELS = 3


def note_architecture(folder: Path, config: Config, parts: "Parts") -> Path:
    """Write architecture.json of the model, which stays as it is; a model that cannot be traced leaves a note."""
    image, name = (CHANNELS, *sides(config, parts)), config.model.name
    method = config.pretrain.method if config.task == "byol" else ""
    run = {"classify": logits, "segment": outputs, "byol": both}[config.task]
    return write_architecture(
        folder / "architecture.json", lambda: trace(parts.model, image, run, name, method), name, image
    )


def sides(config: Config, parts: "Parts") -> tuple[int, int]:
    """Height and width of the largest images that the model is trained on."""
    if config.task != "segment":
        return config.data.size, config.data.size
    assert isinstance(parts.train, DecodedPairs)
    height, width = config.augment.window or parts.train.sizes[0].tolist()
    return height, width


def logits(model: Any, images: "Tensor") -> dict[str, "Tensor"]:
    """The pass of a classifier."""
    return {"logits": model(images)}


def outputs(model: Any, images: "Tensor") -> dict[str, "Tensor"]:
    """The pass of a segmenter, with its auxiliary head if it has one."""
    return model.outputs(images)


def both(model: Any, images: "Tensor") -> dict[str, "Tensor"]:
    """The pass of a view through both networks of a pre-training."""
    prediction, projection = model(images)
    return {"prediction": prediction, "projection": projection}
