"""Class activation maps: exact where the layers after the map are linear, and where they cannot be had."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.models import build_model
from sightline.models.class_maps import class_maps, enlarged, last_layer

CLASSES = torch.tensor([2, 0, 1])


def images(side: int = 64) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "timm/efficientnet_lite0"])
def test_the_sum_of_a_map_is_the_output_without_its_bias(name: str) -> None:
    """For a mean over positions and a linear head; the negative contributions are those of the opposite class."""
    model = build_model(name, 2, 64).eval()
    inputs = images()[:2]
    with torch.no_grad():
        model.head.weight[1] = -model.head.weight[0]
        outputs = model(inputs)[:, 0] - model.head.bias[0]
    first, second = (class_maps(model.backbone, model.head, inputs, torch.full((2,), k)) for k in (0, 1))
    assert first is not None and second is not None and first.min() >= 0 and first.shape[1] > 1
    torch.testing.assert_close((first - second).sum((1, 2)), outputs, rtol=1e-3, atol=1e-4)


def test_channels_may_be_last() -> None:
    """As in Swin transformers."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(5)

        def forward(self, maps: Tensor) -> Tensor:
            return self.norm(torch.cat([maps, maps[:, :2]], 1).permute(0, 2, 3, 1)).mean((1, 2))

    backbone, head = Last().eval(), nn.Linear(5, 3)
    found = last_layer(backbone, images(8)[:1])
    assert found is not None and found[2] == 3
    maps = class_maps(backbone, head, images(8), CLASSES)
    assert maps is not None and maps.shape == (3, 8, 8)


def test_a_map_shows_where_the_feature_is() -> None:
    """A network that counts bright pixels: the map is bright where the pixels are."""
    backbone = nn.Sequential(nn.AvgPool2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Linear(3, 2)
    nn.init.constant_(head.weight[0], 1.0), nn.init.constant_(head.weight[1], -1.0)
    image = torch.zeros(1, 3, 16, 16)
    image[:, :, 4:8, 8:12] = 1.0
    found = class_maps(backbone, head, image, torch.tensor([0]))
    assert found is not None and found.shape == (1, 4, 4)
    assert found[0, 1, 2] > 0 and found.count_nonzero() == 1
    opposite = class_maps(backbone, head, image, torch.tensor([1]))
    assert opposite is not None and not opposite.any(), "what lowers the output is not shown"


def test_nothing_of_the_network_changes() -> None:
    model = build_model("resnet18", 3, 32).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = class_maps(model.backbone, model.head, images(32), CLASSES)
    second = class_maps(model.backbone, model.head, images(32), CLASSES)
    assert first is not None and second is not None and torch.equal(first, second)
    assert torch.is_grad_enabled() and all(tensor.grad is None for tensor in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_shared_layer_is_cut_at_its_last_call() -> None:
    """The same module is called for the first map and for the last one."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, maps: Tensor) -> Tensor:
            return self.layer(self.layer(maps)).mean((2, 3))

    backbone = Twice().eval()
    found = last_layer(backbone, images(8)[:1])
    assert found is not None and found[0] is backbone.layer and found[1] == 2
    head = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.ones(1, 3))
        values = backbone.layer(backbone.layer(images(8))).sum(1) / 64
    maps = class_maps(backbone, head, images(8), torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(maps, values.clamp_min(0))


def test_layers_after_the_map_may_work_in_place() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU(inplace=True))
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    assert class_maps(backbone, nn.Linear(4, 3), images(8), CLASSES) is not None
    assert class_maps(first, nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), images(8), CLASSES) is not None


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "constant"])
def test_networks_without_positions_have_no_maps(name: str) -> None:
    side = 224 if "vit" in name else 32
    model = build_model(name, 3, side).eval()
    assert class_maps(model.backbone, model.head, images(side), CLASSES) is None


@pytest.mark.parametrize(
    "name", ["alexnet", "fastnet", "resnet9", "timm/mobilenetv3_small_050", "torchvision/densenet121"]
)
def test_networks_of_other_shapes_have_maps(name: str) -> None:
    model = build_model(name, 3, 64).eval()
    found = class_maps(model.backbone, model.head, images(64), CLASSES)
    assert found is not None and found.shape[0] == 3 and torch.isfinite(found).all()


def test_an_enlarged_map_ends_at_one() -> None:
    values = np.array([[0.0, 0.0], [0.0, 4.0]])
    assert enlarged(values, 8, 12).shape == (8, 12) and enlarged(values, 8, 12)[-1, -1] == 1.0
    assert enlarged(values, 8, 12)[0, 0] == 0.0 and enlarged(0 * values, 8, 12).max() == 0.0
