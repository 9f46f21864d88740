"""The scripts beside exported weights: plain Python on torch and the model's own library, written for each model."""

import inspect
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SightlineError
from ..models import MODELS, fast, fcn, heads, residual, small, unet, vgg
from ..models.library import BEIT_BASE, SMALL_IMAGE, WITHOUT_AUXILIARY, library_model
from ..models.segmenters import build_segmenter

CLASSIFIER = '''"""Classify pictures with these weights, without Sightline: python load.py PICTURE ..."""
import json
import sys
from pathlib import Path

{imports}

here = Path(__file__).parent
config = json.loads((here / "config.json").read_text(encoding="utf-8"))
mean, std = (torch.tensor(config["preprocessing"][key])[:, None, None] for key in ("mean", "std"))
{build}
model = torch.nn.ModuleDict({{"backbone": backbone, "head": {head}}})
model.load_state_dict(load_file(here / "model.safetensors"))
model.eval()

for path in sys.argv[1:]:
    picture = Image.open(path).convert("RGB")
{resize}
    pixels = (pixels - mean) / std
    with torch.inference_mode():
        probabilities = model["head"](model["backbone"](pixels)).softmax(1)[0]
{flip}    best = int(probabilities.argmax())
    print(path, config["classes"][best], f"{{probabilities[best]:.6f}}")
'''

SQUASH = """    picture = picture.resize(({size}, {size}), Image.Resampling.{filter})
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255"""
CUT = """    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    picture = picture.resize(({size}, {size}), Image.Resampling.{filter}, box)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255"""
KEPT = """    if picture.size != ({width}, {height}):
        picture = picture.resize(({size}, {size}), Image.Resampling.{filter})
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    pixels = torch.nn.functional.interpolate(pixels, ({size}, {size}), mode="bilinear", antialias=True)"""
FLIP = """        mirrored = model["head"](model["backbone"](pixels.flip(3))).softmax(1)[0]
        probabilities = (probabilities + mirrored) / 2
"""

SEGMENTER = '''"""Segment a picture with these weights, without Sightline: python load.py PICTURE MASK.png"""
import json
import sys
from pathlib import Path

{imports}

here = Path(__file__).parent
config = json.loads((here / "config.json").read_text(encoding="utf-8"))
mean, std = (torch.tensor(config["preprocessing"][key])[:, None, None] for key in ("mean", "std"))
{build}
model = torch.nn.ModuleDict({{"network": network}})
model.load_state_dict(load_file(here / "model.safetensors"))
model.eval()


def probabilities(images):
    """[1, 3, H, W] -> [1, classes, H, W]; the sides are raised to multiples of {stride}, at least {smallest}."""
    height, width = images.shape[-2:]
    down, right = (max(-(-side // {stride}) * {stride}, {smallest}) - side for side in (height, width))
    padded = functional.pad(images, (0, right, 0, down), mode="replicate")
    logits = functional.interpolate({run}, padded.shape[-2:], mode="bilinear")
    return logits[..., :height, :width].softmax(1)


picture = Image.open(sys.argv[1]).convert("RGB")
pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
pixels = (pixels - mean) / std
with torch.inference_mode():
    found = probabilities(pixels)
{flip}mask = found.argmax(1)[0].to(torch.uint8).numpy()  # places in config["classes"]
Image.fromarray(mask).save(sys.argv[2])
for place, name in enumerate(config["classes"]):
    print(f"{{(mask == place).mean():.4f}} {{name}}")
'''
FLIP_MASK = "    found = (found + probabilities(pixels.flip(3)).flip(3)) / 2\n"

OWN: dict[str, tuple[ModuleType, ...]] = {
    "small_cnn": (small,),
    "vgg13_bn": (vgg, small),
    "resnet9": (residual, small),
    "fastnet": (fast,),
    "unet": (unet, residual, small),
    "fcn32s": (fcn, small),
}
"""Our own models: the module of the builder, and those that it imports. Each needs torch alone."""

Script = tuple[str, dict[str, str]]
"""load.py, and the files of network/ beside it by name."""


def classifier_script(facts: dict[str, Any], tensors: dict[str, Tensor], flip: bool) -> Script:
    """load.py of a classifier. facts: its config.json."""
    model, preprocessing = facts["model"], facts["preprocessing"]
    name, size, args = model["name"], preprocessing["size"], model["args"]
    imports, build, modules = backbone_lines(name, size, args)
    kind = model.get("head", "linear")
    width = tensors["head.weight" if kind == "linear" else "head.0.weight"].shape[1]
    head = f"torch.nn.Linear({width}, {len(facts['classes'])})"
    if kind == "mlp":
        imports, modules = [*imports, "from network.heads import mlp_head"], (*modules, heads)
        head = f"mlp_head({width}, {len(facts['classes'])})"
    height, wide = preprocessing["kept"]
    fit = CUT if preprocessing.get("fit") == "crop" else SQUASH if (height, wide) == (size, size) else KEPT
    script = CLASSIFIER.format(
        imports=import_lines(imports),
        build=build,
        head=head,
        resize=fit.format(size=size, filter=preprocessing["resize"].upper(), height=height, width=wide),
        flip=FLIP if flip else "",
    )
    return script, sources(modules)


