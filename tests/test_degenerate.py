"""Degenerate results: public functions of stats, insight and report neither raise nor warn, and print no `nan`.

CASES is the table of the functions that get such arrays. Every public function is called by a case or is in OTHERS, so
a new one without an entry fails `test_every_public_function_is_tried`.
"""

import cProfile
import inspect
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

import compare_toys
import multilabel_toys
import sightline
from config_toys import configured
from conftest import BLANK, PRETRAINING, TINY, TOY
from sightline.__main__ import run as run_command
from sightline.config.resolve import to_yaml
from sightline.config.schema import Data
from sightline.data.decode.palettes import IGNORE
from sightline.insight import class_maps, curves, features, figures, mask_figures, neighbors, projection
from sightline.insight.ranking import draw_roc
from sightline.models import class_maps as of_network
from sightline.report import findings
from sightline.report.page import write_report
from sightline.stats import (
    baselines,
    class_weights,
    folds,
    groups,
    intervals,
    metrics,
    nested,
    paired,
    ranking,
    segmentation,
    units,
)

PACKAGE, DOCS = Path(sightline.__file__).parent, Path(__file__).parent.parent / "docs"


@dataclass(frozen=True)
class Sample:
    """Results of N images for K classes, and of N masks of 5x5 pixels; see `sample_of`."""

    classes: int
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    truth: np.ndarray
    masks: np.ndarray
    groups: np.ndarray
    log: tuple[dict[str, Any], ...]

    @property
    def confidence(self) -> np.ndarray:
        return self.scores.max(1)

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted

    @property
    def confusion(self) -> np.ndarray:
        return metrics.confusion_matrix(self.predicted, self.labels, self.classes)

    @property
    def per_image(self) -> np.ndarray:
        return segmentation.confusion_per_image(self.masks, self.truth, self.classes)

    @property
    def names(self) -> list[str]:
        return [f"class {index}" for index in range(self.classes)]

    @property
    def colors(self) -> np.ndarray:
        return np.arange(3 * self.classes, dtype=np.uint8).reshape(-1, 3)

    @property
    def images(self) -> np.ndarray:
        return np.zeros((len(self.labels), 3, 5, 5), np.uint8)

    @property
    def usable(self) -> np.ndarray:
        """The features, or others in their place if they have no map."""
        plain = np.arange(3.0 * projection.MIN_SAMPLES).reshape(-1, 3) ** 2
        return plain if projection.why_no_map(self.features) else self.features


def sample_of(
    count: int = 12, classes: int = 3, width: int = 4, seed: int = 0, kinds: tuple[int, ...] = (0, 0, 0, 0, 1, 1, 3)
) -> Sample:
    """A sample of `count` images; `kinds` chooses labels, predictions, scores, features, true masks, masks and log."""
    rng, ones = np.random.default_rng(seed), np.ones((count, width))
    some = rng.integers(0, classes, count)
    indices = [some, np.zeros(count, np.int64), np.full(count, classes - 1), np.arange(count) % classes]
    equal, certain = np.full((count, classes), 1 / classes), np.eye(classes)[some]
    varied = rng.dirichlet(np.ones(classes), count)
    vectors = [
        0 * ones,
        65504 * ones,
        ones + 1e-7 * rng.normal(size=ones.shape),
        np.eye(width)[np.arange(count) % width],
        np.eye(count)[:, :1] * ones,
        rng.normal(size=ones.shape),
        np.nan * ones,
        np.where(np.eye(count, width) > 0, np.inf, ones),
    ]
    ignored, single = np.full((count, 5, 5), IGNORE, np.uint8), np.ones((count, 5, 5), np.uint8)
    mixed = rng.integers(0, classes, (count, 5, 5)).astype(np.uint8)
    first_ignored = np.where(np.arange(count)[:, None, None] == 0, ignored, mixed)
    options = (indices, indices, [equal, certain, varied], vectors, [ignored, first_ignored, single, mixed])
    labels, predicted, scores, features, truth = (
        option[kind % len(option)] for option, kind in zip(options, kinds, strict=False)
    )
    return Sample(
        classes=classes,
        labels=labels,
        predicted=predicted,
        scores=scores.astype(np.float32),
        features=features.astype(np.float32),
        truth=truth,
        masks=(single, mixed)[kinds[5] % 2],
        groups=(np.zeros(count, np.int64), np.arange(count))[kinds[5] % 2],
        log=LOGS[kinds[6] % len(LOGS)],
    )


