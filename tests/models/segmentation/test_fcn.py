"""FCN-32s: VGG16's features, the four heads as reported, and the alignment of scores and pixels."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline import models
from sightline.inference.tiles import argmax_classes
from sightline.models.segmentation.fcn import FCN32s, bilinear_init, fcn32s, from_vgg16
from sightline.models.segmenters import build_segmenter


@pytest.mark.parametrize("batch_norm", [False, True])
def test_features_are_torchvisions(batch_norm: bool) -> None:
    """Equal names, shapes and results, so that ImageNet weights can be loaded."""
    from torchvision.models import vgg16, vgg16_bn

    with torch.device("meta"):
        theirs = (vgg16_bn if batch_norm else vgg16)(weights=None).features
    net = fcn32s(3, width=8, batch_norm=batch_norm).eval()
    shapes = {name: value.shape for name, value in net.features.state_dict().items()}
    assert shapes == {name: value.shape for name, value in theirs.state_dict().items()}
    theirs.load_state_dict(net.features.state_dict(), assign=True)
    images = torch.rand(1, 3, 32, 64)
    assert torch.equal(theirs.eval()(images), net.features(images))


def shape_after(net: FCN32s, module: nn.Module, side: int) -> tuple[int, ...]:
    """Shape of a layer's output for one image of `side` pixels, from a dry run."""
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda module, args, output: seen.append(output))
    models.dry_run(net, side)
    hook.remove()
    return tuple(seen[0].shape)


@pytest.mark.parametrize(
    ("head", "layers", "scores"),
    [
        # (inputs, outputs, kernel, padding) of each convolution; then the transposed one with its bias.
        ("dense", [(512, 4096, 1, 0), (4096, 4096, 1, 0), (4096, 7, 1, 0), (64, 32, 16, False)], 16),
        ("long", [(512, 4096, 7, 3), (4096, 4096, 1, 0), (4096, 7, 1, 0), (64, 32, 16, False)], 16),
        ("sgd", [(512, 4096, 7, 3), (4096, 4096, 1, 0), (4096, 7, 1, 0), (64, 32, 16, True)], 16),
        ("small", [(512, 1024, 7, 0), (1024, 7, 1, 0), (44, 52, 0, False)], 10),
    ],
)
def test_heads_are_as_reported(head: str, layers: list[tuple], scores: int) -> None:
    with torch.device("meta"):
        net = fcn32s(7, head)
    found = [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.padding[0])
        for m in [*net.head, net.score]
        if isinstance(m, nn.Conv2d)
    ]
    up = net.upsample
    assert [*found, (up.kernel_size[0], up.stride[0], up.padding[0], up.bias is not None)] == layers
    assert (up.in_channels, up.out_channels) == (7, 7)
    order = [type(module) for module in net.head]
    one = [nn.Conv2d, nn.ReLU, nn.Dropout2d if head == "small" else nn.Dropout]
    assert order == (one if head == "small" else one * 2)
    assert all(module.p == 0.5 for module in net.head if isinstance(module, nn.Dropout | nn.Dropout2d))
    assert isinstance(net.relu, nn.ReLU) == (head == "small")
    assert shape_after(net, net.features, 512) == (1, 512, 16, 16)
    assert shape_after(net, net.score, 512) == (1, 7, scores, scores)
    assert models.dry_run(net, 512).shape == (1, 7, 512, 512)


def test_small_predicts_class_0_between_the_kernels() -> None:
    """Kernel 44, stride 52 and no bias: in the 8 pixels between two kernels, 26.1 % of a 512-pixel image, all logits
    are 0."""
    logits = fcn32s(3, "small", width=4).upsample(torch.rand(1, 3, 10, 10))[0].detach()
    assert logits.shape == (3, 512, 512) and not logits[:, 44:52].any()
    gaps = (logits == 0).all(0)
    assert gaps.double().mean().item() == pytest.approx(1 - (10 * 44 / 512) ** 2) == pytest.approx(0.261, abs=5e-4)
    assert not argmax_classes(logits)[gaps].any() and argmax_classes(logits)[~gaps].any()


