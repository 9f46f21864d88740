"""Drawings of architectures: all connections are drawn, texts are escaped, branches are side by side."""

import random
import re
import xml.etree.ElementTree as ET
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.insight.architecture.boxes import Panel, quantity, shortened, text_width, wrapped
from sightline.insight.architecture.layout import Column, Fork, Leaf, column_of, indices
from sightline.insight.architecture.svg import WIDTH, file_svg, page_svg, panels_of
from sightline.insight.architecture.tracing import trace
from sightline.insight.architecture.tree import DASH, TIMES, Architecture, Block, Role, from_json, to_json
from sightline.insight.architecture.unet_layout import unet_skips
from sightline.insight.architecture.view import SEPARATOR, view_of, with_labels
from sightline.models import build_model
from sightline.models.segmenters import build_segmenter
from sightline.recipes import load_recipe
from sightline.tasks.pretrain.build import both_networks as both
from sightline.tasks.pretrain.build import build_siamese


def logits(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The forward pass of a classifier."""
    return {"logits": model(images)}


def outputs(model: Any, images: Tensor) -> dict[str, Tensor]:
    """The forward pass of a segmenter, with its auxiliary head if it has one."""
    return model.outputs(images)


def graph(*sources: tuple[int, ...], outputs: tuple[int, ...]) -> Block:
    """A block with a child for each tuple of sources."""
    children = [Block("x", "x", "block", (), 0, 0, tuple((source, 0) for source in own)) for own in sources]
    ends = tuple((output, 0) for output in outputs)
    return Block("", "", "block", (), 0, 0, (), children=tuple(children), outputs=ends)


def drawn_links(part: Leaf | Fork | Column, incoming: set[int]) -> tuple[set[int], set[tuple[int, int]]]:
    """(blocks whose outputs leave a part, connections in it), as the lines of the drawing show them."""
    if isinstance(part, Leaf):
        return {part.index}, {(source, part.index) for source in incoming}
    if isinstance(part, Fork):
        branches = [drawn_links(inner, incoming) for inner in part.parts]
        return set().union(*(leaving for leaving, _ in branches)), set().union(*(links for _, links in branches))
    leaving, links = {-1: incoming}, set()
    for row in range(len(part.parts) + 1):
        taken = set().union(*(leaving[start] for start, end in part.links if end == row))
        if row == len(part.parts):
            return taken, links
        leaving[row], inner = drawn_links(part.parts[row], taken)
        links |= inner
    raise AssertionError


@pytest.mark.parametrize("seed", range(60))
def test_lines_equal_the_connections_of_any_graph(seed: int) -> None:
    chance = random.Random(seed)
    count, reach = chance.randint(1, 14), chance.choice([1, 2, 3, 14])
    sources = [
        tuple(sorted({max(-1, index - chance.randint(1, reach)) for _ in range(chance.choice([1, 1, 2, 3]))}))
        for index in range(count)
    ]
    outputs = tuple(sorted({count - 1, chance.randrange(count)}))
    column = column_of(graph(*sources, outputs=outputs))
    assert sorted(indices(column)) == list(range(count))
    leaving, links = drawn_links(column, {-1})
    assert leaving == set(outputs)
    assert links == {(source, index) for index, own in enumerate(sources) for source in own}


def rows(column: Column) -> list[object]:
    """The rows of a column: an index, or the branches of a fork."""
    return [part.index if isinstance(part, Leaf) else [rows(inner) for inner in part.parts] for part in column.parts]


def test_columns_of_graphs() -> None:
    """A chain, a skip connection, branches, branches in a skip connection, and crossed connections."""
    chain = column_of(graph((-1,), (0,), (1,), outputs=(2,)))
    assert rows(chain) == [0, 1, 2] and chain.links == ((-1, 0), (0, 1), (1, 2), (2, 3))
    skip = column_of(graph((-1,), (0,), (0, 1), outputs=(2,)))
    assert rows(skip) == [0, 1, 2] and skip.links == ((-1, 0), (0, 1), (0, 2), (1, 2), (2, 3))
    branches = column_of(graph((-1,), (0,), (0,), (2,), (1, 3), outputs=(4,)))
    assert rows(branches) == [0, [[1], [2, 3]], 4]
    inside_a_skip = column_of(graph((-1,), (0,), (1,), (1,), (2, 3), (0, 4), outputs=(5,)))
    assert rows(inside_a_skip) == [0, 1, [[2], [3]], 4, 5] and (0, 4) in inside_a_skip.links
    crossed = column_of(graph((-1,), (0,), (0, 1), (1, 2), outputs=(3,)))
    assert rows(crossed) == [0, 1, 2, 3] and {(0, 2), (1, 3)} < {*crossed.links}


def test_skip_connections_of_a_unet() -> None:
    down, up = [(-1,), (0,), (1,), (2,), (3,)], [(4, 3), (5, 2), (6, 1), (7, 0)]
    unet = with_labels(graph(*down, *up, outputs=(8,)), "image", ("logits",))
    assert unet_skips(column_of(unet)) == [(1, 9), (2, 8), (3, 7), (4, 6)]
    pyramid = with_labels(graph(*down, (4, 3, 2, 1, 0), outputs=(5,)), "image", ("logits",))
    assert unet_skips(column_of(pyramid)) == []


def on_meta(name: str, size: int, classes: int = 10) -> Architecture:
    with torch.device("meta"):
        model = build_model(name, classes, size)
    return trace(model, (3, size, size), logits, name)


def all_text(panel: Panel) -> str:
    """The text of a panel, without tooltips."""
    markup = re.sub(r"<title>.*?</title>", "", panel.markup)
    return " | ".join(re.findall(r"<text[^>]*>(.*?)</text>", markup))


def boxes_of(panel: Panel) -> dict[str, tuple[float, float]]:
    """The top left corner of each box by the name of its block."""
    corners: dict[str, tuple[float, float]] = {}

    def walk(element: ET.Element, x: float, y: float) -> None:
        shift = re.findall(r"[-\d.]+", element.get("transform", "0 0"))
        x, y = x + float(shift[0]), y + float(shift[1])
        for child in element:
            if child.tag == "title":
                corners[(child.text or "").partition(":")[0]] = (x, y)
            walk(child, x, y)

    walk(ET.fromstring(page_svg(panel)), 0, 0)
    return corners


def test_a_view_fuses_layers_and_keeps_all_parameters_and_multiply_adds() -> None:
    found = on_meta("resnet50", 224)
    assert found.model is not None
    view = view_of(found.model, {"ResNet"})
    assert [(box.name, box.kind.partition(SEPARATOR)[0], box.repeat) for box in view.children][:4] == [
        ("backbone.conv1", f"convolution 7 {TIMES} 7, stride 2", 1),
        ("backbone.maxpool", f"max pooling 3 {TIMES} 3, stride 2", 1),
        ("backbone.layer1.0", "Bottleneck", 1),
        (f"backbone.layer1.1{DASH}2", "Bottleneck", 2),
    ]
    assert view.children[0].kind.endswith(" \u00b7 batch norm \u00b7 ReLU") and view.children[-1].kind == "linear"
    for key in ("parameters", "multiply_adds"):
        assert sum(box.repeat * getattr(box, key) for box in view.children) == getattr(found.model, key)


def test_a_repeated_block_is_a_frame_with_its_own_view() -> None:
    model = on_meta("timm/vit_base_patch16_224", 224).model
    assert model is not None
    frame = next(box for box in view_of(model, {"VisionTransformer", "Block"}).children if box.role == "frame")
    assert (frame.name, frame.repeat) == (f"backbone.blocks.0{DASH}11", 12)
    assert [box.kind for box in frame.children] == [
        "layer norm",
        "Attention, 12 heads",
        "add",
        "layer norm",
        "Mlp",
        "add",
    ]
    assert [{source for source, _ in box.inputs} for box in frame.children] == [{-1}, {0}, {-1, 1}, {2}, {3}, {2, 4}]


class Decoder(nn.Module):
    """Ignores the first of its feature maps, as decoders ignore the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.layers[0](maps[1]) + self.layers[1](maps[2])


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.decoder = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3), Decoder()

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        return self.decoder([images, functional.pad(self.second(first), (1, 1, 1, 1)), first])


