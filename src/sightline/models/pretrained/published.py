"""Pre-trained weights that torchvision, timm and segmentation_models_pytorch (smp) publish for a model: where they are,
what they were trained on, their license, and the preprocessing for which they were made. Nothing is downloaded here."""

import math
from dataclasses import dataclass
from typing import Any

from ...errors import SightlineError
from ..library import TORCHVISION, library_model, require_timm_name, require_torchvision_name

DATA = {
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "inw21k": "ImageNet-W21k",
    "mae": "ImageNet-1k (without labels)",
    "fcmae": "ImageNet-1k (without labels)",
    "dino": "ImageNet-1k (without labels)",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M (satellite images)",
    "webli": "WebLI",
    "openai": "OpenAI's 400 million images with texts",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laiona": "LAION-A",
    "datacompxl": "DataComp-XL",
    "datacomp1b": "DataComp-1B",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "dfndr2b": "DFNDR-2B",
    "merged2b": "Merged-2B",
    "m30m": "Merged-30M",
    "m38m": "Merged-38M",
    "metaclip": "MetaCLIP",
    "sa1b": "SA-1B",
    "ig1b": "Instagram-1B",
    "jft": "JFT-300M",
    "yfcc15m": "YFCC-15M",
    "yfcc100m": "YFCC-100M",
    "cc12m": "CC-12M",
    "bamboo": "Bamboo",
}
"""Training data by the part of timm's tag that names them, such as `in1k` of `a1_in1k`."""

PERMISSIVE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
"""Licenses that allow any use."""

FITS = {"center": "crop", "squash": "squash"}
"""timm's crop mode -> value of `data.fit`."""


@dataclass(frozen=True)
class Published:
    """Pre-trained weights of a model in its library.

    title: library, name and tag. location: repository on the Hugging Face hub, or URL. filename, revision: in the
    repository. data, license: "" if unknown. megabytes: 0 if unknown. preprocessing: dotted settings -> values; the
    sizes are those for which the weights were made.
    """

    title: str
    location: str
    data: str
    license: str = ""
    megabytes: float = 0.0
    filename: str = "model.safetensors"
    revision: str = "main"
    preprocessing: dict[str, Any] | None = None

    @property
    def on_hub(self) -> bool:
        """Whether the weights are in a repository of the Hugging Face hub."""
        return "://" not in self.location

    def __str__(self) -> str:
        terms = self.license or "not stated"
        if self.license and self.license not in PERMISSIVE:
            terms += ", which restricts their use or copies"
        return f"{self.title}; trained on: {self.data or 'not stated'}; license: {terms}"


def published(name: str) -> Published:
    """The default weights of a model: `torchvision/NAME`, `timm/NAME`, `timm/NAME.TAG`, `smp/ENCODER`, or a name in
    MODELS. Raises SightlineError if there are none."""
    if name.startswith("smp/"):
        return of_smp(name.removeprefix("smp/"))
    library, model = library_model(name) or ("", "")
    if not library:
        raise SightlineError(
            f"there are no pre-trained weights for {name}",
            where="model.weights",
            why="the model is defined by Sightline, which publishes no weights",
            cure="train from random weights: --model.weights none; or use a model with such weights: --model.name "
            f"{', '.join(TORCHVISION)}, beit_base, timm/NAME or torchvision/NAME",
        )
    return of_torchvision(model) if library == "torchvision" else of_timm(model)


def require_imagenet(weights: Published) -> None:
    """Raise SightlineError if the weights were not trained on ImageNet."""
    if "ImageNet" not in weights.data:
        raise SightlineError(
            f"the weights of {weights.title} are not of ImageNet",
            where="model.weights: imagenet",
            why=f"they were trained on {weights.data}" if weights.data else "their library does not name ImageNet",
            cure="use them: --model.weights pretrained",
        )


