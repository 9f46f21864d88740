"""Read images with the channels on which a network was trained, from files, uploads and arrays; refuse others."""

import contextlib
import io
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..data.channels import Channels
from ..data.decode.faults import image_error
from ..data.decode.geotiff import Scene, open_scene
from ..data.decode.images import image_in, upload_error
from ..data.decode.kinds import Kind, Raster, file_header, header_of
from ..data.decode.rasters import read_for, reading_for
from ..errors import SightlineError, counted
from ..runs import run_folder
from ..runs.checkpoint import checked_description

LEAST_IMAGES = 10
"""A warning that images are darker than those of the training needs at least this many images, or parts of scenes."""


@dataclass
class ValueRange:
    """Compare the values of images of more than 8 bits with those that a network was trained on. Thread-safe.

    channels: of the network; `top` is 2**bits - 1, and no training image has a larger value. above: largest value of
    each image that has larger ones. largest, count: of all images or parts of images.
    """

    channels: Channels
    above: dict[str, int] = field(default_factory=dict)
    largest: int = 0
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, pixels: np.ndarray) -> np.ndarray:
        """Count an image [C, H, W], or a part of it; return the pixels."""
        if self.channels.dtype == "uint16":
            largest = int(pixels.max(initial=0))
            with self.lock:
                self.largest, self.count = max(self.largest, largest), self.count + 1
                if largest > self.channels.top:
                    self.above[name] = max(self.above.get(name, 0), largest)
        return pixels

    def watched(self, scene: Scene, name: str) -> Scene:
        """The scene, whose pixels are counted when they are read."""
        return replace(scene, read=lambda *window: self.add(name, scene.read(*window)))

    @property
    def warning(self) -> str:
        """A sentence if images probably have another number of bits than those of the training, else ""."""
        top, trained = self.channels.top, f"the {int(self.channels.top).bit_length()} bits of the training images"
        scale = "if these images have another number of bits, their predictions are wrong: scale their values first"
        if self.above:
            name = max(self.above, key=lambda name: (self.above[name], name))
            many = f"{counted(len(self.above), 'image')} {'has' if len(self.above) == 1 else 'have'}"
            return f"warning: {many} values above {top:,.0f}, {trained}: up to {self.above[name]:,} in {name}; {scale}"
        if self.count >= LEAST_IMAGES and 16 * self.largest <= top:
            return f"warning: the largest value is {self.largest:,}, and {trained} reach to {top:,.0f}; {scale}"
        return ""


def channels_text(channels: Channels) -> str:
    """The channels of a network for the user, such as `4 channels (red, green, blue, nir) of 16 bits`."""
    return str(Kind(channels.plain, channels.names, channels.dtype))


def open_channels(path: Path, channels: Channels) -> contextlib.AbstractContextManager[Scene]:
    """Open a GeoTIFF to read windows of it, as [C, h, w] with the channels of a network."""
    if channels.plain and not channels.opaque:
        return open_scene(path)
    reading = reading_for(str(path), channels)
    if reading.kind is None:
        return open_scene(path)
    header = file_header(str(path), reading.alpha_is_channel)
    if header is None:
        raise image_error(str(path), ValueError("its header is damaged"))
    count = len(header.kind.names)
    bands = [index + 1 for index in reading.picked] or range(1, count + 1)
    return open_scene(path, bands, count + 1 if header.alpha else 0)


def channels_of_run(folder: Path) -> Channels:
    """The channels of the images that the network of a run needs."""
    run_folder.require_weights(folder)
    with checked_description(run_folder.shipped_checkpoints(folder)[0]) as description:
        return Channels.of_description(description["preprocessing"].get("channels"))


def is_plain_upload(content: bytes, channels: Channels) -> bool:
    """Whether both the network and the bytes of an image file have 8-bit RGB, so that Pillow decodes them in memory.
    Bytes without an intact header count, because Pillow's error says what they are."""
    header = header_of(io.BytesIO(content), channels.opaque)
    return channels.plain and (header is None or header.kind.plain)


def read_upload(content: bytes, channels: Channels, max_pixels: int, side: int = 0) -> Image.Image | Raster:
    """Decode the bytes of an image file as `read_for` does. The messages of errors have no path.

    8-bit images are decoded in memory. Other files, which rasterio reads, are in a temporary file meanwhile.
    """
    if is_plain_upload(content, channels):
        return image_in(content, max_pixels, side)
    with tempfile.TemporaryDirectory(prefix="sightline-upload-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(content)  # and closed: on Windows, an open temporary file cannot be opened by its name
        try:
            return read_for(str(path), channels, max_pixels, side)
        except SightlineError as error:
            if "--data." in error.cure and isinstance(error.__cause__, Exception):  # a sender has no such options
                raise upload_error(content, error.__cause__, ", as PNG or JPEG" if channels.plain else "") from error
            raise SightlineError(error.what, why=error.why, cure=error.cure) from error


def raster_of_array(given: np.ndarray | torch.Tensor | Image.Image, name: str, channels: Channels) -> Raster:
    """Check that an array or tensor [C, H, W] has the channels and the type of a network, or of one channel [H, W] or a
    PIL image. Raises SightlineError."""
    array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    array = array[None] if array.ndim == 2 else array
    wanted, numbers = np.dtype(channels.dtype), np.issubdtype(array.dtype, np.number) and array.size
    fits = numbers and array.ndim == 3 and len(array) == len(channels)
    if fits and array.dtype.kind in "iu" and wanted.kind == "u":
        fits = array.min() >= 0 and array.max() < 2 ** (8 * wanted.itemsize)
    elif fits:
        fits = array.dtype.kind == wanted.kind and np.isfinite(array).all()
    if not fits:
        why = f"it is {array.dtype} {list(array.shape)}, and the network needs {channels_text(channels)}"
        cure = (
            f"pass {channels.dtype} [{len(channels)}, H, W] with the values of the files, such as rasterio reads them"
        )
        raise SightlineError("these are not the channels of the network", where=name, why=why, cure=cure)
    return Raster(np.ascontiguousarray(array, wanted))
