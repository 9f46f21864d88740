"""Built-in recipes: two training steps at toy size, reported settings and scores, and loading recipes from files."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.resnet import ResNet

import sightline
from parts_toys import build
from sightline.config.resolve import flat, resolve, to_yaml
from sightline.config.schema import Config
from sightline.config.strict_yaml import parse_yaml
from sightline.engine.state import Progress
from sightline.errors import SightlineError
from sightline.models import build_backbone
from sightline.models.heads import NearestHead
from sightline.models.pretrained.preprocessing import with_own_preprocessing
from sightline.models.segmentation import fcn
from sightline.recipes import GRIDS, RECIPES, REPORTS, load_grid, load_recipe
from sightline.runs.log import RunLog
from sightline.tasks.files import load_recipe_file
from sightline.train import assemble, train_epoch

pytestmark = pytest.mark.usefixtures("quick_figures")

REPORTED = {
    "alexnet_scratch": "0.646",
    "efficientnet_v2_m_finetune": "0.8944",
    "small_cnn_scratch": "0.62",
    "efficientnet_v2_s_finetune": "0.88",
    "vgg13_scratch": "0.7454",
    "beit_finetune": "0.9367",
    "resnet101_ensemble": "0.8748",
}
REPORTED_IOU = {
    "fcn32s_vgg16_dense": "0.6936",
    "fcn32s_vgg16": "0.6981",
    "fcn32s_vgg16_sgd": "0.5893",
    "fcn32s_vgg16_small": "0.395",
    "deeplabv3_resnet101": "0.7397",
    "deeplabv3_resnet101_scratch": "0.7344",
    "deeplabv3_resnet50": "0.73",
    "deeplabv3_focal": "0.7438",
    "mobilenetv3_smp": "0.726",
}
SETTINGS = parse_yaml((Path(__file__).parent / "golden" / "reports.yaml").read_text(), "reports.yaml")
SMALLEST = {"alexnet": 64, "efficientnet_v2_m": 32, "efficientnet_v2_s": 32, "beit_base": 32}


CLASSIFIERS = [name for name in RECIPES if load_recipe(name).task == "classify"]
PRETRAININGS = [name for name in RECIPES if load_recipe(name).task == "pretrain"]
SEGMENTERS = [name for name in RECIPES if load_recipe(name).task == "segment"]


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build ResNets with one block per stage, and FCN-32s with an eighth of VGG16's channels."""
    build = ResNet.__init__
    one = lambda network, block, layers, *rest, **named: build(network, block, [1] * 4, *rest, **named)  # noqa: E731
    monkeypatch.setattr(ResNet, "__init__", one)
    monkeypatch.setattr(fcn, "STAGES", tuple(tuple(width // 8 for width in stage) for stage in fcn.STAGES))


def check_two_steps(config: Config, folder: Path) -> None:
    """Train an epoch of two steps, and check that it changes more than 90% of the trained or stored tensors."""
    config, _ = with_own_preprocessing(config)
    with RunLog(folder, quiet=True) as log:
        training = assemble(config, folder, log, build(config, log.say), Progress())

        def tensors() -> list[torch.Tensor]:
            head = getattr(training.parts.model, "head", None)
            if isinstance(head, NearestHead):
                return [head.bank, head.shares]
            return [parameter for parameter in training.parts.model.parameters() if parameter.requires_grad]

        before = [tensor.detach().clone() for tensor in tensors()]
        train_epoch(training)
    assert training.progress.step == 2
    changed = [not torch.equal(old, new) for old, new in zip(before, tensors(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", SEGMENTERS)
def test_two_steps_of_segmentation_at_toy_size(name: str, make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    config = load_recipe(name)
    toy: dict[str, object] = {"data.path": str(make_scenes(tmp_path / "data", train=4, val=1, size=64))}
    toy |= {"data.palette": "landcover", "model.weights": "none", "train.batch_size": 2, "train.precision": "fp32"}
    toy |= {"report.samples": 0, "augment.window": [32, 32] if config.augment.window else []}
    if config.model.name == "fcn32s":
        toy["model.args"] = config.model.args | {"width": 16}
    check_two_steps(resolve(config, toy), tmp_path)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", PRETRAININGS)
def test_two_steps_of_pretraining_at_toy_size(name: str, make_photos: Callable[..., Path], tmp_path: Path) -> None:
    config = load_recipe(name)
    data = make_photos(tmp_path / "data", classes=2, train=4, val=2)
    toy = {"data.path": str(data), "data.size": 16, "augment.resize": 20 if config.augment.resize else 0}
    toy |= {"train.batch_size": 4, "train.precision": "fp32", "report.samples": 0}
    toy |= {"pretrain.projector": [32] * len(config.pretrain.projector), "pretrain.predictor": 16}
    if teacher := config.pretrain.teacher:
        weights = tmp_path / "teacher.safetensors"
        save_file(build_backbone(teacher, 32)[0].state_dict(), weights)
        toy |= {"pretrain.teacher_weights": str(weights), "pretrain.teacher_size": 32}
    check_two_steps(resolve(config, toy), tmp_path)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_two_steps_at_toy_size(name: str, make_photos: Callable[..., Path], tmp_path: Path) -> None:
    config = load_recipe(name)
    model = config.model.name
    toy = {"data.path": str(make_photos(tmp_path / "data", classes=2, train=4, val=1)), "model.weights": "none"}
    toy |= {"data.size": SMALLEST.get(model, 32), "train.batch_size": 4, "train.precision": "fp32", "report.samples": 0}
    toy |= {"augment.resize": SMALLEST.get(model, 32) + 4 if config.augment.resize else 0}
    check_two_steps(resolve(config, toy), tmp_path)


@pytest.mark.parametrize("name", REPORTED_IOU)
def test_docstrings_of_segmentation_have_the_reported_score(name: str) -> None:
    text = inspect.getdoc(RECIPES[name]) or ""
    assert REPORTED_IOU[name] in text and f"sightline train {name}" in text


@pytest.mark.parametrize("name", REPORTED)
def test_docstrings_of_classification_have_the_reported_score_and_its_source(name: str) -> None:
    text = " ".join((inspect.getdoc(RECIPES[name]) or "").split())
    assert REPORTED[name] in text
    assert "course report on 50 classes of 32x32 photographs, 22,500 for training and 2,500 for validation" in text
    assert f"sightline train {name}" in text


@pytest.mark.parametrize("name", sorted({name.partition(".")[0] for name in SETTINGS}))
def test_docstrings_separate_the_settings_of_the_report_from_ours(name: str) -> None:
    text = inspect.getdoc((RECIPES | GRIDS)[name]) or ""
    assert "From the report: " in text and "Ours: " in text.partition("From the report: ")[2]


def test_the_crops_of_byol_resnet50_a_have_the_areas_of_crops_of_128_of_160_pixels() -> None:
    low, high = load_recipe("byol_resnet50_a").augment.crop_scale
    assert (low, high) == pytest.approx((0.08 * (128 / 160) ** 2, (128 / 160) ** 2), abs=0.002)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_equal_those_of_the_reports(name: str) -> None:
    recipe, _, stage = name.partition(".")
    config = getattr(load_grid(recipe), stage) if stage else load_recipe(recipe)
    values = flat(config.model_dump(mode="json"), name, type(config))
    assert {key: values[key] for key in SETTINGS[name]} == SETTINGS[name]


def distinct_stages() -> list[tuple[str, str]]:
    """(grid, stage) of the trainings with labels, without stages that differ from `full` only in `train` and `data`."""
    stages = []
    for name in GRIDS:
        grid = load_grid(name)
        if not grid.classifies:
            continue  # its stages are recipes for masks, with other epochs
        same = grid.labeled.model_copy(update={"train": grid.full.train, "data": grid.full.data}) == grid.full
        stages += [(name, stage) for stage in (("full", "frozen") if same else ("labeled", "full", "frozen"))]
    return stages


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(("name", "stage"), distinct_stages())
def test_two_steps_of_the_stages_of_a_grid_at_toy_size(
    name: str, stage: str, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    grid = load_grid(name)
    config = grid.labeled if stage == "labeled" else grid.config_of("A" if stage == "full" else "D", 0, "")
    toy = {"data.path": str(make_photos(tmp_path / "data", classes=2, train=4, val=1)), "data.size": 32}
    toy |= {"train.batch_size": 4, "train.precision": "fp32", "report.samples": 0, "report.train_samples": 0}
    check_two_steps(resolve(config, toy | {"augment.resize": 36 if config.augment.resize else 0}), tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_round_trip(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(load_recipe(name)))
    assert load_recipe_file(path) == load_recipe(name)


def test_a_python_file_as_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from sightline.config.resolve import resolve\n"
        "from sightline.recipes.classify import vgg13_scratch\n"
        "def recipe():\n    return resolve(vgg13_scratch(), {'optim.lr': 0.5})\n"
    )
    assert load_recipe(str(path)).optim.lr == 0.5
    path.write_text("def other(): pass\n")
    with pytest.raises(SightlineError, match="no function recipe"):
        load_recipe(str(path))
    path.write_text("def recipe(): return 3\n")
    with pytest.raises(SightlineError, match="must return a Config"):
        load_recipe(str(path))


def test_a_python_file_as_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from sightline.recipes.transfer import transfer_digits\n"
        "def recipe():\n    return transfer_digits().model_copy(update={'seeds': (7,)})\n"
    )
    assert load_grid(str(path)).seeds == (7,)
    with pytest.raises(SightlineError, match="must return a Config") as caught:
        load_recipe(str(path))
    assert f"sightline transfer {path}" in caught.value.cure
    path.write_text("def other(): pass\n")
    with pytest.raises(SightlineError) as caught:
        load_grid(str(path))
    assert "transfer_fast" in caught.value.cure


def test_the_listing_has_every_recipe_once_with_those_of_reports_last() -> None:
    lines = sightline.recipes().splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(names) == sorted([*RECIPES, *GRIDS])
    reports = lines.index("Settings of course reports and papers:")
    reported = [line.split()[0] for line in lines[reports + 1 :]]
    assert {*REPORTED, *REPORTED_IOU} < {*reported} == {*REPORTS} and names[0] == "photos_probe"


def test_the_error_of_an_unknown_recipe_suggests_the_nearest() -> None:
    with pytest.raises(SightlineError) as caught:
        load_recipe("vgg13")
    assert "vgg13_scratch" in caught.value.cure


def test_a_folder_of_images_as_a_recipe_is_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="is not a recipe") as caught:
        load_recipe(str(tmp_path))
    assert f"sightline train --data {tmp_path}" in caught.value.cure
