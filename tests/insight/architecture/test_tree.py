"""The tree of a model's blocks: known numbers, connections, merged repetitions, and an unchanged model."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.config.schema import Config
from sightline.insight.architecture.tracing import trace
from sightline.insight.architecture.tree import DASH, Architecture, Block, from_json, to_json, write_architecture
from sightline.models import build_model, parameter_count
from sightline.models.segmenters import build_segmenter
from sightline.recipes import GRIDS, RECIPES, load_grid, load_recipe
from sightline.tasks.pretrain.build import both_networks as both
from sightline.tasks.pretrain.build import build_siamese
from sightline.tasks.pretrain.objectives import OBJECTIVES


def logits(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The forward pass of a classifier."""
    return {"logits": model(images)}


def outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
    """The forward pass of a segmenter, with its auxiliary head if it has one."""
    return model.outputs(images)


def blocks_in(block: Block) -> Iterator[Block]:
    yield block
    for child in block.children:
        yield from blocks_in(child)


def find(found: Architecture, *path: str) -> Block:
    """The block at a path of names."""
    block = found.model
    for name in path:
        assert block is not None
        block = next(child for child in block.children if child.name == name)
    assert block is not None
    return block


def on_meta(name: str, classes: int = 1000, size: int = 224) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, classes, size)


@pytest.mark.parametrize(
    ("name", "multiply_adds", "parameters"),
    [
        ("resnet18", 1.814e9, 11_689_512),
        ("resnet50", 4.089e9, 25_557_032),
        ("torchvision/vgg16", 15.47e9, 138_357_544),
        ("timm/vit_base_patch16_224", 17.56e9, 86_567_656),
        ("beit_base", 17.56e9, 86_530_984),
    ],
)
def test_known_parameters_and_multiply_adds(name: str, multiply_adds: float, parameters: int) -> None:
    """From papers and torchvision's documentation; without attention, a ViT-B would have 16.9e9 multiply-adds."""
    root = trace(on_meta(name), (3, 224, 224)).model
    assert root is not None and root.shapes == ((1000,),)
    assert root.multiply_adds == pytest.approx(multiply_adds, rel=0.002)
    assert root.parameters == parameters


def test_multiply_adds_of_attention() -> None:
    """197 tokens of width 768: queries times keys, and weights times values, 197 x 197 x 768 each."""
    found = trace(on_meta("timm/vit_base_patch16_224"), (3, 224, 224))
    attention = find(found, "backbone", "blocks", f"0{DASH}11", "attn")
    product = next(child for child in attention.children if child.role == "attention")
    assert product.multiply_adds == 2 * 197 * 197 * 768
    assert [child.name for child in attention.children if child.role == "linear"] == ["qkv", "proj"]


def test_only_equal_neighbors_are_merged() -> None:
    layer3 = find(trace(on_meta("resnet101"), (3, 224, 224)), "backbone", "layer3")
    assert [(child.name, child.kind, child.repeat) for child in layer3.children] == [
        ("0", "Bottleneck", 1),  # has a stride
        (f"1{DASH}22", "Bottleneck", 22),
    ]
    assert layer3.children[1].inputs == ((0, 0),) and layer3.outputs == ((1, 0),)
    assert sum(child.repeat * child.parameters for child in layer3.children) == layer3.parameters == 26_090_496
    encoder = find(trace(on_meta("beit_base"), (3, 224, 224)), "backbone", f"blocks.0{DASH}11")
    assert encoder.repeat == 12 and encoder.kind == "Block"


