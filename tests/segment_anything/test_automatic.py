"""Masks of all objects, compared with transformers' pipeline; scores, non-maximum suppression, run lengths, ids."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from sam_toys import scene, write_sam2
from sightline import SightlineError
from sightline.segment_anything import automatic
from sightline.segment_anything.automatic import Settings, decode_mask, encode_mask, find_segments, id_map, point_grid
from sightline.segment_anything.model import Sam, load_sam

ALL = Settings(points_per_side=6, points_per_batch=10, quality=0.0, stability=0.0)


def runs_of(masks: list[np.ndarray]) -> list[str]:
    """COCO's run lengths of the masks that are not empty, sorted."""
    encoded = (coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks if mask.any())
    return sorted(counts.decode() for counts in encoded)


@pytest.mark.parametrize("settings", [ALL, Settings(6, 10, 0.3, 0.5), Settings(6, 10, 0.0, 0.9)])
@pytest.mark.parametrize("nms_iou", [0.7, 1.0])
def test_the_masks_equal_those_of_transformers_pipeline(
    sam: Sam, tiny_sam: Path, settings: Settings, nms_iou: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import pipeline

    monkeypatch.setattr(automatic, "NMS_IOU", nms_iou)
    generate = pipeline("mask-generation", model=str(tiny_sam), device="cpu")
    for image in (scene(0), scene(1, 150, 90)):
        expected = generate(
            Image.fromarray(image.transpose(1, 2, 0)),
            points_per_crop=settings.points_per_side,
            points_per_batch=settings.points_per_batch,
            pred_iou_thresh=settings.quality,
            stability_score_thresh=settings.stability,
            crops_nms_thresh=nms_iou,
        )
        found = find_segments(sam, sam.embed(image), settings)
        assert found, "nothing to compare"
        assert sorted(segment["segmentation"]["counts"] for segment in found) == runs_of(
            [m.numpy() for m in expected["masks"]]
        )
        assert {round(segment["predicted_iou"], 3) for segment in found} <= {
            round(v, 3) for v in expected["scores"].tolist()
        }


def test_the_grid_covers_an_image_that_sam_2_resizes_to_a_square(tmp_path: Path) -> None:
    """transformers' pipeline (5.23) scales its points as for SAM 1 and prompts only the upper part of a wide image."""
    sam = load_sam(str(write_sam2(tmp_path / "two")))
    image, prompts = scene(0, 40, 120), []
    network = sam.network.forward

    def forward(**inputs: torch.Tensor) -> object:
        prompts.append(inputs["input_points"])
        return network(**inputs)

    sam.network.forward = forward
    find_segments(sam, sam.embed(image), Settings(4, 16, 0.0, 0.0))
    points = torch.cat([part.reshape(-1, 2) for part in prompts])
    np.testing.assert_allclose(points.min(0).values, 16.0, rtol=1e-6)
    np.testing.assert_allclose(points.max(0).values, 112.0, rtol=1e-6)


def test_the_default_settings_are_those_of_the_authors() -> None:
    assert Settings() == Settings(32, 64, 0.88, 0.95) and automatic.NMS_IOU == 0.7


@pytest.mark.parametrize("batch", [1, 7, 36, 100])
def test_batches_have_at_most_the_given_number_of_points(sam: Sam, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts, sizes, reported = [], [], []
    network, original = sam.network.forward, Sam.upsample
    monkeypatch.setattr(automatic, "PIXELS_AT_ONCE", 4 * 128 * 128)

    def forward(**inputs: torch.Tensor) -> object:
        counts.append(inputs["input_points"].shape[1])
        return network(**inputs)

    def upsample(self: Sam, embedded: object, logits: torch.Tensor) -> torch.Tensor:
        sizes.append(len(logits))
        return original(self, embedded, logits)

    monkeypatch.setattr(sam.network, "forward", forward)
    monkeypatch.setattr(Sam, "upsample", upsample)
    settings = Settings(6, batch, 0.0, 0.0)
    found = find_segments(sam, sam.embed(scene(0)), settings, reported.append)
    assert sum(counts) == 36 and max(counts) == min(batch, 36)
    assert sum(sizes) == 3 * 36 and max(sizes) <= 4, "masks are upsampled a few at a time"
    assert reported == counts
    again = find_segments(sam, sam.embed(scene(0)), ALL)
    assert [one["segmentation"] for one in found] == [one["segmentation"] for one in again]


def test_only_masks_with_a_high_predicted_iou_are_upsampled(sam: Sam, monkeypatch: pytest.MonkeyPatch) -> None:
    original, sizes = Sam.upsample, []

    def upsample(self: Sam, embedded: object, logits: torch.Tensor) -> torch.Tensor:
        sizes.append(len(logits))
        return original(self, embedded, logits)

    monkeypatch.setattr(Sam, "upsample", upsample)
    find_segments(sam, sam.embed(scene(0)), Settings(6, 10, 0.9, 0.0))
    assert 0 < sum(sizes) < 108


@torch.inference_mode()
def test_areas_boxes_scores_and_points_match_the_masks(sam: Sam) -> None:
    embedded = sam.embed(scene(0))
    found = find_segments(sam, embedded, ALL)
    areas = [segment["area"] for segment in found]
    assert len(found) > 3 and areas == sorted(areas, reverse=True)
    points = {tuple(round(value, 2) for value in point.tolist()): point for point in point_grid(6, (40, 60))}
    assert (5.0, 3.33) in points
    for segment in found:
        mask = decode_mask(segment)
        rows, columns = np.nonzero(mask)
        assert mask.shape == (40, 60) and segment["area"] == mask.sum() > 0
        x, y, width, height = segment["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert tuple(segment["point"]) in points and 0 <= segment["stability_score"] <= 1
        own = points[tuple(segment["point"])][None, None]
        _, quality = sam.predict_logits(embedded, own, torch.ones((1, 1), dtype=torch.int64))
        assert min(abs(quality - segment["predicted_iou"])) < 1e-3, "the point is the mask's prompt"


def test_only_masks_above_the_thresholds_are_kept(sam: Sam) -> None:
    embedded = sam.embed(scene(0))
    everything = find_segments(sam, embedded, ALL)
    assert any(one["predicted_iou"] <= 0.5 for one in everything), (
        "0 keeps all masks, also those with a predicted IoU below 0"
    )
    assert all(one["predicted_iou"] > 0.5 for one in find_segments(sam, embedded, Settings(6, 10, 0.5, 0.0)))
    assert all(one["stability_score"] > 0.4 for one in find_segments(sam, embedded, Settings(6, 10, 0.0, 0.4)))


@given(
    st.integers(1, 9).flatmap(
        lambda height: st.integers(1, 9).flatmap(
            lambda width: st.lists(
                st.lists(st.booleans(), min_size=width, max_size=width), min_size=height, max_size=height
            )
        )
    )
)
def test_run_lengths_are_lossless(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    segment = json.loads(json.dumps(encode_mask(torch.from_numpy(mask))))
    again = segment["segmentation"]
    np.testing.assert_array_equal(decode_mask(segment), mask)
    assert again == coco.encode(np.asfortranarray(mask.astype(np.uint8))) | {"counts": again["counts"]}
    assert again["size"] == list(mask.shape) and segment["area"] == mask.sum()


def test_later_masks_cover_earlier_ones() -> None:
    large, small = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    large[:3], small[1:, 1:3] = True, True
    segments = [encode_mask(torch.from_numpy(mask)) for mask in (large, small)]
    ids = id_map(segments, (4, 6))
    assert ids.dtype == np.uint16
    assert ids.tolist() == [[1, 1, 1, 1, 1, 1], [1, 2, 2, 1, 1, 1], [1, 2, 2, 1, 1, 1], [0, 2, 2, 0, 0, 0]]


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"points_per_side": 0}, "--points-per-side"),
        ({"points_per_side": 129}, "--points-per-side"),
        ({"points_per_batch": 0}, "--points-per-batch"),
        ({"quality": 1.5}, "--quality"),
        ({"stability": -0.1}, "--stability"),
        ({"stability": float("nan")}, "--stability"),
    ],
)
def test_settings_out_of_range_are_an_error(values: dict, option: str) -> None:
    with pytest.raises(SightlineError) as caught:
        Settings(**values).check()
    assert option in caught.value.where and caught.value.cure
