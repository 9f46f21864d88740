"""Preprocessing of the weights' own: equal to timm's and torchvision's, settable, and stored as numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline import Config
from sightline.config.resolve import resolve
from sightline.config.schema import Augment, Data, Model
from sightline.data.augment.batch import evaluation_transform
from sightline.data.channels import Channels
from sightline.data.decode.images import Square
from sightline.engine.parts import normalization
from sightline.errors import SightlineError
from sightline.models import build_model
from sightline.models.pretrained.preprocessing import with_own_preprocessing
from sightline.models.pretrained.published import published

OWN = Data(size=0, fit="pretrained", eval_crop=0, filter="pretrained")
LEVEL = 1 / 255
NETWORKS = {
    "vit_small_patch14_dinov2": {"depth": 1},
    "vit_small_patch16_dinov3": {"depth": 1},
    "vit_base_patch16_siglip_224": {"depth": 1},
    "vit_base_patch32_clip_224.laion2b": {"depth": 1},
    "vit_base_patch32_clip_224.openai": {"depth": 1},
    "eva02_tiny_patch14_224": {"depth": 1},
    "convnext_atto": {},
    "tf_efficientnet_lite0": {},
    "mobilenetv3_small_050": {},
    "vit_tiny_patch16_384": {"depth": 1},
}


def own(name: str, **settings: object) -> Config:
    """The configuration of a model with all preprocessing settings of its weights, resolved."""
    config = Config(data=OWN, model=Model(name=name), augment=Augment(normalize="pretrained"))
    return with_own_preprocessing(resolve(config, settings))[0]


def prepared(config: Config, image: Image.Image) -> torch.Tensor:
    """The network's input [3, size, size] for an image, as in evaluation."""
    data, augment = config.data, config.augment
    pixels = torch.from_numpy(np.ascontiguousarray(Square.of_settings(data, data.size).of(image)))[None]
    return evaluation_transform(data.size, augment.mean, augment.std)(pixels)[0]


