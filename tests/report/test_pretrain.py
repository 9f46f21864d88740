"""The page of a pre-training run: the quality of its features, and a warning on collapse."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sightline.config.resolve import to_yaml
from sightline.recipes import load_recipe
from sightline.report.page import write_report


@pytest.fixture
def pretraining(make_run: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """pretraining(std=0.7, rank=30.0, knn=True): the run folder of a finished pre-training."""

    def make(std: float = 0.7, rank: float = 30.0, knn: bool = True) -> Path:
        run = make_run(tmp_path / "run")
        (run / "predictions" / "val.csv").unlink()
        (run / "snapshots" / "mistakes.npz").unlink()
        (run / "recipe.yaml").write_text(to_yaml(load_recipe("byol_fast")), encoding="utf-8")
        lines = []
        for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
            if record["event"] in ("eval", "done"):
                for name in ("accuracy", "accuracy_top5", "calibration_error", "best_epoch"):
                    record.pop(name, None)
                record |= {"best": False, "feature_std": std, "effective_rank": rank} | (
                    {"knn_accuracy": 0.4321, "linear_accuracy": 0.5432} if knn else {}
                )
            if record["event"] == "eval" and knn:
                record["knn_accuracy"] = 0.4444  # of bfloat16
            if record["event"] == "done" and knn:
                record |= {"knn_accuracy_interval": [0.4, 0.46], "linear_accuracy_interval": [0.51, 0.57]}
            lines.append(json.dumps(record))
        (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return run

    return make


@pytest.mark.usefixtures("quick_figures")
def test_the_page_has_the_metrics_of_the_features(pretraining: Callable[..., Path]) -> None:
    run = pretraining()
    text = write_report(run).read_text(encoding="utf-8")
    for words in (
        "k-NN accuracy",
        "43.21%",
        "40.00 to 46.00%",
        "Logistic regression",
        "54.32%",
        "51.00 to 57.00%",
        "0.700",
        "30.0",
        "BYOL",
        "The loss alone is not informative",
    ):
        assert words in text, words
    assert "44.44%" not in text, "the interval is of the value after the end of the run"
    assert "Collapsed: the features of all images" not in text and "Best epoch" not in text and "No epoch" not in text
    assert "It shows all 24 evaluated images." in text
    names = {path.name for path in (run / "figures").iterdir()}
    assert {"curve-knn-accuracy.png", "curve-feature-std.png", "curve-effective-rank.png", "tsne.png"} <= names
    first = (run / "report.html").read_bytes()
    assert write_report(run).read_bytes() == first


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_is_trained_further_has_the_metrics_of_its_last_epoch(pretraining: Callable[..., Path]) -> None:
    run = pretraining()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = next(record for record in reversed(records) if record["event"] == "eval")
    more = last | {"epoch": last["epoch"] + 1, "step": last["step"] + 1, "knn_accuracy": 0.4567}
    resumed = {"event": "resume", "step": last["step"], "epoch": last["epoch"]}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"{json.dumps(resumed)}\n{json.dumps(more)}\n")
    text = write_report(run).read_text(encoding="utf-8")
    assert "45.67%" in text and "40.00 to 46.00%" not in text


@pytest.mark.usefixtures("quick_figures")
def test_a_collapse_is_reported_with_its_cure(pretraining: Callable[..., Path]) -> None:
    text = write_report(pretraining(std=0.01)).read_text(encoding="utf-8")
    assert "Collapsed: the features of all images" in text and "--optim.lr" in text


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize(("pixels", "said"), [(0.4321, True), (0.4320, False), (None, False)])
def test_features_that_are_no_better_than_raw_pixels_are_named(
    pixels: float | None, said: bool, pretraining: Callable[..., Path]
) -> None:
    run = pretraining()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    done = json.loads(lines[-1]) | ({"baselines": {"knn_raw_pixels": pixels}} if pixels is not None else {})
    assert done["event"] == "done"
    (run / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(done)]) + "\n")
    text = write_report(run).read_text(encoding="utf-8")
    assert ("From raw pixels k-NN classifies 43.2% of these images correctly, and no more from the" in text) == said
    assert ("--pretrain.predictor_rate 100" in text) == said
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    assert "method: byol" in recipe
    (run / "recipe.yaml").write_text(recipe.replace("method: byol", "method: moco"), encoding="utf-8")
    text = write_report(run).read_text(encoding="utf-8")
    assert ("train longer." in text) == said and "--pretrain.method moco" not in text


@pytest.mark.usefixtures("quick_figures")
def test_without_labels_the_map_has_clusters_and_no_metrics(pretraining: Callable[..., Path]) -> None:
    run = pretraining(knn=False)
    with np.load(run / "snapshots" / "samples.npz") as samples:
        rest = {name: samples[name] for name in samples.files if name != "labels"}
    np.savez(run / "snapshots" / "samples.npz", **rest)
    text = re.sub(r"<script>.*?</script>", "", write_report(run).read_text(encoding="utf-8"), flags=re.S)
    assert "k-means clusters" in text and "--pretrain.probe" in text and 'data-live="map"' in text
    assert "k-NN accuracy" not in text and "Silhouette" not in text and "true class" not in text
    items = json.loads(re.search(r'id="items-data">(.*?)</script>', text, re.S).group(1))  # ty: ignore
    assert items["classes"][0] == "group 1"


@pytest.mark.usefixtures("quick_figures")
def test_neighbors_over_the_epochs_with_the_share_of_the_same_class(pretraining: Callable[..., Path]) -> None:
    run = pretraining()
    text = write_report(run).read_text(encoding="utf-8")
    assert "The 4 nearest neighbors of 12 images after epochs 1, 3 and 6; of the class of their image are " in text
    assert (run / "figures" / "neighbors.png").is_file()


@pytest.mark.usefixtures("quick_figures")
def test_without_usable_features_the_section_says_so(pretraining: Callable[..., Path]) -> None:
    run = pretraining()
    for path in (run / "snapshots").glob("epoch-*/features.npz"):
        np.savez(path, features=np.ones((24, 5), np.float16))
    text = write_report(run).read_text(encoding="utf-8")
    assert "No neighbors: no epoch has features that differ between images." in text
    (run / "snapshots" / "samples.npz").unlink()
    assert "No neighbors: the images whose features were stored are missing." in write_report(run).read_text("utf-8")