class Tangled(nn.Module):
    """A skip connection around an in-place ReLU, views, functions, concatenated branches, and an unused layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.side = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.relu, self.unused = nn.ReLU(inplace=True), nn.Linear(3, 3)
        self.stem, self.gain = nn.Conv2d(3, 4, 1), nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stem = self.stem(images)
        out = self.second(self.relu(self.first(stem)))
        out += stem
        side = self.side(stem).view(1, 4, -1).view(1, 4, 8, 8) * self.gain
        left, _ = functional.relu(side).chunk(2, dim=1)
        return torch.cat([out, left], dim=1), side


def test_the_connections_of_blocks() -> None:
    found = trace(Tangled(), (3, 8, 8))
    root = found.model
    assert root is not None
    flow = {child.name: [root.children[index].name if index >= 0 else "in" for index, _ in child.inputs]
            for child in root.children}  # fmt: skip
    assert flow == {
        "stem": ["in"],
        "first": ["stem"],
        "relu": ["first"],
        "second": ["relu"],
        "add": ["second", "stem"],
        "side": ["stem"],
        "multiply gain": ["side"],
        "ReLU": ["multiply gain"],
        "concatenate": ["add", "ReLU"],
    }
    returned = [root.children[output[0]].name for output in root.outputs if output is not None]
    assert returned == ["concatenate", "multiply gain"] and root.shapes == ((6, 8, 8), (4, 8, 8))
    assert root.parameters == 4 * 4 * 9 * 3 + 12 + 3 * 4 + 4 + 4
    assert found.notes == ("12 parameters are unused in the forward pass: unused.weight, unused.bias.",)


def test_a_layer_that_returns_its_input_is_a_block_but_not_its_source() -> None:
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.drop, self.last = nn.Conv2d(3, 3, 1), nn.Dropout(0.5), nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            stem = self.stem(images)
            return self.drop(stem) + self.last(stem)

    root = trace(Passing(), (3, 4, 4)).model
    assert root is not None and [child.name for child in root.children] == ["stem", "drop", "last", "add"]
    assert [child.inputs for child in root.children] == [((-1, 0),), ((0, 0),), ((0, 0),), ((1, 0), (2, 0))]


def test_blocks_with_other_users_are_not_merged() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(4))

        def forward(self, images: Tensor) -> Tensor:
            maps = [images]
            for layer in self.layers:
                maps.append(layer(maps[-1]))
            return maps[2] + maps[4]

    root = trace(Pyramid(), (3, 4, 4)).model
    assert root is not None
    assert [(child.name, child.repeat) for child in root.children] == [
        (f"layers.0{DASH}1", 2),
        (f"layers.2{DASH}3", 2),
        ("add", 1),
    ]
    assert root.children[2].inputs == ((0, 0), (1, 0))


def test_shared_parameters_are_counted_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(5, 5), nn.Linear(5, 5)
            self.two.weight = self.one.weight

        def forward(self, images: Tensor) -> Tensor:
            return self.two(self.one(self.one(images.mean((2, 3)))))

    root = trace(Twice(), (5, 2, 2)).model
    assert root is not None and root.parameters == 25 + 5 + 5 and root.multiply_adds == 75
    assert [(child.name, child.parameters) for child in root.children[1:]] == [("one", 30), ("one", 0), ("two", 5)]


def test_deeplab_has_five_branches_and_an_auxiliary_head() -> None:
    with torch.device("meta"):
        model = build_segmenter("deeplabv3_resnet50", 7)
    found = trace(model, (3, 96, 128), outputs)
    assert found.model is not None and found.outputs == ("logits", "auxiliary")
    assert found.model.shapes == ((7, 96, 128),) * 2
    names = [child.name for child in found.model.children]
    backbone = names.index("network.backbone")
    assert found.model.children[backbone].shapes == ((1024, 12, 16), (2048, 12, 16))  # of stages 3 and 4
    assert find(found, "network.aux_classifier").inputs == ((backbone, 0),)
    assert find(found, "network.classifier").inputs == ((backbone, 1),)
    aspp = find(found, "network.classifier", "0")
    assert aspp.kind == "ASPP" and [child.inputs for child in aspp.children[:5]] == [((-1, 0),)] * 5
    assert [child.children[0].kind.partition(", ")[2] for child in aspp.children[1:4]] == [
        "dilation 12",
        "dilation 24",
        "dilation 36",
    ]
    join = aspp.children[5]
    assert join.kind == "concatenate" and join.inputs == tuple((index, 0) for index in range(5))
    assert join.shapes == ((1280, 12, 16),)


def test_byol_is_two_networks_and_simsiam_one() -> None:
    base = load_recipe("byol_fast")
    with torch.device("meta"):
        pair, single = build_siamese(base), build_siamese(load_recipe("simsiam_fast"))
    found = trace(pair, (3, 32, 32), both, "fastnet", "BYOL")
    assert found.model is not None and found.method == "BYOL"
    assert [child.name for child in found.model.children] == ["backbone", "projector", "predictor", "target"]
    online, target = find(found, "backbone"), find(found, "target", "0")
    assert online.parameters == target.parameters > 0 and online.multiply_adds == target.multiply_adds > 0
    assert found.model.parameters == parameter_count(pair)
    assert found.model.outputs == ((2, 0), (3, 0)) and target.inputs == ((-1, 0),)
    alone = trace(single, (3, 32, 32), both, "fastnet", "SimSiam").model
    assert alone is not None
    assert [child.name for child in alone.children] == ["backbone", "projector", "predictor"]
    assert alone.outputs == ((2, 0), (1, 0))  # the prediction and the projection


def state_of(model: nn.Module) -> list[object]:
    tensors = [(name, value.clone(), value.device, value.requires_grad) for name, value in model.named_parameters()]
    tensors += [(name, value.clone(), value.device, False) for name, value in model.named_buffers()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    return [*tensors, hooks]


def assert_same(before: list[object], after: list[object]) -> None:
    for old, new in zip(before, after, strict=True):
        if isinstance(old, tuple) and isinstance(new, tuple):
            assert (old[0], *old[2:]) == (new[0], *new[2:]) and torch.equal(old[1], new[1])
        else:
            assert old == new


class Failing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum().item() > 0 else -images


@pytest.mark.parametrize("fails", [False, True])
def test_tracing_changes_neither_model_nor_random_state(fails: bool) -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images + torch.rand(3, 1, 1).to(images.device)

    torch.manual_seed(3)
    tail: nn.Module = Failing() if fails else nn.Dropout(0.5)
    model = nn.Sequential(Noisy(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), tail)
    model.train()
    model[2].eval()
    model[1].requires_grad_(False)
    before, modes = state_of(model), torch.random.get_rng_state()
    plain = (random.getstate(), repr(np.random.get_state()))
    hooks = nn.modules.module._global_forward_hooks, nn.modules.module._global_forward_pre_hooks
    if fails:
        with pytest.raises(RuntimeError):
            trace(model, (3, 8, 8))
    else:
        trace(model, (3, 8, 8))
    assert_same(before, state_of(model))
    assert torch.equal(modes, torch.random.get_rng_state())
    assert plain == (random.getstate(), repr(np.random.get_state()))
    assert not any(hooks)
    result = functional.relu(torch.ones(1))  # no function mode is active
    assert type(result) is Tensor and result.device.type == "cpu"


def test_the_error_of_tracing_is_a_note(tmp_path) -> None:
    path = write_architecture(tmp_path / "architecture.json", lambda: trace(Failing(), (3, 8, 8)), "mine", (3, 8, 8))
    found = from_json(path.read_text(encoding="utf-8"))
    assert found.model is None and found.name == "mine" and found.image == (3, 8, 8)
    assert "could not be traced" in found.notes[0] and "meta" in found.notes[0]
    assert not list(tmp_path.glob(".sightline-tmp-*"))


CONFIGS: dict[str, Config] = {}
for _config in [load_recipe(name) for name in RECIPES] + [
    stage for grid in map(load_grid, GRIDS) for stage in (grid.labeled, grid.unlabeled, grid.full, grid.frozen)
]:
    CONFIGS[f"{_config.task}-{_config.model.name}-{_config.model.args}-{getattr(_config, 'pretrain', None)}"] = _config


def traced(config: Config) -> tuple[Architecture, nn.Module]:
    """The architecture of a recipe's model at the size of its images."""
    name, size, args = config.model.name, config.data.size, dict(config.model.args)
    with torch.device("meta"):
        if config.task == "pretrain":
            pair = build_siamese(config)
            return trace(pair, (3, size, size), both, name, OBJECTIVES[config.pretrain.method].title), pair
        if config.task == "segment":
            segmenter = build_segmenter(name, 7, args)
            return trace(segmenter, (3, *(config.augment.window or (256, 320))), outputs, name), segmenter
        model = build_model(name, 50, size, args, config.model.head)
        return trace(model, (3, size, size), logits, name), model


@pytest.mark.slow
@pytest.mark.parametrize("key", CONFIGS)
def test_the_tree_of_every_model_in_the_recipes(key: str) -> None:
    """All parameters are in the tree, the counts of children add up, sources are valid, and JSON keeps everything."""
    found, model = traced(CONFIGS[key])
    assert found.model is not None and found.notes == () and from_json(to_json(found)) == found
    assert found.model.parameters == parameter_count(model)
    for block in blocks_in(found.model):
        for index, child in enumerate(block.children):
            assert child.inputs and all(-1 <= source < index for source, _ in child.inputs)
        if block.children:
            assert sum(child.repeat * child.multiply_adds for child in block.children) == block.multiply_adds
            assert sum(child.repeat * child.parameters for child in block.children) <= block.parameters
            assert None not in block.outputs and len(block.outputs) >= len(block.shapes) > 0


@pytest.mark.parametrize("value", [None, [], 3, "x", {"format": 1}, {"format": 2, "image": []}])
def test_invalid_json_raises_value_error(value: object) -> None:
    import json

    with pytest.raises(ValueError):
        from_json(json.dumps(value))
