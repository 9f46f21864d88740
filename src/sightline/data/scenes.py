"""Synthetic land-cover scenes: images that resemble satellite images, with exact masks, drawn from a seed.

With them, segmentation can be tried and tested without a download; scores on them do not transfer to real images.
Classes, colors and approximate class shares are those of DeepGlobe Land Cover (Demir et al. 2018). Several classes
share colors, the light varies between scenes, and each class has its own texture. A scene depends only on seed, index
and size.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from ..runs.atomic import atomic_write
from .decode.images import encoded
from .decode.palettes import LANDCOVER

CLASSES = tuple(LANDCOVER)
COLORS = np.array(list(LANDCOVER.values()), dtype=np.uint8)
URBAN, AGRICULTURE, RANGELAND, FOREST, WATER, BARREN, UNKNOWN = range(7)
LAND = {URBAN: 0.12, AGRICULTURE: 0.54, RANGELAND: 0.115, FOREST: 0.15, BARREN: 0.075}  # before water and clouds
REGION = 62  # pixels between the centers of neighboring regions
VALIDATION = 9001  # index of the first validation scene, independent of the number of training scenes
JPEG_QUALITY = 90
SMALLEST = 16  # pixels


def write_scenes(folder: str | Path, count_train: int, count_val: int, size: int = 256, seed: int = 0) -> Path:
    """Write scenes in the layout of DeepGlobe: `train/0001_sat.jpg`, `train/0001_mask.png`, `validation/9001_...`.

    Images are JPEG of quality 90 and masks RGB PNG, size x size pixels. Scenes do not depend on the counts. Returns the
    folder. Raises SightlineError if the folder cannot be written.
    """
    assert size >= SMALLEST and count_train < VALIDATION
    for split, first, count in (("train", 1, count_train), ("validation", VALIDATION, count_val)):
        for index in range(first, first + count):
            image, mask = draw_scene(seed, index, size)
            stem = Path(folder) / split / f"{index:04d}"
            photo = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            atomic_write(f"{stem}_sat.jpg", encoded(photo, "JPEG", quality=JPEG_QUALITY))
            atomic_write(f"{stem}_mask.png", encoded(Image.fromarray(COLORS[mask]), "PNG"))
    return Path(folder)


@dataclass(frozen=True)
class Land:
    """The n pixels of one class in a scene.

    inside: bool [size, size], True at these pixels. points: float32 [2, n], their x and y. angles: float32 [n],
    direction of fields and streets at these pixels, in radians. dryness: dryness of the scene, 0 (green) to 1 (dry).
    """

    inside: np.ndarray
    points: np.ndarray
    angles: np.ndarray
    dryness: float

    def noise(self, rng: np.random.Generator, scale: float, octaves: int = 4, gain: float = 0.5) -> np.ndarray:
        """Fractal noise at these pixels, float32 [n]. scale, octaves, gain: as in the function `noise`."""
        return noise(rng, len(self.inside), scale, octaves, gain)[self.inside]

    def relief(
        self, rng: np.random.Generator, scale: float, octaves: int, gain: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(height, slope toward the light) of a surface of fractal noise at these pixels, float32 [n] each."""
        heights = noise(rng, len(self.inside), scale, octaves, gain)
        down, right = np.gradient(heights)
        return heights[self.inside], (right - down)[self.inside]

    def grid_axes(self, bends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates of the pixels in a grid that is rotated by `angles`: (across, along) the direction, float32
        [n] each. bends: displacement of the pixels before the rotation, float32 [n]."""
        x, y = self.points + bends
        cosine, sine = np.cos(self.angles), np.sin(self.angles)
        return x * cosine + y * sine, y * cosine - x * sine


def draw_scene(seed: int, index: int, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene: (image uint8 [3, size, size], mask uint8 [size, size] of indices in CLASSES). Objects, such as
    trees, have the same size in pixels in scenes of any size."""
    rng = np.random.default_rng([seed, index])
    y, x = np.mgrid[:size, :size].astype(np.float32)
    xy = np.stack([x, y])
    mask, region = draw_regions(rng, xy)
    bank = draw_waters(rng, xy, mask)
    dryness = float(rng.beta(1.2, 1.5))
    angles = (rng.uniform(0, np.pi) + rng.normal(0, 0.2, region.max() + 1)).astype(np.float32)
    image = np.empty((size, size, 3), np.float32)
    for label, texture in TEXTURES.items():
        inside = mask == label
        if inside.any():
            image[inside] = texture(rng, Land(inside, xy[:, inside], angles[region[inside]], dryness))
    image += bank[..., None] * rgb(0.10, 0.08, 0.04) * np.float32(rng.uniform(-1.2, 1.2))
    draw_roads(rng, xy, image, mask)
    draw_clouds(rng, xy, image, mask)
    return photographed(rng, image), mask


def noise(rng: np.random.Generator, size: int, scale: float, octaves: int = 4, gain: float = 0.5) -> np.ndarray:
    """Fractal value noise, float32 [size, size], with mean 0 and standard deviation near 1.

    Sums grids of normal random numbers, enlarged bicubically. scale: spacing of the first grid in pixels; it halves
    with each octave. gain: factor of the amplitude from one octave to the next.
    """
    total, power = np.zeros((size, size), np.float32), 0.0
    for octave in range(octaves):
        step, weight = max(scale * 0.5**octave, 1.0), gain**octave
        cells, (left, top) = size / step, rng.uniform(1, 2, 2)
        grid = rng.standard_normal((int(cells) + 5, int(cells) + 5), dtype=np.float32)
        box = (left, top, left + cells, top + cells)
        total += weight * np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC, box=box))
        power += weight**2
        if step == 1:
            break
    return total * np.float32(1.35 / np.sqrt(power))  # enlarging reduces the variance