def of_torchvision(model: str) -> Published:
    """torchvision's default weights of a model, in the cache of torch.hub."""
    from torchvision.models import get_model_weights

    if not model.startswith("deeplabv3_"):
        require_torchvision_name(model)
    weights = get_model_weights(model).__members__["DEFAULT"]
    steps, data = weights.transforms(), "COCO and Pascal VOC" if "COCO" in weights.name else "ImageNet-1k"
    license = "cc-by-nc-4.0" if "SWAG" in weights.name else "bsd-3-clause"
    own: dict[str, Any] = {"augment.mean": list(steps.mean), "augment.std": list(steps.std)}
    if model in ("googlenet", "inception_v3"):  # torchvision's own networks convert to this range when they are loaded
        own = {"augment.mean": [0.5] * 3, "augment.std": [0.5] * 3}
    if hasattr(steps, "crop_size"):
        size, resized = steps.crop_size[0], steps.resize_size[0]
        own |= resizing(size, "crop", size / resized, steps.interpolation.value)
    size = weights.meta.get("_file_size", 0.0)
    return Published(f"torchvision {weights}", weights.url, data, license, size, preprocessing=own)


def of_timm(model: str) -> Published:
    """timm's weights of a model, `NAME` or `NAME.TAG`. Raises SightlineError if timm has none."""
    import timm
    from timm.data import resolve_data_config

    require_timm_name(model)
    weights = timm.get_pretrained_cfg(model)
    if weights is None or not (weights.hf_hub_id or weights.url):
        others = timm.list_pretrained(f"{model.partition('.')[0]}.*")
        cure = "choose another model with --model.name, or train from random weights: --model.weights none"
        if others:
            cure = f"use one of these models: --model.name {', '.join(f'timm/{name}' for name in others)}"
        why = "timm has no weights of this model"
        raise SightlineError(
            f"there are no pre-trained weights for timm/{model}", where="model.weights", why=why, cure=cure
        )
    tag = str(weights.tag)
    data = ", ".join(dict.fromkeys(DATA[part] for part in tag.split("_") if part in DATA))
    own = resolve_data_config({}, pretrained_cfg=weights.to_dict())
    size = own["input_size"][-1]
    settings = {"augment.mean": list(own["mean"]), "augment.std": list(own["std"])}
    if own["crop_mode"] in FITS and size == own["input_size"][-2]:
        share = size / math.floor(size / own["crop_pct"])  # timm resizes to whole pixels
        settings |= resizing(size, FITS[own["crop_mode"]], share, own["interpolation"])
    title = f"timm {weights.architecture}" + f".{tag}" * bool(tag)
    file = str(weights.hf_hub_filename or "")
    return Published(
        title,
        str(weights.hf_hub_id or weights.url),
        data,
        str(weights.license or "").replace("unknown", ""),
        filename=file if file.endswith(".safetensors") else "model.safetensors",
        preprocessing=settings,
    )


def of_smp(encoder: str) -> Published:
    """The weights of an encoder that segmentation_models_pytorch (smp) itself defines: ImageNet if it has these."""
    from segmentation_models_pytorch.encoders import encoders

    choices: Any = encoders.get(encoder, {}).get("pretrained_settings", {})
    tag = "imagenet" if "imagenet" in choices else next(iter(choices), None)
    if tag is None:
        cure = (
            "choose another encoder: --model.name smp/ARCH/ENCODER; or train from random weights: --model.weights none"
        )
        what = f"segmentation_models_pytorch has no weights for {encoder}"
        raise SightlineError(what, where="model.weights", cure=cure)
    hub, data = choices[tag], "ImageNet-1k" if "imagenet" in tag else ""
    return Published(f"smp {encoder} ({tag})", hub["repo_id"], data, revision=hub["revision"])


def resizing(size: int, fit: str, share: float, interpolation: str) -> dict[str, Any]:
    """The settings that resize images as a library does for evaluation."""
    return {"data.size": size, "data.fit": fit, "data.eval_crop": min(1.0, share), "data.filter": interpolation}
