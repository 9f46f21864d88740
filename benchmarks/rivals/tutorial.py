"""The loop of PyTorch's transfer learning tutorial: ImageFolder, torchvision's transforms, DataLoader, SGD, fp32.

Augmentation, as in the tutorial: RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize.
"""

import torch
from stopwatch import Stopwatch, build_network, settings
from torchvision import datasets, transforms


def main() -> None:
    options = settings()
    watch = Stopwatch()
    torch.set_num_threads(options.threads)
    steps = [
        transforms.RandomResizedCrop(options.size),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    dataset = datasets.ImageFolder(f"{options.data}/train", transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(dataset, options.batch, shuffle=True, num_workers=options.workers)
    model = build_network(options).train()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    for _ in range(2):
        running_loss, running_corrects = 0.0, 0
        watch.begin()
        for inputs, labels in loader:
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = criterion(outputs, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * inputs.size(0)
            running_corrects += torch.sum(outputs.argmax(1) == labels.data)
        watch.end()
    watch.report()


if __name__ == "__main__":
    main()
