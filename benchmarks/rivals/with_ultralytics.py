"""Ultralytics: `YOLO(yaml).train(...)` with its yolo11-cls-resnet18.yaml, without pretrained weights, fp32 on a CPU.

The network is torchvision's ResNet-18 with Ultralytics' head (a 1x1 convolution to 1280 channels). The moving average
of the weights and the clipping of gradients cannot be disabled. Augmentation: RandomResizedCrop of 8 to 100% of the
area (scale=0.92) and flip, without RandAugment, color changes and erasing, which are on by default.
"""

import os
from pathlib import Path

import torch
from stopwatch import Stopwatch, settings

NETWORK = """nc: {classes}
backbone:
  - [-1, 1, TorchVision, [512, resnet18, null, True, 2]]
head:
  - [-1, 1, Classify, [nc]]
"""


def main() -> None:
    options = settings()
    os.environ |= {"YOLO_CONFIG_DIR": options.out, "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    from ultralytics import YOLO
    from ultralytics.utils import SETTINGS

    SETTINGS.update(sync=False)
    watch = Stopwatch("ultralytics")
    network = Path(options.out) / "resnet18-cls.yaml"
    network.write_text(NETWORK.format(classes=options.classes))
    model = YOLO(network, task="classify")

    def begin(_: object) -> None:
        torch.set_num_threads(options.threads)
        watch.begin()

    model.add_callback("on_train_epoch_start", begin)
    model.add_callback("on_train_epoch_end", watch.end)
    model.train(
        **{"data": options.data, "imgsz": options.size, "batch": options.batch, "nbs": options.batch, "epochs": 2},
        **{"workers": options.workers, "cache": options.cache, "device": "cpu", "amp": False, "pretrained": False},
        **{"optimizer": "SGD", "lr0": 0.001, "warmup_epochs": 0, "val": False, "plots": False, "save": False},
        **{"auto_augment": None, "erasing": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "scale": 0.92},
        **{"fliplr": 0.5, "project": options.out, "name": "run", "exist_ok": True, "verbose": False},
    )
    watch.report()


if __name__ == "__main__":
    main()
