"""Pre-training runs with and without labels, resuming, fine-tuning, invalid settings."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import sightline
from config_toys import configured
from film_toys import write_films
from sightline import SightlineError
from sightline.config.resolve import resolve, to_yaml
from sightline.config.schema import Augment, Config, Data, Model, Train
from sightline.models.encoder_weights import load_encoder
from sightline.models.segmenters import build_segmenter
from sightline.recipes import load_recipe
from sightline.runs.atomic import read_json, read_json_lines
from sightline.tasks.pretrain.build import build, build_siamese, evenly, open_images, view_functions
from sightline.tasks.pretrain.probe import open_probe
from sightline.tasks.pretrain.siamese import Siamese
from sightline.tasks.pretrain.task import target_momentum

pytestmark = pytest.mark.usefixtures("no_reports")

SIZE = 16
Toy = Callable[..., Config]


def test_a_run_without_labels(small: Toy, photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for number, path in enumerate(sorted((photos / "train").rglob("*.png"))):
        flat.mkdir(exist_ok=True)
        (flat / f"picture{number}.png").write_bytes(path.read_bytes())
    with pytest.raises(SightlineError, match="unlabeled images have no inner split"):
        sightline.train(small(**{"data.inner_fraction": 0.2}), flat, out=tmp_path / "run", quiet=True)
    run = sightline.train(small(), flat, out=tmp_path / "run", quiet=True)
    evaluations = [r for r in read_json_lines(run.path / "metrics.jsonl") if r["event"] == "eval"]
    assert len(evaluations) == 2 and all(0 < r["feature_std"] <= 1 and r["effective_rank"] > 1 for r in evaluations)
    assert all("knn_accuracy" not in r for r in evaluations) and sightline.report(run.path).is_file()
    assert "label" in (run.path / "splits.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("{}_sat.png", "{}_mask.png"),
        ("train/{}.png", "trainannot/{}.png"),
    ],
)
def test_masks_beside_the_images_are_not_trained_on(
    small: Toy, photos: Path, tmp_path: Path, image: str, mask: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Masks are images too: they were taken for a second class, and class ids in classes.txt for wrong labels."""
    for number, path in enumerate(sorted((photos / "train").rglob("*.png"))):
        for template, picture in ((image, Image.open(path)), (mask, Image.new("L", (SIZE, SIZE), number % 3))):
            file = tmp_path / "land" / template.format(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
    (tmp_path / "land" / "classes.txt").write_text("road\ncar\ntree\n")
    source = open_images(small(**{"data.path": str(tmp_path / "land")}), print)
    (items,) = source.splits.values()
    assert set(items.names) == {image.format(n) for n in range(number + 1)} and items.labels is None
    assert source.classes == () and "the masks are not used" in capsys.readouterr().out


def test_with_an_inner_split_the_validation_images_report(small: Toy, photos: Path, tmp_path: Path) -> None:
    run = sightline.train(small(**{"data.inner_fraction": 0.25}), photos, out=tmp_path / "run", quiet=True)
    assert sightline.evaluate(run.path, quiet=True)["images"] == 16
    found = sightline.evaluate(run.path, split="outer", quiet=True)
    assert found["split"] == "outer" and found["images"] == 16 and "look" not in found
    (event,) = [record for record in read_json_lines(run.path / "metrics.jsonl") if record["event"] == "test"]
    assert event["split"] == "outer" and event["knn_accuracy"] == found["knn_accuracy"]
    plain = sightline.train(small(), photos, out=tmp_path / "plain", quiet=True)
    with pytest.raises(SightlineError, match="on the split val only"):
        sightline.evaluate(plain.path, split="outer", quiet=True)


def test_the_probe_is_measured_and_never_trained_on(small: Toy, few: Path, tmp_path: Path) -> None:
    """The weights are the same with and without a probe."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((few / "train").rglob("*.png"))):
        (flat / f"picture{number}.png").write_bytes(path.read_bytes())
    groups = {"data.group": "(?P<group>[a-z]+)"}  # of the training images, not of those of the probe
    runs = [
        sightline.train(small(**{"pretrain.probe": probe} | groups), flat, out=tmp_path / name, quiet=True)
        for name, probe in (("without", ""), ("with", str(few)))
    ]
    weights = [load_file(run.path / "checkpoints" / "last" / "model.safetensors") for run in runs]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert "knn_accuracy" not in runs[0].metrics
    low, high = runs[1].metrics["knn_accuracy_interval"]
    assert 0.25 < runs[1].metrics["knn_accuracy"] <= 1 and low <= runs[1].metrics["knn_accuracy"] <= high
    again = sightline.evaluate(runs[1].path, quiet=True)
    assert again["knn_accuracy"] == runs[1].metrics["knn_accuracy"] and again["images"] == 8


def test_the_teacher_is_standardized_on_images_of_all_classes() -> None:
    """Images are in the order of their classes."""
    images = np.arange(1999).reshape(-1, 1, 1, 1)
    assert evenly(images, 1000).ravel()[[0, 500, 999]].tolist() == [0, 999, 1997]
    assert evenly(images, 5000).tolist() == images.tolist() and len(evenly(images[:0], 10)) == 0
    assert (evenly(np.arange(25_000), 1000) == np.arange(0, 25_000, 25)).all()


def test_the_result_says_that_the_films_are_known(small: Toy, tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", ("train", "val"))
    run = sightline.train(small(), films, out=tmp_path / "run", quiet=True)
    assert read_json(run.path / "predictions" / "val-groups.json")["shared"] == 60
    facts = run.metrics
    assert facts["grouped_by"].startswith("frames of one film")


def test_views_that_patches_do_not_divide_are_an_error(small: Toy, few: Path) -> None:
    network = {"name": "timm/vit_tiny_patch16_224", "args": {}}
    config = small(**{"model": network, "data.size": 40, "data.path": str(few)})
    with pytest.raises(SightlineError, match="would not see the last 8 rows and columns of images of 40"):
        build(config, lambda text: None)


def test_a_model_without_weights_is_an_error(small: Toy, few: Path) -> None:
    with pytest.raises(SightlineError, match="the model colors has no weights to pre-train"):
        build(small(**{"model": {"name": "colors", "args": {}}, "data.path": str(few)}), lambda text: None)


def test_pre_training_goes_on_from_the_weights_of_a_run(small: Toy, few: Path, tmp_path: Path) -> None:
    before = sightline.train(small(), few, out=tmp_path / "before", quiet=True)
    given = load_file(before.path / "checkpoints/last/model.safetensors")
    model = build(small(**{"model.weights": str(before.path), "data.path": str(few)}), lambda text: None).model
    assert isinstance(model, Siamese) and model.target is not None
    backbone = {name.removeprefix("backbone."): value for name, value in given.items() if name.startswith("backbone.")}
    for network in (model.backbone, model.target[0]):
        own = network.state_dict()
        assert own.keys() == backbone.keys() and all(torch.equal(own[name], value) for name, value in backbone.items())


def test_two_and_two_epochs_equal_four_including_the_target(small: Toy, few: Path, tmp_path: Path) -> None:
    whole = sightline.train(small(**{"train.epochs": 4}), few, out=tmp_path / "whole", quiet=True)
    half = small(**{"train.epochs": 4, "train.max_minutes": 1e-9})
    stopped = sightline.train(half, few, out=tmp_path / "half", quiet=True)
    assert stopped.metrics["step"] < whole.metrics["step"]
    sightline.resume(stopped.path, quiet=True, **{"train.max_minutes": 0})
    first, second = (load_file(r.path / "checkpoints" / "last" / "model.safetensors") for r in (whole, stopped))
    assert any(name.startswith("target.") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_resuming_after_sigkill_gives_the_same_weights_including_the_target(
    small: Toy, photos: Path, tmp_path: Path, train_and_kill: Callable[..., None]
) -> None:
    config = small(**{"train.epochs": 3, "train.checkpoint_minutes": 0})
    whole = sightline.train(config, photos, out=tmp_path / "whole", quiet=True)
    recipe, killed = tmp_path / "recipe.yaml", tmp_path / "killed"
    recipe.write_text(to_yaml(config))
    train_and_kill([recipe, "--data", photos, "--out", killed], killed, 6)  # of 4 + 4 + 4
    sightline.resume(killed, quiet=True)
    first, second = (load_file(r / "checkpoints" / "last" / "model.safetensors") for r in (whole.path, killed))
    assert any(name.startswith("target.") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_backbone_is_fine_tuned_as_a_classifier(small: Toy, few: Path, tmp_path: Path) -> None:
    before = sightline.train(small(), few, out=tmp_path / "before", quiet=True)
    config = Config(
        name="after",
        data=Data(size=SIZE),
        model=Model(
            name="small_cnn", args={"widths": [16, 32, 32], "dropout": 0.0}, weights=str(before.path), freeze=True
        ),
        train=Train(epochs=1, batch_size=16),
    )
    after = sightline.train(config, few, out=tmp_path / "after", quiet=True)
    ours, theirs = (load_file(run.path / "checkpoints" / "last" / "model.safetensors") for run in (before, after))
    backbone = [name for name in theirs if name.startswith("backbone.")]
    assert backbone and all(torch.equal(ours[name], theirs[name]) for name in backbone)


@pytest.mark.parametrize(
    ("name", "args", "target"),
    [
        ("unet", {"width": 8, "blocks": [1, 1, 1, 1]}, "unet"),
        ("smp/unet/resnet18", {}, "smp/unet/resnet18"),
        ("light/resnet10t", {}, "light/resnet10t"),
        ("timm/resnet10t", {}, "light/resnet10t"),
        ("resnet18", {"small_images": False}, "smp/unet/resnet18"),
    ],
)
def test_the_backbone_is_fine_tuned_as_the_encoder_of_a_segmenter(
    small: Toy, name: str, args: dict, target: str, few: Path, tmp_path: Path
) -> None:
    settings = {"model": {"name": name, "args": args}, "data.size": 32, "train.epochs": 1, "report.samples": 0}
    before = sightline.train(resolve(small(), settings), few, out=tmp_path / "before", quiet=True)
    built = build_segmenter(target, 7, args if target == name else {})
    receipt = load_encoder(built, str(before.path))
    assert "encoder: " in str(receipt)
    parts = next(note for note in receipt.notes if note.startswith("encoder: ")).split()
    assert parts[1] == parts[3], receipt.notes
    ours = load_file(before.path / "checkpoints" / "best" / "model.safetensors")
    first = next(n for n, v in built.encoder.state_dict().items() if v.ndim == 4)
    inner = first.removeprefix("model.")  # a network of timm in an encoder
    source = next(n for n in ours if n.startswith("backbone.") and n.endswith(inner))
    assert torch.equal(built.encoder.state_dict()[first], ours[source])


def test_settings_that_pretraining_does_not_have_are_errors(small: Toy) -> None:
    for settings, word in (
        ({"train.best_metric": "accuracy"}, "best_metric must be epoch"),
        ({"augment.mixup": 0.2}, "labels"),
        ({"optim.ema": 0.9}, "optim.ema"),
        ({"pretrain.momentum_end": 0.5}, "momentum_end"),
        ({"pretrain.small_size": 8}, "small_crops"),
        ({"loss.smoothing": 0.1}, "loss"),
        ({"augment.rare_crops": 0.5}, "segmentation"),
        ({"pretrain.method": "simsiam", "pretrain.momentum": 0.5}, "simsiam"),
    ):
        with pytest.raises(SightlineError, match=word):
            small(**settings)
    with pytest.raises(SightlineError, match=r"no setting 'pretrain\.momentum'"):
        configured({"pretrain.momentum": 0.5})
    with pytest.raises(SightlineError, match="small_size"):
        build_siamese(
            resolve(
                small(),
                {
                    "model": {"name": "vgg13_bn", "args": {}},
                    "data.size": 32,
                    "pretrain.small_crops": 1,
                    "pretrain.small_size": 2,
                },
            )
        )


def test_with_a_probe_all_images_are_training_images(small: Toy, photos: Path, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.copytree(photos / "train" / "class_0", one / "only")
    run = sightline.train(small(**{"pretrain.probe": str(photos)}), one, out=tmp_path / "run", quiet=True)
    rows = (run.path / "splits.csv").read_text().splitlines()
    assert sum(row.endswith(",train") for row in rows) == 16
    table = tmp_path / "table"
    shutil.copytree(photos / "train", table / "images")
    names = sorted(str(p.relative_to(table)) for p in table.rglob("*.png"))
    (table / "labels.csv").write_text("filename,label\n" + "".join(f"{n},{i % 3}\n" for i, n in enumerate(names)))
    counts = []
    for name, probe in (("probed", str(photos)), ("own", "")):
        run = sightline.train(small(**{"pretrain.probe": probe}), table, out=tmp_path / name, quiet=True)
        counts.append(sum(row.endswith(",train") for row in (run.path / "splits.csv").read_text().splitlines()))
    assert counts[0] == 64 and counts[1] < 64, "without a probe the labels give one, and a tenth is held out for it"


def test_training_images_that_are_copies_of_probe_images(
    small: Toy, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error, unless `data.on_copies` says that they are announced or left out."""
    images = tmp_path / "images"
    images.mkdir()
    for number, path in enumerate(sorted((photos / "train").rglob("*.png"))):
        shutil.copy(path, images / f"{number}.png")
    Image.open(min((photos / "val").rglob("*.png"))).save(images / "renamed.bmp")
    probed = {"pretrain.probe": str(photos)}
    with pytest.raises(SightlineError, match="are also training images") as caught:
        sightline.train(small(**probed), images, out=tmp_path / "stop", quiet=True)
    assert "1 training image is identical" in caught.value.why and "renamed.bmp = val/" in caught.value.why
    assert "--data.on_copies leave_out" in caught.value.cure
    for mode, count in (("warn", 65), ("leave_out", 64)):
        run = sightline.train(small(**probed, **{"data.on_copies": mode}), images, out=tmp_path / mode)
        assert json.loads((run.path / "provenance.json").read_text())["data"]["counts"]["train"] == count
    out = capsys.readouterr().out
    assert "warning: 1 training image is identical to one of the validation or test images of pretrain.probe" in out
    assert "1 training image left out: renamed.bmp" in out


def test_a_collapse_is_reported_even_if_quiet(small: Toy, few: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sightline.tasks.pretrain.collapse.COLLAPSED_STD", 2.0)
    run = sightline.train(small(), few, out=tmp_path / "run", quiet=True)
    said = capsys.readouterr().err
    assert said.count("collapsed") == 1 and "--optim.lr" in said and sightline.report(run.path).is_file()


@pytest.mark.parametrize(("warmup", "checked"), [(0, 2), (1, 1), (2, 1)])
def test_features_of_the_warm_up_are_no_collapse_before_the_last_epoch(
    small: Toy, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warmup: int, checked: int
) -> None:
    """Those of a segmentation encoder with random weights were: spread 0.009 after 6 steps, 0.8 in the end."""
    seen: list[float] = []
    alarm = "sightline.tasks.pretrain.build.collapse"
    monkeypatch.setattr(alarm, lambda numbers: seen.append(numbers["feature_std"]) or "")
    sightline.train(small(**{"schedule.warmup_epochs": warmup}), few, out=tmp_path / "run", quiet=True)
    assert len(seen) == checked


def test_a_probe_may_change_before_a_resume(
    small: Toy, few: Path, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    """The probe is not used for training, so the run can be resumed."""
    probe = make_photos(tmp_path / "probe", train=3, val=2)
    config = small(**{"pretrain.probe": str(probe), "train.max_minutes": 1e-9})
    run = sightline.train(config, few, out=tmp_path / "run", quiet=True)
    make_photos(tmp_path / "probe", train=3, val=3)
    sightline.resume(run.path, quiet=True, **{"train.max_minutes": 0})
    assert run.metrics["epoch"] == 2


def test_a_batch_size_of_one_and_a_probe_without_labels_are_errors(small: Toy, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="batch size is too small"):
        sightline.train(small(**{"train.batch_size": 1}), photos, out=tmp_path / "one", quiet=True)
    bare = photos / "train" / "class_0"
    with pytest.raises(SightlineError, match=r"images of pretrain\.probe have no labels"):
        sightline.train(small(**{"pretrain.probe": str(bare)}), photos, out=tmp_path / "two", quiet=True)


def test_the_recipe_has_the_augmentation_of_the_paper() -> None:
    paper = load_recipe("byol_paper")
    assert paper.augment == Augment(
        resize=256, crop="resized", crop_scale=(0.08, 1.0), horizontal_flip=0.5, jitter=0.8, brightness=0.4,
        contrast=0.4, saturation=0.2, hue=0.1, grayscale=0.2, blur=1.0,
    )  # fmt: skip
    assert (paper.pretrain.second_blur, paper.pretrain.second_solarize) == (0.1, 0.2)
    assert target_momentum(1, 10**9, paper.pretrain, 4096) == pytest.approx(0.99)


def test_a_folder_of_one_image_is_an_error(small: Toy, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (20, 20), "red").save(tmp_path / "one" / "a.png")
    with pytest.raises(SightlineError, match="one image is too few"):
        sightline.train(small(), tmp_path / "one", out=tmp_path / "run", quiet=True)


def test_small_views_are_cut_from_the_full_image(small: Toy) -> None:
    config = small(**{"pretrain.small_crops": 1, "pretrain.small_size": 16, "augment.crop": "resized", "data.size": 64})
    config = resolve(config, {"augment.horizontal_flip": 0.0, "pretrain.small_scale": [0.06, 0.06]})
    _, (view,) = view_functions(config, (0.0,) * 3, (1.0,) * 3)
    fine = torch.zeros(8, 3, 64, 64, dtype=torch.uint8)
    fine[:, :, :, ::4] = fine[:, :, :, 1::4] = 255  # stripes of two pixels, which vanish at a quarter of the side
    found = view(fine, torch.arange(8), 0, 0)
    assert found.shape == (8, 3, 16, 16) and found.std(3).mean() > 0.3


def test_label_sets_are_no_labels_of_a_pretraining(
    small: Toy, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((photos / "train").rglob("*.png"))
    rows = "".join(f"{path},{'cat;dog' if index % 2 else 'cat'}\n" for index, path in enumerate(files))
    (tmp_path / "labels.csv").write_text("filename,label\n" + rows)
    source = open_images(small(**{"data.path": str(tmp_path / "labels.csv")}), print)
    assert source.splits["train"].labels is None and len(source.splits["train"].names) == len(files)
    assert "several labels each: without k-NN accuracy" in capsys.readouterr().out
    probed = small(**{"data.path": str(photos), "pretrain.probe": str(tmp_path / "labels.csv")})
    with pytest.raises(SightlineError, match="have several labels"):
        open_probe(probed, print)


def test_a_teacher_needs_colors(photos: Path, tmp_path: Path) -> None:
    for index in range(4):
        Image.fromarray(np.random.default_rng(index).integers(0, 4000, (16, 16), dtype=np.uint16)).save(
            tmp_path / f"{index}.png"
        )
    config = resolve(load_recipe("distill_fast"), {"data.path": str(tmp_path), "train.threads": 1})
    with pytest.raises(SightlineError, match="a teacher needs images of red, green and blue"):
        build(config, print)
