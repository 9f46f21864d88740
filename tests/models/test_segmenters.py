"""Segmenters: the common interface, errors of `build_segmenter`, and loading weights into encoders."""

import copy
import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from sightline import models
from sightline.errors import ENVIRONMENT, SightlineError
from sightline.models import build_model
from sightline.models.encoder_weights import load_encoder
from sightline.models.segmenters import SEGMENTERS, Segmenter, build_segmenter, freeze_encoder, padded

CLASSES = 5
SLIM = {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8, 8, 8, 8]}
OWN = [  # the head `small` needs 224 pixels and is tested in test_fcn
    ("unet", SLIM),
    ("unet", {**SLIM, "auxiliary": True, "context": False, "decoder": [8, 8, 8]}),
    ("unet", {**SLIM, "invariant": 3}),
    ("fcn32s", {"head": "dense", "width": 8}),
    ("fcn32s", {"head": "long", "width": 8, "batch_norm": True}),
    ("fcn32s", {"head": "sgd", "width": 8}),
    ("deeplabv3_resnet50", {}),
    ("deeplabv3_resnet101", {}),
    ("constant", {}),
    ("colors", {}),
]
LIGHT = [
    ("light/resnet18", {}),
    ("light/tf_efficientnet_lite0", {"width": 16, "maps": 2}),
    ("light/vit_tiny_patch16_224", {"depth": 2}),
    ("light/vit_small_patch14_dinov2", {"depth": 2, "img_size": 70}),
]
SMP = [
    ("smp/unet/resnet18", {}),
    ("smp/FPN/mobilenet_v2", {}),
    ("smp/DeepLabV3Plus/tu-tf_mobilenetv3_large_100", {}),
    ("smp/segformer/mit_b0", {}),
]


def images(count: int, height: int = 33, width: int = 47) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(
    scope="module", params=[*OWN, *LIGHT, *SMP], ids=lambda pair: "-".join([pair[0], *map(str, pair[1].values())])
)
def model(request: pytest.FixtureRequest) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(request.param[0], CLASSES, request.param[1])


def decoder_parameters(model: Segmenter) -> list[nn.Parameter]:
    """All parameters outside the encoder."""
    inside = f"{model.encoder_path}."
    return [value for name, value in model.network.named_parameters() if not name.startswith(inside)]


def test_all_names_are_tested() -> None:
    assert {name for name, _ in OWN} == set(SEGMENTERS)


def test_interface(model: Segmenter) -> None:
    """Output shapes at an odd size, finite gradients of all parameters, a single image, saving and loading."""
    model.train()
    outputs = model.outputs(images(2))
    assert list(outputs) in (["logits"], ["logits", "auxiliary"])
    assert all(value.shape == (2, CLASSES, 33, 47) and value.isfinite().all() for value in outputs.values())
    sum(value.square().sum() for value in outputs.values()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)
    model.zero_grad()
    encoder = {id(value) for value in model.encoder.parameters()}
    decoder = {id(value) for value in decoder_parameters(model)}
    assert decoder and not encoder & decoder and (encoder or model.name in ("constant", "colors"))
    assert encoder | decoder == {id(value) for value in model.parameters()}

    model.eval()
    with torch.no_grad():
        logits = model(images(2)[:1])
        torch.testing.assert_close(model(images(2))[:1], logits, rtol=1e-3, atol=1e-4)
        saved = {key: value.clone() for key, value in model.state_dict().items()}
        for value in model.state_dict().values():
            value.zero_()
        model.load_state_dict(saved)
        assert torch.equal(model(images(2)[:1]), logits)


def test_depths_of_the_encoder_have_no_gaps_and_the_decoder_is_deepest(model: Segmenter) -> None:
    depths = models.layer_depths(model)
    assert list(depths) == [name for name, _ in model.named_parameters()]
    encoder = {depth for name, depth in depths.items() if name.startswith(f"network.{model.encoder_path}.")}
    deepest = max(encoder, default=-1) + 1
    assert encoder == set(range(deepest)) and set(depths.values()) == {*encoder, deepest}


