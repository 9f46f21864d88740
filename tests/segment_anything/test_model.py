"""Prompts of points and boxes."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_toys import scene, write_sam2
from sightline import SightlineError
from sightline.segment_anything.model import Sam, load_sam


def test_points_and_boxes_yield_masks_of_the_image_best_first(sam: Sam) -> None:
    embedded = sam.embed(scene(0))
    masks, scores = sam.predict_masks(embedded, [(10.0, 20.0)], [1])
    assert masks.shape == (3, 40, 60) and masks.dtype == bool
    assert scores.shape == (3,) and scores.dtype == np.float32
    assert (np.diff(scores) <= 0).all() and len({mask.tobytes() for mask in masks}) == 3
    prompts = ({"points": [(10, 20), (50, 5)], "labels": [1, 0]}, {"box": (5, 5, 30, 35)})
    for prompt in (*prompts, {"points": [(10, 20)], "labels": [1], "box": (5, 5, 30, 35)}):
        masks, scores = sam.predict_masks(embedded, **prompt)
        assert masks.shape == (1, 40, 60) and scores.shape == (1,)


def test_masks_depend_on_every_part_of_the_prompt(sam: Sam) -> None:
    embedded, other = sam.embed(scene(0)), sam.embed(scene(1))
    found = [
        sam.predict_masks(embedded, [(10, 20)], [1]),
        sam.predict_masks(other, [(10, 20)], [1]),
        sam.predict_masks(embedded, [(20, 10)], [1]),
        sam.predict_masks(embedded, [(10, 20)], [0]),
        sam.predict_masks(embedded, box=(5, 5, 30, 35)),
        sam.predict_masks(embedded, box=(5, 5, 35, 30)),
        sam.predict_masks(embedded, [(10, 20)], box=(5, 5, 30, 35)),
    ]
    assert len({scores.tobytes() for _, scores in found}) == len(found)


def test_masks_equal_those_of_transformers_processor_and_model(sam: Sam, tiny_sam: Path) -> None:
    """Scaling of points and boxes, padding and upsampling, for a wide and a tall image."""
    from transformers import SamModel, SamProcessor

    processor, model = SamProcessor.from_pretrained(tiny_sam), SamModel.from_pretrained(tiny_sam).eval()
    for image in (scene(0, 40, 60), scene(1, 133, 70)):
        prompt = {"input_points": [[[10.0, 20.0], [30.0, 9.0]]], "input_labels": [[1, 0]]}
        prompt["input_boxes"] = [[[3.0, 5.0, 40.0, 38.0]]]
        inputs = processor(torch.tensor(image), **prompt, input_data_format="channels_first", return_tensors="pt")
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        floats = {key: value.float() if value.is_floating_point() else value for key, value in inputs.items()}
        with torch.inference_mode():
            expected = model(**floats, multimask_output=False)
        own, scores = sam.predict_masks(sam.embed(image), [(10, 20), (30, 9)], [1, 0], (3, 5, 40, 38))
        np.testing.assert_array_equal(own[0], processor.post_process_masks(expected.pred_masks, *sizes)[0][0, 0])
        np.testing.assert_allclose(scores, expected.iou_scores[0, 0].numpy(), rtol=1e-4)


def test_the_same_prompt_yields_the_same_masks_also_in_another_thread(sam: Sam) -> None:
    embedded = sam.embed(scene(0))
    expected, _ = sam.predict_masks(embedded, [(10, 20)], [1])
    found: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: found.append(sam.predict_masks(embedded, [(10, 20)], [1])[0]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(sam.predict_masks(sam.embed(scene(0)), [(10, 20)], [1])[0], expected)


def test_a_read_only_image_is_not_changed(sam: Sam) -> None:
    image = scene(0)
    image.setflags(write=False)
    before = image.copy()
    sam.embed(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "prompt",
    [
        {},
        {"points": [(61.0, 5.0)], "labels": [1]},
        {"points": [(5.0, -1.0)], "labels": [1]},
        {"points": [(float("nan"), 5.0)], "labels": [1]},
        {"points": [(5.0, 5.0)], "labels": [2]},
        {"points": [(5.0, 5.0), (6.0, 6.0)], "labels": [1]},
        {"box": (30, 5, 5, 35)},
        {"box": (5, 5, 30, 41)},
    ],
)
def test_an_invalid_prompt_is_an_error(sam: Sam, prompt: dict) -> None:
    with pytest.raises(SightlineError, match=r"point|box") as caught:
        sam.predict_masks(sam.embed(scene(0)), **prompt)
    assert "60 x 40" in caught.value.where and caught.value.cure


@pytest.mark.parametrize("kind", ["sam2", "sam2_video"])
def test_sam_2_has_the_same_interface(tmp_path: Path, kind: str) -> None:
    """SAM 2 checkpoints on the hub have the model type sam2_video."""
    folder = write_sam2(tmp_path / "two")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"model_type": "sam2",', f'"model_type": "{kind}",'))
    sam = load_sam(str(folder))
    embedded = sam.embed(scene(0))
    assert embedded.model_size == (128, 128), "SAM 2 resizes an image to a square"
    assert sam.predict_masks(embedded, [(10, 20)], [1])[0].shape == (3, 40, 60)
    assert sam.predict_masks(embedded, box=(5, 5, 30, 35))[0].shape == (1, 40, 60)
