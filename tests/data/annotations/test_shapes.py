"""Shapes are drawn as pycocotools and Pillow draw them, except within half a pixel of their borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from scipy import ndimage

from annotation_toys import brush_codes as brush_codes_by_hand
from annotation_toys import coco_polygon
from sightline.data.annotations.coco import decompressed
from sightline.data.annotations.label_studio import brush_codes, brush_runs
from sightline.data.annotations.outlines import TOLERANCE, shapes_of
from sightline.data.annotations.shapes import Runs, Shape, area_of, filled_polygon, rasterize, runs_of

SCALE = 8
"""Pillow rounds corners to pixels, so it draws polygons at this scale."""


def random_polygon(seed: int) -> tuple[np.ndarray, int, int]:
    """A polygon with 3 to 11 corners, partly outside of the image, in a size of 5 to 60 pixels: (corners, height,
    width)."""
    random = np.random.default_rng(seed)
    height, width = random.integers(5, 60, 2).tolist()
    count = int(random.integers(3, 12))
    return random.uniform(-0.2, 1.2, (count, 2)) * (width, height), height, width


def distances(points: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Distance of the centers of the true pixels [H, W] to the border of a polygon."""
    centers = np.argwhere(pixels)[:, ::-1][:, None] + 0.5
    edge = np.roll(points, -1, 0) - points
    along = np.clip(((centers - points) * edge).sum(2) / (edge**2).sum(1), 0, 1)
    return np.linalg.norm(centers - points - along[..., None] * edge, axis=2).min(1)


@pytest.mark.parametrize("part", range(4))
def test_polygons_equal_those_of_pycocotools_and_pillow_up_to_half_a_pixel(part: int) -> None:
    for seed in range(50 * part, 50 * part + 50):
        points, height, width = random_polygon(seed)
        found = filled_polygon(points, height, width)
        image = Image.new("1", (width * SCALE, height * SCALE))
        ImageDraw.Draw(image).polygon([tuple(p) for p in (points * SCALE - 0.5).tolist()], fill=1)
        pillow = np.asarray(image)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
        inside = np.clip(points, 0, (width, height))
        coco = coco_polygon(points, height, width)
        for other in (pillow, *([coco] if (inside == points).all() else [])):  # pycocotools moves corners outside
            assert distances(points, found != other).max(initial=0) <= 0.5, seed
    assert found.any()


def test_convex_polygons_equal_those_of_pycocotools_up_to_a_third_of_a_pixel() -> None:
    for seed in range(100):
        random = np.random.default_rng(seed)
        angles = np.sort(random.uniform(0, 2 * np.pi, 7))
        points = np.stack([30 + 25 * np.cos(angles), 25 + 20 * np.sin(angles)], 1)
        coco = coco_polygon(points, 50, 60)
        found = filled_polygon(points, 50, 60)
        assert found.sum() > 50 and distances(points, found != coco).max(initial=0) < 1 / 3


def test_a_pixel_belongs_to_the_polygon_that_contains_its_center() -> None:
    square = np.array([(1, 1), (4, 1), (4, 3), (1, 3)], float)
    assert np.argwhere(filled_polygon(square, 5, 6)).tolist() == [[y, x] for y in (1, 2) for x in (1, 2, 3)]
    assert filled_polygon(square + 0.4, 5, 6).sum() == 6 and filled_polygon(square - 9, 5, 6).sum() == 0
    star = np.array([(0, 0), (10, 10), (10, 0), (0, 10)], float)  # crosses itself: two triangles
    assert filled_polygon(star, 10, 10)[5].tolist() == [True] * 4 + [False] + [True] * 5
    left, right = np.array([(0, 0), (5.3, 0), (4.1, 8), (0, 8)]), np.array([(5.3, 0), (9, 0), (9, 8), (4.1, 8)])
    assert (filled_polygon(left, 8, 9) ^ filled_polygon(right, 8, 9)).all()  # neighbors neither overlap nor leave gaps