def draw_regions(rng: np.random.Generator, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw Voronoi cells with borders displaced by fractal noise: (class uint8 [h, w], cell index int [h, w]).

    Each square of a grid has one cell center; only the 3x3 squares around a pixel are searched for the nearest one.
    """
    size = xy.shape[1]
    points = xy + np.float32(9) * np.stack([noise(rng, size, 48, 5, 0.55), noise(rng, size, 48, 5, 0.55)])
    points += REGION * rng.uniform(3, 4, (2, 1, 1)).astype(np.float32)  # so that no square has a negative index
    count = size // REGION + 9
    # A small concentration, so that a few classes dominate each scene.
    shares = rng.dirichlet(3.2 * np.array(list(LAND.values())))
    labels = rng.choice(list(LAND), count * count, p=shares).astype(np.uint8)
    corner = np.stack(np.meshgrid(np.arange(count), np.arange(count)), dtype=np.float32)
    centers = REGION * (corner + rng.uniform(0.02, 0.98, corner.shape).astype(np.float32)).reshape(2, -1)
    square = np.clip(points / REGION, 1, count - 2).astype(np.intp)
    own = square[1] * count + square[0]
    best, region = np.full((size, size), np.inf, np.float32), own.copy()
    for step in (row * count + column for row in (-1, 0, 1) for column in (-1, 0, 1)):
        number = own + step
        distance = (centers[0][number] - points[0]) ** 2 + (centers[1][number] - points[1]) ** 2
        np.copyto(region, number, where=distance < best)
        np.minimum(best, distance, out=best)
    return labels[region], region


def winding(rng: np.random.Generator, xy: np.ndarray, bends: float, scale: float) -> np.ndarray:
    """Signed distance in pixels of each pixel to a random winding line, float32 [h, w]. bends: amplitude of the
    windings in pixels. scale: length of the windings in pixels."""
    size = xy.shape[1]
    angle, through = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2) * size
    line = (xy[0] - through[0]) * np.cos(angle) + (xy[1] - through[1]) * np.sin(angle)
    line = line.astype(np.float32) + bends * noise(rng, size, scale, 3, 0.4)
    slope = np.hypot(*np.gradient(line))
    return line / np.maximum(slope, 0.3)


def draw_waters(rng: np.random.Generator, xy: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draw rivers and lakes into the mask, in place. Returns how near land pixels are to water, 0 (far) to 1."""
    size = mask.shape[0]
    water = np.zeros(mask.shape, bool)
    if rng.random() < 0.26:
        width = rng.uniform(3, 11) * (1 + 0.25 * noise(rng, size, 90, 2))
        water |= np.abs(winding(rng, xy, rng.uniform(15, 32), 110)) < width
    for _ in range(rng.poisson(0.2 * (size / 256) ** 2)):
        center, radius = rng.uniform(0, size, 2), rng.uniform(9, 34)
        shape = noise(rng, size, 40, 4)
        water |= np.hypot(*(xy - center[:, None, None])) < radius * (1 + 0.32 * shape)
    mask[water] = WATER
    return gaussian_filter(water.astype(np.float32), 1.6) * ~water * 2


def rgb(red: float, green: float, blue: float) -> np.ndarray:
    """A color as float32 [3], each channel 0 to 1."""
    return np.array((red, green, blue), np.float32)


def tint(rng: np.random.Generator, *colors: tuple[float, float, float]) -> np.ndarray:
    """A random mixture of the given colors, float32 [3]."""
    shares = rng.dirichlet(np.full(len(colors), 0.6))
    return (shares @ np.array(colors) * rng.uniform(0.9, 1.1)).astype(np.float32)


def pick_colors(rng: np.random.Generator, colors: list[tuple[float, float, float]], choice: np.ndarray) -> np.ndarray:
    """The colors with the indices `choice`, varied in brightness and hue, float32 [*choice.shape, 3]."""
    light = rng.uniform(0.85, 1.15, (*choice.shape, 1))
    return (np.array(colors)[choice] * light + rng.normal(0, 0.012, (*choice.shape, 3))).astype(np.float32)


def intervals(rng: np.random.Generator, along: np.ndarray, mean: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Divide an axis into random intervals; for each coordinate in `along` return (index of its interval, int; distance
    to the nearer end of that interval, float32).

    mean: mean length of an interval. spread: largest relative deviation from it.
    """
    low, high = float(along.min()), float(along.max())
    lengths = mean * rng.uniform(1 - spread, 1 + spread, int((high - low) / (mean * (1 - spread))) + 3)
    ends = (low - rng.uniform(0.1, 0.9) * lengths[0] + np.concatenate([[0], np.cumsum(lengths)])).astype(np.float32)
    number = np.searchsorted(ends, along) - 1
    return number, np.minimum(along - ends[number], ends[number + 1] - along)


def fields(rng: np.random.Generator, land: Land) -> np.ndarray:
    """Texture of agriculture: parcels with a crop, furrows or rows of trees, bordered by hedges or tracks."""
    u, v = land.grid_axes(1.5 * land.noise(rng, 60, 2))
    strip, side = intervals(rng, u, rng.uniform(16, 34), 0.45)
    parcel, end = intervals(rng, v + rng.uniform(0, 400, strip.max() + 1).astype(np.float32)[strip], 48, 0.5)
    number = (strip * 7919 + parcel * 104729) % 512
    green = [(0.20, 0.31, 0.13), (0.29, 0.40, 0.19), (0.38, 0.47, 0.24), (0.15, 0.23, 0.12), (0.34, 0.37, 0.20)]
    dry = [(0.55, 0.47, 0.33), (0.43, 0.34, 0.25), (0.62, 0.57, 0.42), (0.50, 0.45, 0.27), (0.36, 0.31, 0.23)]
    fallow = rng.random(512) < 0.15 + 0.7 * land.dryness
    crops = pick_colors(rng, green + dry, rng.integers(0, 5, 512) + 5 * fallow)
    period, depth = rng.uniform(2.6, 6.0, 512).astype(np.float32), rng.uniform(0.008, 0.05, 512).astype(np.float32)
    across = np.where((rng.random(512) < 0.75)[number], u, v)
    furrows = depth[number] * np.sin(2 * np.pi * across / period[number])
    pixels = crops[number] + (furrows + 0.02 * land.noise(rng, 18, 3))[:, None]
    orchard = (rng.random(512) < 0.07)[number]
    crowns = np.clip(2 * np.sin(2 * np.pi * u[orchard] / 5.5) * np.sin(2 * np.pi * v[orchard] / 5.5), 0, 0.75)
    pixels[orchard] += (rgb(0.15, 0.22, 0.11) - pixels[orchard]) * crowns[:, None]
    border = np.minimum(side, end) < rng.choice([0.0, 0.8, 1.3], 512, p=[0.35, 0.4, 0.25])[number]
    hedge = (rng.random(512) < 0.6)[number]
    pixels[border & hedge] = pixels[border & hedge] * 0.35 + rgb(0.09, 0.14, 0.07)
    pixels[border & ~hedge] = pixels[border & ~hedge] * 0.5 + rgb(0.26, 0.23, 0.17)
    return pixels


def rangeland(rng: np.random.Generator, land: Land) -> np.ndarray:
    """Texture of rangeland: patches of grass with shrubs."""
    fresh, dry = tint(rng, (0.31, 0.37, 0.19), (0.37, 0.41, 0.24)), tint(rng, (0.50, 0.46, 0.32), (0.44, 0.40, 0.27))
    mix = np.clip(land.dryness + 0.32 * land.noise(rng, 50, 5, 0.65), 0, 1)[:, None]
    shrubs = np.clip(land.noise(rng, 5, 2, 0.8) + 0.5 * land.noise(rng, 40, 2) - 1.55, 0, 0.8)[:, None]
    pixels = fresh * (1 - mix) + dry * mix - shrubs * rgb(0.22, 0.19, 0.16)
    return pixels + 0.022 * land.noise(rng, 9, 3, 0.7)[:, None]


def forest(rng: np.random.Generator, land: Land) -> np.ndarray:
    """Texture of forest: tree crowns lit from one side, with gaps, in stands of different species."""
    dark, light = tint(rng, (0.10, 0.17, 0.09), (0.13, 0.20, 0.13)), tint(rng, (0.22, 0.30, 0.14), (0.26, 0.29, 0.16))
    crowns, lit = land.relief(rng, 5.5, 2, 0.7)
    stands = np.clip(0.35 + 0.3 * land.dryness + 0.28 * land.noise(rng, 55, 3), 0, 1)
    mix = np.clip(stands + 0.13 * crowns, 0, 1)[:, None]
    return dark * (1 - mix) + light * mix + (0.055 * lit - 0.06 * (crowns < -1.0))[:, None]


def water(rng: np.random.Generator, land: Land) -> np.ndarray:
    """Texture of water: smooth, clear or muddy, with shallows and small waves."""
    kinds = [(0.08, 0.13, 0.16), (0.11, 0.19, 0.19), (0.20, 0.26, 0.18), (0.46, 0.38, 0.29), (0.34, 0.32, 0.25)]
    color = pick_colors(rng, kinds, rng.choice(5, 1, p=[0.3, 0.3, 0.2, 0.1, 0.1]))
    return color + (0.018 * land.noise(rng, 70, 2) + 0.004 * land.noise(rng, 3, 1))[:, None]


def barren(rng: np.random.Generator, land: Land) -> np.ndarray:
    """Texture of barren land: sand and rock lit from one side, with branching gullies."""
    kinds = [(0.62, 0.54, 0.42), (0.66, 0.61, 0.53), (0.53, 0.42, 0.31), (0.46, 0.38, 0.29), (0.58, 0.50, 0.36)]
    low, high = tint(rng, *kinds), tint(rng, *kinds)
    heights, lit = land.relief(rng, 40, 5, 0.55)
    mix = np.clip(0.5 + 0.3 * land.noise(rng, 60, 4, 0.6), 0, 1)[:, None]
    gullies = np.clip(1 - np.abs(heights - 0.2 * land.noise(rng, 12, 2)) / 0.10, 0, 1)
    relief = 0.11 * np.tanh(rng.uniform(0.8, 1.8) * lit) - 0.13 * gullies
    return low * (1 - mix) + high * mix + (relief + 0.016 * land.noise(rng, 3, 2))[:, None]


def town(rng: np.random.Generator, land: Land) -> np.ndarray:
    """Texture of urban land: blocks of roofs with shadows between streets, and gardens with trees."""
    u, v = land.grid_axes(1.2 * land.noise(rng, 80, 2))
    row, beside = intervals(rng, u, rng.uniform(20, 30), 0.3)
    block, end = intervals(rng, v + rng.uniform(0, 400, row.max() + 1).astype(np.float32)[row], 42, 0.35)
    lot_u, gap_u = intervals(rng, u, rng.uniform(6.5, 9), 0.25)
    lot_v, gap_v = intervals(rng, v, rng.uniform(6.5, 10), 0.3)
    number = (row * 7919 + block * 104729 + lot_u * 15485863 + lot_v * 32452843) % 1024
    kinds = [(0.56, 0.55, 0.54), (0.80, 0.79, 0.77), (0.52, 0.34, 0.27), (0.34, 0.34, 0.35), (0.35, 0.43, 0.54)]
    roofs = pick_colors(rng, [*kinds, (0.60, 0.50, 0.42), (0.68, 0.66, 0.62)], rng.integers(0, 7, 1024))
    ground = tint(rng, (0.44, 0.40, 0.34), (0.37, 0.37, 0.27), (0.50, 0.47, 0.42))
    trees = np.clip(land.noise(rng, 6, 2, 0.7) - 0.35, 0, 0.8)[:, None]
    pixels = ground * (1 - trees) + trees * rgb(0.16, 0.22, 0.11) + 0.02 * land.noise(rng, 4, 2)[:, None]
    inset = np.minimum(gap_u, gap_v) - rng.uniform(0.6, 1.9, 1024).astype(np.float32)[number]
    built = (inset > 0) & (rng.random(1024) < 0.8)[number]
    pixels[shaded(built, land.inside, 2, 1)] *= 0.5
    pixels[built] = roofs[number[built]] * (0.9 + 0.16 * (np.sin(u + v * 0.3) > 0)[built, None])  # ridges
    pixels[np.minimum(beside, end) < 1.6] = tint(rng, (0.45, 0.44, 0.43), (0.56, 0.53, 0.48))
    return pixels


def shaded(high: np.ndarray, inside: np.ndarray, down: int, right: int) -> np.ndarray:
    """Which of the n pixels of a class are in the shadow of the pixels `high` (bool [n]): bool [n]. The shadow is
    `high` shifted by `down` and `right` pixels. inside: bool [size, size], the pixels of the class."""
    canvas = np.zeros(inside.shape, high.dtype)
    canvas[inside] = high
    return shift(canvas, (down, right), order=0)[inside]


TEXTURES = {URBAN: town, AGRICULTURE: fields, RANGELAND: rangeland, FOREST: forest, WATER: water, BARREN: barren}


def draw_roads(rng: np.random.Generator, xy: np.ndarray, image: np.ndarray, mask: np.ndarray) -> None:
    """Draw roads into the image, in place. The mask is not changed: roads have the class of the land around them."""
    for _ in range(rng.poisson(0.9)):
        width, color = rng.uniform(0.8, 1.8), tint(rng, (0.60, 0.55, 0.46), (0.50, 0.49, 0.47))
        distance = np.abs(winding(rng, xy, rng.uniform(3, 12), 130))
        image[(distance < width) & (mask != WATER)] = color
        green = (mask != WATER) & (mask != BARREN) & (noise(rng, len(mask), 5, 1) > 0.4)
        verge = (distance >= width) & (distance < width + 2) & green
        image[verge] = image[verge] * 0.3 + rgb(0.10, 0.15, 0.08)


def draw_clouds(rng: np.random.Generator, xy: np.ndarray, image: np.ndarray, mask: np.ndarray) -> None:
    """Draw clouds with shadows into the image, in place; set the mask below clouds to UNKNOWN."""
    size = mask.shape[0]
    for _ in range(rng.poisson(0.14 * (size / 256) ** 2)):
        center, radius = rng.uniform(0, size, 2).astype(np.float32), rng.uniform(12, 32)
        reach = np.hypot(*(xy - center[:, None, None])) / np.float32(radius)
        thickness = np.clip(1.5 * (1.05 - reach + 0.28 * noise(rng, size, 34, 5, 0.6)), 0, 1)
        image *= 1 - 0.45 * shift(thickness, rng.integers(8, min(22, size), 2), order=0)[..., None]
        image += (rgb(0.93, 0.94, 0.95) - image) * (thickness**0.8)[..., None]
        mask[thickness > 0.45] = UNKNOWN


def photographed(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Simulate a camera on the scene float32 [h, w, 3]: light, terrain shade, haze, blur, noise; uint8 [3, h, w]."""
    size = image.shape[0]
    image = np.clip(image, 0.01, 1) ** rng.uniform(0.88, 1.18)
    image *= (rng.uniform(0.76, 1.16) * (1 + rng.normal(0, 0.028, 3))).astype(np.float32)
    image *= 1 + 0.05 * noise(rng, size, 150, 2)[..., None]
    haze = rng.uniform(0, 0.16)
    image = image * (1 - haze) + haze * rgb(0.60, 0.64, 0.68)
    image = gaussian_filter(image, (rng.uniform(0.45, 0.75),) * 2 + (0,))
    image += rng.uniform(0.006, 0.018) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(2, 0, 1)
