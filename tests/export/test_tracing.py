"""Parts of timm's networks that are replaced for the ONNX export."""

import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from torch import Tensor, nn

from sightline.export.networks import Normalized, SegmenterGraph
from sightline.export.tracing import traceable_rotations
from sightline.models.segmenters import build_segmenter


class Rotated(nn.Module):
    def __init__(self, normalize: str):
        super().__init__()
        self.rope = RotaryEmbeddingDinoV3(16, normalize_coords=normalize)

    def forward(self, images: Tensor) -> Tensor:
        return self.rope.get_embed(list(images.shape[2:]))


@pytest.mark.parametrize("normalize", ["separate", "min", "max"])
def test_rotations_are_those_of_timm_at_any_size(normalize: str) -> None:
    network, other = Rotated(normalize).eval(), torch.zeros(1, 1, 9, 4)
    wanted, again = network(other), network(other[:, :, :, :3])
    with traceable_rotations(network):
        dims = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
        program = torch.export.export(network, (torch.zeros(1, 1, 5, 7),), dynamic_shapes=(dims,))
    assert "_create_embed" not in vars(network.rope)
    torch.testing.assert_close(program.module()(other), wanted)
    torch.testing.assert_close(program.module()(other[:, :, :, :3]), again)


def test_same_padding_of_segmenters_does_not_depend_on_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoders with TensorFlow's padding compute it from the size; with symbolic sizes their export did not end."""
    from timm.layers import padding

    torch.manual_seed(0)
    model = build_segmenter("light/tf_mobilenetv3_small_minimal_100", 3, {"width": 8}).eval()
    graph = SegmenterGraph(Normalized([0.5] * 3, [0.5] * 3), model, (0,))
    images = torch.randint(0, 256, (2, 3, 70, 97), dtype=torch.uint8)
    with torch.no_grad():
        wanted = model(graph.prepare(images)).softmax(1)
    monkeypatch.setattr(padding, "get_same_padding", lambda *sizes: pytest.fail("it depends on the size"))
    with torch.no_grad():
        mask, probabilities = graph(images)
    assert torch.allclose(probabilities, wanted, atol=1e-6) and torch.equal(mask, wanted.argmax(1).to(torch.uint8))
