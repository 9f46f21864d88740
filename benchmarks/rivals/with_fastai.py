"""fastai: ImageDataLoaders.from_folder and Learner.fit, fp32, because its bf16 supports CUDA only.

Augmentation, as in its vision tutorial: RandomResizedCrop as an item transform, Flip and Normalize as batch transforms.
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
    options = settings()
    watch = Stopwatch("fastai")
    torch.set_num_threads(options.threads)
    loaders = ImageDataLoaders.from_folder(
        options.data,
        train="train",
        valid="val",
        bs=options.batch,
        num_workers=options.workers,
        item_tfms=RandomResizedCrop(options.size, min_scale=0.08),
        batch_tfms=[Flip(), Normalize.from_stats(*imagenet_stats)],
        device=torch.device("cpu"),
    )

    class Timer(Callback):
        def before_train(self) -> None:
            watch.begin()

        def after_train(self) -> None:
            watch.end()

    model = build_network(options)
    if options.precision == "fp32 channels_last":
        model = model.to(memory_format=torch.channels_last)
    learner = Learner(
        loaders, model, loss_func=CrossEntropyLossFlat(), opt_func=SGD, metrics=accuracy, path=options.out, cbs=Timer()
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(2, lr=0.001)
    watch.report()


if __name__ == "__main__":
    main()
