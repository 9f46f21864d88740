"""The drawing of an architecture: every connection is in it, texts are text, branches stand beside each other."""

import random
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch
from sightline.insight.architecture.file import from_json, to_json
from sightline.insight.architecture.flow import (
    IN,
    OUT,
    Column,
    Flow,
    Fork,
    Frame,
    Leaf,
    flow_of,
    nesting,
    places_in,
    with_frames,
)
from sightline.insight.architecture.marks import Panel, cut, text_width, wrapped
from sightline.insight.traced import both, logits, outputs
from torch import Tensor, nn
from torch.nn import functional

from sightline.insight.architecture.boxes import quantity
from sightline.insight.architecture.svg import WIDTH, file_svg, page_svg, panels_of
from sightline.insight.architecture.tree import DASH, ROLES, TIMES, Architecture, Block, trace
from sightline.insight.architecture.view import Item, Part, View, view_of
from sightline.models import build_model
from sightline.models.segmenters import build_segmenter
from sightline.recipes import load_recipe
from sightline.tasks.pretrain.build import build_siamese

NOTHING = Block("", "", "block", (), 0, 0, 0, 1, (), (), ())


def items(*sources: tuple[int, ...], parts: dict[int, tuple[Part, ...]] | None = None) -> tuple[Item, ...]:
    """An item for each tuple of sources."""
    blank = Item("x", ("x",), 0, "block", "", 0, 0, 1, (), (), NOTHING)
    return tuple(replace(blank, sources=own, parts=(parts or {}).get(place, ())) for place, own in enumerate(sources))


def drawn_links(flow: Flow, incoming: set[int]) -> tuple[set[int], set[tuple[int, int]]]:
    """(whose values leave a flow, who feeds whom in it), by the meaning of its lines alone."""
    if isinstance(flow, Leaf):
        return {flow.place}, {(place, flow.place) for place in incoming}
    if isinstance(flow, Frame):
        return drawn_links(flow.column, incoming)
    if isinstance(flow, Fork):
        ways = [drawn_links(inner, incoming) for inner in flow.flows]
        leaving = set().union(*(way[0] for way in ways)) | (incoming if flow.bypass else set())
        return leaving, set().union(*(way[1] for way in ways))
    pairs = flow.links or [(place, place + 1) for place in range(-1, len(flow.flows))]
    leaving, links = {-1: incoming}, set()
    for place in range(len(flow.flows) + 1):
        given = set().union(*(leaving[start] for start, end in pairs if end == place))
        if place == len(flow.flows):
            return given, links
        leaving[place], inner = drawn_links(flow.flows[place], given)
        links |= inner
    raise AssertionError


def true_links(view: View) -> set[tuple[int, int]]:
    links = {(source, place) for place, item in enumerate(view.items) for source in item.sources or (IN,)}
    links |= {(output, OUT) for output in view.outputs}
    used = {source for source, _ in links}
    return links | {(place, OUT) for place in range(len(view.items)) if place not in used}


def links_of(flow: Flow) -> set[tuple[int, int]]:
    leaving, links = drawn_links(flow, {IN})
    return links | {(place, OUT) for place in leaving}


