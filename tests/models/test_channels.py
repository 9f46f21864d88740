"""Networks for images with other channels than red, green and blue, and their weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sightline import models
from sightline.errors import SightlineError
from sightline.models import Classifier, build_backbone, build_model
from sightline.models.encoder_weights import load_encoder
from sightline.models.formats import widened
from sightline.models.segmenters import SEGMENTERS, build_segmenter, build_unet
from sightline.models.weights import load_weights

RGB = ("red", "green", "blue")
BANDS = ("coastal", "blue", "green", "red", "nir")
SMALL = {"widths": [4, 8], "hidden": 16}
SLIM = {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8, 8, 8, 8]}


@pytest.mark.parametrize(
    ("name", "size", "args"),
    [
        ("small_cnn", 16, {}),
        ("vgg13_bn", 32, {}),
        ("resnet9", 16, {}),
        ("fastnet", 16, {}),
        ("alexnet", 64, {}),
        ("resnet18", 32, {}),
        ("resnet18", 96, {}),
        ("efficientnet_v2_s", 32, {}),
        ("beit_base", 32, {}),
        ("torchvision/vit_b_16", 224, {}),
        ("torchvision/swin_t", 64, {}),
        ("torchvision/googlenet", 64, {"init_weights": False}),
        ("timm/convnext_atto", 64, {}),
    ],
)
@pytest.mark.parametrize("channels", [1, 12])
def test_backbones_have_the_channels_of_the_images(name: str, size: int, args: dict, channels: int) -> None:
    with torch.device("meta"):
        backbone, width = build_backbone(name, size, args, channels)
    assert models.dry_run(backbone, size, channels).shape == (1, width)
    with pytest.raises((RuntimeError, AssertionError)):
        models.dry_run(backbone, size, channels + 1)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("unet", SLIM),
        ("fcn32s", {"width": 4}),
        ("deeplabv3_resnet50", {}),
        ("smp/unet/resnet18", {}),
        ("smp/unet/mit_b0", {}),
        ("smp/fpn/tu-convnext_atto", {}),
    ],
)
def test_segmenters_have_the_channels_of_the_images(name: str, args: dict) -> None:
    with torch.device("cpu" if "mit" in name else "meta"):
        model = build_segmenter(name, 3, args, 12)
    assert models.dry_run(model, (33, 47), 12).shape == (1, 3, 33, 47) and model.channels == 12
    with pytest.raises((RuntimeError, AssertionError)):
        models.dry_run(model, 64)


def test_flops_count_the_channels() -> None:
    few, many = (models.forward_flops(build_model("small_cnn", 2, 16, SMALL, "linear", c), 16, c) for c in (3, 12))
    assert many - few == 2 * 9 * 9 * 4 * 16 * 16  # nine more channels, 3x3, four outputs


def test_the_random_layer_of_a_torchvision_network_has_the_scale_of_rgb() -> None:
    torch.manual_seed(0)
    built = [build_model("resnet18", 2, 96, channels=count) for count in (3, 12)]
    rgb, wide = (model.backbone.get_submodule("conv1").weight.detach() for model in built)
    assert wide.shape == (64, 12, 7, 7) and float(wide.std() / rgb.std()) == pytest.approx(0.5, rel=0.05)


def test_a_network_of_a_user_without_channels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "mine", lambda size: models.small_cnn(size))
    monkeypatch.setitem(SEGMENTERS, "my_masks", lambda classes: build_unet(classes, **SLIM))
    assert build_backbone("mine", 16)[1] == 512
    for build in (lambda: build_backbone("mine", 16, None, 12), lambda: build_segmenter("my_masks", 2, None, 12)):
        with pytest.raises(SightlineError, match="for images with 3 channels, and these have 12") as caught:
            build()
        assert "--data.channels" in caught.value.cure


def test_the_number_of_channels_is_no_argument_of_a_model() -> None:
    for name, argument in (("small_cnn", "channels"), ("timm/convnext_atto", "in_chans")):
        with pytest.raises(SightlineError, match=argument):
            build_backbone(name, 64, {argument: 5})


def test_known_channels_keep_their_weights() -> None:
    weight = torch.randn(4, 3, 3, 3)
    wide = widened(weight, RGB, BANDS)
    mean = weight.mean(1) * 3 / 5
    for index, plane in enumerate((mean, *(weight[:, c] * 3 / 5 for c in (2, 1, 0)), mean)):
        torch.testing.assert_close(wide[:, index], plane)
    torch.testing.assert_close(widened(weight, RGB, ("gray",))[:, 0], weight.sum(1))
    torch.testing.assert_close(widened(weight, RGB, ("B1", "B02", "B3", "Red", "B8A")), wide)


def saved(folder: Path, model: torch.nn.Module, name: str, channels: tuple[str, ...] = RGB) -> Path:
    """Write a checkpoint folder as a run does."""
    folder.mkdir()
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    about: dict[str, Any] = {"classes": ["a", "b"], "model": {"name": name}}
    if channels != RGB:
        about["preprocessing"] = {"channels": {"names": channels}}
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def test_rgb_weights_give_the_same_output_for_gray_images(tmp_path: Path) -> None:
    rgb = build_model("small_cnn", 2, 16, SMALL).eval()
    wide = build_model("small_cnn", 2, 16, SMALL, channels=5).eval()
    report = load_weights(
        wide, str(saved(tmp_path / "w", rgb, "small_cnn")), "small_cnn", 16, ["a", "b"], channels=BANDS
    )
    assert report.new == () and report.ignored == ()
    assert "blue, green, red keep their weights" in str(report) and "coastal, nir get the mean" in str(report)
    gray = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(wide(gray.expand(-1, 5, -1, -1)), rgb(gray.expand(-1, 3, -1, -1)))


def test_weights_of_the_same_channels_are_taken_as_they_are(tmp_path: Path) -> None:
    first, second, other = (build_model("small_cnn", 2, 16, SMALL, channels=5) for _ in range(3))
    folder = str(saved(tmp_path / "w", first, "small_cnn", BANDS))
    assert load_weights(second, folder, "small_cnn", 16, ["a", "b"], channels=BANDS).notes == ()
    assert torch.equal(first_layer(second), first_layer(first))
    reordered = ("nir", *BANDS[:-1])
    report = load_weights(other, folder, "small_cnn", 16, ["a", "b"], channels=reordered)
    assert torch.equal(first_layer(other), first_layer(first)[:, [4, 0, 1, 2, 3]]) and "keep" in report.notes[0]


def test_weights_of_a_segmenter_and_of_timm_are_widened(tmp_path: Path) -> None:
    classifier = build_model("timm/convnext_atto", 2, 64)
    folder = saved(tmp_path / "timm", classifier, "timm/convnext_atto")
    model = build_segmenter("smp/unet/tu-convnext_atto", 2, None, 5)
    report = load_encoder(model, str(folder), channels=BANDS)
    expected = widened(classifier.backbone.get_submodule("stem.0").weight, RGB, BANDS)
    stem = next(value for value in model.encoder.parameters() if value.ndim == 4)
    assert torch.equal(stem, expected) and report.share > 0.3 and not any("stem" in name for name in report.ignored)

    rgb, wide = build_segmenter("unet", 2, SLIM), build_segmenter("unet", 2, SLIM, 4)
    report = load_encoder(wide, str(saved(tmp_path / "unet", rgb, "unet")), ["a", "b"], (*RGB, "nir"))
    assert report.new == () and "nir get the mean of red, green, blue; all times 3 / 4" in str(report)


def first_layer(model: Classifier) -> torch.Tensor:
    return model.backbone.get_submodule("blocks.0.0").weight
