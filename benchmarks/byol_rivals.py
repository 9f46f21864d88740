"""BYOL and MoCo v3 with the packages `lightly` and `byol-pytorch`; run by byol_step.py.

    python -m venv rivals && rivals/bin/pip install torch torchvision lightly byol-pytorch
    python benchmarks/byol_step.py --rivals rivals/bin/python ...

It runs in a virtual environment of these packages and does not import Sightline. Both packages train torchvision's
ResNet-18 on the images of one folder for --seconds: BYOL as in their documentation, MoCo v3 with lightly's modules and
the loss of its paper. With --bf16 they compute in bfloat16 and channels_last, which their documentation does not say.
The last line printed is JSON with the images per second after the first ten steps. The weights of the backbone are
written to --out.
"""

import argparse
import copy
import glob
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision
from torch import nn

WARM_UP = 10
CPUS = len(os.sched_getaffinity(0))


def backbone(options: argparse.Namespace) -> nn.Module:
    """Build torchvision's ResNet-18 without its classifier; for sizes up to 64 with a 3x3 stem and no pooling."""
    network = torchvision.models.resnet18(weights=None)
    if options.size <= 64:
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network.to(memory_format=torch.channels_last) if options.bf16 else network


Training = tuple[nn.Module, Callable[[Any], int], Iterator[Any]]
"""A backbone, a training step (batch) -> number of images, and the batches."""


def lightly(options: argparse.Namespace, contrastive: bool = False) -> Training:
    """lightly's example `byol.py` (docs.lightly.ai, examples/models/byol).

    SGD with learning rate 0.06, heads with 1024 hidden units, cosine schedule of the momentum. contrastive: with
    MoCo v3's loss instead of the cosine similarity.
    """
    from lightly.data import LightlyDataset
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from lightly.utils.scheduler import cosine_schedule

    size = options.size
    network = backbone(options)
    projector, predictor = BYOLProjectionHead(512, 1024, 256), BYOLPredictionHead(256, 1024, 256)
    target, target_projector = copy.deepcopy(network), copy.deepcopy(projector)
    deactivate_requires_grad(target)
    deactivate_requires_grad(target_projector)
    views = BYOLTransform(
        view_1_transform=BYOLView1Transform(input_size=size, gaussian_blur=0.0),
        view_2_transform=BYOLView2Transform(input_size=size, gaussian_blur=0.0),
    )
    loader = shuffled(LightlyDataset(options.data, transform=views), options.batch)
    criterion = contrastive_loss if contrastive else NegativeCosineSimilarity()
    parameters = [*network.parameters(), *projector.parameters(), *predictor.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.06)
    total = options.epochs * len(loader)
    state = {"step": 0}

    def step(batch_data: Any) -> int:
        first, second = batch_data[0]
        momentum = cosine_schedule(min(state["step"], total), total, 0.996, 1)
        update_momentum(network, target, m=momentum)
        update_momentum(projector, target_projector, m=momentum)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            predictions = [predictor(projector(network(view).flatten(start_dim=1))) for view in (first, second)]
            with torch.no_grad():
                targets = [target_projector(target(view).flatten(start_dim=1)) for view in (first, second)]
            loss = 0.5 * (criterion(predictions[0], targets[1]) + criterion(predictions[1], targets[0]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        state["step"] += 1
        return len(first)

    return network, step, endless_batches(loader)


def contrastive_loss(predictions: torch.Tensor, targets: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    """MoCo v3's loss (arXiv 2104.02057, algorithm 1), which lightly does not have: a prediction [N, D] must find the
    target of its own image among those of the batch. In lightly's NTXentLoss other predictions are negatives too."""
    predictions, targets = nn.functional.normalize(predictions, dim=1), nn.functional.normalize(targets, dim=1)
    logits = predictions @ targets.T / temperature
    return 2 * temperature * nn.functional.cross_entropy(logits, torch.arange(len(logits)))


def moco(options: argparse.Namespace) -> Training:
    """MoCo v3 from lightly's modules: the networks of `lightly` with a contrastive loss."""
    return lightly(options, contrastive=True)


def byol_pytorch(options: argparse.Namespace) -> Training:
    """byol-pytorch's README and examples/lightning/train.py.

    Adam with learning rate 3e-4, default settings, images as tensors with values from 0 to 1.
    """
    from byol_pytorch import BYOL
    from PIL import Image
    from torchvision import transforms

    size = options.size
    network = backbone(options)
    learner = BYOL(network, image_size=size, hidden_layer="avgpool")
    optimizer = torch.optim.Adam(learner.parameters(), lr=3e-4)
    convert = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()])
    paths = sorted(glob.glob(os.path.join(options.data, "**", "*.png"), recursive=True))

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            return convert(Image.open(paths[index]).convert("RGB"))

    def step(images: Any) -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            loss = learner(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learner.update_moving_average()
        return len(images)

    return network, step, endless_batches(shuffled(Images(), options.batch))


def shuffled(images: torch.utils.data.Dataset, batch: int) -> Any:
    """A loader of whole batches, with a worker for each core."""
    return torch.utils.data.DataLoader(images, batch_size=batch, shuffle=True, drop_last=True, num_workers=CPUS)


def endless_batches(loader: Any) -> Iterator[Any]:
    """Yield the batches of the loader, epoch after epoch, without end."""
    while True:
        yield from loader


RIVALS = {"lightly": lightly, "lightly-moco": moco, "byol-pytorch": byol_pytorch}


def main() -> None:
    """Train for --seconds, write the backbone's weights, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("--data", required=True, help="folder of PNG files")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=20, help="length of lightly's momentum schedule")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 and channels_last")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", required=True, help="file for the weights of the backbone")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(CPUS)
    start = time.monotonic()
    network, step, batches = RIVALS[options.rival](options)
    network.train()
    images, warm_up_images, warm_start = 0, 0, start
    for index, batch in enumerate(batches):
        images += step(batch)
        if index + 1 == WARM_UP:
            warm_up_images, warm_start = images, time.monotonic()
        if time.monotonic() - start > options.seconds and index >= WARM_UP:
            break
    speed = (images - warm_up_images) / (time.monotonic() - warm_start)
    torch.save(network.state_dict(), options.out)
    print(json.dumps({"images_per_second": speed, "images": images, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    main()