def test_a_batch_of_one_trains(model: Segmenter) -> None:
    """An image of one pixel: the deepest maps have one value per channel, for which torch's batch norm raises."""
    model.train()
    logits = model(images(1, 1, 1))
    assert logits.shape == (1, CLASSES, 1, 1)
    logits.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(module.training for module in model.modules())
    model.zero_grad()


def test_frozen_encoder_does_not_change(model: Segmenter) -> None:
    """Must be the last test that uses the module's fixture: it freezes the model."""
    freeze_encoder(model)
    model.train()
    before = {key: value.clone() for key, value in model.encoder.named_buffers()}
    sum(value.sum() for value in model.outputs(images(2)).values()).backward()
    trained = {id(value) for value in model.parameters() if value.grad is not None}
    assert trained == {id(value) for value in decoder_parameters(model)}
    assert all(torch.equal(value, before[key]) for key, value in model.encoder.named_buffers())
    assert model.network.training and not any(module.training for module in model.encoder.modules())


def test_deeplab_equals_torchvisions() -> None:
    """Bit-identical for two images, in training and evaluation mode: the batch-norm hooks change nothing else."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    model = build_segmenter("deeplabv3_resnet50", 3)
    with torch.device("meta"):
        theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=3, aux_loss=True)
    theirs.to_empty(device="cpu")  # the weights are those of `model`
    assert list(model.network.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(model.network.state_dict())
    for mode in (True, False):
        results = []
        for one in (model.train(mode).outputs, theirs.train(mode)):
            torch.manual_seed(1)  # dropout
            results.append(list(one(images(2)).values()))
        assert len(results[0]) == 2 and all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.network.buffers(), theirs.buffers(), strict=True))


def test_running_statistics_are_not_updated_by_single_values() -> None:
    """Only the batch norm after DeepLabV3's global pooling has single values."""
    model = build_segmenter("deeplabv3_resnet50", 3).train()
    counts = {key: value for key, value in model.network.named_buffers() if key.endswith("num_batches_tracked")}
    model.outputs(images(1))
    assert [key for key, value in counts.items() if value == 0] == ["classifier.0.convs.4.2.num_batches_tracked"]


