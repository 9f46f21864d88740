"""timm's train.py, which is not in its wheel: downloaded from GitHub, or a loop of the same functions.

settings.timm_script is the path of train.py. If it is empty (no network), `run_loop` calls the functions that train.py
calls on a CPU: create_dataset, create_loader with its prefetcher, create_optimizer_v2, its scheduler, autocast and
AverageMeter.

Augmentation: the random resized crop and flip of train.py, without color jitter (its default is 0.4).
"""

import contextlib
import runpy
import sys
from types import SimpleNamespace
from typing import Any

import timm.data
import timm.models
import timm.optim
import timm.scheduler
import timm.utils
import torch
from stopwatch import Stopwatch, build_network, settings


def run_script(options: SimpleNamespace, watch: Stopwatch) -> None:
    """Run train.py and time its train_one_epoch."""
    flags = {
        **{"data-dir": options.data, "train-split": "train", "val-split": "val", "model": options.model},
        **{"num-classes": options.classes, "img-size": options.size, "batch-size": options.batch, "device": "cpu"},
        **{"workers": options.workers, "opt": "sgd", "lr": 0.001, "epochs": 2, "smoothing": 0, "color-jitter": 0},
        **{"train-interpolation": "bilinear", "warmup-epochs": 0, "sched": "step", "output": options.out},
        **{"mean": "0.485 0.456 0.406", "std": "0.229 0.224 0.225"},
    }
    arguments = [word for key, value in flags.items() for word in (f"--{key}", *str(value).split())]
    if options.model != "resnet18":
        arguments.remove("--img-size"), arguments.remove(str(options.size))
        arguments += ["--input-size", "3", str(options.size), str(options.size)]
    if options.precision.startswith("bf16"):
        arguments += ["--amp", "--amp-dtype", "bfloat16"]
    if options.precision.endswith("channels_last"):
        arguments += ["--channels-last"]
    sys.argv = [options.timm_script, *arguments]
    module = runpy.run_path(options.timm_script)
    train_one_epoch = module["train_one_epoch"]

    def timed_epoch(*args: Any, **kwargs: Any) -> Any:
        watch.begin()
        result = train_one_epoch(*args, **kwargs)
        watch.end()
        return result

    module["main"].__globals__["train_one_epoch"] = timed_epoch
    module["main"]()


def run_loop(options: SimpleNamespace, watch: Stopwatch) -> None:
    """Train with timm's public functions as train.py does with the flags above."""
    device = torch.device("cpu")
    bf16, channels_last = options.precision.startswith("bf16"), options.precision.endswith("channels_last")
    model = timm.models.create_model(options.model, num_classes=options.classes)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    dataset = timm.data.create_dataset("", root=options.data, split="train", is_training=True, batch_size=options.batch)
    loader = timm.data.create_loader(
        dataset,
        input_size=(3, options.size, options.size),
        batch_size=options.batch,
        is_training=True,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=options.workers,
        device=device,
        use_prefetcher=True,
    )
    optimizer = timm.optim.create_optimizer_v2(model, opt="sgd", lr=0.001, momentum=0.9, weight_decay=2e-5)
    scheduler, epochs = timm.scheduler.create_scheduler_v2(optimizer, sched="step", num_epochs=2, warmup_epochs=0)
    criterion = torch.nn.CrossEntropyLoss()
    model.train()
    for epoch in range(epochs):
        losses = timm.utils.AverageMeter()
        watch.begin()
        optimizer.zero_grad()
        for images, labels in loader:
            images = images.contiguous(memory_format=torch.channels_last) if channels_last else images
            with torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext():
                loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(images))
            optimizer.zero_grad()
        watch.end()
        scheduler.step(epoch + 1)


def main() -> None:
    options = settings()
    watch = Stopwatch("timm")
    torch.set_num_threads(options.threads)
    if options.model == "small_cnn":

        def small_cnn(pretrained: bool = False, **_: Any) -> torch.nn.Module:
            network = build_network(options)
            network.num_classes = options.classes
            network.pretrained_cfg = network.default_cfg = {"input_size": (3, options.size, options.size)}
            return network

        small_cnn.__module__ = "with_timm"
        sys.modules["with_timm"] = sys.modules["__main__"]
        timm.models.register_model(small_cnn)
    (run_script if options.timm_script else run_loop)(options, watch)
    watch.report(way="train.py" if options.timm_script else "a loop of timm's functions, as in train.py")


if __name__ == "__main__":
    main()