def test_small_trains_on_images_of_any_size() -> None:
    """The 7x7 convolution without padding needs 224 pixels; smaller images are padded."""
    torch.manual_seed(0)
    model = build_segmenter("fcn32s", 2, {"head": "small", "width": 8}).train()
    logits = model(torch.rand(1, 3, 33, 47))
    assert logits.shape == (1, 2, 33, 47)
    logits.sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_bilinear_initialization_equals_bilinear_interpolation() -> None:
    up = fcn32s(3, "long", width=4).upsample
    scores = torch.rand(1, 3, 4, 5)
    expected = functional.interpolate(scores, scale_factor=32, mode="bilinear", align_corners=False)
    inner = slice(16, -16)  # at the edges the interpolation repeats the last value, the convolution pads with zeros
    torch.testing.assert_close(up(scores)[..., inner, inner], expected[..., inner, inner])
    assert not torch.equal(fcn32s(3, "long", width=4, bilinear=False).upsample.weight, up.weight)
    assert fcn32s(3, "dense", width=4).upsample.weight[0, 1].any() and not up.weight[0, 1].any()
    started = fcn32s(3, "sgd", width=4, bilinear=True).upsample
    assert torch.equal(started.weight, up.weight) and started.bias is not None and not started.bias.any()


def test_narrow_kernels_cannot_be_bilinear() -> None:
    with pytest.raises(ValueError, match="kernel 44 and stride 52"):
        bilinear_init(nn.ConvTranspose2d(2, 2, 44, 52))


def test_scores_are_aligned_with_pixels() -> None:
    """A bright block of 32 x 32 pixels in the image has the same center of mass in the logits."""
    net = fcn32s(1, "long", width=2).eval()
    with torch.no_grad():
        for layer in net.features:
            if isinstance(layer, nn.Conv2d):  # copy the first channel
                layer.weight.zero_()
                layer.weight[0, 0, 1, 1] = 1
        for layer in (net.head.get_submodule("fc6"), net.head.get_submodule("fc7"), net.score):
            assert isinstance(layer, nn.Conv2d)
            layer.weight.zero_()
            layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1
        image = torch.zeros(1, 3, 160, 192)
        image[..., 64:96, 32:64] = 1
        logits = net(image)[0, 0]
    weights = logits / logits.sum()
    rows, columns = torch.meshgrid(torch.arange(160.0), torch.arange(192.0), indexing="ij")
    center = (float((weights * rows).sum()), float((weights * columns).sum()))
    assert center == pytest.approx((79.5, 47.5), abs=1e-3)


def test_vgg16s_linear_layers_become_convolutions() -> None:
    """On a 7x7 map the center of the padded convolution's output equals the linear layer's."""
    net = fcn32s(2, "long", width=4)
    linear = nn.Linear(512 * 7 * 7, 4)
    for kind, value in linear.named_parameters():
        name, tensor = from_vgg16(net, f"classifier.0.{kind}", value)
        assert name == f"head.fc6.{kind}"
        net.get_parameter(name).data.copy_(tensor)
    maps = torch.rand(2, 512, 7, 7)
    torch.testing.assert_close(net.head.get_submodule("fc6")(maps)[:, :, 3, 3], linear(maps.flatten(1)))
    name, tensor = from_vgg16(net, "classifier.3.weight", torch.rand(4, 4))
    assert (name, tensor.shape) == ("head.fc7.weight", (4, 4, 1, 1))


def test_other_tensors_are_not_converted() -> None:
    """fc7 if fc6 is 1x1 and thus new; tensors of another width; other layers."""
    square = torch.rand(4, 4)
    assert from_vgg16(fcn32s(2, "dense", width=4), "classifier.3.weight", square)[0] == "classifier.3.weight"
    assert from_vgg16(fcn32s(2, "long", width=6), "classifier.3.weight", square)[0] == "classifier.3.weight"
    assert from_vgg16(fcn32s(2, "long", width=4), "classifier.6.weight", square)[0] == "classifier.6.weight"


def test_fcn32s_overfits_two_images() -> None:
    """Two images with two areas each: more than 99 % of the pixels are right, from one score per image."""
    torch.manual_seed(0)
    net = fcn32s(2, "dense", batch_norm=True, width=32, dropout=0.0)
    images = torch.rand(2, 3, 32, 32)
    truth = torch.zeros(2, 32, 32, dtype=torch.long)
    truth[0, :, 16:] = truth[1, 16:] = 1
    net.features.requires_grad_(False)  # random features are sufficient, and it is faster
    optimizer = torch.optim.Adam([value for value in net.parameters() if value.requires_grad], 1e-2)
    right = 0.0
    for _ in range(60):
        logits = net(images)
        optimizer.zero_grad()
        functional.cross_entropy(logits, truth).backward()
        optimizer.step()
        right = float((logits.argmax(1) == truth).float().mean())
        if right > 0.99:
            break
    assert right > 0.99
