"""Predictions equal those of the run; unreadable images become rows; interrupted tables are resumed."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline import __main__ as command
from sightline.engine import device
from sightline.errors import INTERRUPTED
from sightline.inference import batching, inputs, loaded
from sightline.inference.resumable_csv import ResumableTable
from sightline.runs.lock import lock_output
from sightline.tasks.whole_image import predict as whole_image

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture(scope="module")
def run(photos: Path, tiny: dict, tmp_path_factory: pytest.TempPathFactory) -> sightline.Run:
    out = tmp_path_factory.mktemp("predict") / "run"
    return sightline.train(configured(tiny | {"report.samples": 0}), photos, out=out, quiet=True)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predictions_equal_those_of_the_run(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    path = sightline.predict(run.path, photos / "val", out=tmp_path / "p.csv", quiet=True)
    ours = {row["filename"]: row for row in rows_of(path)}
    for row in rows_of(run.path / "predictions" / "val.csv"):
        mine = ours[row["filename"].removeprefix("val/")]
        assert mine["label"] == row["label"] and mine["error"] == ""
        assert float(mine["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)


def test_overlays_are_class_activation_maps(
    run: sightline.Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    (images / "a").mkdir(parents=True)
    for name, size in (("a/1.png", (40, 28)), ("large.jpg", (1500, 900))):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(
            images / name
        )
    (images / "empty.png").write_bytes(b"")
    table = sightline.predict(run, images, out=tmp_path / "t.csv", overlay=True)
    drawn = {path.relative_to(tmp_path / "t.maps").as_posix() for path in (tmp_path / "t.maps").rglob("*.png")}
    assert table.is_file() and drawn == {"a/1.png.png", "large.jpg.png"}, "an unreadable image is a row of the table"
    assert "class activation maps: " in capsys.readouterr().out
    with Image.open(tmp_path / "t.maps/large.jpg.png") as large, Image.open(tmp_path / "t.maps/a/1.png.png") as small:
        assert large.size == (1024, 614) and small.size == (40, 28) and len(small.convert("RGB").getcolors(2000)) > 50
    sightline.predict(run, [images / "a/1.png"], out=tmp_path / "u.csv", overlay=True, quiet=True)
    inside = (tmp_path / "u.maps").rglob("*.png")
    assert [path.name for path in inside] == ["1.png.png"], "below the folder, also for absolute paths"


def test_overlays_among_the_images_are_no_inputs(
    run: sightline.Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = Path(shutil.copytree(photos / "val", tmp_path / "images"))
    out = images / "guesses.csv"
    first = rows_of(sightline.predict(run, images, out=out, overlay=True))
    maps = sorted((images / "guesses.maps").rglob("*.png"))
    (tmp_path / "link").symlink_to(images)
    for given in ([images], [tmp_path / "link"], [images / "class_0", images]):
        sightline.predict(run, given, out=out, overlay=True, overwrite=True)
        assert f"skipped: {len(maps)} class activation map files" in capsys.readouterr().out
    assert not [*(images / "guesses.maps").rglob("*.png.png.png")]
    assert len(rows_of(sightline.predict(run, images, out=out, overwrite=True))) == len(first)
    assert len(rows_of(sightline.predict(run, images, out=tmp_path / "p.csv"))) == len(first) + len(maps) * 2


def test_overlays_that_nothing_draws_are_errors(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SightlineError, match="standard input"):
        sightline.predict(run, "-", out=tmp_path / "t.csv", overlay=True)
    with pytest.raises(SightlineError, match="--overlay has no effect"):
        sightline.predict(run, photos, out=tmp_path / "t.json", format="coco", overlay=True)
    monkeypatch.setattr(loaded, "last_layer", lambda backbone, image: None)  # as for a vision transformer
    with pytest.raises(SightlineError, match="this network has no class activation maps"):
        sightline.predict(run, photos, out=tmp_path / "t.csv", overlay=True, quiet=True)
    assert not [*tmp_path.iterdir()]


def test_training_images_are_counted(
    run: sightline.Run, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sightline.predict(run, photos, out=tmp_path / "all.csv")
    trained = sum(1 for _ in (photos / "train").rglob("*.png"))
    assert f"{trained} of them are training images of this run" in capsys.readouterr().out
    one = next((photos / "train").rglob("*.png"))
    sightline.predict(run, [one], out=tmp_path / "one.csv")
    assert "1 of them is a training image" in capsys.readouterr().out
    other = Path(shutil.copytree(photos / "train", tmp_path / "other"))
    for images in (photos / "val", other):
        sightline.predict(run, images, out=tmp_path / "new.csv", overwrite=True)
        assert "training image" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("precision", "gain", "dtype"), [("fp32", 9, "fp32"), ("auto", 9, "bf16"), ("auto", 1, "fp32")]
)
def test_bfloat16_is_used_only_on_request(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch, capsys, precision: str, gain: float, dtype: str
) -> None:
    def forward_gain(model: torch.nn.Module, shape: tuple[int, ...], run: Any, *where: object) -> float:
        assert not run(model, torch.zeros(2, *shape[1:])).requires_grad
        return gain

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "step_gain", forward_gain)
    sightline.predict(run, photos / "val", out=tmp_path / "a.csv", precision=precision)
    assert f"computing in {dtype}, 128 images per batch" in capsys.readouterr().out


def test_the_batch_size_on_an_accelerator_is_limited_by_the_recipe() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert batching.batch_size(cpu, 256, 128) == batching.batch_size(cpu, 8, 128) == 16
    assert batching.batch_size(cuda, 256, 128) == 128 and batching.batch_size(cuda, 8, 128) == 8


def test_an_unreadable_file_is_a_row_and_names_are_unchanged(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = next((photos / "val" / "class_1").iterdir()).read_bytes()
    (folder / 'a, "quoted" name.png').write_bytes(picture)
    (folder / "broken.png").write_bytes(picture[:60])
    (folder / "notes.txt").write_text("x")
    rows = rows_of(sightline.predict(run.path, folder, out=tmp_path / "p.csv", quiet=True))
    assert [row["filename"] for row in rows] == ['a, "quoted" name.png', "broken.png"]
    assert rows[0]["error"] == "" and rows[1]["error"] != "" and rows[1]["label"] == ""


def test_control_characters_in_names_are_escaped_on_the_terminal(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, name = tmp_path / "in", "\x1b[2J\udcff\r.png"
    folder.mkdir()
    (folder / name).write_bytes(b"no picture")
    (folder / "good.png").write_bytes(next((photos / "val" / "class_1").iterdir()).read_bytes())
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))  # strict: invalid surrogates raise
    path = sightline.predict(run.path, folder, out=tmp_path / "p.csv")
    assert "the first: \\x1b[2J\\udcff\\r.png" in raw.getvalue().decode() and b"\x1b" not in raw.getvalue()
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert {row["filename"] for row in csv.DictReader(file)} == {name, "good.png"}


def test_invalid_inputs_and_outputs(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SightlineError, match="no images"):
        sightline.predict(run.path, tmp_path / "empty", out=tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("mine")
    with pytest.raises(SightlineError, match="exists"):
        sightline.predict(run.path, photos / "val", out=tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "mine"
    with pytest.raises(SightlineError, match="CSV or Parquet"):
        sightline.predict(run.path, photos / "val", out=tmp_path / "p.xlsx")
    assert not (tmp_path / "p.xlsx").exists()


def test_an_image_is_never_overwritten_and_a_folder_gets_a_table(
    run: sightline.Run, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "val", tmp_path / "in")
    picture = next((tmp_path / "in" / "class_0").iterdir())
    before = picture.read_bytes()
    with pytest.raises(SightlineError, match="CSV or Parquet"):
        sightline.predict(run.path, tmp_path / "in", out=picture, overwrite=True)
    assert picture.read_bytes() == before
    assert sightline.predict(run.path, picture, out=tmp_path, quiet=True) == tmp_path / "predictions.csv"


def test_test_time_flip_is_used_as_in_the_run(photos: Path, tiny: dict, tmp_path: Path) -> None:
    settings = tiny | {"report.samples": 0, "train.flip_test": True, "train.epochs": 1}
    run = sightline.train(configured(settings), photos, out=tmp_path / "run", quiet=True)
    path = sightline.predict(run.path, photos / "val", out=tmp_path / "p.csv", quiet=True)
    ours = {row["filename"]: row for row in rows_of(path)}
    for row in rows_of(run.path / "predictions" / "val.csv"):
        mine = ours[row["filename"].removeprefix("val/")]
        assert float(mine["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)


@pytest.mark.parametrize("square", [{"data.fit": "crop"}, {"data.filter": "bicubic"}, {"data.eval_crop": 0.8}])
def test_images_are_resized_as_in_the_run(
    square: dict, make_photos: Callable[..., Path], tiny: dict, tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "data", size=20)
    for path in data.glob("*/*/*.png"):
        with Image.open(path) as picture:
            wide = picture.resize((40, 20))
        wide.save(path)
    settings = tiny | square | {"report.samples": 0, "train.epochs": 1, "optim.lr": 0.001}
    run = sightline.train(configured(settings), data, out=tmp_path / "run", quiet=True)
    ours = {row["filename"]: row for row in rows_of(sightline.predict(run.path, data / "val", out=tmp_path / "p.csv"))}
    for row in rows_of(run.path / "predictions" / "val.csv"):
        mine = ours[row["filename"].removeprefix("val/")]
        assert float(mine["confidence"]) == pytest.approx(float(row["confidence"]), abs=1e-6)


def test_a_prediction_does_not_depend_on_the_other_images(
    run: sightline.Run, photos: Path, tmp_path: Path, make_photos: Callable[..., Path]
) -> None:
    small = make_photos(tmp_path / "small", train=1, val=1, size=11) / "val" / "class_1" / "10000.png"
    mixed = tmp_path / "mixed"
    shutil.copytree(photos / "val" / "class_1", mixed)
    shutil.copy(small, mixed / "a.png")
    (alone,) = rows_of(sightline.predict(run.path, small, out=tmp_path / "alone.csv", quiet=True))
    first = rows_of(sightline.predict(run.path, mixed, out=tmp_path / "mixed.csv", quiet=True))
    among = next(row for row in first if row["filename"] == "a.png")
    for name in ("class_0", "class_1", "class_2", "class_3"):
        assert float(among[name]) == pytest.approx(float(alone[name]), abs=1e-6)


def test_classes_named_like_columns_keep_their_own(
    make_photos: Callable[..., Path], tiny: dict, tmp_path: Path
) -> None:
    data = make_photos(tmp_path / "data", classes=3)
    for split in ("train", "val"):
        for old, new in (("class_0", "label"), ("class_1", "error"), ("class_2", "confidence")):
            (data / split / old).rename(data / split / new)
    settings = tiny | {"report.samples": 4, "train.epochs": 1}
    run = sightline.train(configured(settings), data, out=tmp_path / "run", quiet=True)
    row = rows_of(run.path / "predictions" / "val.csv")[0]
    assert list(row)[4:] == ["class confidence", "class error", "class label"] and row["label"] in run_classes(run)
    assert "class label" not in sightline.report(run.path).read_text(), "the report shows the names themselves"
    path = sightline.predict(run.path, data / "val", out=tmp_path / "p.csv", quiet=True)
    assert rows_of(path)[0]["error"] == ""


def run_classes(run: sightline.Run) -> list[str]:
    return json.loads((run.path / "checkpoints/best/config.json").read_text())["classes"]


def test_a_resumed_table_equals_an_uninterrupted_one(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sightline.predict(run.path, photos, out=tmp_path / "whole.csv", features=True, quiet=True)
    monkeypatch.setattr(batching, "MAX_BATCH", 4)
    add, calls = ResumableTable.add, []

    def add_three_times(self: ResumableTable, *rows: Any) -> None:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(add(self, *rows))

    monkeypatch.setattr(ResumableTable, "add", add_three_times)
    with pytest.raises(SightlineError, match="interrupted") as caught:
        sightline.predict(run.path, photos, out=tmp_path / "p.csv", features=True, quiet=True)
    assert caught.value.status == INTERRUPTED and "12 rows" in str(caught.value)
    assert len(rows_of(tmp_path / "p.csv.part")) == 12
    monkeypatch.setattr(ResumableTable, "add", add)
    read: list[str] = []
    read_for = inputs.read_for
    monkeypatch.setattr(inputs, "read_for", lambda path, *rest: read.append(path) or read_for(path, *rest))
    again = sightline.predict(run.path, photos, out=tmp_path / "p.csv", features=True, quiet=True)
    names = [row["filename"] for row in rows_of(whole)]
    assert [row["filename"] for row in rows_of(again)] == names and len(set(read)) == len(names) - 12
    for mine, other in zip(rows_of(again), rows_of(whole), strict=True):
        assert float(mine["confidence"]) == pytest.approx(float(other["confidence"]), abs=1e-5)
    features = [np.load(tmp_path / f"{name}.features.npy") for name in ("p", "whole")]
    assert features[0] == pytest.approx(features[1], rel=1e-3, abs=1e-3) and len(features[0]) == len(names)
    assert not list(tmp_path.glob("*.part*"))


def test_a_table_is_not_resumed_with_changed_images(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos / "val", tmp_path / "in")
    monkeypatch.setattr(ResumableTable, "finish", lambda table: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SightlineError, match="interrupted"):
        sightline.predict(run.path, tmp_path / "in", out=tmp_path / "p.csv", quiet=True)
    first = min((tmp_path / "in" / "class_0").iterdir())
    first.rename(first.with_name("zz.png"))
    with pytest.raises(SightlineError, match="changed") as caught:
        sightline.predict(run.path, tmp_path / "in", out=tmp_path / "p.csv", quiet=True)
    assert first.name in str(caught.value) and "--overwrite" in str(caught.value)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Function that calls `sightline.predict`, which is interrupted after eight images."""

    def predict(*args: Any, **options: Any) -> None:
        add = ResumableTable.add

        def stop(self: ResumableTable, *rows: Any) -> None:
            add(self, *rows)
            if self.rows >= 8:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ResumableTable, "add", stop)
            with pytest.raises(SightlineError, match="the prediction was interrupted") as caught:
                sightline.predict(*args, **options)
        again = "without --overwrite " if options.get("overwrite") else ""
        assert caught.value.cure == f"repeat the command {again}to predict the rest"

    monkeypatch.setattr(batching, "MAX_BATCH", 4)
    return predict


