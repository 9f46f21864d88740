"""Built-in recipes: functions that return a complete Config or Grid. Also loads recipes by name and from files."""

import difflib
import importlib.util
import inspect
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..config.paths import paths_in
from ..config.resolve import resolve
from ..config.schema import Config
from ..errors import SightlineError, of_type
from ..tasks.files import load_recipe_file
from ..transfer.grid import Grid, load_grid_file
from . import classify, masks, multilabel, photos, pretrain, segment, transfer

T = TypeVar("T", Config, Grid)

RECIPES: dict[str, Callable[[], Config]] = {
    "photos_probe": photos.photos_probe,
    "photos_knn": photos.photos_knn,
    "photos_finetune": photos.photos_finetune,
    "photos_scratch": photos.photos_scratch,
    "multilabel_probe": multilabel.multilabel_probe,
    "multilabel_knn": multilabel.multilabel_knn,
    "multilabel_finetune": multilabel.multilabel_finetune,
    "multilabel_scratch": multilabel.multilabel_scratch,
    "digits": classify.digits,
    "alexnet_scratch": classify.alexnet_scratch,
    "efficientnet_v2_m_finetune": classify.efficientnet_v2_m_finetune,
    "small_cnn_scratch": classify.small_cnn_scratch,
    "efficientnet_v2_s_finetune": classify.efficientnet_v2_s_finetune,
    "vgg13_scratch": classify.vgg13_scratch,
    "beit_finetune": classify.beit_finetune,
    "resnet101_ensemble": classify.resnet101_ensemble,
    "objects_fast": classify.objects_fast,
    "scenes": segment.scenes,
    "fcn32s_vgg16_dense": segment.fcn32s_vgg16_dense,
    "fcn32s_vgg16": segment.fcn32s_vgg16,
    "fcn32s_vgg16_sgd": segment.fcn32s_vgg16_sgd,
    "fcn32s_vgg16_small": segment.fcn32s_vgg16_small,
    "deeplabv3_resnet101": segment.deeplabv3_resnet101,
    "deeplabv3_resnet101_scratch": segment.deeplabv3_resnet101_scratch,
    "deeplabv3_resnet50": segment.deeplabv3_resnet50,
    "deeplabv3_focal": segment.deeplabv3_focal,
    "mobilenetv3_smp": segment.mobilenetv3_smp,
    "landcover_frozen": masks.landcover_frozen,
    "landcover_finetune": masks.landcover_finetune,
    "landcover_scratch": segment.landcover_scratch,
    "camvid_finetune": masks.camvid_finetune,
    "camvid_fast": segment.camvid_fast,
    "landcover_constant": masks.landcover_constant,
    "landcover_colors": masks.landcover_colors,
    "landcover_best": segment.landcover_best,
    "byol_resnet50_a": pretrain.byol_resnet50_a,
    "byol_resnet50_b": pretrain.byol_resnet50_b,
    "byol_paper": pretrain.byol_paper,
    "moco_fast": pretrain.moco_fast,
    "byol_fast": pretrain.byol_fast,
    "simsiam_fast": pretrain.simsiam_fast,
    "dino_fast": pretrain.dino_fast,
    "distill_fast": pretrain.distill_fast,
}

GRIDS: dict[str, Callable[[], Grid]] = {
    "transfer_a": transfer.transfer_a,
    "transfer_b": transfer.transfer_b,
    "transfer_fast": transfer.transfer_fast,
    "transfer_masks": transfer.transfer_masks,
    "transfer_digits": transfer.transfer_digits,
}
"""Recipes of `sightline transfer`, by name."""

DEMO = ("digits", "scenes", "transfer_digits")
REPORTS = (
    *("alexnet_scratch", "efficientnet_v2_m_finetune", "small_cnn_scratch", "efficientnet_v2_s_finetune"),
    *("vgg13_scratch", "beit_finetune", "resnet101_ensemble", "fcn32s_vgg16_dense", "fcn32s_vgg16", "fcn32s_vgg16_sgd"),
    *("fcn32s_vgg16_small", "deeplabv3_resnet101", "deeplabv3_resnet101_scratch", "deeplabv3_resnet50"),
    *("deeplabv3_focal", "mobilenetv3_smp", "byol_resnet50_a", "byol_resnet50_b", "byol_paper"),
    *("transfer_a", "transfer_b"),
)
"""Recipes with the settings of a course report or a paper."""


