"""Batch norms in the convolutions before them: same outputs, gradients and weights; only where that is right."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.models import build_model, folding
from sightline.models.folding import fold_norms, unfold_norms
from sightline.models.segmenters import Segmenter

SIDE = 32


def random_norms(model: nn.Module) -> nn.Module:
    """The model with other statistics and parameters of its batch norms than those of a new one."""
    with torch.no_grad():
        for module in model.modules():
            if folding.foldable(module):
                for value in (module.running_var, module.weight):
                    value.uniform_(0.5, 1.5)
                for value in (module.running_mean, module.bias):
                    value.normal_(0, 0.3)
    return model


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize(
    ("name", "folded", "all_norms"),
    [
        ("resnet18", 20, 20),
        ("fastnet", 6, 9),
        ("timm/tf_efficientnet_lite0", 49, 49),  # convolutions with the padding of TensorFlow, norms with activations
        ("timm/mobilenetv3_small_050", 34, 34),
        ("timm/resnetv2_50d_gn", 0, 0),
        ("torchvision/densenet121", 59, 121),  # most norms are before a convolution, not after it
    ],
)
def test_outputs_gradients_and_weights_are_those_of_the_network(name: str, folded: int, all_norms: int) -> None:
    plain = random_norms(build_model(name, 5, SIDE)).double().eval()
    network = copy.deepcopy(plain).float()
    assert sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) == all_norms
    assert fold_norms(network, (3, SIDE, SIDE)) == folded
    network = copy.deepcopy(network).double()
    assert network.state_dict().keys() == plain.state_dict().keys()
    outputs, expected = network(images()), plain(images())
    torch.testing.assert_close(outputs, expected, rtol=1e-6, atol=1e-9)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    pairs = list(zip(network.named_parameters(), plain.parameters(), strict=True))
    largest = max(float(theirs.grad.abs().max()) for _, theirs in pairs if theirs.grad is not None)
    for (parameter, ours), theirs in pairs:
        assert (ours.grad is None) == (theirs.grad is None), parameter
        if ours.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-9 * largest)


def test_in_training_mode_a_batch_norm_uses_its_batch_and_changes_its_statistics() -> None:
    plain = random_norms(build_model("small_cnn", 5, SIDE)).double()
    network = copy.deepcopy(plain)
    network.float()
    assert fold_norms(network, (3, SIDE, SIDE)) == 6
    network.double()
    for each in (plain, network):
        each.train()
        torch.manual_seed(0)
        each(images()).sum().backward()
    for (name, ours), theirs in zip(network.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_one_batch_norm_may_be_fixed_while_others_train() -> None:
    network = random_norms(build_model("small_cnn", 5, SIDE))
    plain = copy.deepcopy(network)
    fold_norms(network, (3, SIDE, SIDE))
    for each in (network, plain):
        norms = [module for module in each.train().modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms[1::2]:
            norm.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = network(images(torch.float32))
        torch.manual_seed(0)
        torch.testing.assert_close(found, plain(images(torch.float32)), rtol=1e-4, atol=1e-4)


def test_a_copy_is_independent() -> None:
    network = random_norms(build_model("small_cnn", 5, SIDE)).eval()
    fold_norms(network, (3, SIDE, SIDE))
    before, other = network(images(torch.float32)), copy.deepcopy(network)
    with torch.no_grad():
        for value in other.parameters():
            value.zero_()
    torch.testing.assert_close(network(images(torch.float32)), before)
    assert not other(images(torch.float32)).any()


class Twice(nn.Module):
    """A network whose convolution has another user than the batch norm after it, or is called twice."""

    def __init__(self, use: Callable[["Twice", Tensor], Tensor]):
        super().__init__()
        self.first, self.norm, self.other = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.use = use

    def forward(self, values: Tensor) -> Tensor:
        return self.use(self, values)


@pytest.mark.parametrize(
    "use",
    [
        lambda net, values: net.norm(maps := net.first(values)) + maps,
        lambda net, values: net.norm(net.first(values)) + net.other(net.first(values.flip(2))),
        lambda net, values: net.norm(functional.relu(net.first(values))),
        lambda net, values: net.norm(maps := net.first(values)) * 0 + maps,  # no effect until it is trained
        lambda net, values: (net.norm(maps := net.first(values)), maps[:, :2].sum())[0],
        lambda net, values: net.norm(functional.dropout(net.first(values), 0.5, net.training)),
        lambda net, values: net.norm(functional.relu_(net.first(values))),
    ],
)
def test_a_convolution_with_another_user_is_left_as_it_is(use: Callable[[Twice, Tensor], Tensor]) -> None:
    network = random_norms(Twice(use)).eval()
    expected = network(images(torch.float32))
    assert fold_norms(network, (3, SIDE, SIDE)) == 0
    assert torch.equal(network(images(torch.float32)), expected)


def test_with_another_user_in_training_only_nothing_is_folded() -> None:
    network = Twice(lambda net, values: net.norm(maps := net.first(values)) + (maps if net.training else 0))
    assert fold_norms(network.eval(), (3, SIDE, SIDE)) == 0


def test_a_network_that_cannot_process_the_image_is_left_as_it_is() -> None:
    def fixed(net: Twice, values: Tensor) -> Tensor:
        assert values.shape[-1] == 224
        return net.norm(net.first(values))

    assert fold_norms(Twice(fixed), (3, SIDE, SIDE)) == 0
    assert fold_norms(Twice(lambda net, values: net.norm(net.first(values))), (3, SIDE, SIDE)) == 1


def test_a_map_of_a_single_value_is_normalized_by_the_running_statistics() -> None:
    """In training mode, where the hooks of a segmenter switch the batch norm after its convolution has run."""
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network = Segmenter(random_norms(pooled), name="pooled", encoder_path="0", class_layers=("1",)).train()
    one = images(torch.float32)[:1]
    expected = network(one)
    assert fold_norms(network, (3, SIDE, SIDE), Segmenter.outputs) == 1
    torch.testing.assert_close(network.train()(one), expected)
    torch.testing.assert_close(network.eval()(one), expected)


def test_unfolded_it_is_the_network_again() -> None:
    network = random_norms(build_model("timm/tf_efficientnet_lite0", 5, SIDE)).eval()
    expected, contents = network(images(torch.float32)), [dict(vars(module)) for module in network.modules()]
    fold_norms(network, (3, SIDE, SIDE))
    assert [vars(module).keys() for module in network.modules()] != [each.keys() for each in contents]
    unfold_norms(network)
    assert torch.equal(network(images(torch.float32)), expected)
    assert [vars(module).keys() for module in network.modules()] == [each.keys() for each in contents]


def test_the_state_of_the_random_generator_and_the_weights_are_kept() -> None:
    network = build_model("small_cnn", 5, SIDE)
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    fold_norms(network, (3, SIDE, SIDE))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
