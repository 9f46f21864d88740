"""Parts of timm's networks that are replaced for the ONNX export."""

import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3
from torch import Tensor, nn

from sightline.export.tracing import traceable_rotations


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