def test_where_shapes_overlap_the_later_or_the_smaller_counts_and_the_overlap_is_counted() -> None:
    small = Shape("small", (np.array([(1, 1), (3, 1), (3, 3), (1, 3)], float),))
    large = Shape("large", (np.array([(0, 0), (6, 0), (6, 5), (0, 5)], float),))
    values = {"small": 1, "large": 2}
    last, overlap = rasterize([small, large], values, (5, 6), 0)
    assert (last == 2).all() and overlap == 4
    smaller, overlap = rasterize([small, large], values, (5, 6), 0, smaller_on_top=True)
    assert (smaller == 1).sum() == 4 and (smaller == 2).sum() == 26 and overlap == 4
    assert rasterize([large, large], values, (5, 6), 0)[1] == 0  # of the same class
    mask, _ = rasterize([small], values, (5, 6), 7)
    assert (mask == 7).sum() == 26 and mask.dtype == np.uint8


@given(st.integers(0, 10_000))
def test_run_lengths_equal_those_of_pycocotools(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = ndimage.zoom(random.random((4, 5)), 4, order=0)[: random.integers(1, 17), : random.integers(1, 21)] > 0.5
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = (0, 0, mask.shape[1], mask.shape[0])
    counts = decompressed(rle["counts"].decode())
    assert (area_of(Shape("a", runs=Runs(np.array(counts), box, True)), *mask.shape)[2] == mask).all()
    assert runs_of(mask, by_columns=True).counts.tolist() == counts
    assert (area_of(Shape("a", runs=runs_of(mask)), *mask.shape)[2] == mask).all()


@given(st.integers(0, 10_000))
def test_brush_masks_are_read_and_written(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random(tuple(random.integers(1, 30, 2))) > random.random()
    for codes in (brush_codes(mask), brush_codes_by_hand(mask)):
        runs = brush_runs(codes, mask.shape[::-1])
        assert runs is not None and (area_of(Shape("a", runs=runs), *mask.shape)[2] == mask).all()
        assert brush_runs(codes[:-3], mask.shape[::-1]) is None and brush_runs(codes, (31, 31)) is None


def test_long_runs_of_brush_masks_are_divided() -> None:
    mask = np.ones((200, 200), bool)
    runs = brush_runs(brush_codes(mask), (200, 200))
    assert runs is not None and runs.counts.tolist() == [0, 40_000]


@pytest.mark.parametrize("tolerance", [0.0, TOLERANCE])
def test_regions_become_polygons_and_regions_with_holes_run_lengths(
    tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.data.annotations.outlines.TOLERANCE", tolerance)
    for seed in range(30):
        random = np.random.default_rng(seed)
        smooth = ndimage.gaussian_filter(random.random((3, 40, 50)), (0, 3, 3))
        mask = smooth.argmax(0).astype(np.uint8)
        shapes = [shape for value in (1, 2) for shape, _ in shapes_of(mask, value, str(value))]
        drawn, _ = rasterize(shapes, {"1": 1, "2": 2}, mask.shape, 0)
        edges = [np.diff(mask, axis=axis, prepend=255) != 0 for axis in (0, 1)]
        edges += [np.diff(mask, axis=axis, append=255) != 0 for axis in (0, 1)]
        assert not (drawn != mask)[~np.any(edges, axis=0)].any()  # only pixels at a border differ
        assert tolerance or (drawn == mask).all()
    ring = np.ones((9, 9), np.uint8)
    ring[3:5, 3:6] = 0
    ((shape, pixels),) = shapes_of(ring, 1, "ring")
    assert shape.runs and (pixels == ring).all() and (area_of(shape, 9, 9)[2] == ring).all()


def test_polygons_have_few_corners() -> None:
    rows, columns = np.mgrid[:100, :100]
    disk = ((rows - 50) ** 2 + (columns - 50) ** 2 < 45**2).astype(np.uint8)
    ((shape, _),) = shapes_of(disk, 1, "disk")
    assert 8 <= len(shape.polygons[0]) <= 40
    drawn, _ = rasterize([shape], {"disk": 1}, disk.shape, 0)
    assert (drawn != disk).mean() < 0.02
