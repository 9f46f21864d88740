"""timm's train.py, which is not in its wheel: a file of the same version from GitHub, or else the same pieces.

settings.timm_script names the file. Without it (no network), `pieces` goes the way that train.py goes on a processor:
create_dataset, create_loader (with its prefetcher), create_optimizer_v2, its scheduler, autocast, AverageMeter.

Augmentation: train.py's own random resized crop and flip, its color jitter off (its default is 0.4).
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


def script(wanted: SimpleNamespace, watch: Stopwatch) -> None:
    """train.py itself, its train_one_epoch timed."""
    flags = {
        **{"data-dir": wanted.data, "train-split": "train", "val-split": "val", "model": wanted.model},
        **{"num-classes": wanted.classes, "img-size": wanted.size, "batch-size": wanted.batch, "device": "cpu"},
        **{"workers": wanted.workers, "opt": "sgd", "lr": 0.001, "epochs": 2, "smoothing": 0, "color-jitter": 0},
        **{"train-interpolation": "bilinear", "warmup-epochs": 0, "sched": "step", "output": wanted.out},
        **{"mean": "0.485 0.456 0.406", "std": "0.229 0.224 0.225"},
    }
    arguments = [word for key, value in flags.items() for word in (f"--{key}", *str(value).split())]
    if wanted.model != "resnet18":
        arguments.remove("--img-size"), arguments.remove(str(wanted.size))
        arguments += ["--input-size", "3", str(wanted.size), str(wanted.size)]
    if wanted.precision == "bf16 channels_last":
        arguments += ["--amp", "--amp-dtype", "bfloat16", "--channels-last"]
    sys.argv = [wanted.timm_script, *arguments]
    space = runpy.run_path(wanted.timm_script)
    inner = space["train_one_epoch"]

    def timed(*given: Any, **named: Any) -> Any:
        watch.begin()
        result = inner(*given, **named)
        watch.end()
        return result

    space["main"].__globals__["train_one_epoch"] = timed
    space["main"]()


def pieces(wanted: SimpleNamespace, watch: Stopwatch) -> None:
    """The way that train.py goes with the flags above, from timm's public functions."""
    device = torch.device("cpu")
    fast = wanted.precision == "bf16 channels_last"
    model = timm.models.create_model(wanted.model, num_classes=wanted.classes)
    if fast:
        model = model.to(memory_format=torch.channels_last)
    dataset = timm.data.create_dataset("", root=wanted.data, split="train", is_training=True, batch_size=wanted.batch)
    loader = timm.data.create_loader(
        dataset,
        input_size=(3, wanted.size, wanted.size),
        batch_size=wanted.batch,
        is_training=True,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=wanted.workers,
        device=device,
        use_prefetcher=True,
    )
    optimizer = timm.optim.create_optimizer_v2(model, opt="sgd", lr=0.001, momentum=0.9, weight_decay=2e-5)
    scheduler, epochs = timm.scheduler.create_scheduler_v2(optimizer, sched="step", num_epochs=2, warmup_epochs=0)
    loss_of = torch.nn.CrossEntropyLoss()
    model.train()
    for epoch in range(epochs):
        losses = timm.utils.AverageMeter()
        watch.begin()
        optimizer.zero_grad()
        for images, labels in loader:
            images = images.contiguous(memory_format=torch.channels_last) if fast else images
            with torch.autocast("cpu", torch.bfloat16) if fast else contextlib.nullcontext():
                loss = loss_of(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(images))
            optimizer.zero_grad()
        watch.end()
        scheduler.step(epoch + 1)


def main() -> None:
    wanted = settings()
    watch = Stopwatch("timm")
    torch.set_num_threads(wanted.threads)
    if wanted.model == "small_cnn":

        def small_cnn(pretrained: bool = False, **_: Any) -> torch.nn.Module:
            network = build_network(wanted)
            network.num_classes = wanted.classes
            network.pretrained_cfg = network.default_cfg = {"input_size": (3, wanted.size, wanted.size)}
            return network

        small_cnn.__module__ = "with_timm"
        sys.modules["with_timm"] = sys.modules["__main__"]
        timm.models.register_model(small_cnn)
    (script if wanted.timm_script else pieces)(wanted, watch)
    watch.report(way="train.py" if wanted.timm_script else "timm's pieces as train.py puts them together")


if __name__ == "__main__":
    main()