def test_an_interrupted_overwriting_is_resumed_without_overwrite(
    run: sightline.Run, photos: Path, tmp_path: Path, interrupted: Callable[..., None], capsys
) -> None:
    out = sightline.predict(run, photos / "val", out=tmp_path / "p.csv", features=True, quiet=True)
    interrupted(run, photos / "train", out=out, overwrite=True)
    assert not out.exists()
    capsys.readouterr()
    sightline.predict(run, photos / "train", out=out)
    count = len(rows_of(out))
    said = capsys.readouterr().out
    assert "resuming after 8 rows" in said and f"\n{count} of them are training images" in said
    assert not (tmp_path / "p.features.npy").exists(), "those of the earlier images"


def test_errors_before_an_interruption_are_counted(
    run: sightline.Run, photos: Path, tmp_path: Path, interrupted: Callable[..., None], capsys
) -> None:
    shutil.copytree(photos / "val", tmp_path / "in")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    interrupted(run, tmp_path / "in", out=tmp_path / "p.csv", quiet=True)
    sightline.predict(run, tmp_path / "in", out=tmp_path / "p.csv")
    said = capsys.readouterr().out
    assert f"{len(rows_of(tmp_path / 'p.csv')) - 1} images predicted" in said
    assert "1 image could not be predicted, see the column `error`; the first: a.png" in said
    for path in (tmp_path / "in").rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(SightlineError, match="no image could be predicted") as caught:
        sightline.predict(run, tmp_path / "in", out=tmp_path / "none.csv", quiet=True)
    assert "it is not an intact" in caught.value.why and (tmp_path / "none.csv").is_file()


