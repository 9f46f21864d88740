"""A prediction by several processes equals that of a single one."""

import csv
from pathlib import Path

import numpy as np
import pytest

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.data.parallel import Share, share_of
from sightline.inference.sharded_predict import merge_shards, shard_table

pytestmark = pytest.mark.usefixtures("no_reports")
HEAD = ["filename", "error"]


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8])
def test_the_last_process_merges_rows_and_features_in_order(tmp_path: Path, count: int) -> None:
    target, values = tmp_path / "t.csv", np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    names = [[f"{number}.png", ""] for number in range(count)]
    for rank in (1, 2, 0):
        assert not target.exists()
        table = shard_table(target, HEAD, Share(rank, 3))
        table.begin({}, False)
        if names[rank::3]:
            table.add(names[rank::3], values[rank::3])
        table.finish_share()
        assert merge_shards(target, HEAD, Share(rank, 3), {}) == (rank == 0)
    assert rows_of(target) == [HEAD, *names]
    assert count == 0 or (np.load(tmp_path / "t.features.npy") == values).all()
    assert {path.name for path in tmp_path.iterdir()} <= {"t.csv", "t.features.npy"}


def test_processes_of_torchrun_share_the_images(
    photos: Path, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny | {"report.samples": 0, "train.epochs": 1}
    run = sightline.train(configured(settings), photos, out=tmp_path / "run", quiet=True)
    alone = sightline.predict(run.path, photos, out=tmp_path / "alone.csv", quiet=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        sightline.predict(run.path, photos, out=tmp_path / "shared.csv", quiet=True)
        assert (tmp_path / "shared.csv").exists() == (rank == "1")
    one, other = rows_of(alone), rows_of(tmp_path / "shared.csv")
    assert [row[:2] for row in one] == [row[:2] for row in other] and len(one) > 20
    assert np.array([row[2] for row in one[1:]], float) == pytest.approx(np.array([row[2] for row in other[1:]], float))


@pytest.mark.parametrize("values", [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0")])
def test_invalid_variables_of_torchrun_are_errors(values: tuple[str, str]) -> None:
    assert share_of({}) == (0, 1) and share_of({"RANK": "1", "WORLD_SIZE": "2"}) == (1, 2)
    with pytest.raises(SightlineError, match="not a valid rank"):
        share_of(dict(zip(("RANK", "WORLD_SIZE"), values, strict=True)))


def write_share(target: Path, rank: int, origin: dict[str, str], names: list[str], overwrite: bool = False) -> bool:
    """Write the table of one of two processes, with features; returns whether it was merged with the other one."""
    table = shard_table(target, HEAD, Share(rank, 2))
    table.begin(origin, overwrite)
    rows = names[rank::2][table.rows :]
    if rows:
        table.add([[name, ""] for name in rows], np.full((len(rows), 2), rank, np.float32))
    table.finish_share()
    return merge_shards(target, HEAD, Share(rank, 2), origin)


def test_a_table_that_an_earlier_prediction_left_is_not_merged(tmp_path: Path) -> None:
    """The other process of the earlier prediction was killed."""
    target, old, new = tmp_path / "t.csv", ["a.png", "b.png"], ["c.png", "d.png", "e.png"]
    assert not write_share(target, 0, {"images": "old"}, old)
    assert not write_share(target, 1, {"images": "new"}, new, overwrite=True)
    assert not target.exists()
    with pytest.raises(SightlineError, match="an unfinished prediction cannot be resumed"):
        write_share(target, 0, {"images": "new"}, new)
    assert write_share(target, 0, {"images": "new"}, new, overwrite=True)
    assert rows_of(target) == [HEAD, *([name, ""] for name in new)]
    assert np.load(tmp_path / "t.features.npy")[:, 0].tolist() == [0, 1, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "t.features.npy"}


def test_the_complete_table_of_a_process_is_kept_when_the_prediction_is_resumed(tmp_path: Path) -> None:
    target, names = tmp_path / "t.csv", ["a.png", "b.png", "c.png"]
    assert not write_share(target, 0, {}, names)
    again = shard_table(target, HEAD, Share(0, 2))
    again.begin({}, False)
    assert [name for name, _ in again.saved()] == names[::2]
    assert not write_share(target, 1, {}, names), "the other process has begun again"
    again.finish_share()
    assert merge_shards(target, HEAD, Share(0, 2), {})
    assert rows_of(target) == [HEAD, *([name, ""] for name in names)]
    assert np.load(tmp_path / "t.features.npy")[:, 0].tolist() == [0, 1, 0]
