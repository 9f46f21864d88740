"""The images that a loaded model accepts: paths, PIL images, arrays and tensors, one or several."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..data.channels import RGB, Channels
from ..data.decode.faults import image_error
from ..data.decode.images import exif_orientation, to_rgb, upright
from ..data.decode.kinds import Raster
from ..data.sources.scan import left_out
from ..errors import SightlineError
from ..runs.terminal import print_plain
from .inputs import LISTS, STDIN, InputImage, input_images
from .reading import raster_of_array

ARRAY_LAYOUT = "pass an array [H, W, 3], [H, W] or [N, H, W, 3]; to move the channels last: np.moveaxis(image, 0, -1)"
TENSOR_LAYOUT = "pass a tensor [3, H, W], [H, W] or [N, 3, H, W]; to move the channels first: image.permute(2, 0, 1)"
VALUES = (
    "pass uint8 from 0 to 255, or floats from 0 to 1: divide by the largest possible value (image / 255 or image / "
    "65535), and pass images as they were before normalization"
)
DECODING = Lock()
"""Held while a PIL image is decoded, because two threads must not decode the same image at the same time."""


class GivenImage(NamedTuple):
    """An image in memory. name: its name in results and errors. image: a PIL image, an array or a tensor."""

    name: str
    image: object

    def read(self, max_pixels: int, side: int, channels: Channels = RGB) -> Image.Image | Raster:
        """Convert the image to 8-bit RGB, as image files are, or check that it has the `channels` of a network. The
        other arguments have no effect on an image in memory.

        Raises SightlineError if it is not an image, or has an unsupported shape or values.
        """
        try:
            known = isinstance(self.image, np.ndarray | torch.Tensor | Image.Image)
            if known and not channels.plain:
                return raster_of_array(self.image, self.name, channels)
            if isinstance(self.image, np.ndarray | torch.Tensor):
                return to_rgb(image_of_array(self.image, self.name))
            if isinstance(self.image, Image.Image):
                with DECODING:
                    return to_rgb(of_8_bits(upright_image(self.image), channels.deep, self.name))
        except SightlineError as error:
            if error.cure:
                raise
            raise image_error(self.name, error) from error
        except Exception as error:  # decoders raise many types
            why, cure = (
                f"{type(error).__name__}: {error}",
                "pass its path, or call image.load() before its file is closed",
            )
            raise SightlineError("this image cannot be read", where=self.name, why=why, cure=cure) from error
        why = f"its type is {type(self.image).__name__}"
        cure = (
            "pass a path, a PIL image, an array or a tensor; for the bytes of a file: PIL.Image.open(io.BytesIO(data))"
        )
        raise SightlineError("this is not an image", where=self.name, why=why, cure=cure)


def is_several(images: object) -> bool:
    """Whether `images` are several images, for which a list of results is returned, and not one image.

    Several are: a folder, a pattern, a text file with paths; an array or a tensor with four axes, or an array of
    objects; a list or any other iterable.
    """
    if isinstance(images, str | os.PathLike):
        path = os.fspath(images)
        pattern = glob.has_magic(path) and not os.path.exists(path)
        return pattern or os.path.isdir(path) or path in STDIN or path.lower().endswith(LISTS)
    if isinstance(images, np.ndarray):
        return images.ndim == 4 or (images.ndim == 1 and images.dtype.kind in "OU")
    if isinstance(images, torch.Tensor):
        return images.ndim == 4
    return isinstance(images, Iterable) and not isinstance(images, Image.Image | bytes)


def images_in(images: object) -> Iterator[InputImage | GivenImage]:
    """Yield one or several images; see `is_several`. Each item of an iterable is one image.

    The images of a path are those of `sightline predict`; skipped files are printed. Raises SightlineError if there are
    no images.
    """
    if isinstance(images, str | os.PathLike):
        skipped: Counter[str] = Counter()
        yield from input_images([os.fspath(images)], skipped)
        if skipped:
            print_plain(f"skipped: {left_out(skipped)}")
    elif not (isinstance(images, Iterable) and is_several(images)):
        yield GivenImage("image", images)
    else:
        index = -1
        for index, image in enumerate(images):
            yield item_image(image, f"images[{index}]")
        if index < 0:
            raise SightlineError(
                "there are no images", where="images", why="it is empty", cure="pass at least one image"
            )


def item_image(image: object, name: str) -> InputImage | GivenImage:
    """One image, which is a path or is in memory. name: of an image in memory."""
    if isinstance(image, str | os.PathLike):
        return InputImage(os.fspath(image), os.fspath(image))
    return GivenImage(name, image)


def image_of_array(given: np.ndarray | torch.Tensor, name: str) -> Image.Image:
    """Convert an array [H, W] or [H, W, 1, 3 or 4], or a tensor [H, W] or [1, 3 or 4, H, W], to a PIL image of mode L,
    RGB or RGBA. Raises SightlineError with `name` for other shapes, and for unsupported values."""
    array, layout = (given, ARRAY_LAYOUT) if isinstance(given, np.ndarray) else (array_of(given), TENSOR_LAYOUT)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not array.size or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        why = f"its shape is {list(given.shape)}"
        raise SightlineError("this is not the shape of an image", where=name, why=why, cure=layout)
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        why = f"its values are {given.dtype} from {float(array.min()):g} to {float(array.max()):g}"
        raise SightlineError("these are not the values of an image", where=name, why=why, cure=VALUES)
    return Image.fromarray(np.ascontiguousarray(array))


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor [C, H, W] as an array [H, W, C]; a tensor with another number of axes as an array of the same shape."""
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def of_8_bits(image: Image.Image, deep: float, name: str) -> Image.Image:
    """An image of one channel of integers above 255 with 8 bits: `deep`, the largest value with the bits of the
    training images, becomes 255, as in files. Other images are returned unchanged. Raises SightlineError if `deep` is
    unknown (0)."""
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > (deep or 255):
        limit = f"; those of the training images can be up to {deep:,.0f}" if deep else ""
        why = f"its values are {values.dtype} from {values.min():,} to {values.max():,}{limit}"
        raise SightlineError("these are not the values of an image", where=name, why=why, cure=VALUES)
    return Image.fromarray(np.rint(values * (255 / (deep or 255))).astype(np.uint8))


def upright_image(image: Image.Image) -> Image.Image:
    """Decode a PIL image, and return it rotated by its EXIF orientation; only its decoding changes `image` itself."""
    image.load()
    return image if exif_orientation(image) == 1 else upright(image.copy())
