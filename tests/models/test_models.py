"""Classifiers: the common interface, for each library; FLOPs, layer depths, and errors of `build_model`."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sightline import models
from sightline.errors import SightlineError
from sightline.models import MODELS, Classifier, build_backbone, build_model, feature_width, freeze_backbone
from sightline.models.fast import Gate
from sightline.models.library import patch_side, require_whole_patches

CLASSES = 5
SIZES = {"alexnet": 63, "torchvision/inception_v3": 75}
"""Image sides in pixels; 32 for all other models."""
OTHERS = ("timm/resnet18", "timm/vit_tiny_patch16_224", "torchvision/mobilenet_v3_small", "torchvision/inception_v3")


def size_of(name: str) -> int:
    return SIZES.get(name, 32)


@pytest.fixture(scope="module", params=[*MODELS, *OTHERS])
def named(request: pytest.FixtureRequest) -> tuple[str, Classifier]:
    torch.manual_seed(0)
    return request.param, build_model(request.param, CLASSES, size_of(request.param))


def images(name: str, count: int) -> Tensor:
    size = size_of(name)
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def batch_norm_state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.named_buffers()}


def test_interface(named: tuple[str, Classifier]) -> None:
    """Output shapes, finite gradients of all parameters, a single image in evaluation mode, saving and loading."""
    name, model = named
    model.train()
    batch = images(name, 2)
    logits = model(batch)
    assert logits.shape == (2, CLASSES) and logits.isfinite().all()
    logits.square().sum().backward()
    fixed = {"backbone.stem.weight"} if name == "fastnet" else set()  # its whitening is computed, not learned
    assert {key for key, parameter in model.named_parameters() if parameter.grad is None} == fixed
    assert {key for key, parameter in model.named_parameters() if not parameter.requires_grad} == fixed
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    model.zero_grad()

    model.eval()
    with torch.no_grad():
        logits = model(batch)
        features = model.features(batch[:1])
        assert features.shape == (1, model.head.in_features)
        torch.testing.assert_close(model.head(features), logits[:1], rtol=1e-3, atol=1e-4)
        saved = {key: value.clone() for key, value in model.state_dict().items()}
        for value in model.state_dict().values():
            value.zero_()
        model.load_state_dict(saved)
        assert torch.equal(model(batch), logits)
        if name == "beit_base":
            check_class_token(model, batch[:1], features)


def check_class_token(model: Classifier, batch: Tensor, features: Tensor) -> None:
    """Assert that the features are the normalized class token, not the average of the patch tokens."""
    seen: list[Tensor] = []
    hook = model.backbone.get_submodule("norm").register_forward_hook(lambda module, args, output: seen.append(output))
    model.features(batch)
    hook.remove()
    assert seen[0].shape == (1, 5, 768) and torch.equal(features, seen[0][:, 0])


def test_depths_cover_every_parameter(named: tuple[str, Classifier]) -> None:
    _, model = named
    depths = models.layer_depths(model)
    assert list(depths) == [name for name, _ in model.named_parameters()]
    backbone = [depth for name, depth in depths.items() if name.startswith("backbone.")]
    last = max(backbone, default=-1)  # pixels and constant have no parameters
    assert sorted(set(depths.values())) == list(range(last + 2)), (
        "depths have no gaps, and the head's is the backbone's + 1"
    )
    assert depths["head.weight"] == depths["head.bias"] == last + 1


def test_frozen_backbone_does_not_change(named: tuple[str, Classifier]) -> None:
    """Must be the last test that uses the module's fixture: it freezes the model."""
    name, model = named
    freeze_backbone(model)
    model.train()
    before = batch_norm_state(model.backbone)
    model(images(name, 1)).sum().backward()
    assert {key for key, parameter in model.named_parameters() if parameter.grad is not None} == {
        "head.weight",
        "head.bias",
    }
    assert all(torch.equal(value, before[key]) for key, value in model.backbone.named_buffers())
    assert model.head.training and not any(module.training for module in model.backbone.modules())


def test_training_updates_batch_norm() -> None:
    model = build_model("small_cnn", 3, 16).train()
    before = batch_norm_state(model)
    model(images("small_cnn", 4)[:, :, :16, :16])
    assert not torch.equal(
        before["backbone.blocks.0.1.running_mean"], dict(model.named_buffers())["backbone.blocks.0.1.running_mean"]
    )


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in build_model("resnet9", 4, 32).parameters()])

    assert torch.equal(weights(3), weights(3)) and not torch.equal(weights(3), weights(4))


