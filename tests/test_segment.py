"""Segmentation end to end: files of a run, reproducibility, learning, and errors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

import sightline
from parts_toys import build
from sightline import SightlineError
from sightline.__main__ import run as command
from sightline.config.resolve import to_yaml
from sightline.config.schema import Config
from sightline.data.loader import training_batches
from sightline.engine import training_state
from sightline.runs.atomic import read_json_lines
from sightline.tasks.segment.task import SegmentLearner

pytestmark = pytest.mark.usefixtures("quick_figures")


@pytest.fixture(scope="module")
def scenes(make_scenes: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes"), train=12, val=4)


@pytest.fixture(scope="module")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory, toy: Callable[..., Config]) -> sightline.Run:
    settings = {"train.epochs": 40, "schedule.name": "one_cycle", "optim.lr": 0.02}
    return sightline.train(toy(**settings), scenes, out=tmp_path_factory.mktemp("segment") / "run", quiet=True)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_segmenter_learns_and_writes_all_files_of_a_run(run: sightline.Run) -> None:
    assert run.metrics["mean_iou"] > 0.6
    assert run.metrics["mean_iou_interval"] == [None, None], "four images are too few for an interval"
    for name in ("recipe.yaml", "provenance.json", "metrics.jsonl", "predictions/val.csv", "report.html", "splits.csv"):
        assert (run.path / name).is_file(), name
    assert len(list((run.path / "predictions" / "val").glob("*_mask.png"))) == 4
    assert (run.path / "snapshots" / "epoch-00001" / "masks.npz").is_file()
    config = json.loads((run.path / "checkpoints" / "best" / "config.json").read_text())
    assert config["classes"][0] == "urban" and len(config["classes"]) == 6 and config["palette"]
    evaluation = next(r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "eval")
    assert {"split", "loss", "mean_iou", "pixel_accuracy"} <= set(evaluation)


def test_the_saved_masks_give_the_reported_mean_iou(run: sightline.Run, scenes: Path) -> None:
    names = ["urban", "agriculture", "rangeland", "forest", "water", "barren"]
    colors = [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    hits, either = np.zeros(6), np.zeros(6)
    for path in (run.path / "predictions" / "val").iterdir():
        truth = pixels(scenes / "validation" / path.name)
        found = pixels(path)
        counted = (truth != 0).any(2)
        for index, color in enumerate(colors):
            true, predicted = (truth == color).all(2), (found == color).all(2) & counted
            hits[index] += (true & predicted).sum()
            either[index] += (true | predicted).sum()
    present = either > 0
    assert run.metrics["mean_iou"] == pytest.approx((hits[present] / either[present]).mean(), abs=1e-9), names


def test_evaluate_repeats_the_metrics_and_evaluates_other_data(
    run: sightline.Run, scenes: Path, tmp_path: Path
) -> None:
    numbers = sightline.evaluate(run.path, quiet=True)
    assert {key: run.metrics[key] for key in numbers if key in run.metrics and key != "split"} == {
        key: value for key, value in numbers.items() if key in run.metrics and key != "split"
    }
    shutil.copytree(scenes / "validation", tmp_path / "other")
    other = sightline.evaluate(run.path, data=tmp_path / "other", quiet=True)
    assert other["split"] == "all" and other["mean_iou"] == pytest.approx(numbers["mean_iou"])


def test_predict_writes_masks_of_any_size(run: sightline.Run, scenes: Path, tmp_path: Path) -> None:
    out = sightline.predict(run.path, scenes / "validation" / "0900_sat.jpg", out=tmp_path / "masks", quiet=True)
    ours = (out / "0900_mask.png").read_bytes()
    assert ours == (run.path / "predictions" / "val" / "0900_mask.png").read_bytes()
    with pytest.raises(SightlineError, match="exists"):
        sightline.predict(run.path, scenes / "validation" / "0900_sat.jpg", out=out, quiet=True)
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (75, 41), (90, 120, 60)).save(folder / "odd.png")
    (folder / "broken.png").write_bytes(b"not an image")
    out = sightline.predict(run.path, folder, out=tmp_path / "more", overlay=True, tile=32, quiet=True)
    assert size_of(out / "odd_mask.png") == size_of(out / "odd_overlay.png") == (75, 41)
    assert "broken.png" in (out / "errors.csv").read_text()


def test_masks_beside_their_images_are_not_predicted(run: sightline.Run, scenes: Path, tmp_path: Path) -> None:
    out = sightline.predict(run.path, scenes / "validation", out=tmp_path / "masks", quiet=True)
    assert sorted(path.name for path in out.iterdir()) == [f"090{number}_mask.png" for number in range(4)]
    with pytest.raises(SightlineError, match="must be a folder"):
        sightline.predict(run.path, scenes / "validation", out=tmp_path / "masks.csv", quiet=True)


def test_a_resumed_run_equals_an_uninterrupted_run(scenes: Path, tmp_path: Path, toy: Callable[..., Config]) -> None:
    settings = {"augment.scale": (0.7, 1.5), "augment.rare_crops": 0.5, "augment.window": [16, 16], "optim.ema": 0.9}
    whole = sightline.train(toy(**settings | {"train.epochs": 4}), scenes, out=tmp_path / "whole", quiet=True)
    half = sightline.train(toy(**settings), scenes, out=tmp_path / "half", quiet=True)
    sightline.resume(half.path, quiet=True, **{"train.epochs": 4})
    first, second = (load_file(r.path / "checkpoints" / "last" / "model.safetensors") for r in (whole, half))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resuming_after_sigkill_gives_the_same_weights(
    scenes: Path, tmp_path: Path, toy: Callable[..., Config], train_and_kill: Callable[..., None]
) -> None:
    settings = {"train.epochs": 3, "train.checkpoint_minutes": 0, "optim.ema": 0.9, "augment.rare_crops": 0.5}
    config = toy(**settings | {"augment.scale": (0.7, 1.5), "augment.window": [16, 16]})
    whole = sightline.train(config, scenes, out=tmp_path / "whole", quiet=True)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(to_yaml(config))
    killed = tmp_path / "killed"
    train_and_kill([recipe, "--data", scenes, "--out", killed], killed, 4)  # of 3 + 3 + 3
    sightline.resume(killed, quiet=True)
    first, second = (load_file(r / "checkpoints" / "last" / "model.safetensors") for r in (whole.path, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("predictions/val.csv", "predictions/val/0900_mask.png"):
        assert (killed / name).read_bytes() == (whole.path / name).read_bytes()


@pytest.mark.parametrize("loss", ["focal", "dice", "lovasz", "ohem"])
def test_every_loss_learns(scenes: Path, tmp_path: Path, loss: str, toy: Callable[..., Config]) -> None:
    settings = {"loss.name": loss, "train.epochs": 16, "schedule.name": "one_cycle", "optim.lr": 0.02}
    settings |= {"loss.class_weights": "log"}
    run = sightline.train(toy(**settings), scenes, out=tmp_path / "run", quiet=True)
    evaluations = [r["mean_iou"] for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "eval"]
    assert max(evaluations) > evaluations[0] + 0.15


def test_score_equals_evaluate(run: sightline.Run, scenes: Path) -> None:
    result = sightline.score(scenes / "validation", run.path / "predictions" / "val", "landcover")
    for name in ("mean_iou", "pixel_accuracy"):
        assert result.numbers[name] == pytest.approx(run.metrics[name], abs=1e-12), name
    assert result.numbers["mean_iou_interval"] == run.metrics["mean_iou_interval"] == [None, None]


def test_snapshots_are_padded_to_the_largest_image(
    make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config]
) -> None:
    data = make_scenes(tmp_path / "data", train=4, val=2)
    make_scenes(tmp_path / "large", train=1, val=1, size=48)
    for path in (tmp_path / "large" / "validation").iterdir():
        shutil.copy(path, data / "validation" / f"zz{path.name}")
    for seed in (0, 1, 2):
        settings = {"report.samples": 1, "train.seed": seed, "train.epochs": 1}
        run = sightline.train(toy(**settings), data, out=tmp_path / str(seed), quiet=True)
        with np.load(run.path / "snapshots/epoch-00001/masks.npz") as masks:
            assert masks["masks"].shape[1:] == (48, 48)


def test_pairs_of_different_sizes(make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config]) -> None:
    data = make_scenes(tmp_path / "data", train=4, val=2)
    make_scenes(tmp_path / "large", train=2, val=2, size=48)
    for split in ("train", "validation"):
        for path in (tmp_path / "large" / split).iterdir():
            shutil.copy(path, data / split / f"1{path.name}")
    run = sightline.train(toy(), data, out=tmp_path / "run", quiet=True)
    sizes = {size_of(path) for path in (run.path / "predictions" / "val").iterdir()}
    assert sizes == {(32, 32), (48, 48)}
    with pytest.raises(SightlineError, match="different sizes") as caught:
        sightline.train(toy(**{"augment.window": []}), data, out=tmp_path / "whole", quiet=True)
    assert "--augment.window" in caught.value.cure


def test_all_invalid_pairs_are_reported_before_training(
    make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config]
) -> None:
    data = make_scenes(tmp_path / "data")
    Image.new("RGB", (20, 32), (0, 255, 255)).save(data / "train" / "0001_mask.png")
    Image.new("RGB", (32, 32), (200, 130, 20)).save(data / "train" / "0002_mask.png")
    with pytest.raises(SightlineError) as caught:
        sightline.train(toy(**{"data.tolerance": 1}), data, out=tmp_path / "run", quiet=True)
    assert "2 of 8 pairs of train cannot be used" in caught.value.what and not (tmp_path / "run").exists()
    assert "0001" in caught.value.why and "0002" in caught.value.why and "0003" not in caught.value.why


def test_masks_with_ignored_pixels_only_are_left_out_of_training(
    make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config]
) -> None:
    data = make_scenes(tmp_path / "data")
    Image.new("RGB", (32, 32), (0, 0, 0)).save(data / "validation" / "0901_mask.png")
    Image.new("RGB", (32, 32), (0, 0, 0)).save(data / "train" / "0003_mask.png")
    run = sightline.train(toy(**{"train.epochs": 1}), data, out=tmp_path / "run", quiet=True)
    assert "0003" not in (run.path / "splits.csv").read_text() and "0002" in (run.path / "splits.csv").read_text()
    assert (run.path / "predictions" / "val" / "0901_mask.png").is_file(), "validation images are never left out"


@pytest.mark.parametrize("layout", ["pairs", "images and masks", "partners"])
def test_classifying_image_mask_pairs_is_an_error(
    make_scenes: Callable[..., Path], tmp_path: Path, layout: str
) -> None:
    """In separate folders, pairs could be mistaken for two classes, `images` and `masks`."""
    data = make_scenes(tmp_path / "data")
    if layout != "pairs":
        for mask in sorted((data / "train").glob("*_mask.png")):
            name = mask.name.replace("_mask", "_sat")
            target = data / ("masks" if layout == "images and masks" else "trainannot") / name
            target.parent.mkdir(exist_ok=True)
            mask.rename(target)
        shutil.rmtree(data / "validation")
        if layout == "images and masks":
            (data / "train").rename(data / "images")
    with pytest.raises(SightlineError, match="pairs of images and masks") as caught:
        sightline.train("small_cnn_scratch", data, out=tmp_path / "run", quiet=True)
    assert "sightline recipes" in caught.value.cure and not (tmp_path / "run").exists()


def test_subsampled_keeps_values_and_shape() -> None:
    masks = np.arange(2 * 600 * 300, dtype=np.int64).reshape(2, 600, 300).astype(np.uint8)
    small = training_state.subsampled(masks, 512)
    assert small.shape == (2, 512, 256) and set(np.unique(small)) <= set(np.unique(masks))
    assert training_state.subsampled(masks, 600) is not None and np.array_equal(
        training_state.subsampled(masks, 600), masks
    )


def test_other_data_are_read_with_the_palette_of_the_run(tmp_path: Path, toy: Callable[..., Config]) -> None:
    random = np.random.default_rng(0)
    for folder in ("own/train", "own/val", "other", "renamed"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(4):
            mask = random.integers(0, 2 + (folder == "own/train"), (32, 32), dtype=np.uint8)
            Image.fromarray(mask).save(tmp_path / folder / f"{number}_mask.png")
            Image.fromarray(np.repeat(80 * mask[..., None], 3, 2)).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "own" / "classes.txt").write_text("sand\nsea\nship\n")
    run = sightline.train(toy(**{"data.palette": ""}), tmp_path / "own", out=tmp_path / "run", quiet=True)
    # The other folder has neither class names nor the third class.
    numbers = sightline.evaluate(run.path, data=tmp_path / "other", quiet=True)
    assert numbers["images"] == 4 and 0 <= numbers["mean_iou"] <= 1
    (tmp_path / "renamed" / "classes.txt").write_text("sea\nsand\n")
    with pytest.raises(SightlineError, match="the classes of the data differ from those of the run") as caught:
        sightline.evaluate(run.path, data=tmp_path / "renamed", quiet=True)
    assert "sand, sea, ship" in caught.value.why and "sea, sand" in caught.value.why


def test_one_validation_image_has_no_interval(
    make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config], capsys
) -> None:
    data = make_scenes(tmp_path / "data", train=4, val=1)
    sightline.train(toy(**{"train.epochs": 1, "data.size": 64}), data, out=tmp_path / "run")
    output = capsys.readouterr().out
    assert "data.size has no effect" in output
    assert "nan" not in output and "validation mean IoU" in output and ", without an interval" in output
    assert command(["evaluate", str(tmp_path / "run")]) == 0
    output = capsys.readouterr().out
    assert "mean_iou" in output and "[nan" not in output
    sightline.evaluate(tmp_path / "run", split="train")
    assert "the model was trained on these images" in capsys.readouterr().out


@pytest.mark.parametrize("model", [{"model.name": "unet"}, {"model.name": "deeplabv3_resnet50", "model.args": {}}])
def test_training_flops_equal_those_counted_in_a_step(scenes: Path, toy: Callable[..., Config], model: dict) -> None:
    """They are 3 times the FLOPs that torch counts in the forward pass of a step, with the auxiliary head."""
    config = toy(**model, **{"data.path": str(scenes)})
    parts = build(config, lambda text: None)
    batch = next(training_batches(parts.train, 4, 0, 0))
    parts.learner.parameters().train()
    with FlopCounterMode(display=False) as counter:
        parts.learner.step(batch)
    assert parts.flops[config.data.size] == pytest.approx(3 * counter.get_total_flops() / 4, rel=1e-6)


def test_turn_test_averages_over_flips_and_rotations(
    run: sightline.Run, scenes: Path, toy: Callable[..., Config]
) -> None:
    task, images = task_of_run(run, toy(**{"data.path": str(scenes), "train.turn_test": True}))
    turned = [(k, flip) for k in range(4) for flip in (False, True)]
    total = torch.zeros(())
    for k, flip in turned:
        view = images.rot90(k, (2, 3))
        probabilities = task.model(task.normalize(view.flip(3) if flip else view)).softmax(1)
        total = total + (probabilities.flip(3) if flip else probabilities).rot90(-k, (2, 3))
    torch.testing.assert_close(task.logits(images).softmax(1), total / 8, rtol=1e-3, atol=1e-5)
    plain, _ = task_of_run(run, toy(**{"data.path": str(scenes)}))
    assert (plain.logits(images).softmax(1) - total / 8).abs().max() > 1e-3, "otherwise the comparison proves nothing"


def task_of_run(run: sightline.Run, config: Config) -> tuple[SegmentLearner, torch.Tensor]:
    """The task of a configuration with the weights of a run, and two validation images."""
    parts = build(config, lambda text: None)
    parts.model.load_state_dict(load_file(run.path / "checkpoints" / "best" / "model.safetensors"))
    parts.model.eval().requires_grad_(False)
    assert isinstance(parts.learner, SegmentLearner)
    return parts.learner, torch.from_numpy(parts.val.images[:2].copy())


def test_score_has_the_interval_of_the_run(
    make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config]
) -> None:
    scenes = make_scenes(tmp_path / "data", train=4, val=30)
    run = sightline.train(toy(**{"train.epochs": 1, "data.group": "none"}), scenes, out=tmp_path / "run", quiet=True)
    assert run.metrics["mean_iou_interval"][0] < run.metrics["mean_iou"]
    scored = sightline.score(scenes / "validation", run.path / "predictions" / "val", "landcover")
    assert scored.numbers["mean_iou_interval"] == pytest.approx(run.metrics["mean_iou_interval"], abs=1e-9)


def test_images_smaller_than_the_window_are_reported(
    make_scenes: Callable[..., Path], tmp_path: Path, toy: Callable[..., Config]
) -> None:
    data = make_scenes(tmp_path / "data", train=2, val=1)
    small = make_scenes(tmp_path / "small", train=1, val=0, size=16) / "train"
    for ending in ("sat.jpg", "mask.png"):
        shutil.copy(small / f"0000_{ending}", data / "train" / f"small_{ending}")
    messages: list[str] = []
    build(toy(**{"data.path": str(data)}), messages.append)
    note = "1 of 3 training images are smaller than augment.window, 32 x 32, and are enlarged to it"
    cure = "to train at the scale of the evaluation: --augment.window '[16, 16]'"
    assert f"{note}: train/small_sat.jpg (16 x 16); {cure}" in messages
