"""The channels of the images of a data set: their names, and the values that pixels can have."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Channels:
    """The channels of all images of a data set, in the order in which a network gets them.

    names: one name per channel. dtype: type of the pixels in the cache: `uint8`, `uint16` or `float32`, see the
    functions that read them. top: the pixel value that becomes 1.0: 255 for 8 bits, 2**bits - 1 for more, 1.0 for
    float32. shown: indices of the channels that figures show as red, green and blue. deep: for 8-bit RGB
    to which other files were converted, the value that becomes 255 in files with more bits; 0 without such files.
    opaque: whether a sample that files tag as transparency is a channel, even if it is not one of `names`.
    """

    names: tuple[str, ...] = ("red", "green", "blue")
    dtype: str = "uint8"
    top: float = 255.0
    shown: tuple[int, int, int] = (0, 1, 2)
    deep: float = field(default=0.0, compare=False)
    opaque: bool = field(default=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def plain(self) -> bool:
        """Whether these are 8-bit RGB images."""
        return self == RGB

    @property
    def ordinary(self) -> bool:
        """Whether the files are 8-bit RGB images too, which Pillow reads."""
        return self.plain and not self.deep and not self.opaque

    @property
    def colors(self) -> bool:
        """Whether the channels are red, green and blue with values from 0 to `top`, so that operations on colors have
        a meaning."""
        three = len(self) == 3 and self.dtype != "float32"
        return three and all(name.lower() in color for name, color in zip(self.names, COLORS, strict=True))

    @classmethod
    def of_description(cls, description: dict[str, Any] | None) -> Self:
        """The channels that config.json of a checkpoint describes; 8-bit RGB if it has none."""
        if not description:
            return cls()
        names, shown = tuple(description["names"]), tuple(description["shown"])
        deep = float(description.get("deep", 0.0))
        opaque = bool(description.get("opaque", False))
        return cls(names, description["dtype"], float(description["top"]), shown, deep, opaque)

    def description(self) -> dict[str, Any]:
        """The channels for config.json of a checkpoint."""
        return {name: value for name, value in asdict(self).items() if name != "opaque" or value}

    def composite(self, images: np.ndarray, limits: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """The three shown channels of images [..., C, H, W] as uint8 [..., 3, H, W], for figures. Values of more than 8
        bits are stretched: `limits` become 0 and 255, by default those of each image."""
        shown = images[..., list(self.shown), :, :]
        if self.dtype == "uint8" or not shown.size:
            return shown.astype(np.uint8, copy=False)
        low, high = self.limits(images) if limits is None else limits
        return np.rint(np.clip((shown - low) / (high - low), 0, 1) * 255).astype(np.uint8)

    def limits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The 2nd and 98th percentile of the shown channels of images [..., C, H, W], float32 [..., 1, 1, 1]; integers
        at least 1/64 of `top` apart, so that noise is not stretched."""
        shown = images[..., list(self.shown), :, :].astype(np.float32)
        low, high = np.percentile(shown, (2, 98), (-3, -2, -1), keepdims=True).astype(np.float32)
        least = np.float32(self.top / 64 if self.dtype == "uint16" else 1e-12)
        return low, np.maximum(high, low + np.maximum(least, np.abs(low) * 1e-6))


RGB = Channels()

COLORS = ({"red", "b4", "b04"}, {"green", "b3", "b03"}, {"blue", "b2", "b02"})
"""Names of the channels that are shown as red, green and blue, in lower case; with those of Sentinel-2."""


def shown_channels(names: Sequence[str]) -> tuple[int, int, int]:
    """Indices of the channels that are shown as red, green and blue: by name, else the first three, else the first one
    as gray."""
    found = [next((i for i, name in enumerate(names) if name.lower() in color), -1) for color in COLORS]
    red, green, blue = found if min(found) >= 0 else (0, 1, 2) if len(names) > 2 else (0, 0, 0)
    return red, green, blue