@pytest.mark.parametrize("seed", range(60))
def test_the_lines_are_the_connections_whatever_the_graph(seed: int) -> None:
    chance = random.Random(seed)
    count, reach = chance.randint(1, 14), chance.choice([1, 2, 3, 14])
    sources = [
        tuple(sorted({max(-1, place - chance.randint(1, reach)) for _ in range(chance.choice([1, 1, 2, 3]))}))
        for place in range(count)
    ]
    parts = {place: (Part("stage", "Stage", "block", chance.choice([1, 2])),) for place in range(2, count // 2)}
    view = View(items(*sources, parts=parts), tuple(sorted({count - 1, chance.randrange(count)})))
    flow = flow_of(view)
    assert sorted(places_in(flow)) == list(range(count))
    assert links_of(flow) == true_links(view)
    assert links_of(with_frames(flow, view)) == true_links(view)


def test_shapes_of_flows() -> None:
    """A chain, a skip, branches, levels within each other, and what is none of them."""
    assert flow_of(View(items((-1,), (0,), (1,)), (2,))) == Column((Leaf(0), Leaf(1), Leaf(2)))
    skip = Column((Leaf(0), Fork((Leaf(1),), True), Leaf(2)))
    assert flow_of(View(items((-1,), (0,), (0, 1)), (2,))) == skip
    branches = Column((Leaf(0), Fork((Leaf(1), Column((Leaf(2), Leaf(3)))), False), Leaf(4)))
    assert flow_of(View(items((-1,), (0,), (0,), (2,), (1, 3)), (4,))) == branches
    crossed = flow_of(View(items((-1,), (0,), (0, 1), (1, 2)), (3,)))
    assert crossed.links and (0, 2) in crossed.links and (1, 3) in crossed.links
    levels = nesting(flow_of(View(items((-1,), (0,), (1,), (2,), (3, 1), (4, 0)), (5,))))
    assert [len(before.flows) for before, _ in levels] == [1, 1, 2]


def on_meta(name: str, size: int, classes: int = 10) -> Architecture:
    with torch.device("meta"):
        model = build_model(name, classes, size)
    return trace(model, (3, size, size), logits, name)


def all_text(panel: Panel) -> str:
    """What is written in a panel, pointing at things aside."""
    marks = re.sub(r"<title>.*?</title>", "", panel.marks)
    return " | ".join(re.findall(r"<text[^>]*>(.*?)</text>", marks))


def boxes_of(panel: Panel) -> dict[str, tuple[float, float]]:
    """Where each box stands, by its whole name; within whatever is around it."""
    found = re.findall(r'translate\(([\d.]+) ([\d.]+)\)"><g><title>([^:]*):', panel.marks)
    return {name: (float(across), float(down)) for across, down, name in found}


def test_a_view_shows_layers_as_one_draws_them_and_loses_no_number() -> None:
    found = on_meta("resnet50", 224)
    assert found.root is not None
    view = view_of(found.root, {"ResNet"})
    assert [(item.name, item.words[item.main], item.repeat) for item in view.items][:4] == [
        ("backbone.conv1", f"convolution 7 {TIMES} 7, stride 2", 1),
        ("backbone.maxpool", f"max pooling 3 {TIMES} 3, stride 2", 1),
        ("backbone.layer1.0", "Bottleneck", 1),
        (f"backbone.layer1.1{DASH}2", "Bottleneck", 2),
    ]
    assert view.items[0].words[1:] == ("batch norm", "ReLU") and view.items[-1].words == ("linear",)
    for opened in ({"ResNet"}, {"ResNet", "Bottleneck"}):
        shown = view_of(found.root, opened).items
        assert sum(item.multiply_adds for item in shown) == found.root.multiply_adds
        assert sum(item.parameters for item in shown) == found.root.parameters


class Decoder(nn.Module):
    """Of a list of maps it leaves the first aside, as decoders do with the image."""

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


def test_a_closed_block_takes_what_it_uses_and_an_open_one_has_an_input_for_each() -> None:
    root = trace(Pyramid(), (3, 8, 8)).root
    assert root is not None
    assert [(item.name, item.sources) for item in view_of(root, ()).items] == [
        ("first", (-1,)),
        ("second", (0,)),
        ("decoder", (1, 0)),
    ]
    inside = view_of(root.children[2], ())
    assert [(item.name, item.sources) for item in inside.items] == [
        ("input 1", (-1,)),
        ("input 2", (-1,)),
        ("layers.0", (0,)),
        ("layers.1", (1,)),
        ("add", (2, 3)),
    ]


def test_resnet_is_drawn_with_its_two_kinds_of_bottlenecks() -> None:
    whole, plain, wider = panels_of(on_meta("resnet101", 224))
    assert whole.title == "resnet101" and "42.5 M parameters, 7.8 G multiply-adds" in all_text(whole)
    words = all_text(whole)
    for expected in (f"Bottleneck {TIMES} 22", f"layer3.1{DASH}22", f"1024 {TIMES} 14 {TIMES} 14", "24.6 M", "4.8 G",
                     f"image 3 {TIMES} 224 {TIMES} 224", "logits 10"):  # fmt: skip
        assert expected in words, expected
    assert f"layer3.1{DASH}22, one of 22" in all_text(plain) and "1.12 M parameters" in all_text(plain)
    assert plain.marks.count("<circle") == 2  # where the skip begins, and the sum at its end
    assert "downsample" in all_text(wider) and "downsample" not in all_text(plain)


def test_deeplab_is_drawn_with_its_branches_and_both_heads() -> None:
    with torch.device("meta"):
        found = trace(build_segmenter("deeplabv3_resnet101", 7), (3, 96, 96), outputs, "deeplab")
    panels = panels_of(found)
    words = all_text(panels[0])
    assert "FCNHead" in words and "auxiliary" in words and "logits" in words and "ASPP" in words
    aspp = next(panel for panel in panels if panel.title == "ASPP")
    words = all_text(aspp)
    assert all(f"dilation {rate}" in words for rate in (12, 24, 36)) and "concatenate" in words
    assert "global" in words and "pooling" in words
    places = [place for name, place in boxes_of(aspp).items() if name.startswith("convs.")]
    assert len({across for across, _ in places}) == 5 and len({down for _, down in places}) == 1


def test_a_unet_has_its_encoder_beside_its_decoder() -> None:
    with torch.device("meta"):
        found = trace(build_segmenter("unet", 11), (3, 256, 320), outputs, "unet")
    panel = panels_of(found)[0]
    places = boxes_of(panel)
    left = [places[f"network.encoder.{name}"][0] for name in ("stem", "layer2.0", "layer3.1", "layer4.0")]
    right = [places[f"network.decoder.{number}"] for number in range(4)]
    assert left == [0.0] * 4 and len({across for across, _ in right}) == 1 and right[0][0] > WIDTH / 2
    heights = [down for _, down in right]
    assert heights == sorted(heights, reverse=True)  # the decoder comes up
    across = re.findall(r'd="M([\d.]+) ([\d.]+)H([\d.]+)"', panel.marks)
    assert len(across) == 5 and panel.width <= WIDTH  # four skips, and the deepest map to what works on it
    assert all(float(start) < WIDTH / 2 < float(end) < right[0][0] for start, _, end in across)


def test_byol_is_drawn_as_two_networks_with_what_goes_between() -> None:
    with torch.device("meta"):
        pair, single = build_siamese(load_recipe("byol_fast")), build_siamese(load_recipe("simsiam_fast"))
    found = trace(pair, (3, 32, 32), both, "fastnet", "byol")
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
    words = all_text(panels_of(trace(single, (3, 32, 32), both, "fastnet", "simsiam"))[0])
    assert "the same weights" in words and "moving" not in words and "target" not in words


@pytest.mark.parametrize("name", ["vgg13_bn", "resnet18", "fastnet", "beit_base", "efficientnet_v2_s", "alexnet"])
def test_a_drawing_fits_a_phone_and_a_page(name: str) -> None:
    panels = panels_of(on_meta(name, 224))
    assert all(panel.width <= WIDTH for panel in panels) and panels[0].height < 1200
    tree = ET.fromstring(file_svg(panels))
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    for element in tree.iter():
        assert element.tag.rpartition("}")[2] in {"svg", "g", "rect", "path", "text", "title", "circle", "polygon"}
        assert not {"style", "class", "href", "onload"} & set(element.attrib)
    assert 'fill="#ffffff"' in file_svg(panels) and panels_of(on_meta(name, 224)) == panels


class Evil(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module("<b>&\"'\x00\ud800", nn.Conv2d(3, 4, 1))
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


def test_names_are_text_and_never_markup() -> None:
    found = trace(Evil(), (3, 8, 8), name="<script>alert(1)</script>")
    assert from_json(to_json(found)) == found
    panels = panels_of(found)
    for text in (file_svg(panels), *map(page_svg, panels)):
        tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}
        assert not tags & {"b", "i", "script"}
        assert "&lt;b&gt;" in text or "&lt;i&gt;" in text
        assert "\x00" not in text and "\ud800" not in text


def weird(chance: random.Random, depth: int, before: int) -> Block:
    """A tree that `from_json` accepts and no model would give."""
    count = 0 if depth > 3 or chance.random() < 0.35 else chance.randint(1, 6)
    names = ["a", "b.0", "layer1.2", "<x>&\"'", "", "backbone", "projector", "predictor", "target"]
    kinds = ["conv", "Bottleneck", "<script>", "add", "X, 3 heads", "a very long class name that goes on and on"]
    shapes = [tuple(chance.randint(0, 9999) for _ in range(chance.randint(0, 4))) for _ in range(chance.randint(0, 3))]
    children = tuple(weird(chance, depth + 1, place) for place in range(count))
    given = (
        [(chance.randint(-1, count - 1), chance.randint(0, 3)) for _ in range(chance.randint(0, 4))] if count else []
    )
    return Block(
        name=chance.choice(names),
        kind=chance.choice(kinds),
        role=chance.choice(ROLES),
        shapes=tuple(shapes),
        parameters=chance.choice([0, 5, 10**9]),
        shared=chance.choice([0, 3]),
        multiply_adds=chance.choice([0, 7, 10**18]),
        repeat=chance.choice([1, 1, 1, 5]),
        inputs=tuple((chance.randint(-1, before - 1), chance.randint(0, 3)) for _ in range(chance.randint(0, 3))),
        outputs=tuple(None if chance.random() < 0.1 else output for output in given),
        children=children,
    )


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_whatever_the_file_may_hold_is_drawn_or_left_out(seed: int) -> None:
    for own in range(seed, seed + 20):
        chance = random.Random(own)
        found = Architecture("n", (3, 8, 8), weird(chance, 0, 0), ("logits",) * chance.randint(0, 2), "byol")
        assert from_json(to_json(found)) == found
        panels = panels_of(found)
        assert not panels or ET.fromstring(file_svg(panels)) is not None


def test_a_model_of_very_many_layers_is_not_drawn() -> None:
    layers = nn.Sequential(*(nn.Conv2d(3, 3, 1 + 2 * (place % 2), padding=place % 2) for place in range(300)))
    assert panels_of(trace(layers, (3, 8, 8))) == []


def test_numbers_and_words_that_fit() -> None:
    assert [quantity(n) for n in (0, 7, 999, 1000, 999_600, 25_557_032, 4_089_184_256)] == [
        DASH, "7", "999", "1 k", "1 M", "25.6 M", "4.09 G",
    ]  # fmt: skip
    assert cut("a very long name", 40, 10).endswith("…") and text_width(cut("a very long name", 40, 10), 10) <= 41
    assert cut("short", 100, 10) == "short"
    lines = wrapped(f"conv 3 {TIMES} 3, dilation 12", 70, 10)
    assert lines == [f"conv 3 {TIMES} 3,", "dilation 12"]
