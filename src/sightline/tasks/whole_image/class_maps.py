"""The class activation maps of a run: computed at its end, and shown in its report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...config.schema import Config
from ...data.types import Decoded
from ...engine.training_state import save_arrays, thumbnails
from ...insight.class_maps import overlay
from ...models.class_maps import class_maps, enlarged
from ...report.html import Child, Html, element, jpeg_uri
from ...report.run import RunFiles, attempt, read_arrays
from ...runs.sampling import evenly_spread

FILE = "snapshots/class_maps.npz"
SHOWN = 6
"""Number of wrong and of right images with maps."""
FEWEST_POSITIONS = 9
"""Maps with fewer positions are too coarse to show anything, and are left out of the page."""
SIDE, TOGETHER = 160, 6
"""Longest side of the stored images in pixels, and number of images that the network takes together."""
CAPTION = (
    "Bright positions raise the network's output for the class that is named (HiResCAM, arXiv 2011.08891); each map "
    "has its own scale, from 0 to its largest value. The values are those of {positions} positions of the last layer "
    "that has any, and enlarged. A map shows where the network found something, not what it was. "
)
CHOSEN = "The wrong images are {order}; the right ones are spread evenly over the validation images."


def save_class_maps(
    folder: Path, config: Config, learner: Any, val: Decoded, wrong: np.ndarray, right: np.ndarray
) -> None:
    """Write snapshots/class_maps.npz: the images, and the maps, classes and places (which of the images) of each map.
    Nothing is written if the report has no images, the network no maps or coarse ones, or the head only votes of
    neighbors.

    wrong, right: int64 [M, 1 + k], rows (index of the image, classes whose maps are stored). The first wrong images
    are taken, and right ones spread over all.
    """
    spread = right[evenly_spread(len(right), SHOWN)]
    chosen = [*wrong[:SHOWN].tolist(), *spread.tolist()]
    if not config.report.samples or not chosen or config.model.head == "knn":
        return
    index = np.array([row for row, *_ in chosen])
    places = np.array([place for place, (_, *labels) in enumerate(chosen) for _ in labels])
    classes = np.array([label for _, *labels in chosen for label in labels])
    maps = maps_of(learner, val.images, index[places], classes)
    if maps is not None and maps[0].size >= FEWEST_POSITIONS:
        arrays = {"images": thumbnails(val, index, SIDE), "index": index, "places": places}
        save_arrays(folder / FILE, arrays | {"classes": classes, "maps": maps})


def maps_of(learner: Any, images: np.ndarray, index: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """The maps float16 [M, h, w] of `classes` for the images with the indices `index`; None if the network has none.

    learner: an ImageLearner. images: of the split, [N, C, H, W].
    """
    model, found = learner.model, []
    training = model.training
    model.eval()
    try:
        for begin in range(0, len(index), TOGETHER):
            rows = index[begin : begin + TOGETHER]
            device = next(model.parameters()).device
            prepared = learner.transform(torch.tensor(np.ascontiguousarray(images[rows]), device=device)).float()
            targets = torch.from_numpy(classes[begin : begin + TOGETHER]).to(device)
            maps = class_maps(model.backbone, model.head, prepared, targets)
            if maps is None:
                return None
            found.append(maps.cpu().numpy())
    finally:
        model.train(training)
    values = np.concatenate(found)
    return (values / np.maximum(values.max((1, 2), keepdims=True), 1e-30)).astype(np.float16)


def class_map_section(
    files: RunFiles, names: Sequence[str], captions: dict[int, tuple[tuple[int, ...], bool]], order: str
) -> list[tuple[str, list[Child]]]:
    """The titled section with the maps; [] for runs without them and for predictions on other splits.

    names: of the classes. captions: {index of an image: (its true classes, whether it is predicted correctly)}. order:
    in words, how the wrong images are chosen.
    """
    arrays = attempt(FILE, files.path, read_arrays, [], {}) if files.split == "val" else {}
    if not usable(arrays, len(names)):
        return []
    index = arrays["index"].tolist()
    titles = {False: "Wrong predictions", True: "Right predictions"}
    parts: list[Child] = []
    for right, title in titles.items():
        places = [place for place, row in enumerate(index) if row in captions and captions[row][1] is right]
        items = [group(arrays, place, names, *captions[index[place]]) for place in places]
        pairs = all(len(item) < 3 for item in items)
        kind = "groups pairs" if pairs else "groups"
        parts += [element("h3", title), element("ul", map(in_list, items), class_=kind)] if items else []
    height, width = arrays["maps"].shape[1:]
    text = CAPTION.format(positions=f"{height} x {width}") + CHOSEN.format(order=order)
    return [("Class activation maps", [element("p", text), *parts])] if parts else []


def usable(arrays: dict[str, np.ndarray], classes: int) -> bool:
    """Whether the arrays of the file are as `save_class_maps` writes them."""
    if {*arrays} != {"images", "index", "places", "classes", "maps"}:
        return False
    images, maps, index, places, labels = (arrays[name] for name in ("images", "maps", "index", "places", "classes"))
    shapes = images.ndim == 4 and images.shape[1] == 3 and images.dtype == np.uint8 and maps.ndim == 3
    if not shapes or 0 in (*images.shape, *maps.shape) or any(one.dtype.kind not in "iu" for one in (places, labels)):
        return False
    inside = (labels < classes).all() and (places < len(images)).all() and min(labels.min(), places.min()) >= 0
    same = index.shape == images.shape[:1] and places.shape == labels.shape == maps.shape[:1]
    return bool(inside and same and np.isfinite(maps).all())


def in_list(panels: list[Html]) -> Html:
    """The panels of an image as an item of a list."""
    return element("li", panels)


def group(
    arrays: dict[str, np.ndarray], place: int, names: Sequence[str], true: tuple[int, ...], right: bool
) -> list[Html]:
    """An image with its truth, and its maps with their classes."""
    image, truth = arrays["images"][place], ", ".join(names[label] for label in true) or "no label"
    times = max(1, SIDE // max(image.shape))
    image = image.repeat(times, 1).repeat(times, 2)  # so that maps of small images are smooth
    found = [panel(image.transpose(1, 2, 0), "truth", truth, f"an image of {truth}")]
    for row in np.flatnonzero(arrays["places"] == place).tolist():
        label = int(arrays["classes"][row])
        words = "map" if right else "map: true class" if label in true else "map: predicted class"
        pixels = overlay(image, enlarged(arrays["maps"][row].astype(np.float64), *image.shape[1:]))
        found.append(panel(pixels, words, names[label], f"where the image raises the output for {names[label]}"))
    return found


def panel(pixels: np.ndarray, words: str, name: str, text: str) -> Html:
    """One picture, uint8 [H, W, 3], with two lines below it and its alternative text."""
    return element(
        "figure",
        element("img", src=jpeg_uri(Image.fromarray(np.ascontiguousarray(pixels)), SIDE), alt=text, loading="lazy"),
        element("figcaption", element("span", words, class_="sure"), element("span", name)),
    )
