"""Tiles: no seams, equal to the whole-image prediction within the receptive field, memory of one band."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from sightline import SightlineError
from sightline.inference.tiles import (
    Tiling,
    argmax_classes,
    dihedral,
    mirror,
    moved,
    predict_scene,
    put_back,
    scene_bands,
    tiles_along,
)

CLASSES = 5
RADIUS = 4  # of two 5x5 convolutions


def network(seed: int = 0) -> Callable[[torch.Tensor], torch.Tensor]:
    """A network from uint8 images to logits with the receptive radius RADIUS."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, CLASSES, 5, padding=2)).eval()
    return lambda images: 4 * layers(images.float() / 64)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, height, width]).integers(0, 256, (3, height, width), dtype=np.uint8)


def window_of(scene: np.ndarray) -> Callable[[int, int, int, int], np.ndarray]:
    return lambda top, left, h, w: scene[:, top : top + h, left : left + w]


def tiled(forward, scene: np.ndarray, tile: int, overlap: int, **more) -> tuple[np.ndarray, torch.Tensor]:
    """(class indices, probabilities) of the scene, assembled from the bands, each pixel exactly once."""
    height, width = scene.shape[1:]
    found = np.full((height, width), 255, np.uint8)
    probabilities = torch.full((CLASSES, height, width), torch.nan)

    def write(top: int, indices: np.ndarray) -> None:
        rows = found[top : top + len(indices)]
        assert indices.dtype == np.uint8 and rows.shape == indices.shape and (rows == 255).all()
        rows[:] = indices

    arguments = (forward, window_of(scene), height, width, CLASSES, Tiling(tile, overlap, **more))
    predict_scene(*arguments, write)
    for top, band in scene_bands(*arguments):
        probabilities[:, top : top + band.shape[1]] = band
    return found, probabilities


def whole(forward, scene: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return forward(torch.from_numpy(scene)[None]).softmax(1)[0]


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"),
    [(61, 83, 24, 8), (40, 90, 24, 11), (90, 33, 32, 20), (20, 70, 24, 8), (70, 20, 24, 9)],
)
def test_tiles_equal_the_whole_scene_if_the_margin_is_the_receptive_radius(height, width, tile, overlap) -> None:
    forward, scene = network(), picture(height, width)
    expected = whole(forward, scene)
    found, probabilities = tiled(forward, scene, tile, overlap, margin=RADIUS)
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found, expected.argmax(0).numpy())


def test_with_less_overlap_tiles_agree_away_from_the_seams() -> None:
    forward, scene, tile, overlap = network(), picture(64, 64), 24, 4
    difference = (tiled(forward, scene, tile, overlap)[1] - whole(forward, scene)).abs().amax(0)
    starts = tiles_along(64, Tiling(tile, overlap)).starts
    seam = np.zeros(64, bool)
    for left, right in itertools.pairwise(starts):
        seam[right - RADIUS : left + tile + RADIUS] = True
    away = torch.from_numpy(~seam[:, None] & ~seam)
    assert away.sum() > 400 and difference[away].max() < 1e-6 < difference.max()


@pytest.mark.parametrize(("height", "width"), [(24, 24), (7, 24), (11, 5)])
def test_a_scene_of_one_tile_is_bitwise_equal_to_the_whole_prediction(height, width) -> None:
    forward, scene = network(), picture(height, width)
    found, probabilities = tiled(forward, scene, 24, 8)
    assert torch.equal(probabilities, whole(forward, scene))
    assert np.array_equal(found, whole(forward, scene).argmax(0).numpy())


