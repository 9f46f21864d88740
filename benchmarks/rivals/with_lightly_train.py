"""LightlyTrain: train_image_classification on torchvision/resnet18, its supervised command; fp32, or its default bf16.

Augmentation: its random resized crop (of 8 to 100% of the area instead of 20 to 100%) and flip, without color jitter.
It counts steps instead of epochs. Here an epoch lasts until the start of the first step of the next one.
"""

from pathlib import Path
from typing import Any

import lightly_train
import torch
from lightly_train._task_models.image_classification.train_model import ImageClassificationTrain
from stopwatch import Stopwatch, settings


def main() -> None:
    options = settings()
    watch = Stopwatch("lightly-train")
    torch.set_num_threads(options.threads)
    training_step = ImageClassificationTrain.training_step
    done = {"steps": 0}

    def timed_step(*args: Any, **kwargs: Any) -> Any:
        torch.set_num_threads(options.threads)
        if done["steps"] and done["steps"] % options.steps == 0:
            watch.end()
        if done["steps"] == 2 * options.steps:
            watch.report()
        if done["steps"] % options.steps == 0:
            watch.begin()
        done["steps"] += 1
        return training_step(*args, **kwargs)

    ImageClassificationTrain.training_step = timed_step
    names = sorted(path.name for path in Path(options.data, "train").iterdir() if path.is_dir())
    lightly_train.train_image_classification(
        out=f"{options.out}/run",
        data={"train": f"{options.data}/train", "val": f"{options.data}/val", "classes": dict(enumerate(names))},
        model="torchvision/resnet18",
        steps=2 * options.steps + 1,
        batch_size=options.batch,
        num_workers=options.workers,
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        overwrite=True,
        logger_args={"val_every_num_steps": 10**6, "tensorboard": None},
        save_checkpoint_args={"save_every_num_steps": 10**6},
        transform_args={
            "image_size": (options.size, options.size),
            "color_jitter": None,
            "random_crop": {"min_scale": 0.08},
            "normalize": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        },
    )
    raise SystemExit("LightlyTrain ended before its last step")


if __name__ == "__main__":
    main()
