"""The loop of PyTorch's transfer learning tutorial: ImageFolder, torchvision's transforms, DataLoader, SGD, fp32.

Its augmentation, as it stands: RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize.
"""

import torch
from stopwatch import Stopwatch, build_network, settings
from torchvision import datasets, transforms


def main() -> None:
    wanted = settings()
    watch = Stopwatch()
    torch.set_num_threads(wanted.threads)
    steps = [
        transforms.RandomResizedCrop(wanted.size),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
    dataset = datasets.ImageFolder(f"{wanted.data}/train", transforms.Compose(steps))
    loader = torch.utils.data.DataLoader(dataset, wanted.batch, shuffle=True, num_workers=wanted.workers)
    model = build_network(wanted).train()
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
