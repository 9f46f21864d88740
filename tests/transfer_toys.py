"""A transfer grid that trains in seconds."""

from pathlib import Path

from sightline.config.resolve import resolve
from sightline.config.schema import Augment, Config, Data, Model, Optim, Train
from sightline.recipes import load_recipe
from sightline.transfer.grid import Grid

SIZE = 16


def tiny_grid(**changes: object) -> Grid:
    """A grid that trains in seconds: fastnet at 16 pixels, two epochs per stage, no tuning."""
    model = Model(name="fastnet", args={"widths": [8, 16, 16]})
    train = Train(epochs=2, batch_size=16, precision="fp32", threads=1)
    full = Config(name="full", data=Data(size=SIZE), model=model, augment=Augment(horizontal_flip=0.5), train=train)
    full = resolve(full, {"optim.name": "adamw", "optim.lr": 5e-3, "report.samples": 4})
    frozen = full.model_copy(update={"augment": Augment(), "optim": Optim(name="adamw", lr=1e-2)})
    heads = {"projector": [32, 16], "predictor": 32, "momentum": 0.9, "momentum_batch": 0}
    unlabeled = resolve(
        load_recipe("moco_fast"),
        {"data.size": SIZE, "model": model.model_dump(), "augment.progressive": [], "pretrain": heads}
        | {"train": train.model_copy(update={"best_metric": "epoch"}).model_dump(), "report.samples": 4},
    )
    values = {
        "name": "tiny",
        "seeds": (0, 1),
        "tune": "none",
        "labeled": full,
        "unlabeled": unlabeled,
        "full": full,
        "frozen": frozen,
    }
    return Grid.model_validate(values | changes)


def linear(grid: Grid) -> Config:
    """The stage `frozen` of a grid as a linear evaluation."""
    optim = Optim(name="lbfgs", weight_decay=0.01)
    return resolve(grid.frozen, {"optim": optim.model_dump(), "train.epochs": 1, "model.freeze": True})


def copy_images(photos: Path, folder: Path) -> Path:
    """Copy the training images of class folders into one folder, without their labels; returns the folder."""
    for number, path in enumerate(sorted((photos / "train").rglob("*.png"))):
        (folder / f"image{number}.png").write_bytes(path.read_bytes())
    return folder
