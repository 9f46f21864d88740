"""fastai: a frozen body of timm and fastai's default head, `fit_one_cycle`, fp32; batch norm is not trained.

Images are resized to a square by bilinear interpolation, without augmentation. There are no stored features: each epoch
passes all images through the network.
"""

import torch
from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, Normalize, Resize, accuracy
from fastai.vision.learner import TimmBody, add_head, default_split
from probe_network import frozen_network
from stopwatch import print_result, settings


def main() -> None:
    options = settings()
    torch.set_num_threads(options.threads)
    network, config = frozen_network(options)
    loaders = ImageDataLoaders.from_folder(
        options.data,
        train="train",
        valid="val",
        bs=options.batch,
        num_workers=options.workers,
        item_tfms=Resize(options.size, method="squish"),
        batch_tfms=[Normalize.from_stats(config["mean"], config["std"])],
        device=torch.device("cpu"),
    )
    model = add_head(TimmBody(network), network.num_features, len(loaders.vocab))
    if options.precision.endswith("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    loss = CrossEntropyLossFlat()
    learner = Learner(
        loaders, model, loss_func=loss, metrics=accuracy, splitter=default_split, train_bn=False, path=options.out
    )
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(options.epochs)
        values = learner.validate()
    print_result(("torch", "timm", "fastai"), accuracy=float(values[1]))


if __name__ == "__main__":
    main()
