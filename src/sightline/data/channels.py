"""The channels of the images of a data set: their names, and the values that pixels can have."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Channels:
    """The channels of all images of a data set, in the order in which a network gets them.

    names: one name per channel. dtype: type of the pixels in the cache: `uint8`, `uint16` or `float32`, see the
    functions that read them. top: the pixel value that becomes 1.0: 255 for 8 bits, 2**bits - 1 for more, 1.0 for
    float32. shown: indices of the channels that figures show as red, green and blue.
    """

    names: tuple[str, ...] = ("red", "green", "blue")
    dtype: str = "uint8"
    top: float = 255.0
    shown: tuple[int, int, int] = (0, 1, 2)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def plain(self) -> bool:
        """Whether these are 8-bit RGB images."""
        return self == RGB

    @classmethod
    def of_description(cls, description: dict[str, Any] | None) -> Self:
        """The channels that config.json of a checkpoint describes; 8-bit RGB if it has none."""
        if not description:
            return cls()
        names, shown = tuple(description["names"]), tuple(description["shown"])
        return cls(names, description["dtype"], float(description["top"]), shown)

    def description(self) -> dict[str, Any]:
        """The channels for config.json of a checkpoint."""
        return asdict(self)

    def composite(self, images: np.ndarray) -> np.ndarray:
        """The three shown channels of images [..., C, H, W] as uint8 [..., 3, H, W], for figures. Values from 0 to
        `top` become 0 to 255; float32 is stretched from the smallest to the largest value of each image."""
        shown = images[..., list(self.shown), :, :]
        if self.dtype == "uint8":
            return shown
        values = shown.astype(np.float32)
        low = values.min((-3, -2, -1), keepdims=True) if self.dtype == "float32" else np.float32(0)
        span = np.ptp(values, (-3, -2, -1), keepdims=True) if self.dtype == "float32" else np.float32(self.top)
        return np.rint(np.clip((values - low) / np.where(span > 0, span, 1), 0, 1) * 255).astype(np.uint8)


RGB = Channels()