def segmenter_script(facts: dict[str, Any], tensors: dict[str, Tensor], flip: bool) -> Script:
    """load.py of a segmenter. facts: its config.json."""
    name, args, classes = facts["model"]["name"], dict(facts["model"]["args"]), len(facts["classes"])
    segmenter = build_segmenter(name, classes, args)
    imports, build, run, modules = segmenter_lines(name, args, classes, segmenter)
    script = SEGMENTER.format(
        imports=import_lines([*imports, "from torch.nn import functional"]),
        build=build,
        run=run,
        stride=segmenter.stride,
        smallest=segmenter.smallest,
        flip=FLIP_MASK if flip else "",
    )
    return script, sources(modules)


def import_lines(more: list[str]) -> str:
    """The script's imports of packages, and of network/ behind them."""
    usual = ["import numpy as np", "import torch", "from PIL import Image", "from safetensors.torch import load_file"]
    return "\n".join([*usual, *(line for line in more if "network." not in line)]) + "".join(
        f"\n{line}  # the folder beside this file" for line in more if "network." in line
    )


def sources(modules: tuple[ModuleType, ...]) -> dict[str, str]:
    """The text of the modules by file name, for the folder network/."""
    found = {f"{module.__name__.rpartition('.')[2]}.py": inspect.getsource(module) for module in modules}
    return found | {"__init__.py": ""} if found else {}


def arguments(args: dict[str, Any]) -> str:
    """Keyword arguments as they stand in a call, each behind a comma."""
    return "".join(f", {key}={value!r}" for key, value in args.items())


def backbone_lines(name: str, size: int, args: dict[str, Any]) -> tuple[list[str], str, tuple[ModuleType, ...]]:
    """(imports, lines that make `backbone`, our modules that these need) of a classifier's backbone."""
    library = library_model(name)
    if library is None:
        modules = OWN[name]
        module = modules[0].__name__.rpartition(".")[2]
        return [f"from network.{module} import {name}"], f"backbone = {name}({size}{arguments(args)})", modules
    if library[0] == "timm":
        return ["import timm"], f"backbone = timm.create_model({timm_call(name, library[1], size, args)})", ()
    from torchvision import models

    inner, lines = library[1], []
    if name in MODELS:
        lines.append(f'backbone = models.get_model("{inner}", weights=None)')
        if inner.startswith("resnet"):
            lines.append("backbone.fc = torch.nn.Identity()")
            wish = args.get("small_images")
            if wish if wish is not None else size <= SMALL_IMAGE:
                lines.append("backbone.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)")
                lines.append("backbone.maxpool = torch.nn.Identity()")
    else:
        whole = WITHOUT_AUXILIARY.get(inner, {}) | args
        lines.append(f'backbone = models.get_model("{inner}", weights=None{arguments(whole)})')
        with torch.device("meta"):
            built = models.get_model(inner, weights=None, **whole)
        last = [path for path, module in built.named_modules() if isinstance(module, nn.Linear)][-1]
        lines.append(f'backbone.set_submodule("{last}", torch.nn.Identity())')
    return ["from torchvision import models"], "\n".join(lines), ()


def timm_call(name: str, inner: str, size: int, args: dict[str, Any]) -> str:
    """The arguments of timm.create_model that give the backbone of `models.library`."""
    import timm

    fixed = timm.get_pretrained_cfg(inner)
    settings: dict[str, Any] = {"img_size": size} if fixed is not None and fixed.fixed_input_size else {}
    if name == "beit_base":
        inner, settings = BEIT_BASE, {"global_pool": "token", "img_size": size}
    return f'"{inner}", pretrained=False, num_classes=0{arguments(settings | args)}'


def segmenter_lines(
    name: str, args: dict[str, Any], classes: int, segmenter: Any
) -> tuple[list[str], str, str, tuple[ModuleType, ...]]:
    """(imports, the line that makes `network`, the call that gives logits of `padded`, our modules) of a segmenter."""
    if name in OWN:
        module = OWN[name][0].__name__.rpartition(".")[2]
        run = 'network.maps(padded, False)["logits"]' if name == "unet" else "network(padded)"
        return [f"from network.{module} import {name}"], f"network = {name}({classes}{arguments(args)})", run, OWN[name]
    if name.startswith("deeplabv3"):
        build = (
            f"network = segmentation.{name}(weights=None, weights_backbone=None, num_classes={classes}, "
            f"aux_loss={args.get('auxiliary', True)})"
        )
        return ["from torchvision.models import segmentation"], build, 'network(padded)["out"]', ()
    arch, _, encoder = name.removeprefix("smp/").partition("/")
    if encoder.startswith("timm-") or (encoder.startswith("tu-") and segmenter.pretrained and is_fixed(encoder[3:])):
        why = f"how the encoder {encoder} takes images of any size is settled by Sightline"
        raise SightlineError("no plain script loads this model", where="model.name", why=why, cure="--format onnx")
    build = f'network = smp.create_model("{arch}", "{encoder}", None, classes={classes}{arguments(args)})'
    return ["import segmentation_models_pytorch as smp"], build, "network(padded)", ()


def is_fixed(encoder: str) -> bool:
    """Whether timm's model is made for one size of images."""
    import timm

    return bool(getattr(timm.get_pretrained_cfg(encoder), "fixed_input_size", False))
