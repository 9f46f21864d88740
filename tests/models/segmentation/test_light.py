"""The light decoder on networks of timm: which maps it gets, weights of classifiers, and errors."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from models.test_segmenters import images, save_run
from sightline.errors import SightlineError
from sightline.models import build_model
from sightline.models.encoder_weights import load_encoder
from sightline.models.segmentation.light import map_indices
from sightline.models.segmenters import build_segmenter


@pytest.mark.parametrize(
    ("reductions", "maps", "expected"),
    [
        ([2, 4, 8, 16, 32], 4, [1, 2, 3, 4]),
        ([2, 4, 8, 16, 32], 2, [3, 4]),
        ([1, 2, 4, 8, 16, 32], 9, [2, 3, 4, 5]),
        ([16] * 12, 4, [2, 5, 8, 11]),
        ([14] * 3, 4, [0, 1, 2]),
        ([16] * 12, 1, [11]),
    ],
)
def test_the_maps_of_the_decoder(reductions: list[int], maps: int, expected: list[int]) -> None:
    assert map_indices(reductions, maps) == expected


@pytest.mark.parametrize(
    ("name", "args", "size"),
    [
        ("resnet18", {}, 64),
        ("tf_efficientnet_lite0", {}, 64),
        ("vit_tiny_patch16_224", {"depth": 2}, 224),
        ("vit_small_patch14_dinov2", {"depth": 2, "img_size": 70}, 70),
    ],
)
def test_the_backbone_of_a_classifier_becomes_the_encoder(
    name: str, args: dict[str, Any], size: int, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    classifier = build_model(f"timm/{name}", 3, size, args)
    run = save_run(tmp_path / "run", classifier, f"timm/{name}", ["a", "b", "c"])
    model = build_segmenter(f"light/{name}", 2, args)
    report = load_encoder(model, str(run), ["road", "sky"])
    assert report.new and all(key.startswith(("network.projections.", "network.classes.")) for key in report.new)
    count = len(model.encoder.state_dict())
    assert f"encoder: {count} of {count} tensors" in str(report)
    assert "the decoder is new" in str(report) and "not loaded" not in str(report)
    backbone: Any = classifier.eval().backbone
    with torch.no_grad():
        expected = backbone.forward_intermediates(images(1, size, size), intermediates_only=True)[-1]
        torch.testing.assert_close(model.eval().encoder(images(1, size, size))[-1], expected)


GUIDE = Path(__file__).parents[3] / "docs" / "segment.md"
SMALL = {"vit_": {"depth": 4}, "deit_": {"depth": 4}, "eva02_": {"depth": 4}, "swin": {"depths": (1, 1, 1, 1)}}


def table_of_encoders() -> list[tuple[str, str]]:
    """The networks in the guide's table, each with the multiple of its image sides; "" for one size only."""
    table = GUIDE.read_text(encoding="utf-8").partition("| families of timm")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return [(name, row[2].strip()) for row in rows for name in re.findall("`(.*?)`", row[0])]


@pytest.mark.parametrize("row", table_of_encoders(), ids=lambda row: row[0])
def test_the_table_of_encoders_in_the_guide(row: tuple[str, str]) -> None:
    name, multiple = row
    args = next((args for start, args in SMALL.items() if name.startswith(start)), {})
    if not multiple:
        with pytest.raises(SightlineError, match="images of one size only"):
            build_segmenter(f"light/{name}", 2)
        return
    model = build_segmenter(f"light/{name}", 2, args).eval()
    factors = [each["reduction"] for each in model.encoder.model.feature_info]
    assert model.stride == int(multiple) and len(model.encoder.widths) == 4
    assert factors[-4:] == ([4, 8, 16, 32] if model.stride == 32 else [model.stride] * 4)
    with torch.no_grad():
        assert model(images(1, 72, 104)).shape == (1, 2, 72, 104)


def test_position_embeddings_are_resized_to_those_of_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    args = {"depth": 2}
    run = save_run(
        tmp_path / "run", build_model("timm/vit_tiny_patch16_224", 3, 64, args), "timm/vit_tiny_patch16_224", ["a"] * 3
    )
    report = load_encoder(build_segmenter("light/vit_tiny_patch16_224", 2, args), str(run))
    assert "position embeddings resized" in str(report)
    assert not [key for key in report.new if ".encoder." in key]


def test_images_are_enlarged_before_the_encoder() -> None:
    torch.manual_seed(0)
    plain, large = (build_segmenter("light/resnet18", 2, {"enlarge": factor}).eval() for factor in (1.0, 1.5))
    large.load_state_dict(plain.state_dict())
    given = images(1, 64, 96)
    with torch.no_grad():
        found = large(given)
        bigger = functional.interpolate(given, (96, 144), mode="bilinear")
        expected = functional.interpolate(plain.network(bigger), (64, 96), mode="bilinear")
        assert large(images(1, 70, 90)).shape == (1, 2, 70, 90), "padded to the stride"
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("light/resnet19", {}, ["light/resnet18", "timm.list_models()"]),
        ("light", {}, ["must be light/ENCODER"]),
        ("light/resnet18", {"pretrained": True}, ["'pretrained'"]),
        ("light/resnet18", {"wide": 1}, ["wide"]),
        ("light/resnet18", {"maps": 0}, ["maps must be at least 1"]),
        ("light/resnet18", {"enlarge": 0.5}, ["enlarge must be 1 to 4"]),
        ("light/beit_base_patch16_224", {"depth": 1}, ["images of one size only", "--model.name light/"]),
    ],
)
def test_invalid_encoders_are_errors_with_the_reason(name: str, args: dict, words: list[str]) -> None:
    with pytest.raises(SightlineError) as caught:
        build_segmenter(name, 3, args)
    assert all(word in str(caught.value) for word in words), str(caught.value)
