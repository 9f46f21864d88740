"""fastai: ImageDataLoaders.from_folder and Learner.fit, fp32; its bf16 knows only CUDA's autocast.

Augmentation: RandomResizedCrop as an item transform, Flip and Normalize on batches, as its vision tutorial has them.
"""

import torch
from fastai.optimizer import SGD
from fastai.vision.all import (
    Callback,
    CrossEntropyLossFlat,
    Flip,
    ImageDataLoaders,
    Learner,
    Normalize,
    RandomResizedCrop,
    accuracy,
    imagenet_stats,
)
from stopwatch import Stopwatch, build_network, settings


def main() -> None:
    wanted = settings()
    watch = Stopwatch("fastai")
    torch.set_num_threads(wanted.threads)
    loaders = ImageDataLoaders.from_folder(
        wanted.data,
        train="train",
        valid="val",
        bs=wanted.batch,
        num_workers=wanted.workers,
        item_tfms=RandomResizedCrop(wanted.size, min_scale=0.08),
        batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
        device=torch.device("cpu"),
    )

    class Watched(Callback):
        def before_train(self) -> None:
            watch.begin()

        def after_train(self) -> None:
            watch.end()

    model = build_network(wanted)
    if wanted.precision == "fp32 channels_last":
        model = model.to(memory_format=torch.channels_last)
    learner = Learner(
        loaders, model, loss_func=CrossEntropyLossFlat(), opt_func=SGD, metrics=accuracy, path=wanted.out, cbs=Watched()
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(2, lr=0.001)
    watch.report()


if __name__ == "__main__":
    main()
