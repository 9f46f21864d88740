"""LightlyTrain: `train_image_classification_multihead`, its linear evaluation: a frozen network with one head for each
learning rate; the accuracy is that of the best head on the held-out images. fp32 or its default, bf16.

Images are resized and cropped to a square in the center, without augmentation. There are no stored features: each epoch
passes all images through the network.
"""

import math
import os
from pathlib import Path
from typing import Any

os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] = "1"  # it reports its use over the network

import lightly_train
import torch
from lightly_train._commands import train_task_helpers
from probe_network import frozen_network
from stopwatch import print_result, settings


def main() -> None:
    options = settings()
    torch.set_num_threads(options.threads)
    network, config = frozen_network(options)
    weights = Path(options.out, "weights.pt")  # it reads no safetensors
    torch.save(network.state_dict(), weights)
    names = sorted(path.name for path in Path(options.data, "train").iterdir() if path.is_dir())
    images = sum(1 for path in Path(options.data, "train").rglob("*") if path.is_file())
    steps = max(1, math.ceil(options.epochs * images / options.batch))
    accuracies: list[float] = []
    best_metrics = train_task_helpers.get_best_metrics

    def kept_metrics(**values: Any) -> Any:
        accuracies.append(values["last_agg_metric_values"].metric_values["val_metric/top1_acc_micro"])
        return best_metrics(**values)

    train_task_helpers.get_best_metrics = kept_metrics
    plain = {"image_size": (options.size, options.size), "random_crop": None, "random_flip": None, "resize_scale": 1.0}
    lightly_train.train_image_classification_multihead(
        out=f"{options.out}/run",
        data={"train": f"{options.data}/train", "val": f"{options.data}/val", "classes": dict(enumerate(names))},
        model=options.model,
        steps=steps,
        batch_size=options.batch,
        num_workers=options.workers,
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed" if options.precision.startswith("bf16") else "32-true",
        overwrite=True,
        model_args={"backbone_weights": str(weights)},
        logger_args={"val_every_num_steps": steps, "tensorboard": None},
        save_checkpoint_args={"save_every_num_steps": 10**6},
        transform_args={**plain, "normalize": {"mean": config["mean"], "std": config["std"]}},
    )
    print_result(("torch", "timm", "lightly-train"), accuracy=accuracies[-1])


if __name__ == "__main__":
    main()
