"""Shared style of all figures: a palette for color-blind readers too, minimal axes, reproducible PNG bytes."""

import colorsys
import functools
import io
import math
import unicodedata
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec

import matplotlib
import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

from ..errors import printable

BLUE, ORANGE, GREEN, VIOLET = "#1f6aa5", "#d1661b", "#16825d", "#6a51a3"
INK, MUTED, GRID = "#24292f", "#6a737d", "#e4e7ea"
PALETTE = (
    BLUE, "#e08214", "#5e4026", "#b3a59d", "#870efe", "#30b1fe",
    "#636568", "#975512", "#cb9463", "#492bae", "#95a9c7", "#8163f3",
)  # fmt: skip
"""Twelve colors, none very light or dark, of which any two differ by at least 20 in CIELAB, also as people without red,
green or blue cones see them (Machado et al. 2009). From the third on, each is the one of 20,000 random colors that is
farthest from those before it."""
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)
"""Fonts for writing systems that matplotlib's default font lacks."""
P = ParamSpec("P")
DOTS_PER_INCH = 192  # twice the 96 CSS pixels of an inch, for high-density screens

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#b4bac1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": "#b4bac1",
    "ytick.color": "#b4bac1",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5 note"
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 96,
    "savefig.pad_inches": 0.1,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: run a drawing function with the shared style, independent of the user's matplotlib settings."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        style: Any = {**STYLE, "font.family": font_families()}
        with matplotlib.rc_context(style):
            return draw(*args, **kwargs)

    return wrapper


@functools.cache
def font_families() -> list[str]:
    """The font families of all figures: matplotlib's default, then those of FALLBACK_FONTS that are installed."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure with constrained layout. width, height: in inches of 96 CSS pixels."""
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG; equal figures result in equal bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context(STYLE):
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")  # characters without a font are drawn as boxes
        warnings.filterwarnings("ignore", message="constrained_layout not applied.*")
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def class_colors(count: int) -> list[str]:
    """One hex color per class: those of PALETTE for up to twelve classes.

    For more classes, hues at steps of the golden angle, in three shades in turn.
    """
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    depths = ((0.42, 0.75), (0.60, 0.55), (0.30, 0.60))
    rgb = [colorsys.hls_to_rgb((index * 0.381966) % 1, *depths[index % 3]) for index in range(count)]
    return [matplotlib.colors.to_hex(color) for color in rgb]


def darkened(color: str, share: float = 0.35) -> str:
    """Mix a color with a share of dark gray, for legible small text; returns a hex color."""
    channels = zip(matplotlib.colors.to_rgb(color), matplotlib.colors.to_rgb(INK), strict=True)
    red, green, blue = (own * (1 - share) + ink * share for own, ink in channels)
    return matplotlib.colors.to_hex((red, green, blue))


def lightened(color: str, share: float = 0.62) -> str:
    """Mix a color with a share of white; returns a hex color."""
    red, green, blue = (1 - (1 - channel) * (1 - share) for channel in matplotlib.colors.to_rgb(color))
    return matplotlib.colors.to_hex((red, green, blue))


def short(name: str, limit: int = 24) -> str:
    """Shorten a class name to one printable line of at most `limit` columns; a Chinese, Japanese or Korean character
    takes two."""
    line = " ".join(printable(name).split()) or "(no name)"
    columns = np.cumsum([1 + (unicodedata.east_asian_width(one) in "WF") for one in line])
    return line if columns[-1] <= limit else line[: int((columns < limit).sum())].rstrip() + "…"


def si_number(value: float) -> str:
    """Format a count with three significant digits and an SI prefix: 250, 1.21 k, 25.6 M, 4.09 G."""
    rounded = float(f"{value:.3g}")
    power = min(int(math.log10(rounded)) // 3, 6) if rounded >= 1 else 0
    return f"{rounded / 1000**power:.4g} {' kMGTPE'[power]}".strip()


def use_log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, from `low` / 1.4 to 1.4 * `high`, with few ticks."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(low / 1.4, high * 1.4)


def legend_above(axes: Axes) -> None:
    """Add a legend above the plot, at the right of the title; none without labeled artists."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0, handlelength=1.4, columnspacing=1.2)


def hide_axes(axes: Axes) -> None:
    """Remove ticks, spines and grid."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def png_rgb(pixels: np.ndarray) -> bytes:
    """Encode an image as PNG: RGB uint8 [h, w, 3], or grayscale uint8 or uint16 [h, w]."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