def test_single_values_are_normalized_by_the_running_statistics() -> None:
    """Also in a deep copy of the model. An error in the forward pass does not change the training mode."""
    model = copy.deepcopy(build_segmenter("unet", 2, SLIM)).train()
    norm = model.network.get_submodule("context.reduce.1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(1, 2)
    value = torch.rand(1, norm.num_features, 1, 1)
    scale = (norm.running_var + norm.eps).rsqrt()[:, None, None]
    torch.testing.assert_close(norm(value), (value - norm.running_mean[:, None, None]) * scale)
    assert norm.training
    with pytest.raises(RuntimeError):
        norm(torch.rand(1, norm.num_features + 1, 1, 1))
    assert norm.training
    pair = torch.rand(2, norm.num_features, 1, 1)
    torch.testing.assert_close(norm(pair).mean(0), torch.zeros(norm.num_features, 1, 1), atol=1e-5, rtol=0)


def test_padding_repeats_the_last_row_and_column_and_is_cropped() -> None:
    model = build_segmenter("unet", 2, SLIM).eval()
    small = images(1, 33, 64)
    by_hand = torch.cat([small, small[:, :, -1:].expand(-1, -1, 31, -1)], dim=2)
    assert torch.equal(padded(small, 32, 32), by_hand) and padded(small, 32, 224).shape[-2:] == (224, 224)
    assert padded(by_hand, 32, 64) is by_hand
    with torch.no_grad():
        maps = model.network(by_hand)
        assert maps.shape == (1, 2, 32, 32)
        full = functional.interpolate(maps, size=(64, 64), mode="bilinear", align_corners=False)
        assert torch.equal(model(small), full[:, :, :33])


@pytest.mark.parametrize(
    "name",
    [
        *("unet/vgg11", "unetplusplus/resnet18", "manet/resnet18", "linknet/resnet18", "pspnet/resnet18"),
        *("pan/resnet18", "deeplabv3/resnet18", "unet/timm-mobilenetv3_small_100"),
        *("upernet/tu-swin_tiny_patch4_window7_224", "dpt/tu-vit_tiny_patch16_224"),
    ],
)
def test_every_architecture_of_smp_supports_any_size(name: str) -> None:
    with torch.device("cpu" if "tu-" in name else "meta"):  # constructors of transformers compute values
        model = build_segmenter(f"smp/{name}", CLASSES)
    assert models.dry_run(model, (33, 47)).shape == (1, CLASSES, 33, 47)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> None:
        pytest.fail("a model downloaded a file")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setattr(socket, "create_connection", download)
    monkeypatch.setattr(socket.socket, "connect", download)
    for name in (*SEGMENTERS, *(name for name, _ in SMP)):
        with torch.device("cpu" if "mit" in name else "meta"):
            build_segmenter(name, 2)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([value.flatten() for value in build_segmenter("unet", 2, SLIM).parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


def test_flops_of_unet() -> None:
    """Multiply-adds for the image sizes of camvid_fast; those of the stem by formula."""
    with torch.device("meta"):
        model = build_segmenter("unet", 11)
        stem = model.network.get_submodule("encoder.stem")
    assert models.forward_flops(model, (256, 320)) / 2 == pytest.approx(2.36e9, rel=3e-3)
    assert models.forward_flops(model, (360, 480)) / 2 == pytest.approx(5.32e9, rel=3e-3)
    assert models.forward_flops(stem, (256, 320)) / 2 == 128 * 160 * 32 * 27
    assert models.dry_run(model.network, (256, 320)).shape == (1, 11, 128, 160)


def test_invariant_unet_does_not_see_light_and_color_casts() -> None:
    torch.manual_seed(0)
    plain, invariant = (build_segmenter("unet", 3, {**SLIM, "invariant": n}).eval() for n in (0, 2))
    gain, shift = torch.tensor([0.4, 1.5, 0.8]), torch.tensor([0.3, -0.2, 0.1])
    batch = images(2, 64, 64)
    other = batch * gain[:, None, None] + shift[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(invariant(batch), invariant(other), rtol=0, atol=0.01)
        assert (plain(batch) - plain(other)).abs().max() > 0.05
    norms = [name for name, module in invariant.named_modules() if isinstance(module, nn.InstanceNorm2d)]
    assert [name.removeprefix("network.encoder.") for name in norms] == [
        "standardize",
        "layer1.0.bn1.instance",
        "layer2.0.bn1.instance",
    ]


def test_unet_overfits_two_images_to_the_pixel() -> None:
    """Including lines of two pixels, which need the decoder level at half the resolution."""
    torch.manual_seed(0)
    model = build_segmenter("unet", 2, {**SLIM, "decoder": [8, 8, 16, 16], "dropout": 0.0}).train()
    truth = torch.zeros(2, 64, 64, dtype=torch.long)
    truth[0, :, 10:12] = truth[0, 40:, 30:] = truth[1, 20:22] = truth[1, 5:25, 50:] = 1
    batch = images(2, 64, 64) + truth[:, None] * torch.tensor([0.3, -0.3, 0.2])[:, None, None]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    right = 0.0
    for _ in range(150):
        logits = model(batch)
        optimizer.zero_grad()
        functional.cross_entropy(logits, truth).backward()
        optimizer.step()
        right = float((logits.argmax(1) == truth).float().mean())
        if right > 0.995:
            break
    assert right > 0.995


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("unett", {}, ["did you mean unet?", "fcn32s", "smp/ARCH/ENCODER"]),
        ("smp", {}, ["smp/ARCH/ENCODER", "unetplusplus"]),
        ("smp/unett/resnet18", {}, ["smp/unet/resnet18"]),
        ("smp/unet/resnet19", {}, ["smp/unet/resnet18"]),
        ("smp/unet/tu-resnet19", {}, ["smp/unet/tu-resnet18"]),
        ("smp/unet", {}, ["no encoder ''"]),
        ("unet", {"depth": 3, "classes": 2}, ["'depth', 'classes'", "width, blocks, decoder"]),
        ("unet", {"blocks": [2, 2]}, ["[2, 2]"]),
        ("unet", {"decoder": []}, ["[]"]),
        ("unet", {"invariant": 4}, ["0 to 3, found 4"]),
        ("fcn32s", {"stride": 8}, ["'stride'", "head, batch_norm"]),
        ("fcn32s", {"head": "dens"}, ["dense, long, sgd, small"]),
        ("fcn32s", {"head": "small", "bilinear": True, "width": 2}, ["kernel 44 and stride 52"]),
        ("deeplabv3_resnet50", {"weights": "DEFAULT"}, ["'weights'", "deeplabv3_resnet50 are: auxiliary"]),
        ("smp/unet/resnet18", {"encoder_weights": "imagenet"}, ["'encoder_weights'", "decoder_channels"]),
        ("smp/unet/resnet18", {"drop_path_rate": 0.1}, ["'drop_path_rate'", "decoder_channels"]),
        ("smp/unet/tu-resnet18", {"activation": "softmax"}, ["'activation'"]),
        ("smp/unet/tu-resnet18", {"pretrained": True}, ["'pretrained'"]),
        ("smp/unet/tu-resnet18", {"wide": 1}, ["wide"]),
        ("smp/unet/resnet18", {"decoder_channels": [8]}, ["decoder_channels"]),
        ("smp/deeplabv3plus/vgg16_bn", {}, ["VGG"]),
    ],
)
def test_invalid_arguments_are_errors_with_the_reason(name: str, args: dict, words: list[str]) -> None:
    with pytest.raises(SightlineError) as caught, torch.device("meta"):
        build_segmenter(name, 3, args)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def save_run(folder: Path, model: nn.Module, name: str, classes: list[str]) -> Path:
    """Write a run folder with the checkpoint `best` only."""
    best = folder / "checkpoints" / "best"
    best.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, best / "model.safetensors")
    config = {"format": 1, "model": {"name": name, "args": {}}, "classes": classes}
    (best / "config.json").write_text(json.dumps(config))
    return folder


def state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def resnet18_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(1)
    classifier = build_model("resnet18", 3, 224)
    run = save_run(tmp_path_factory.mktemp("resnet18") / "run", classifier, "resnet18", ["a", "b", "c"])
    return run, state(classifier.backbone)


@pytest.mark.parametrize(("name", "inner"), [("resnet18", ""), ("tu-resnet18", "model.")])
def test_a_classifiers_backbone_becomes_the_encoder(
    resnet18_run: tuple[Path, dict[str, Tensor]], name: str, inner: str
) -> None:
    run, backbone = resnet18_run
    model = build_segmenter(f"smp/fpn/{name}", CLASSES)
    decoder = [value.clone() for value in decoder_parameters(model)]
    report = load_encoder(model, str(run), ["road", "sky"])
    encoder = model.encoder.state_dict()
    assert encoder.keys() == {inner + key for key in backbone}
    assert all(torch.equal(encoder[inner + key], value) for key, value in backbone.items())
    assert all(torch.equal(a, b) for a, b in zip(decoder_parameters(model), decoder, strict=True))
    assert report.matched == len(backbone) and report.total == len(model.state_dict())
    assert report.new == tuple(key for key in model.state_dict() if not key.startswith("network.encoder."))
    assert set(report.ignored) == {"head.weight", "head.bias"}
    complete = f"encoder: {len(backbone)} of {len(backbone)} tensors"
    assert report.notes == (complete, "prefixes removed from tensor names: backbone.")


def test_the_stages_of_a_resnet_load_into_unet(resnet18_run: tuple[Path, dict[str, Tensor]]) -> None:
    model = build_segmenter("unet", 2, {"width": 64})
    report = load_encoder(model, str(resnet18_run[0]))
    stages = [key for key in resnet18_run[1] if key.startswith("layer")]
    assert report.matched == len(stages) and "network.encoder.stem.0.weight" in report.new
    assert all(torch.equal(model.encoder.state_dict()[key], resnet18_run[1][key]) for key in stages)


def test_a_stem_for_small_images_is_not_loaded(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", build_model("resnet18", 3, 32), "resnet18", ["a", "b", "c"])
    report = load_encoder(build_segmenter("smp/unet/resnet18", 2), str(run))
    assert report.new[0] == "network.encoder.conv1.weight" and report.ignored[0] == "backbone.conv1.weight"


def test_names_of_timms_feature_extractors_are_converted(tmp_path: Path) -> None:
    torch.manual_seed(1)
    classifier = build_model("timm/convnext_atto", 3, 64)
    run = save_run(tmp_path / "run", classifier, "timm/convnext_atto", ["a", "b", "c"])
    model = build_segmenter("smp/unet/tu-convnext_atto", 2).eval()
    report = load_encoder(model, str(run))
    assert not any(key.startswith("network.encoder.") for key in report.new)
    with torch.no_grad():
        deepest = model.encoder(images(1, 64, 64))[-1]
        expected = classifier.eval().backbone.forward_features(images(1, 64, 64))  # ty: ignore[call-non-callable]
    torch.testing.assert_close(deepest, expected)


def test_vgg16_loads_with_its_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`imagenet`, from torch.hub's cache, with linear layers of 4 outputs instead of VGG16's 4096."""
    from torchvision.models import VGG16_Weights

    torch.manual_seed(1)
    source = build_segmenter("fcn32s", 2, {"head": "long", "width": 4})
    tensors = {key: value for key, value in source.network.state_dict().items() if key.startswith("features.")}
    tensors |= {"classifier.0.weight": torch.rand(4, 25088), "classifier.0.bias": torch.rand(4)}
    tensors |= {"classifier.3.weight": torch.rand(4, 4), "classifier.6.weight": torch.rand(1000, 4)}
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / VGG16_Weights.DEFAULT.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    torch.save(tensors, path)
    torch.manual_seed(2)
    model = build_segmenter("fcn32s", 2, {"head": "long", "width": 4})
    report = load_encoder(model, "imagenet")
    assert report.source == "torchvision VGG16_Weights.IMAGENET1K_V1" and report.ignored == ("classifier.6.weight",)
    assert set(report.new) == {f"network.{key}" for key in ("head.fc7.bias", "score.weight", "score.bias")} | {
        "network.upsample.weight"
    }
    assert torch.equal(model.network.get_parameter("head.fc6.weight").flatten(1), tensors["classifier.0.weight"])
    assert torch.equal(model.encoder.get_parameter("28.weight"), tensors["features.28.weight"])
    dense = build_segmenter("fcn32s", 2, {"width": 4})
    assert load_encoder(dense, "imagenet").matched == 26


def numbered(name: str, classes: int) -> Segmenter:
    """A segmenter whose tensors have one value each: initial weights at random would take seconds."""
    with torch.device("meta"):
        model = build_segmenter(name, classes)
    for number, value in enumerate(model.to_empty(device="cpu").state_dict().values()):
        value.fill_(number % 251 + 1)
    return model


def test_deeplab_loads_imagenet_and_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet50_Weights
    from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    source = numbered("deeplabv3_resnet50", 21).network.bfloat16().state_dict()
    backbone = {key.removeprefix("backbone."): value for key, value in source.items() if key.startswith("backbone.")}
    torch.save(backbone, folder / ResNet50_Weights.DEFAULT.url.rsplit("/", 1)[1])
    torch.save(source, folder / DeepLabV3_ResNet50_Weights.DEFAULT.url.rsplit("/", 1)[1])

    model = numbered("deeplabv3_resnet50", 6)
    for value in model.state_dict().values():
        value.zero_()
    assert load_encoder(model, "imagenet").matched == len(backbone)
    assert torch.equal(model.encoder.get_parameter("conv1.weight"), backbone["conv1.weight"].float())
    report = load_encoder(model, "coco", ["a", "b", "c", "d", "e", "f"])
    ends = [f"network.{head}.4.{kind}" for head in ("classifier", "aux_classifier") for kind in ("weight", "bias")]
    assert list(report.new) == ends and report.matched == len(source) - 4
    same = numbered("deeplabv3_resnet50", 21)
    for value in same.state_dict().values():
        value.zero_()
    before = state(same)
    report = load_encoder(same, "coco", [str(index) for index in range(21)])
    assert list(report.new) == ends and any(
        "the output layers have new random weights" in note for note in report.notes
    )
    assert all(torch.equal(same.state_dict()[key], before[key]) for key in ends)


def test_output_layers_of_a_segmenter_load_if_the_classes_are_equal(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build_segmenter("unet", 2, SLIM)
    run = save_run(tmp_path / "run", source, "unet", ["road", "sky"])
    assert load_encoder(build_segmenter("unet", 2, SLIM), str(run), ["road", "sky"]).new == ()
    report = load_encoder(build_segmenter("unet", 2, SLIM), str(run), ["sky", "road"])
    assert report.new == ("network.head.weight", "network.head.bias")
    torch.save(state(source), tmp_path / "w.pt")
    report = load_encoder(build_segmenter("unet", 2, SLIM), str(tmp_path / "w.pt"), ["sky", "road"])
    assert report.new == () and "has no class names" in str(report)


def test_weights_of_another_network_are_an_error(resnet18_run: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    model = build_segmenter("smp/unet/resnet34", 2)
    before = state(model)
    with pytest.raises(SightlineError) as caught:
        load_encoder(model, str(resnet18_run[0]))
    message = str(caught.value)
    assert "% of its encoder matched" in message and "encoder is resnet18" in message
    torch.save({f"blocks.{index}": torch.ones(2) for index in range(9)}, tmp_path / "w.pt")
    with pytest.raises(SightlineError, match="nothing of its encoder matched") as caught:
        load_encoder(model, str(tmp_path / "w.pt"))
    assert "network.encoder.conv1.weight" in str(caught.value) and "blocks.4" in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_imagenet_of_smps_own_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the cache under smp's fixed revision; without a network a SightlineError within seconds."""
    import huggingface_hub

    torch.manual_seed(1)
    source = build_segmenter("smp/unet/mobilenet_v2", 2).encoder.state_dict()
    save_file(source, tmp_path / "model.safetensors")
    requested: list[str] = []

    def cached(repository: str, name: str, revision: str = "") -> str:
        requested.append(f"{repository} {len(revision)}")
        return str(tmp_path / name)

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
        report = load_encoder(build_segmenter("smp/unet/mobilenet_v2", 2), "imagenet")
    assert requested == ["smp-hub/mobilenet_v2.imagenet 40"] and report.source == "smp mobilenet_v2 (imagenet)"
    assert report.matched == len(source)

    def connect(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(socket, "create_connection", connect)
    with torch.device("meta"):
        model = build_segmenter("smp/unet/mobilenet_v2", 2)
    with pytest.raises(SightlineError) as caught:
        load_encoder(model, "imagenet")
    assert caught.value.status == ENVIRONMENT and "offline" in caught.value.why


def test_unet_has_no_imagenet_weights() -> None:
    with pytest.raises(SightlineError, match="no pre-trained weights for unet"):
        load_encoder(build_segmenter("unet", 2, SLIM), "imagenet")