def test_vgg13_has_thirteen_layers_with_weights() -> None:
    model = build_model("vgg13_bn", 50, 32, {"width": 64})
    kinds = [type(module) for module in model.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.MaxPool2d), kinds.count(nn.Linear)) == (10, 5, 3)
    order = [type(module) for module in model.backbone.get_submodule("features").children()]
    assert order[:4] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    # 3x3 kernels and two batch-norm parameters per channel, then the linear layers.
    channels = [3, 64, 64, 128, 128, 256, 256, 512, 512, 512, 512]
    expected = sum(9 * a * b + 2 * b for a, b in pairwise(channels))
    expected += (512 + 1) * 64 + (64 + 1) * 64 + (64 + 1) * 50
    assert models.parameter_count(model) == expected


def test_small_cnn_is_three_blocks_and_a_two_layer_perceptron() -> None:
    model = build_model("small_cnn", 10, 32)
    kinds = [type(module) for module in model.modules()]
    assert (kinds.count(nn.Conv2d), kinds.count(nn.MaxPool2d), kinds.count(nn.Linear)) == (6, 3, 2)


def test_heads_of_alexnet_and_efficientnet_have_1000_inputs() -> None:
    for name in ("alexnet", "efficientnet_v2_s"):
        with torch.device("meta"):
            assert build_model(name, 7, 64).head.in_features == 1000


def test_resnet_stem_depends_on_the_image_size() -> None:
    with torch.device("meta"):
        stems = {size: build_model("resnet18", 2, size).backbone.get_submodule("conv1") for size in (64, 65)}
        forced = build_model("resnet18", 2, 224, {"small_images": True}).backbone.get_submodule("conv1")
    assert [stems[size].kernel_size for size in (64, 65)] == [(3, 3), (7, 7)] and forced.stride == (1, 1)


@pytest.mark.parametrize(
    ("args", "width"), [({}, 512), ({"widths": [8, 16], "residual": []}, 16), ({"stem_stride": 2, "pool": "mean"}, 512)]
)
def test_resnet9_is_configurable(args: dict, width: int) -> None:
    model = build_model("resnet9", 3, 32, args).eval()
    assert model(images("resnet9", 1)).shape == (1, 3) and model.head.in_features == width


def test_resnet9_scale_multiplies_the_features() -> None:
    features = []
    for scale in (1.0, 0.125):
        torch.manual_seed(0)
        model = build_model("resnet9", 3, 16, {"scale": scale, "widths": [8, 16], "residual": [1]}).eval()
        features.append(model.features(images("resnet9", 2)))
    torch.testing.assert_close(features[1], features[0] / 8)


def test_flops_of_known_networks() -> None:
    """ResNet-18 as in torchvision's table (1.814 billion multiply-adds); ViT-B/16 by formula, with attention."""
    with torch.device("meta"):
        resnet = build_model("resnet18", 1000, 224)
        vit = build_model("torchvision/vit_b_16", 1000, 224)
    assert models.forward_flops(resnet, 224) / 2 == pytest.approx(1.814e9, rel=1e-3)
    tokens, width = 197, 768
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    assert models.forward_flops(vit, 224) / 2 == pytest.approx(12 * block + 196 * width**2 + width * 1000, rel=1e-6)


def test_forward_flops_does_not_change_the_model() -> None:
    model = build_model("small_cnn", 3, 32)
    freeze_backbone(model)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    models.forward_flops(model, 32)
    assert model.training and not model.backbone.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_depths_of_known_networks() -> None:
    with torch.device("meta"):
        resnet = models.layer_depths(build_model("resnet18", 2, 224))
        beit = models.layer_depths(build_model("beit_base", 2, 32))
        vit = models.layer_depths(build_model("torchvision/vit_b_16", 2, 224))
        convnext = models.layer_depths(build_model("timm/convnext_tiny", 2, 64))
    assert resnet["backbone.conv1.weight"] == resnet["backbone.bn1.weight"] == 0
    assert resnet["backbone.layer1.0.conv2.weight"] == 1 and resnet["backbone.layer4.0.downsample.0.weight"] == 7
    assert resnet["head.weight"] == 9
    assert beit["backbone.cls_token"] == beit["backbone.patch_embed.proj.weight"] == 0
    assert beit["backbone.blocks.11.mlp.fc2.weight"] == 12 and beit["head.weight"] == 13
    assert vit["backbone.encoder.pos_embedding"] == 0 and vit["backbone.encoder.ln.weight"] == 12
    assert convnext["backbone.stages.0.blocks.2.mlp.fc1.weight"] == 3