def test_a_table_is_not_resumed_with_images_of_the_same_names_in_another_folder(
    run: sightline.Run, photos: Path, tmp_path: Path, interrupted: Callable[..., None], monkeypatch
) -> None:
    for name, label in (("one", "class_0"), ("two", "class_1")):
        (tmp_path / name / "in").mkdir(parents=True)
        for index, path in enumerate(sorted((photos / "train" / label).iterdir())[:12]):
            shutil.copy(path, tmp_path / name / "in" / f"{index:02}.png")
    monkeypatch.chdir(tmp_path / "one")
    interrupted(run, "in", out=tmp_path / "p.csv", quiet=True)
    monkeypatch.chdir(tmp_path / "two")
    with pytest.raises(SightlineError, match="cannot be resumed") as caught:
        sightline.predict(run, "in", out=tmp_path / "p.csv", quiet=True)
    assert caught.value.why.endswith("images")
    monkeypatch.chdir(tmp_path)
    sightline.predict(run, "one/in", out="p.csv", quiet=True)


def test_a_table_that_another_process_writes_is_an_error(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    with lock_output(tmp_path / "p.csv"), pytest.raises(SightlineError, match="another command is writing"):
        sightline.predict(run, photos / "val", out=tmp_path / "p.csv", quiet=True)
    assert not [*tmp_path.iterdir()]


def test_features_of_another_table_are_not_replaced(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "p.features.npy").write_bytes(b"mine")
    with pytest.raises(SightlineError, match="the output exists already") as caught:
        sightline.predict(run, photos / "val", out=tmp_path / "p.csv", quiet=True)
    assert caught.value.where == str(tmp_path / "p.features.npy")


def test_interrupted_class_activation_maps_are_drawn_when_the_command_is_repeated(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    draw = whole_image.map_picture
    monkeypatch.setattr(whole_image, "map_picture", stop)
    images = sorted((photos / "val" / "class_0").iterdir())[:3]
    with pytest.raises(SightlineError, match="interrupted"):
        sightline.predict(run, images, out=tmp_path / "p.csv", overlay=True, quiet=True)
    monkeypatch.setattr(whole_image, "map_picture", draw)
    out = sightline.predict(run, images, out=tmp_path / "p.csv", overlay=True, quiet=True)
    assert len(rows_of(out)) == 3 and len([*(tmp_path / "p.maps").rglob("*.png")]) == 3


def test_features_are_the_inputs_of_the_head(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "val", tmp_path / "in")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    path = sightline.predict(run.path, tmp_path / "in", out=tmp_path / "p.csv", features=True, quiet=True)
    rows, features = rows_of(path), np.load(tmp_path / "p.features.npy")
    assert features.dtype == np.float32 and len(features) == len(rows)
    assert np.isnan(features[0]).all() and rows[0]["filename"] == "a.png" and np.isfinite(features[1:]).all()
    tensors = load_file(run.path / "checkpoints" / "best" / "model.safetensors")
    weight, bias = (tensors[name].float().numpy() for name in ("head.weight", "head.bias"))
    logits = features[1:] @ weight.T + bias
    classes = run_classes(run)
    assert [row["label"] for row in rows[1:]] == [classes[best] for best in logits.argmax(1)]


def test_parquet_has_the_same_rows(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: pip install 'sightline-vision[parquet]'"
    )
    shutil.copytree(photos / "val", tmp_path / "in")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    text = rows_of(sightline.predict(run.path, tmp_path / "in", out=tmp_path / "p.csv", quiet=True))
    table = parquet.read_table(sightline.predict(run.path, tmp_path / "in", out=tmp_path / "p.parquet", quiet=True))
    assert table.column_names == list(text[0]) and table.num_rows == len(text)
    for row, other in zip(table.to_pylist(), text, strict=True):
        assert row["filename"] == other["filename"] and (row["error"] or "") == other["error"]
        assert row["confidence"] == (float(other["confidence"]) if other["confidence"] else None)
    assert sorted(path.name for path in tmp_path.glob("p*")) == ["p.csv", "p.parquet"]


def test_the_command_reads_a_list_from_standard_input(
    run: sightline.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"{path}\n" for path in sorted((photos / "val").rglob("*.png"))[:3]) + "nowhere.png\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert command.run(["predict", str(run.path), "-", "--out", str(tmp_path / "p.csv")]) == 0
    rows = rows_of(tmp_path / "p.csv")
    assert [row["filename"] for row in rows] == lines.split("\n")[:-1] and rows[-1]["error"] and not rows[0]["error"]


def test_progress_is_reported_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [0.0], list[str]()
    monkeypatch.setattr(batching.time, "monotonic", lambda: now[0])
    scene, table = batching.ProgressLines(lines.append, "town.tif", 100), batching.ProgressLines(lines.append)
    for seconds, count in ((5.0, 10), (12.0, 20), (13.0, 10), (40.0, 60)):
        now[0] = seconds
        scene.add(count)
        table.add(10 * count)
    assert lines == ["town.tif: 30%, about 28 s left", "300 images, 25 per second", "1,000 images, 25 per second"]


def test_features_of_a_table_in_the_other_format_are_kept(run: sightline.Run, photos: Path, tmp_path: Path) -> None:
    images = photos / "val"
    sightline.predict(run.path, [images], out=tmp_path / "g.csv", features=True)
    before = (tmp_path / "g.features.npy").read_bytes()
    with pytest.raises(SightlineError, match="exists already"):
        sightline.predict(run.path, [images], out=tmp_path / "g.parquet", features=True)
    sightline.predict(run.path, [images], out=tmp_path / "g.parquet")
    sightline.predict(run.path, [images], out=tmp_path / "g.parquet", overwrite=True)
    assert (tmp_path / "g.features.npy").read_bytes() == before