def load_grid(recipe: str) -> Grid:
    """Load the Grid of a built-in recipe, a grid.yaml, the folder of a grid, or a .py file with a function `recipe()`.

    Raises SightlineError if `recipe` is none of these, or if the grid is invalid.
    """
    if recipe in GRIDS:
        return GRIDS[recipe]()
    path = Path(recipe)
    if path.is_dir() and (path / "grid.yaml").is_file():
        path = path / "grid.yaml"
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return load_grid_file(path)
    if path.suffix == ".py" and path.is_file():
        return load_python_file(path, Grid)
    near = difflib.get_close_matches(recipe, GRIDS, 1, 0.4)
    why = "it is the recipe of a single run, for `sightline train`" if recipe in RECIPES else ""
    cure = f"did you mean {near[0]}? " if near else ""
    cure += f"use a built-in grid ({', '.join(GRIDS)}), or the path of a grid.yaml or .py file"
    raise SightlineError(f"there is no transfer grid {recipe!r}", why=why, cure=cure)


def load_recipe(recipe: str) -> Config:
    """Load the Config of a built-in recipe, a run folder, a .yaml file, or a .py file with a function `recipe()`.

    A .py file is executed: load only files that you trust. Raises SightlineError if `recipe` is none of these, or if
    the configuration is invalid.
    """
    if recipe in RECIPES:
        return of_type(Config, RECIPES[recipe](), recipe)
    path = Path(recipe)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if path.suffix in (".yaml", ".yml"):
        return with_paths_of_file(load_recipe_file(path), path)
    if path.suffix == ".py" and path.is_file():
        return load_python_file(path, Config)
    if recipe in GRIDS:
        cure = f"run the grid: sightline transfer {recipe} --data TARGET --unlabeled IMAGES --labeled IMAGES"
        raise SightlineError(f"{recipe} is a transfer grid of several runs, not the recipe of one run", cure=cure)
    if path.exists() and path.suffix != ".py":
        cure = f"if this is the data: sightline train --data {shlex.quote(recipe)}, or with a recipe: sightline train "
        cure += f"RECIPE --data {shlex.quote(recipe)}; to list the built-in recipes: sightline recipes"
        raise SightlineError(f"this path is not a recipe: {recipe!r}", cure=cure)
    near = difflib.get_close_matches(recipe, RECIPES, 3, 0.4)
    why = "the file does not exist" if path.suffix in (".py", ".yaml", ".yml") else ""
    cure = f"did you mean {', '.join(near)}? " if near else ""
    cure += "to list the built-in recipes: sightline recipes; or pass the path of a .yaml or .py file; for a recipe in "
    cure += "code of your own, add --code FILE"
    raise SightlineError(f"there is no recipe {recipe!r}", why=why, cure=cure)


def with_paths_of_file(config: Config, file: Path) -> Config:
    """Make paths in a recipe file absolute if they exist relative to the file's folder.

    Other relative paths remain, and are relative to the working directory.
    """
    paths = {key: os.path.abspath(file.parent / path) for key, path in paths_in(config).items()}
    return resolve(config, {key: path for key, path in paths.items() if os.path.exists(path)})


def load_python_file(path: Path, kind: type[T]) -> T:
    """Execute a Python file and return the result of its function `recipe()`.

    kind: the expected class of the result, Config or Grid. Raises SightlineError if the file raises an error, or if the
    result is not an instance of `kind`.
    """
    spec = importlib.util.spec_from_file_location(f"sightline_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        result = module.recipe()
    except AttributeError as error:
        base = "classify import vgg13_scratch" if kind is Config else "transfer import transfer_fast"
        cure = f"define the function: `from sightline.recipes.{base}` and `def recipe(): return {base.split()[-1]}()`"
        raise SightlineError(
            "this file has no function recipe() that works", where=str(path), why=str(error), cure=cure
        ) from error
    except SightlineError:
        raise
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        raise SightlineError(
            "the recipe file raised an error", where=str(path), why=why, cure="correct the Python code of the file"
        ) from error
    if isinstance(result, kind):
        return result
    cure = f"return an object of Sightline's class {kind.__name__}"
    if isinstance(result, (Config, Grid)):
        cure = f"this is a recipe for another command: sightline {'transfer' if kind is Config else 'train'} {path}"
    why = f"it returned {type(result).__name__}"
    raise SightlineError(f"the function recipe() must return a {kind.__name__}", where=str(path), why=why, cure=cure)


def summary(name: str) -> str:
    """The first line of a recipe's docstring."""
    return documentation(name).split("\n", 1)[0]


def documentation(name: str) -> str:
    """The docstring of a recipe; "" if it has none."""
    return inspect.getdoc((RECIPES | GRIDS)[name]) or ""