def test_the_inputs_of_a_block_are_the_values_that_it_uses() -> None:
    root = trace(Pyramid(), (3, 8, 8)).model
    assert root is not None
    assert [(box.name, [source for source, _ in box.inputs]) for box in view_of(root, ()).children] == [
        ("first", [-1]),
        ("second", [0]),
        ("decoder", [1, 0]),
    ]
    inside = view_of(with_labels(root.children[2], "input", ()), ())
    assert [
        (box.kind.partition(" ")[0], box.role, [source for source, _ in box.inputs]) for box in inside.children
    ] == [
        ("input", "label", []),
        ("input", "label", []),
        ("convolution", "convolution", [0]),
        ("convolution", "convolution", [1]),
        ("add", "join", [2, 3]),
        ("output", "label", [4]),
    ]


def test_resnet_has_panels_of_both_kinds_of_bottlenecks() -> None:
    whole, plain, projected = panels_of(on_meta("resnet101", 224))
    assert whole.title == "resnet101" and "42.5 M parameters, 7.8 G multiply-adds" in all_text(whole)
    words = all_text(whole)
    for expected in (f"22 {TIMES} Bottleneck", f"layer3.1{DASH}22", f"1024 {TIMES} 14 {TIMES} 14", "24.6 M", "4.8 G",
                     f"image 3 {TIMES} 224 {TIMES} 224", "10 | logits"):  # fmt: skip
        assert expected in words, expected
    assert f"layer3.1{DASH}22, one of 22" in all_text(plain) and "1.12 M parameters" in all_text(plain)
    assert plain.markup.count("<circle") == 2  # the start of the skip connection, and the sum at its end
    assert "downsample" in all_text(projected) and "downsample" not in all_text(plain)