def test_tiles_that_disagree_blend_without_a_step() -> None:
    """If each tile predicts another class, adjacent probabilities differ by one step of the ramp."""
    calls = itertools.count()

    def forward(images: torch.Tensor) -> torch.Tensor:
        share = torch.full((len(images), 1, *images.shape[2:]), float(next(calls) % 2))
        return torch.cat([share, 1 - share], 1).log()

    scene = picture(16, 100)
    bands = scene_bands(forward, window_of(scene), 16, 100, 2, Tiling(32, 12, margin=2))
    (top, band), *rest = [(top, band.clone()) for top, band in bands]
    assert top == 0 and not rest
    torch.testing.assert_close(band.sum(0), torch.ones(16, 100))
    steps = band[0].diff(dim=1).abs()
    assert 0.1 < steps.max() <= 1 / 8 + 1e-6
    assert (
        band[0, 0, 0] == 0 and band[0, 0, 36] == 1
    )  # weight one at the border of the scene and in the centers of tiles


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 90), st.integers(1, 40), st.data())
@example(80, 24, None)
def test_weights_sum_to_one_and_the_margins_count_for_nothing(length, tile, data) -> None:
    overlap = data.draw(st.integers(0, tile - 1)) if data else 9
    margin = data.draw(st.integers(0, overlap // 2)) if data else 4
    axis = tiles_along(length, Tiling(tile, overlap, margin))
    total, last = torch.zeros(length), length - axis.side
    for start, weights in zip(axis.starts, axis.weights, strict=True):
        assert weights.shape == (min(tile, length),) and (weights >= 0).all()
        total[start : start + axis.side] += weights
        assert start == 0 or not weights[:margin].any()
        assert start == last or not weights[axis.side - margin :].any()
    torch.testing.assert_close(total, torch.ones(length))
    assert axis.starts[0] == 0 and axis.starts[-1] == last
    assert all(0 < right - left <= tile - overlap for left, right in itertools.pairwise(axis.starts))


def test_all_tiles_have_one_size_and_nothing_grows_with_the_height() -> None:
    seen: set[tuple[int, int]] = set()
    written: list[int] = []

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        assert 0 <= top <= 5000 - height and 0 <= left <= 50 - width
        seen.add((height, width))
        return np.zeros((3, height, width), np.uint8)

    def forward(images: torch.Tensor) -> torch.Tensor:
        return functional.one_hot(images[:, 0].long(), 3).movedim(3, 1).float()

    predict_scene(forward, read, 5000, 50, 3, Tiling(32, 8), lambda top, rows: written.append(len(rows)))
    assert seen == {(32, 32)} and max(written) <= 32 and sum(written) == 5000
    bands = scene_bands(forward, read, 5000, 50, 3, Tiling(32, 8))
    assert {band.untyped_storage().nbytes() for _, band in bands} == {4 * 3 * 32 * 50}


def test_the_index_of_the_best_is_that_of_argmax_and_ties_go_to_the_first() -> None:
    torch.manual_seed(0)
    for classes in (1, 2, 7, 255):
        scores = torch.randint(0, 9, (classes, 20, 30)).float()
        expected = torch.from_numpy(scores.numpy().argmax(0))
        assert torch.equal(argmax_classes(scores).long(), expected)


@pytest.mark.parametrize("motion", range(8))
def test_every_motion_is_taken_back(motion) -> None:
    images = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(put_back(moved(images, motion), motion), images)
    assert motion == 0 or moved(images, motion).shape != images.shape or not torch.equal(moved(images, motion), images)


def test_flips_and_turns_make_any_network_keep_them() -> None:
    """Predictions averaged over a group are equivariant to it; those of the network alone are not."""
    forward, images = network(), torch.from_numpy(picture(12, 18))[None]
    with torch.inference_mode():
        for wrapped, motions in ((mirror(forward), [4]), (dihedral(forward), range(1, 8))):
            for motion in motions:
                turned = put_back(wrapped(moved(images, motion)), motion)
                torch.testing.assert_close(turned, wrapped(images), rtol=1e-4, atol=1e-4)
        assert (put_back(forward(moved(images, 4)), 4) - forward(images)).abs().max() > 0.1
        expected = torch.stack([put_back(forward(moved(images, m)).softmax(1), m) for m in range(8)]).mean(0)
        torch.testing.assert_close(dihedral(forward)(images).softmax(1), expected)


@pytest.mark.parametrize(
    ("tile", "overlap", "more"),
    [(0, 0, {}), (32, 32, {}), (32, -1, {}), (32, 8, {"margin": 5}), (32, 8, {"margin": -1})],
)
def test_sizes_that_do_not_match_are_errors(tile, overlap, more) -> None:
    with pytest.raises(SightlineError, match="invalid tiling") as caught:
        Tiling(tile, overlap, **more)
    assert caught.value.why and caught.value.cure


def test_more_classes_than_a_mask_can_hold_are_refused() -> None:
    with pytest.raises(SightlineError, match="too many classes"):
        predict_scene(network(), window_of(picture(9, 9)), 9, 9, 256, Tiling(8, 2), lambda top, rows: None)
