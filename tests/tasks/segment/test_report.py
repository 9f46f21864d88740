"""The page of a segmentation run: sample images, definitions of mIoU, reason of the stop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sightline
from sightline import SightlineError
from sightline.config.schema import Config
from sightline.report.run import read_run
from sightline.tasks.segment import report as segment

SETTINGS = {"train.epochs": 3, "train.max_minutes": 1e-4, "report.samples": "0902,0900"}


@pytest.fixture(scope="module")
def scenes(make_scenes: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=4, val=4)


@pytest.fixture(scope="module")
def run(
    scenes: Path, toy: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory, quick_figures: None
) -> sightline.Run:
    return sightline.train(toy(**SETTINGS), scenes, out=tmp_path_factory.mktemp("run") / "run", quiet=True)


@pytest.fixture
def found(run: sightline.Run) -> segment.MaskFindings:
    return segment.find_masks(read_run(run.path))


def test_the_strip_has_the_images_of_the_recipe_in_order(found: segment.MaskFindings) -> None:
    captions = [axes.get_xlabel() for axes in segment.film_strip(found).axes]
    assert [text for text in captions if "_sat" in text] == ["validation/0902_sat.jpg", "validation/0900_sat.jpg"]


def test_without_names_the_strip_is_sorted_by_mean_iou(found: segment.MaskFindings) -> None:
    matrices = np.zeros((4, 6, 6), np.int64)
    matrices[:, 0, 0] = 10
    for mistakes, order in (([0, 0, 5, 0], [0, 1]), ([5, 0, 0, 0], [1, 0])):
        matrices[:, 0, 1] = mistakes
        assert segment.spread(replace(found, named=(), per_image=matrices)).tolist() == order


def test_the_strip_is_drawn_after_the_recipe_was_edited(found: segment.MaskFindings) -> None:
    assert segment.shown_rows(replace(found, named=("0900", "9999"))).tolist() == [0]
    assert len(segment.shown_rows(replace(found, named=("9999",)))) == 2


def test_an_unknown_sample_is_an_error_before_decoding(
    scenes: Path, tmp_path: Path, toy: Callable[..., Config]
) -> None:
    config = toy(**{"report.samples": "0902,9999"})
    with pytest.raises(SightlineError, match="cannot be sampled") as caught:
        sightline.train(config, scenes, out=tmp_path / "run", quiet=True)
    assert "9999: there is no such validation image" in caught.value.why and not (tmp_path / "run").exists()
    with pytest.raises(SightlineError, match="lists 25 images"):
        config = toy(**{"report.samples": ",".join(map(str, range(25)))})
        sightline.train(config, scenes, out=tmp_path / "run", quiet=True)


def test_the_page_has_all_definitions_and_the_reason_of_the_stop(run: sightline.Run, scenes: Path) -> None:
    page = run.report.read_text(encoding="utf-8")
    assert "Training stopped at epoch" in page
    assert "It shows 2 of 4 validation images over the epochs; all 4 with the largest share of wrong pixels." in page
    result = sightline.score(scenes / "validation", run.path / "predictions" / "val", "landcover")
    for name, definition in result.others.items():
        value = f"{100 * definition.value:.2f}" if np.isfinite(definition.value) else "none"
        row = page[page.index(f">{name.replace('_', '_<wbr>')}<") :]
        assert f">{value}<" in row[: row.index("</tr>")], name
    assert {"mean_iou_with_ignored", "mean_iou_course"} <= result.others.keys()


def test_definitions_that_a_run_lacks_are_named(found: segment.MaskFindings) -> None:
    assert not any("are missing" in str(part) for part in segment.other_definitions(found))
    parts = segment.other_definitions(replace(found, with_ignored=None))
    assert any("mean_iou_course are missing" in str(part) for part in parts)
