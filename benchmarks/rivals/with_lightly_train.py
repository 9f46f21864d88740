"""LightlyTrain: train_image_classification on torchvision/resnet18, its supervised command; fp32, or its default bf16.

Augmentation: its random resized crop (of 8 to 100% of the area instead of 20 to 100%) and flip, its color jitter off.
It counts steps, not epochs: an epoch lasts here from the start of its first step to the start of the next one's.
"""

from pathlib import Path
from typing import Any

import lightly_train
import torch
from lightly_train._task_models.image_classification.train_model import ImageClassificationTrain
from stopwatch import Stopwatch, settings


def main() -> None:
    wanted = settings()
    watch = Stopwatch("lightly-train")
    torch.set_num_threads(wanted.threads)
    inner = ImageClassificationTrain.training_step
    seen = {"steps": 0}

    def timed(*given: Any, **named: Any) -> Any:
        torch.set_num_threads(wanted.threads)
        if seen["steps"] and seen["steps"] % wanted.steps == 0:
            watch.end()
        if seen["steps"] == 2 * wanted.steps:
            watch.report()
        if seen["steps"] % wanted.steps == 0:
            watch.begin()
        seen["steps"] += 1
        return inner(*given, **named)

    ImageClassificationTrain.training_step = timed
    names = sorted(path.name for path in Path(wanted.data, "train").iterdir() if path.is_dir())
    lightly_train.train_image_classification(
        out=f"{wanted.out}/run",
        data={"train": f"{wanted.data}/train", "val": f"{wanted.data}/val", "classes": dict(enumerate(names))},
        model="torchvision/resnet18",
        steps=2 * wanted.steps + 1,
        batch_size=wanted.batch,
        num_workers=wanted.workers,
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed" if wanted.precision == "bf16" else "32-true",
        overwrite=True,
        logger_args={"val_every_num_steps": 10**6, "tensorboard": None},
        save_checkpoint_args={"save_every_num_steps": 10**6},
        transform_args={
            "image_size": (wanted.size, wanted.size),
            "color_jitter": None,
            "random_crop": {"min_scale": 0.08},
            "normalize": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        },
    )
    raise SystemExit("LightlyTrain ended before its last step")


if __name__ == "__main__":
    main()