def test_deeplab_has_its_branches_and_both_heads() -> None:
    with torch.device("meta"):
        found = trace(build_segmenter("deeplabv3_resnet101", 7), (3, 96, 96), outputs, "deeplab")
    panels = panels_of(found)
    words = all_text(panels[0])
    assert "FCNHead" in words and "auxiliary" in words and "logits" in words and "ASPP" in words
    aspp = next(panel for panel in panels if panel.title == "ASPP")
    words = all_text(aspp)
    assert all(f"dilation {rate}" in words for rate in (12, 24, 36)) and "concatenate" in words
    assert "global" in words and "pooling" in words
    corners = [corner for name, corner in boxes_of(aspp).items() if name.startswith("convs.")]
    assert len({across for across, _ in corners}) == 5 and len({down for _, down in corners}) == 1


def test_a_unet_has_its_encoder_beside_its_decoder() -> None:
    with torch.device("meta"):
        found = trace(build_segmenter("unet", 11), (3, 256, 320), outputs, "unet")
    panel = panels_of(found)[0]
    corners = boxes_of(panel)
    left = [corners[f"network.encoder.{name}"][0] for name in ("stem", "layer2.0", "layer3.1", "layer4.0")]
    right = [corners[f"network.decoder.{number}"] for number in range(4)]
    assert len({*left}) == 1 and len({across for across, _ in right}) == 1 and right[0][0] > WIDTH / 2
    heights = [down for _, down in right]
    assert heights == sorted(heights, reverse=True)  # the decoder is drawn upwards
    lines = re.findall(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', panel.markup)
    across = [(float(start), float(end)) for start, above, end, below in lines if above == below]
    assert len(across) == 5 and panel.width <= WIDTH  # four skip connections, and the input of the decoder
    assert all(start < WIDTH / 2 < end < right[0][0] for start, end in across)


def test_byol_has_two_networks_and_the_relation_of_their_weights() -> None:
    with torch.device("meta"):
        pair, single = build_siamese(load_recipe("byol_fast")), build_siamese(load_recipe("simsiam_fast"))
    found = trace(pair, (3, 32, 32), both, "fastnet", "BYOL")
    panels = panels_of(found)
    words = all_text(panels[0])
    for expected in (
        "online network",
        "target network",
        "view 1",
        "view 2",
        "stop-gradient",
        "moving",
        "average",
        "loss",
    ):
        assert expected in words, expected
    assert panels[0].title == "fastnet, BYOL" and panels[1].title == "backbone"
    assert words.count("projector") == 2 and words.count("predictor") == 1
    words = all_text(panels_of(trace(single, (3, 32, 32), both, "fastnet", "SimSiam"))[0])
    assert "shared" in words and "moving" not in words and "target" not in words


@pytest.mark.parametrize("name", ["vgg13_bn", "resnet18", "fastnet", "beit_base", "efficientnet_v2_s", "alexnet"])
def test_drawings_are_no_wider_than_a_phone_and_no_higher_than_a_page(name: str) -> None:
    panels = panels_of(on_meta(name, 224))
    assert all(panel.width <= WIDTH for panel in panels) and panels[0].height < 1200
    tree = ET.fromstring(file_svg(panels))
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    for element in tree.iter():
        assert element.tag.rpartition("}")[2] in {"svg", "g", "rect", "path", "text", "title", "circle", "polygon"}
        assert not {"style", "class", "href", "onload"} & set(element.attrib)
    assert 'fill="#ffffff"' in file_svg(panels) and panels_of(on_meta(name, 224)) == panels


class Hostile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module("<b>&\"'\x00", nn.Conv2d(3, 4, 1))
        self.add_module("</svg><script>", type("<i>x</i>", (Tail,), {})())

    def forward(self, images: Tensor) -> Tensor:
        first, second = self.children()
        return second(first(images))


class Tail(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.again = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.again(self.layer(maps))


def test_names_are_escaped() -> None:
    found = trace(Hostile(), (3, 8, 8), name="<script>alert(1)</script>")
    assert from_json(to_json(found)) == found
    panels = panels_of(found)
    for text in (file_svg(panels), *map(page_svg, panels)):
        tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}
        assert not tags & {"b", "i", "script"}
        assert "&lt;b&gt;" in text or "&lt;i&gt;" in text
        assert "\x00" not in text


def random_tree(chance: random.Random, depth: int, before: int) -> Block:
    """A random tree that `from_json` accepts, unlike that of any model."""
    count = 0 if depth > 3 or chance.random() < 0.35 else chance.randint(1, 6)
    names = ["a", "b.0", "layer1.2", "<x>&\"'", "", "backbone", "projector", "predictor", "target"]
    kinds = ["conv", "Bottleneck", "<script>", "add", "X, 3 heads", "a very long class name that goes on and on"]
    shapes = [tuple(chance.randint(0, 9999) for _ in range(chance.randint(0, 4))) for _ in range(chance.randint(0, 3))]
    children = tuple(random_tree(chance, depth + 1, index) for index in range(count))
    outputs = (
        [(chance.randint(-1, count - 1), chance.randint(0, 3)) for _ in range(chance.randint(0, 4))] if count else []
    )
    return Block(
        name=chance.choice(names),
        kind=chance.choice(kinds),
        role=chance.choice(get_args(Role)),
        shapes=tuple(shapes),
        parameters=chance.choice([0, 5, 10**9]),
        multiply_adds=chance.choice([0, 7, 10**18]),
        repeat=chance.choice([1, 1, 1, 5]),
        inputs=tuple((chance.randint(-1, before - 1), chance.randint(0, 3)) for _ in range(chance.randint(0, 3))),
        outputs=tuple(None if chance.random() < 0.1 else output for output in outputs),
        children=children,
    )


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_any_valid_file_is_drawn_or_skipped(seed: int) -> None:
    for own in range(seed, seed + 20):
        chance = random.Random(own)
        found = Architecture("n", (3, 8, 8), random_tree(chance, 0, 0), ("logits",) * chance.randint(0, 2), "BYOL")
        assert from_json(to_json(found)) == found
        panels = panels_of(found)
        assert not panels or ET.fromstring(file_svg(panels)) is not None


def test_a_model_of_too_many_layers_is_not_drawn() -> None:
    layers = nn.Sequential(*(nn.Conv2d(3, 3, 1 + 2 * (index % 2), padding=index % 2) for index in range(300)))
    assert panels_of(trace(layers, (3, 8, 8))) == []


def test_quantities_and_shortened_and_wrapped_text() -> None:
    assert [quantity(n) for n in (0, 7, 999, 1000, 999_600, 25_557_032, 4_089_184_256)] == [
        DASH, "7", "999", "1 k", "1 M", "25.6 M", "4.09 G",
    ]  # fmt: skip
    assert (
        shortened("a very long name", 40, 10).endswith("…")
        and text_width(shortened("a very long name", 40, 10), 10) <= 41
    )
    assert shortened("short", 100, 10) == "short"
    lines = wrapped(f"conv 3 {TIMES} 3, dilation 12", 70, 10)
    assert lines == [f"conv 3 {TIMES} 3,", "dilation 12"]