SAMPLES = st.builds(
    sample_of,
    count=st.sampled_from([1, 2, 3, 12]),
    classes=st.integers(2, 6),
    width=st.sampled_from([1, 4]),
    seed=st.integers(0, 3),
    kinds=st.tuples(*[st.integers(0, 7)] * 7),
)
EMPTY = {"loss": float("nan"), "accuracy": None, "lr": 0.0}
LOGS: list[tuple[dict[str, Any], ...]] = [
    (),
    ({"event": "train", "step": 1, "epoch": 0, "seconds": 0.0, **EMPTY},),
    ({"event": "eval", "step": 1, "epoch": 1, "split": "val", **EMPTY}, {"event": "resume", "step": 1, "epoch": 1}),
    tuple({"event": kind, "step": step, "epoch": step, "loss": 0.0, "accuracy": 1.0, "accuracy_top5": 1.0, "best": True}
          for step in (1, 2) for kind in ("train", "eval")),
    ({"event": "train", "step": 1, "epoch": 1, "loss": -1.0}, {"event": "stop", "reason": "time limit", "epoch": 1}),
]  # fmt: skip


def tensors(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(sample.features), torch.from_numpy(sample.labels)


def binary(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Whether two models are correct, [1, 1, N] each: one pre-training, one seed."""
    return sample.correct[None, None], (sample.labels == 0)[None, None]


def with_both(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Scores of images, and whether each is of the second of two classes, with images of both."""
    return np.append(sample.confidence, [0.5, 0.5]), np.append(sample.correct, [False, True])


def maps_of(sample: Sample) -> list[projection.EpochMap]:
    labels = sample.labels[: len(sample.features)]
    return projection.epoch_maps([1, 2], [sample.features, sample.features], labels, with_tsne=False)


def neighbors_of(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(some images, their neighbors, the labels of all images), of `usable` features."""
    labels = np.resize(sample.labels, len(sample.usable))
    rows = neighbors.queries(labels, len(labels))
    return rows, neighbors.nearest(sample.usable, rows), labels


def past(sample: Sample) -> curves.History:
    return curves.history(sample.log)


ACCURACY = curves.MetricCurve("accuracy", "Accuracy", second=("accuracy_top5", "top 5"))
Case = Callable[[Sample], object]
CASES: dict[str, Case] = {
    "class_weights": lambda s: [class_weights.class_weights(s.confusion.sum(0), kind) for kind in ("balanced", "log")],
    "ids_of": lambda s: units.ids_of(s.groups.tolist()),
    "effective_images": lambda s: intervals.effective_images(s.correct, s.groups),
    "mean_interval": lambda s: [
        intervals.mean_interval(v, g) for v in (s.correct, s.confidence) for g in (None, s.groups)
    ],
    "jackknife": lambda s: intervals.jackknife(s.correct.mean(), s.correct * 1.0, share=True).interval(),
    "wilson_interval": lambda s: intervals.wilson_interval(int(s.correct.sum()), len(s.correct)),
    "verdict": lambda s: [intervals.verdict(0.0, edges, "A", "B") for edges in ((0.0, 0.0), intervals.NONE)],
    "fold_interval": lambda s: [folds.fold_interval(part) for part in (s.confidence, s.correct * 1.0)],
    "fold_interval_of_shares": lambda s: folds.fold_interval_of_shares(s.correct * 1.0, 1),
    "area_under_curve": lambda s: [ranking.area_under_curve(s.confidence, s.correct, g) for g in (None, s.groups)],
    "roc_points": lambda s: ranking.roc_points(*with_both(s)),
    "nested_mean": lambda s: nested.nested_mean(binary(s)[0], s.groups),
    "mean_iou_values": lambda s: nested.mean_iou_values(s.per_image),
    "nested_difference": lambda s: nested.nested_difference(*binary(s), s.groups).interval(),
    "paired_difference": lambda s: nested.paired_difference(s.correct, s.labels == 0, s.groups).p,
    "blocks": lambda s: units.weights_without(units.blocks(len(s.labels), s.groups)),
    "accuracy": lambda s: metrics.accuracy(s.scores, s.labels),
    "top_k": lambda s: metrics.top_k(np.full_like(s.scores, np.nan), s.labels, 5),
    "per_class": lambda s: metrics.per_class(s.confusion),
    "most_confused": lambda s: metrics.most_confused(s.confusion),
    "reliability": lambda s: metrics.reliability(s.confidence, s.correct),
    "calibration_error": lambda s: metrics.calibration_error(s.confidence, s.correct),
    "knn_accuracy": lambda s: len(s.labels) > 1 and metrics.knn_accuracy(s.features, s.labels),
    "knn_votes": lambda s: metrics.knn_votes(*tensors(s), tensors(s)[0], s.classes, k=20),
    "feature_std": lambda s: metrics.feature_std(tensors(s)[0]),
    "effective_rank": lambda s: metrics.effective_rank(tensors(s)[0]),
    "alignment": lambda s: metrics.alignment(tensors(s)[0], tensors(s)[0].flip(0)),
    "uniformity": lambda s: metrics.uniformity(tensors(s)[0]),
    "iou_difference": lambda s: paired.iou_difference(s.per_image, s.per_image, groups=s.groups).p,
    "iou_interval": lambda s: segmentation.interval(s.per_image, groups=s.groups),
    "effective_images_of_masks": lambda s: segmentation.effective_images(s.per_image, s.groups),
    "bracketed": lambda s: intervals.bracketed(segmentation.interval(s.per_image)),
    "stratified_rows": lambda s: baselines.stratified_rows(s.labels, 2, 0),
    "neighbor_scores": lambda s: baselines.neighbor_scores(tensors(s)[0], s.labels, tensors(s)[0], s.classes, 20),
    "baselines_text": lambda s: baselines.baselines_text({"most_frequent_class": float(s.correct.mean())}),
    "joined": lambda s: groups.joined(s.groups, s.groups),
    "median": lambda s: groups.median(s.confidence[:0]),
    "found_groups": lambda s: groups.found_groups([f"film_{i}.png" for i in range(len(s.labels))], s.images, s.labels),
    "groups_of_masks": lambda s: groups.groups_of_masks(
        [f"film_{i}.png" for i in range(len(s.labels))], s.per_image.sum(-1), Data()
    ),
    "paired_ious": lambda s: paired.paired_ious(s.per_image, s.per_image),
    "paired_classes": lambda s: paired.paired_classes(s.labels, s.predicted, s.labels, s.classes, s.groups),
    "holm": lambda s: paired.holm([np.nan, 1.0, 0.0]) + paired.holm([]),
    "bonferroni": lambda s: paired.bonferroni([np.nan, 1.0, 0.0])[0] + paired.bonferroni([])[0],
    "class_numbers": lambda s: segmentation.class_numbers(s.per_image),
    "segment_numbers": lambda s: s.per_image.any() and segmentation.segment_numbers(s.per_image),
    "other_definitions": lambda s: segmentation.other_definitions(
        s.per_image, segmentation.confusion(s.masks, s.truth, s.classes, ignored=True)
    ),
    "per_image_iou": lambda s: segmentation.per_image_iou(s.per_image),
    "class_intervals": lambda s: segmentation.class_intervals(s.per_image, s.groups),
    "silhouette": lambda s: features.silhouette(s.features, s.labels),
    "why_not_separable": lambda s: projection.why_not_separable(s.labels),
    "epoch_maps": lambda s: finite(*(one.pca for one in maps_of(s))),
    "tsne": lambda s: finite(projection.tsne(projection.principal_components(s.usable, 5)[0], None)),
    "agreement": lambda s: neighbors.agreement(neighbors_of(s)[1], neighbors_of(s)[0], neighbors_of(s)[2]),
    "map_titles": lambda s: figures.map_titles(projection.static_maps(maps_of(s)), "pca"),
    "epoch_means": lambda s: curves.epoch_means(s.confidence, s.features[:, 0]),
    "cluster_labels": lambda s: findings.cluster_labels(s.usable),
    "class_order": lambda s: figures.shown_classes(s.confusion),
    "score_text": lambda s: [mask_figures.score_text(matrix) for matrix in s.per_image],
    "most_frequent_error": lambda s: [mask_figures.most_frequent_error(matrix, s.names) for matrix in s.per_image],
    "class_maps": lambda s: finite(drawn_map(s)),
    "overlay": lambda s: [mask_figures.overlay(*pair, s.colors) for pair in zip(s.images, s.truth, strict=True)],
}
FIGURES: dict[str, Callable[[Sample], Figure]] = {
    "draw_confusion": lambda s: figures.draw_confusion(s.confusion, s.names),
    "draw_together": lambda s: figures.draw_together(0 * s.confusion, s.names),
    "draw_calibration": lambda s: figures.draw_calibration(s.confidence, s.correct),
    "draw_roc": lambda s: draw_roc(*with_both(s), (s.names[0], s.names[-1])),
    "draw_maps": lambda s: figures.draw_maps([0 * s.features[:, [0, 0]]] if np.isfinite(s.features).all() else
                                             [np.zeros((len(s.labels), 2))], ["one"], s.labels, s.names),
    "draw_image_grid": lambda s: figures.draw_image_grid([], []),
    "draw_preview": lambda s: figures.draw_preview(s.images * 1.0, (0.5,) * 3, (0.0,) * 3, s.labels, s.names),
    "draw_masks_over_epochs": lambda s: mask_figures.draw_masks_over_epochs(
        s.images, s.truth, [s.masks], [1], s.colors, s.names, s.labels.astype(str).tolist()),
    "draw_errors": lambda s: mask_figures.draw_errors(
        s.images, s.truth, s.masks, s.colors, s.names, s.labels.astype(str).tolist()),
    "draw_class_frequencies": lambda s: mask_figures.draw_class_frequencies(
        s.per_image.sum((0, 1)), 0 * s.confusion.sum(0), s.names, s.colors),
    "draw_ious": lambda s: mask_figures.draw_ious(
        segmentation.class_iou(s.per_image.sum(0)), np.full((s.classes, 2), np.nan), s.names, s.colors),
    "draw_neighbors": lambda s: neighbors.draw_neighbors(
        np.zeros((len(s.usable), 3, 5, 5), np.uint8), neighbors_of(s)[0], [neighbors_of(s)[1]], [1],
        neighbors_of(s)[2]),
    "draw_loss": lambda s: curves.draw_loss(past(s)),
    "draw_metric": lambda s: curves.draw_metric(past(s), ACCURACY),
}  # fmt: skip


def drawn_map(s: Sample) -> np.ndarray:
    """The overlay of the class activation map of a network that gives all images the same outputs."""
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    head = torch.nn.Linear(2, s.classes)
    torch.nn.init.zeros_(head.weight)
    labels = torch.zeros(len(s.labels), dtype=torch.int64)
    maps = of_network.class_maps(backbone, head, torch.from_numpy(s.images).float(), labels)
    assert maps is not None
    return class_maps.overlay(s.images[0], of_network.enlarged(maps[0].numpy(), *s.images.shape[2:]))


def finite(*arrays: np.ndarray) -> bool:
    assert all(np.isfinite(array).all() for array in arrays)
    return True


def texts(value: Any) -> Iterator[str]:
    """All texts in nested results."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)
    elif isinstance(value, Mapping):
        yield from texts([*value.values()])


NAN = re.compile(r"(?<![\w/+-])(?:nan|inf|NaN|Infinity)(?![\w/+-])")


def called_functions(profile: cProfile.Profile) -> set[Any]:
    """The Python functions that were called while `profile` was enabled. It takes a fraction of the time of a trace
    function in Python."""
    return {entry.code for entry in profile.getstats()}


def steady(most: int) -> settings:
    return settings(max_examples=most, phases=[Phase.explicit, Phase.generate],
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@steady(12)
@given(sample=SAMPLES)
def test_numbers_of_degenerate_arrays(name: str, sample: Sample) -> None:
    found = CASES[name](sample)
    assert not [text for text in texts(found) if NAN.search(text)]


@pytest.mark.parametrize("name", FIGURES)
@steady(3)
@given(sample=SAMPLES)
def test_figures_of_degenerate_arrays(name: str, sample: Sample) -> None:
    figure = FIGURES[name](sample)
    figure.draw_without_rendering()
    labels = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title, axes.xaxis.label)]
    assert not [text for text in labels if NAN.search(text)]


def page_text(path: Path) -> str:
    """The text and attributes of a page, without style, code and images."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"data:image/[^\"]*|<script type=.application/json.*?</script>", "", text, flags=re.DOTALL)


def with_features(run: Path, *epochs: np.ndarray) -> Path:
    """Add stored features of some epochs to a run of `compare_toys`."""
    for epoch, array in enumerate(epochs, 1):
        (run / "snapshots" / f"epoch-{epoch:05d}").mkdir()
        np.savez(run / "snapshots" / f"epoch-{epoch:05d}" / "features.npz", features=array.astype(np.float16))
    return run


NONE, MANY = np.zeros(12, np.int64), np.arange(12)
VARIED = np.random.default_rng(0).normal(size=(12, 4))
SAME, LOST, HUGE = np.ones((12, 4)), np.full((12, 4), np.nan), np.full((12, 4), np.inf)
PAGES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "features all alike": (
        lambda run: with_features(compare_toys.classifier(run, NONE, NONE), SAME, SAME),
        ["No maps of epochs 1 and 2: the features of all images are the same, so there are no neighborhoods to show."],
    ),
    "features not finite, one class": (
        lambda run: with_features(compare_toys.classifier(run, NONE, NONE), LOST, HUGE, VARIED),
        [
            "No maps of epochs 1 and 2: the features have values that are not numbers or exceed 65,504",
            "No k-NN accuracy and no silhouette: all these images are of one class.",
        ],
    ),
    "one image a class": (
        lambda run: with_features(compare_toys.classifier(run, MANY, MANY, classes=tuple("abcdefghijkl")), VARIED),
        ["No k-NN accuracy and no silhouette: each of these images is the only one of its class."],
    ),
    "one image": (
        lambda run: with_features(compare_toys.classifier(run, [0], [1]), VARIED[:1]),
        ["No maps of epoch 1: 1 image, but at least 10 are needed."],
    ),
    "a class without images, one predicted class": (
        lambda run: compare_toys.classifier(run, NONE, MANY % 2),
        [
            "Every image is predicted as cat: the model does not distinguish the classes",
            ">no images</td>",
            ">never predicted</td>",
        ],
    ),
    "a mask of one class": (
        lambda run: compare_toys.segmenter(run, *np.zeros((2, 1, 8, 8), np.uint8)),
        ["no interval"],
    ),
    "a collapsed pre-training": (
        lambda run: compare_toys.write_run(run, "byol", numbers={"feature_std": 0.0, "effective_rank": 1.0}),
        ["Collapsed: the features of all images are nearly the same (spread 0.000 of 1, effective rank 1.0)"],
    ),
}


def public_functions() -> dict[str, CodeType]:
    """The functions of stats, insight and report, as module.name."""
    found = {}
    for package in ("stats", "insight", "report"):
        folder = PACKAGE / package
        for path in folder.rglob("*.py"):
            parts = path.relative_to(PACKAGE).with_suffix("").parts
            module = import_module("sightline." + ".".join(part for part in parts if part != "__init__"))
            for name, value in vars(module).items():
                if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                    found[f"{'.'.join(parts)}.{name}"] = inspect.unwrap(value).__code__
    return found


OTHERS = {
    "report.page.evaluations": "entries of the log",
    "report.page.result_text": "entries of the log",
    "stats.groups.given_groups": "names of files",
    "stats.groups.named_alike": "names of files",
    "stats.groups.prefixes": "names of files",
    "stats.groups.stated_groups": "names of files",
    "stats.groups.groups_of": "a decoded split; found_groups is tried",
    "stats.groups.said": "results of a run",
    "stats.groups.write_groups": "a decoded split; found_groups is tried",
    "insight.architecture.": "blocks of a network",
    "report.architecture.": "blocks of a network",
    "report.pdf.": "a browser",
    "report.watch.": "a server",
    "report.origin.": "settings and versions",
    "insight.neighbors.show": "an image",
    "insight.style.lightened": "a color",
    "insight.style.png": "a figure",
    "insight.style.styled": "a function, at import",
    "insight.style.use_log_axis": "costs of runs, which are positive",
    "report.compare.listing.": "files of runs",
    "report.compare.matching.examples": "names in a message",
    "report.compare.paired_sections.gallery_image": "images on which runs differ",
    "report.compare.runs.other_tasks": "a message",
    "report.compare.runs.unfinished": "a message",
    "report.drawing.sheet": "images with captions; draw_image_grid is tried",
    "report.drawing.training_curve": "a constant, at import",
    "report.formatting.count": "a positive number",
    "report.formatting.fixed": "a number",
    "report.formatting.fixed_interval": "two numbers",
    "report.formatting.times": "a positive number",
    "report.html.jpeg_uri": "an image",
    "report.html.typeset": "a text",
    "report.live.gray_png": "a mask",
    "report.run.read_png": "a file",
    "report.sections.preview": "an image",
    "report.sections.split_size": "a positive number",
}
"""Public functions, and modules with a dot at the end, that get no results: what they get."""


@pytest.mark.slow
@pytest.mark.usefixtures("quick_figures")
def test_pages_of_degenerate_runs_and_the_table_of_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = import_module("sightline.report.compare.files")
    profile = cProfile.Profile()

    def tried(figure: Figure) -> bytes:
        """Draw without rendering, and without the layout, which draws everything once more."""
        profile.disable()
        figure.set_layout_engine("none")
        figure.draw_without_rendering()
        profile.enable()
        return BLANK

    monkeypatch.setattr(compared, "png", tried)
    with profile:
        for name, (write, sentences) in PAGES.items():
            runs = [write(tmp_path / name / folder) for folder in ("first", "second", "third")]
            pages = [write_report(runs[0]), compared.write_comparison(runs, tmp_path / name / "compared")[0]]
            found = [page_text(page) for page in pages]
            assert not [part for text in found for part in re.findall(rf".{{0,80}}{NAN.pattern}.{{0,80}}", text)], name
            assert not [sentence for sentence in sentences if sentence not in found[0]], name
        for case in (CASES | FIGURES).values():
            case(sample_of())
    functions, called = public_functions(), called_functions(profile)
    assert functions.keys() >= {name for name in OTHERS if not name.endswith(".")}, (
        "OTHERS names a function that is gone"
    )
    missing = {name for name, code in functions.items() if code not in called and not exempt(name)}
    assert not missing, f"add a case, or an entry of OTHERS, for {sorted(missing)}"


def exempt(name: str) -> bool:
    return name in OTHERS or name.startswith(tuple(each for each in OTHERS if each.endswith(".")))


@pytest.fixture
def one_color(
    request: pytest.FixtureRequest, photos: Path, quarters: Path, make_scenes: Callable[..., Path], tmp_path: Path
) -> list[str]:
    """The arguments of `train` for data of the task `request.param`, all of whose images have one color."""
    task, data = request.param, tmp_path / "data"
    if task == "segment":
        make_scenes(data)
    else:
        shutil.copytree(photos if task in ("classify", "pretrain") else quarters.parent, data)
    for path in data.rglob("*.[pj][np]g"):
        if not path.stem.endswith("_mask"):
            with Image.open(path) as image:
                image.point(lambda value: 120).save(path)
    recipe = tmp_path / "recipe.yaml"
    settings = {"classify": TINY, "segment": TOY, "pretrain": PRETRAINING, "multilabel": multilabel_toys.SETTINGS}
    if task in settings:
        recipe.write_text(to_yaml(configured({"task": task, "name": "toy", **settings[task]})), encoding="utf-8")
        return [str(recipe), "--data", str(data / quarters.name if task == "multilabel" else data)]
    rows = [row.split(",") for row in (data / quarters.name).read_text(encoding="utf-8").splitlines()[1:]]
    lines = ["filename,label,split", *(f"{row[0]},{number},{row[-1]}" for number, row in enumerate(rows))]
    (data / "numbers.csv").write_text("\n".join(lines), encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", (DOCS / "extend.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "rotation.py").write_text(next(text for text in code if "REGRESS =" in text), encoding="utf-8")
    toys = {key: value for key, value in TINY.items() if not key.startswith("augment.")}
    options = [str(part) for key, value in toys.items() for part in (f"--{key}", value)]
    return ["rotation", "--code", str(tmp_path / "rotation.py"), "--data", str(data / "numbers.csv"), *options]


@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("one_color", ["classify", "multilabel", "segment", "pretrain", "regress"], indirect=True)
def test_a_set_of_one_color_is_trained_evaluated_and_reported(
    one_color: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    code = ["--code", str(run / "code" / "rotation.py")] if one_color[0] == "rotation" else []
    assert run_command(["train", *one_color, "--data.on_copies", "warn", "--out", str(run)]) == 0
    assert run_command(["evaluate", str(run), *code]) == 0
    (run / "report.html").unlink()
    assert run_command(["report", str(run), *code]) == 0
    output, text = "".join(capfd.readouterr()), page_text(run / "report.html")
    assert not NAN.search(output) and not NAN.search(text)
    assert ("the features of all images are the same" in text) == ("Features over the epochs" in text)


def test_evaluate_prints_a_metric_that_is_not_defined(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"images": 3, "mean_average_precision": np.nan, "mean_average_precision_interval": (np.nan, np.nan)}
    monkeypatch.setattr(sightline, "evaluate", lambda *_, **options: numbers)
    assert run_command(["evaluate", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "mean_average_precision  not defined for these images"
