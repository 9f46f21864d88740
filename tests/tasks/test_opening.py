"""Data that several runs of one command share are opened once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from config_toys import configured
from sightline.data.sources import open as opener_module
from sightline.tasks.classify import build
from sightline.tasks.opening import opened_once


def test_runs_with_the_same_data_share_what_was_opened(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counting(*arguments: object) -> object:
        calls.append("opened")
        return opener_module.open_source(*arguments)  # ty: ignore

    monkeypatch.setattr(build, "open_source", counting)
    settings = {"task": "classify", "data.path": str(photos)}
    lines: dict[str, list[str]] = {"first": [], "second": []}
    with opened_once():
        first = build.open_labeled(configured(settings), lines["first"].append)
        second = build.open_labeled(configured(settings | {"data.size": 64}), lines["second"].append)
        assert first is second and len(calls) == 1, "the size of the pixels changes nothing"
        assert lines["first"] and not lines["second"], "what was found is printed once"
        build.open_labeled(configured(settings | {"data.split_seed": 1}), print)
        assert len(calls) == 2
    build.open_labeled(configured(settings), print)
    assert len(calls) == 3, "another command opens the data again"


def test_masks_and_palette_are_shared(make_scenes: Callable[..., Path], tmp_path: Path) -> None:
    from sightline.tasks.segment.build import open_masked

    scenes = make_scenes(tmp_path / "data", train=2, val=2, size=32)
    config = configured({"task": "segment", "data.path": str(scenes), "data.palette": "landcover"})
    with opened_once():
        assert open_masked(config, print) is open_masked(config, print)
    assert open_masked(config, print) is not open_masked(config, print)