def test_images_that_patches_do_not_divide_are_an_error_with_the_nearest_sides() -> None:
    transformer, _ = build_backbone("timm/test_vit", 160)
    assert patch_side(transformer) == 16 and patch_side(build_backbone("small_cnn", 32)[0]) == 1
    require_whole_patches("timm/test_vit", transformer, 160)
    with pytest.raises(SightlineError, match="would not see the last 10 rows and columns of images of 170") as caught:
        require_whole_patches("timm/test_vit", transformer, 170)
    assert caught.value.cure == "choose a multiple: --data.size 160 or --data.size 176"


def test_the_search_for_the_smallest_size_draws_no_random_numbers() -> None:
    """The state of torch's generator depends only on the construction of the model."""
    torch.manual_seed(0)
    with pytest.raises(SightlineError):
        build_model("vgg13_bn", 2, 16, {"width": 8})
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    MODELS["vgg13_bn"](size=16, width=8)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "size", "args", "words"),
    [
        ("resnet19", 32, {}, ["resnet18", "timm/NAME", "vgg13_bn"]),
        ("timm/resnet19", 32, {}, ["timm/resnet18"]),
        ("timm/hf-hub:someone/model", 32, {}, ["timm.list_models()"]),
        ("torchvision/resnt50", 32, {}, ["torchvision/resnet50"]),
        ("torchvision/fasterrcnn_resnet50_fpn", 32, {}, ["torchvision.models.list_models"]),
        ("torchvision/squeezenet1_0", 64, {}, ["no linear layer"]),
        ("alexnet", 62, {}, ["62 x 62", "63 pixels or more"]),
        ("vgg13_bn", 31, {"width": 8}, ["32 pixels or more"]),
        ("small_cnn", 7, {}, ["at least 8 pixels"]),
        ("beit_base", 40, {}, ["16 pixels"]),
        ("torchvision/vit_b_16", 64, {}, ["224"]),
        ("resnet18", 32, {"depth": 3, "wide": 2}, ["'depth', 'wide'", "small_images"]),
        ("resnet9", 32, {"pool": "none"}, ["'none'"]),
        ("resnet9", 32, {"residual": [9]}, ["[9]"]),
        ("timm/resnet18", 32, {"wide": 1}, ["wide"]),
        ("timm/resnet18", 32, {"global_pool": ""}, ["(1, 512, 1, 1)"]),
        ("timm/resnet18", 32, {"checkpoint_path": "x.pt"}, ["checkpoint_path"]),
        ("torchvision/resnet18", 32, {"weights": "DEFAULT"}, ["weights"]),
    ],
)
def test_invalid_arguments_are_errors_with_the_reason(name: str, size: int, args: dict, words: list[str]) -> None:
    with pytest.raises(SightlineError) as caught, torch.device("meta"):
        build_model(name, 3, size, args)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_gate_is_squeeze_and_excitation_and_the_identity_for_zero_weights() -> None:
    torch.manual_seed(0)
    gate, maps = Gate(8, 4), torch.rand(3, 8, 5, 5)
    weights = 2 * torch.sigmoid(gate.excite(torch.relu(gate.squeeze(maps.mean((2, 3))))))
    torch.testing.assert_close(gate(maps), maps * weights[:, :, None, None])
    assert gate.squeeze.out_features == 2
    torch.nn.init.zeros_(gate.excite.weight)
    torch.nn.init.zeros_(gate.excite.bias)
    assert torch.equal(gate(maps), maps)
    plain, gated = (build_model("fastnet", 5, 16, {"widths": [8, 16, 16], "reduction": r}) for r in (0, 4))
    names = {name for name, _ in gated.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert len(names) == 3 * 4, "two layers with biases in each of three residual blocks"


def test_a_batch_norm_of_another_number_of_channels_is_an_error() -> None:
    """Though batch norms are not computed in a dry run."""
    wrong = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(SightlineError, match="does not support images") as caught:
        feature_width(wrong, "own", 16)
    assert "8 elements not 16" in caught.value.why