def photograph(width: int, height: int) -> Image.Image:
    """Smooth random colors with edges."""
    small = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    image.paste((250, 20, 60), (width // 3, height // 3, width // 2, height // 2))
    return image


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_timm_build_and_normalize_as_timm_does(name: str) -> None:
    """timm resizes to whole pixels and then crops; Sightline resizes the cropped part at once. In square images,
    no pixel differs by more than 1 of 255 levels, and few do; in others, positions differ by up to half a pixel, here
    by 1.2 levels on average."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    config = own(f"timm/{name}")
    with torch.device("meta"):
        network = build_model(f"timm/{name}", 3, config.data.size, NETWORKS[name])
        source = resolve_model_data_config(timm.create_model(name, **NETWORKS[name]))
    assert network.channels == 3
    transform = create_transform(**source, is_training=False)
    std = torch.tensor(config.augment.std)[:, None, None]
    for shape, mean, worst in (((600, 600), 0.001, 1.01), ((640, 480), 2, 255)):
        image = photograph(*shape)
        found = (prepared(config, image) - transform(image)).abs() * std
        assert found.shape == (3, config.data.size, config.data.size)
        assert found.mean() < mean * LEVEL and found.max() < worst * LEVEL


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "efficientnet_v2_l"])
def test_networks_of_torchvision_normalize_as_torchvision_does(name: str) -> None:
    from torchvision.models import get_model_weights

    config, image = own(f"torchvision/{name}"), photograph(640, 480)
    wanted = get_model_weights(name).DEFAULT.transforms()(image)
    found = (prepared(config, image) - wanted).abs() * torch.tensor(config.augment.std)[:, None, None]
    assert found.shape == wanted.shape and found.mean() < 2 * LEVEL


def test_each_setting_can_be_given_and_is_stored_as_a_number() -> None:
    config = own(
        "timm/tf_efficientnet_lite0", **{"data.size": 96, "augment.mean": [0.1, 0.2, 0.3], "augment.std": [1.0] * 3}
    )
    assert (config.data.size, config.data.filter, config.data.fit) == (96, "bicubic", "crop")
    assert config.data.eval_crop == 0.875 and config.augment.mean == (0.1, 0.2, 0.3)
    assert with_own_preprocessing(config) == (config, "")
    _, line = with_own_preprocessing(Config(data=Data(size=0), model=Model(name="timm/vit_small_patch14_dinov2")))
    assert line == "preprocessing of timm vit_small_patch14_dinov2.lvd142m: data.size 518"


def test_a_resolved_recipe_does_not_ask_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    config = own("timm/convnext_atto")
    monkeypatch.setattr("sightline.models.pretrained.preprocessing.published", lambda name: pytest.fail("asked"))
    assert with_own_preprocessing(config) == (config, "")


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("smp/unet/tu-tf_efficientnet_lite0", 0.5),
        ("fcn32s", 0.485),
        ("deeplabv3_resnet50", 0.485),
    ],
)
def test_segmenters_have_the_normalization_of_their_encoder(name: str, mean: float) -> None:
    config = Config(model=Model(name=name), augment=Augment(normalize="pretrained"))
    assert with_own_preprocessing(config)[0].augment.mean[0] == mean


def test_a_run_as_weights_gives_its_preprocessing(tmp_path: Path) -> None:
    best = tmp_path / "checkpoints" / "best"
    best.mkdir(parents=True)
    (best / "model.safetensors").write_bytes(b"")
    about = {"size": 48, "fit": "crop", "resize": "bicubic", "eval_crop": 0.5, "mean": [0.1] * 3, "std": [0.2] * 3}
    (best / "config.json").write_text(json.dumps({"preprocessing": about}))
    assert own("small_cnn", **{"model.weights": str(best / "model.safetensors")}).data.size == 48
    config = own("small_cnn", **{"model.weights": str(tmp_path)})
    assert (config.data.size, config.data.eval_crop, config.augment.std) == (48, 0.5, (0.2, 0.2, 0.2))
    (best / "config.json").write_text(json.dumps({"preprocessing": {"mean": [0.1] * 3, "std": [0.2] * 3}}))
    with pytest.raises(SightlineError, match=r"unknown: data.size, data.fit, data.eval_crop, data.filter") as caught:
        own("small_cnn", **{"model.weights": str(tmp_path)})
    assert "--data.size 224 --data.fit squash" in caught.value.cure


@pytest.mark.parametrize("name", ["torchvision/googlenet", "torchvision/inception_v3"])
def test_weights_that_torchvision_converts_when_it_loads_them_have_the_range_of_their_training(name: str) -> None:
    config = own(name, **{"model.weights": "pretrained"})
    assert config.augment.mean == config.augment.std == (0.5, 0.5, 0.5)


def test_unknown_preprocessing_is_an_error() -> None:
    with pytest.raises(SightlineError, match="no pre-trained weights for small_cnn"):
        own("small_cnn")
    config = Config(model=Model(name="smp/unet/mobilenet_v2"), augment=Augment(normalize="pretrained"))
    with pytest.raises(SightlineError, match=r"unknown: augment.mean, augment.std") as caught:
        with_own_preprocessing(config)  # smp states it on the hub only, and no weights were asked for
    assert caught.value.cure.startswith("set it, for example: --augment.normalize imagenet (or dataset")
    for name in ("timm/vit_smal_patch16_224", "timm/resnet18.a1_in1kk", "torchvision/resnet51"):
        with pytest.raises(SightlineError, match=f"unknown model '{name}'") as caught:
            own(name)
        assert caught.value.cure.startswith("did you mean ")


def test_means_must_fit_the_channels(channels: int = 4) -> None:
    from types import SimpleNamespace

    train = SimpleNamespace(channels=Channels(("red", "green", "blue", "nir")))
    config = Config(augment=Augment(mean=(0.5,) * channels, std=(0.2,) * channels))
    assert normalization(config, train, print) == ((0.5,) * 4, (0.2,) * 4)
    with pytest.raises(SightlineError, match=r"augment.mean has 3 numbers, and the images 4 channels"):
        normalization(config.replace(augment=Augment(mean=(0.5,) * 3, std=(0.2,) * 3)), train, print)
    with pytest.raises(SightlineError, match="mean and std need one number each"):
        resolve(Config(), {"augment.mean": [0.5]})


def test_published_weights_name_data_and_license() -> None:
    assert "trained on: LVD-1689M; license: dinov3-license, which restricts" in str(
        published("timm/vit_small_patch16_dinov3")
    )
    assert str(published("timm/vit_tiny_patch16_224")).endswith("ImageNet-21k, ImageNet-1k; license: apache-2.0")
    assert published("resnet50").megabytes == 97.79 and "ImageNet-1k" in str(published("resnet50"))
