"""Ultralytics: `YOLO(yaml).train(...)` on its own yolo11-cls-resnet18.yaml, without its weights; fp32 on a processor.

The network is torchvision's ResNet-18 with Ultralytics' head (a 1x1 convolution to 1280 channels). It keeps an average
of the weights and clips gradients, neither of which can be turned off. Augmentation: RandomResizedCrop of 8 to 100% of
the area (scale=0.92) and flip; RandAugment, color changes and erasing, which are on by default, are off.
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
    wanted = settings()
    os.environ |= {"YOLO_CONFIG_DIR": wanted.out, "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    from ultralytics import YOLO
    from ultralytics.utils import SETTINGS

    SETTINGS.update(sync=False)
    watch = Stopwatch("ultralytics")
    network = Path(wanted.out) / "resnet18-cls.yaml"
    network.write_text(NETWORK.format(classes=wanted.classes))
    model = YOLO(network, task="classify")

    def begin(_: object) -> None:
        torch.set_num_threads(wanted.threads)
        watch.begin()

    model.add_callback("on_train_epoch_start", begin)
    model.add_callback("on_train_epoch_end", watch.end)
    model.train(
        **{"data": wanted.data, "imgsz": wanted.size, "batch": wanted.batch, "nbs": wanted.batch, "epochs": 2},
        **{"workers": wanted.workers, "cache": wanted.cache, "device": "cpu", "amp": False, "pretrained": False},
        **{"optimizer": "SGD", "lr0": 0.001, "warmup_epochs": 0, "val": False, "plots": False, "save": False},
        **{"auto_augment": None, "erasing": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "scale": 0.92},
        **{"fliplr": 0.5, "project": wanted.out, "name": "run", "exist_ok": True, "verbose": False},
    )
    watch.report()


if __name__ == "__main__":
    main()
