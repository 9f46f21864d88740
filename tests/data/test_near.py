"""Near copies are found; images that are only similar are not."""

import io

import numpy as np
import pytest
from PIL import Image

from sightline.data.near import candidates, confirmed, connected, groups_of_near_copies, standardized


def photograph(seed: int, side: int = 96) -> Image.Image:
    """An image with 1/f structure, like a photograph."""
    random = np.random.default_rng(seed)
    planes = [random.integers(0, 255, (size, size, 3), np.uint8) for size in (3, 6, 12, 24)]
    weights = (1.0, 0.5, 0.25, 0.12)
    mixed = sum(
        weight * np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC), np.float32)
        for plane, weight in zip(planes, weights, strict=True)
    )
    return Image.fromarray((mixed / sum(weights)).astype(np.uint8))


def saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def pairs_of(images: list[Image.Image]) -> set[tuple[int, int]]:
    thumbs = np.stack([np.asarray(image.resize((8, 8), Image.Resampling.BOX)).ravel() for image in images])
    return {pair[:2] for pair in confirmed(candidates(thumbs), lambda row: images[row])}


CHANGES = {
    "lossy": lambda image: saved(image, 40),
    "half the size": lambda image: image.resize((48, 48)),
    "twice the size": lambda image: image.resize((192, 192)),
    "darker": lambda image: image.point(lambda value: int(value * 0.7)),
    "paler": lambda image: image.point(lambda value: int(60 + value * 0.6)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_modified_copy_is_found(change: str) -> None:
    images = [photograph(seed) for seed in range(200)]
    assert pairs_of([*images, CHANGES[change](images[7])]) == {(7, 200)}


def test_similar_and_plain_images_are_not_copies() -> None:
    random = np.random.default_rng(0)
    plain = [Image.fromarray((200 + random.integers(0, 3, (32, 32, 3))).astype(np.uint8)) for _ in range(20)]
    ball = np.hypot(*np.mgrid[-16:16, -16:16]) < 9
    shifted = [
        Image.fromarray((np.roll(ball, 3 * step, 1)[..., None] * [230, 40, 40]).astype(np.uint8)) for step in range(3)
    ]
    assert not pairs_of([*plain, *shifted])
    mirrored = photograph(1)
    assert not pairs_of([mirrored, mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])


def test_similar_gradients_are_not_copies() -> None:
    """Their thumbnails are equal; only the fine detail differs."""
    random = np.random.default_rng(4)
    slope = np.linspace(0, 230, 32)[None, :, None]
    skies = [Image.fromarray((slope + random.integers(0, 25, (32, 32, 3))).astype(np.uint8)) for _ in range(6)]
    assert not pairs_of(skies)
    assert pairs_of([*skies, skies[2].point(lambda value: int(value * 0.8))]) == {(2, 6)}


def test_the_product_of_standardized_images_is_their_correlation() -> None:
    first = np.array([[0, 2], [4, 6]], np.uint8)

    def correlation(second: np.ndarray) -> float:
        return float(standardized(first) @ standardized(second))

    assert correlation(10 + first // 2) == pytest.approx(1)
    assert correlation(first[::-1, ::-1]) == pytest.approx(-1)
    assert correlation(np.array([[2, 0], [6, 4]], np.uint8)) == pytest.approx(0.6)  # 12 of 20
    assert correlation(np.full((2, 2), 7, np.uint8)) == 0


def test_all_copies_among_thousands_of_images_are_found() -> None:
    random = np.random.default_rng(3)
    thumbs = random.integers(0, 255, (8000, 192)).astype(np.uint8)
    twins = thumbs[:300].astype(int) + random.integers(-6, 7, (300, 192))
    found = candidates(np.concatenate([thumbs, twins.clip(0, 255).astype(np.uint8)]))
    assert {tuple(pair) for pair in found.tolist()} == {(row, 8000 + row) for row in range(300)}


def test_connected_components() -> None:
    assert connected([(1, 4, 1.0), (4, 9, 0.99), (2, 3, 0.97)]) == [[1, 4, 9], [2, 3]]
    assert connected([]) == []


def test_only_pairs_across_the_boundary_are_candidates() -> None:
    random = np.random.default_rng(3)
    thumbs = random.integers(0, 255, (6, 192)).astype(np.uint8)
    plain = np.zeros((1, 192), np.uint8)
    both = np.concatenate([plain, thumbs, thumbs[:2], thumbs[2:4], thumbs[2:4]])
    found = {tuple(pair) for pair in candidates(both, 9).tolist()}
    assert found == {(3, 9), (3, 11), (4, 10), (4, 12)}
    assert not len(candidates(both, 1)), "there is no image with contrast before the boundary"


def test_groups_of_identical_images_and_near_copies() -> None:
    images = [photograph(seed, 32) for seed in range(40)]
    images[5] = images[6] = Image.new("RGB", (32, 32), "white")
    copies = [saved(images[3], 60), images[5], images[3], images[7].point(lambda value: int(value * 0.9))]
    groups = groups_of_near_copies(np.stack([np.asarray(image).transpose(2, 0, 1) for image in [*images, *copies]]))
    single = [index - (index > 6) for index in range(40)]
    assert groups.tolist() == [*single[:6], 5, *single[7:], 3, 5, 3, 6] and groups.dtype == np.int64


def test_small_images_are_only_grouped_if_they_are_identical() -> None:
    image = np.asarray(photograph(0, 8)).transpose(2, 0, 1)
    assert groups_of_near_copies(np.stack([image, image + (image < 255), image])).tolist() == [0, 1, 0]
    assert groups_of_near_copies(np.empty((0, 3, 8, 8), np.uint8)).shape == (0,)
