"""All encodings of a mask decode to the same class indices, or are an error with a cure."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sightline.config.schema import Data
from sightline.data.decode import masks
from sightline.data.decode.masks import MaskFacts, image_size, read_mask, write_mask
from sightline.data.decode.palettes import IGNORE, Palette, display_colors, from_dict, palette_of, to_dict
from sightline.data.sources.pair_facts import item_facts, split_facts
from sightline.errors import SightlineError

Pixels = np.ndarray
GRID = st.tuples(st.integers(1, 9), st.integers(1, 9))
CHANNEL = st.integers(0, 255)
COLORS = st.lists(st.tuples(CHANNEL, CHANNEL, CHANNEL), min_size=2, max_size=12, unique=True)


def palette(**settings_: object) -> Palette:
    return palette_of(Data.model_validate(settings_))


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(count))


def put(path: Path, image: Image.Image | Pixels | bytes, **options: object) -> str:
    """Write a file; returns its path."""
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return str(path)


def mask_error(path: str, wanted: Palette, max_pixels: int = masks.MAX_PIXELS) -> SightlineError:
    """Return the error that reading a mask raises; it must have the path and a cure."""
    with pytest.raises(SightlineError) as caught:
        read_mask(path, wanted, max_pixels)
    assert caught.value.where == path and caught.value.cure
    return caught.value


def png(width: int, height: int, depth: int, rows: bytes, extra: bytes = b"") -> bytes:
    """Encode a gray PNG of any bit depth; Pillow cannot write 2 and 4 bits. rows: each with its filter byte."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + (chunk(b"tRNS", extra) if extra else b"")
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@st.composite
def palettes(draw: st.DrawFn) -> Palette:
    """Built-in palettes, custom colors, and ids; some with merged and ignored names."""
    kind = draw(st.sampled_from(["landcover", "camvid", "binary", "colors", "ids"]))
    if kind in ("landcover", "camvid", "binary"):
        return palette(palette=kind)
    if kind == "colors":
        colors = dict(zip(names(12), draw(COLORS), strict=False))
        chosen, extra = tuple(colors), {"colors": colors}
    else:
        chosen = names(draw(st.integers(2, 254)))
        extra = {"classes": chosen}
    if len(chosen) > 3 and draw(st.booleans()):
        extra |= {"merge": {chosen[1]: chosen[2]}, "ignore": (chosen[0],)}
    return palette(**extra)


@given(palettes(), st.data())
@settings(deadline=None, max_examples=80)
def test_written_masks_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, wanted: Palette, data: st.DataObject
) -> None:
    values = [*range(len(wanted.classes)), *([IGNORE] if wanted.ignored else [])]
    indices = data.draw(arrays(np.uint8, data.draw(GRID), elements=st.sampled_from(values)))
    path, facts = put(tmp_path_factory.getbasetemp() / "round.png", write_mask(indices, wanted)), MaskFacts()
    again = read_mask(path, from_dict(json.loads(json.dumps(to_dict(wanted)))), facts=facts)
    assert again.dtype == np.uint8 and np.array_equal(again, indices) and facts.inexact == 0


@given(arrays(np.uint8, GRID, elements=st.integers(0, 11)))
@settings(deadline=None, max_examples=25)
def test_ids_are_the_same_in_every_mode_and_format(tmp_path_factory: pytest.TempPathFactory, ids: Pixels) -> None:
    root, wanted = tmp_path_factory.getbasetemp(), palette(palette="camvid")
    truth = np.where(ids == 11, IGNORE, ids)
    indexed = Image.fromarray(ids).copy()
    indexed.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())  # arbitrary colors
    opaque = Image.merge("LA", [Image.fromarray(ids), Image.new("L", ids.shape[::-1], 255)])
    files = [put(root / f"ids{ending}", ids) for ending in (".png", ".bmp", ".tif")]
    files += [put(root / f"indexed{ending}", indexed) for ending in (".png", ".bmp", ".tif")]
    files += [put(root / f"deep{ending}", ids.astype(np.uint16)) for ending in (".png", ".tif")]
    files += [put(root / "deeper.tif", ids.astype(np.int32)), put(root / "opaque.png", opaque)]
    for path in files:
        assert np.array_equal(read_mask(path, wanted), truth), path


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_ids_of_1_2_and_4_bits_are_not_scaled(tmp_path: Path, depth: int) -> None:
    ids = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**depth
    bits = np.unpackbits(ids[..., None], axis=2)[..., 8 - depth :].reshape(2, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
    assert np.array_equal(read_mask(put(tmp_path / "x.png", png(8, 2, depth, rows)), palette(classes=names(17))), ids)


@given(COLORS, st.data())
@settings(deadline=None, max_examples=40)
def test_colors_are_the_same_in_every_mode_and_format(
    tmp_path_factory: pytest.TempPathFactory, colors: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    root, wanted = tmp_path_factory.getbasetemp(), palette(colors=dict(zip(names(12), colors, strict=False)))
    ids = data.draw(arrays(np.uint8, data.draw(GRID), elements=st.integers(0, len(colors) - 1)))
    rgb = Image.fromarray(np.array(colors, np.uint8)[ids])
    indexed = Image.fromarray(ids).copy()
    indexed.putpalette(np.array(colors, np.uint8).tobytes())
    files = [put(root / f"rgb{ending}", rgb) for ending in (".png", ".bmp", ".tif")]
    files += [put(root / "rgb.webp", rgb, lossless=True), put(root / "rgba.png", rgb.convert("RGBA"))]
    files += [put(root / f"p{ending}", indexed) for ending in (".png", ".gif")]
    for path in files:
        assert np.array_equal(read_mask(path, wanted), ids), path


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))), st.sampled_from([1, 64, 128, 255])
)
@settings(deadline=None, max_examples=60)
def test_threshold_equals_a_loop_over_pixels(tmp_path_factory: pytest.TempPathFactory, rgb: Pixels, at: int) -> None:
    wanted, facts = palette(palette="landcover", threshold=at), MaskFacts()
    mask = read_mask(put(tmp_path_factory.getbasetemp() / "soft.png", rgb), wanted, facts=facts)
    known = {(0, 255, 255): 0, (255, 255, 0): 1, (255, 0, 255): 2, (0, 255, 0): 3, (0, 0, 255): 4, (255, 255, 255): 5}
    inexact = 0
    for y, x in np.ndindex(mask.shape):
        color = tuple(255 if channel >= at else 0 for channel in rgb[y, x])
        assert mask[y, x] == known.get(color, IGNORE)  # black and red are no classes
        inexact += tuple(rgb[y, x]) not in known and tuple(rgb[y, x]) != (0, 0, 0)
    assert facts.inexact == inexact


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)), elements=st.integers(0, 60)),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=60)
def test_tolerance_equals_a_search_over_all_colors(
    tmp_path_factory: pytest.TempPathFactory, rgb: Pixels, within: int
) -> None:
    colors = {"a": (0, 0, 0), "b": (50, 50, 50), "c": (50, 0, 10), "d": (255, 0, 0)}
    path = put(tmp_path_factory.getbasetemp() / "near.png", rgb)
    apart = np.abs(rgb[:, :, None].astype(int) - np.array(list(colors.values())))
    largest, squares = apart.max(3), (apart**2).sum(3)
    key = largest * 10**6 + squares
    outside = largest.min(2) > within
    wanted = palette(colors=colors, tolerance=within)
    if outside.any():
        error = mask_error(path, wanted)
        y, x = np.argwhere(outside & (rgb == mode_of(rgb[outside])).all(2))[0]
        assert f"{outside.sum():,} of the mask's {outside.size:,} pixels" in error.why
        assert f"first at x={x}, y={y}" in error.why
        assert f"--data.tolerance {largest.min(2).max()}" in error.cure
        return
    facts = MaskFacts()
    assert np.array_equal(read_mask(path, wanted, facts=facts), key.argmin(2))
    assert facts.inexact == (largest.min(2) > 0).sum()


def test_ties_of_color_distance_are_broken_by_the_sum_of_squares(tmp_path: Path) -> None:
    path = put(tmp_path / "x.png", np.array([[[10, 10, 0]]], np.uint8))
    assert read_mask(path, palette(colors={"a": (0, 0, 0), "b": (20, 10, 0)}, tolerance=10)).tolist() == [[1]]
    assert read_mask(path, palette(colors={"a": (20, 10, 0), "b": (20, 10, 20)}, tolerance=20)).tolist() == [[0]]


def mode_of(colors: Pixels) -> Pixels:
    """The most frequent of colors [U, 3], by the smallest packed value if tied; messages list it first."""
    found, counts = np.unique(colors.astype(int) @ np.array([1, 256, 65536]), return_counts=True)
    most = int(found[counts.argmax()])
    return np.array([most & 255, most >> 8 & 255, most >> 16])


def test_lossy_masks_are_rejected_by_content(tmp_path: Path) -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(rgb).save(jpeg, "JPEG", quality=100)
    files = [put(tmp_path / "named.png", jpeg.getvalue()), put(tmp_path / "x.jpg", rgb[..., 0])]
    files += [put(tmp_path / "lossy.webp", rgb), put(tmp_path / "inside.tif", rgb[..., 0], compression="jpeg")]
    for path in files:
        for wanted in (palette(palette="landcover"), palette(palette="camvid")):
            error = mask_error(path, wanted)
            assert "lossy" in error.why and "PNG" in error.cure


def test_channels_must_match_the_palette(tmp_path: Path) -> None:
    ids, colored = palette(classes=("a", "b")), palette(palette="landcover")
    rgb = put(tmp_path / "rgb.png", np.zeros((2, 2, 3), np.uint8))
    error = mask_error(rgb, ids)
    assert "3 channels: colors; the classes are given by ids" in error.why
    assert "--data.colors '{NAME: [" in error.cure
    gray = put(tmp_path / "gray.png", np.array([[0, 255, 3]], np.uint8))
    error = mask_error(gray, colored)  # with the threshold, id 3 would be read as black
    assert "1 channel" in error.why and "(3, 3, 3) (1 px, first at x=2, y=0" in error.why
    assert "--data.classes" in error.cure
    pure = put(tmp_path / "pure.png", np.array([[0, 255]], np.uint8))  # as a PNG optimizer writes black and white
    assert read_mask(pure, colored).tolist() == [[IGNORE, 5]]
    deep = put(tmp_path / "deep.png", np.zeros((2, 2), np.uint16))
    assert "I;16" in mask_error(deep, colored).why
    floats = put(tmp_path / "f.tif", np.zeros((2, 2), np.float32))
    assert "mode F of" in mask_error(floats, ids).why and "mode F of" in mask_error(floats, colored).why
    assert "CMYK" in mask_error(put(tmp_path / "c.tif", Image.new("CMYK", (2, 2))), colored).why


def test_a_gif_can_have_colors_but_not_ids(tmp_path: Path) -> None:
    ids = np.array([[3, 1]], np.uint8)
    path = put(tmp_path / "x.gif", ids)  # Pillow renumbers the indices 1, 3 to 0, 1
    assert "GIF" in mask_error(path, palette(classes=names(4))).why
    grays = palette(colors={"a": (1, 1, 1), "b": (3, 3, 3)})
    assert read_mask(path, grays).tolist() == [[1, 0]]


def test_transparent_pixels_are_an_error(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[1, 1, 3] = 254
    indexed = Image.new("P", (2, 2))
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    files = [put(tmp_path / "rgba.png", rgba), put(tmp_path / "p.png", indexed, transparency=0)]
    for path in files:
        assert "transparent" in mask_error(path, palette(palette="landcover")).why
    unused = put(tmp_path / "unused.png", indexed, transparency=1)  # an unused palette entry
    assert (read_mask(unused, palette(classes=("a", "b"))) == 0).all()
    la = Image.merge("LA", [Image.new("L", (2, 2)), Image.new("L", (2, 2), 9)])
    deep = png(1, 1, 16, b"\0\0\1", b"\0\1")
    gray = put(tmp_path / "gray.png", np.zeros((2, 2), np.uint8), transparency=0)
    for path in (files[1], gray, put(tmp_path / "la.png", la), put(tmp_path / "deep.png", deep)):
        assert "transparent" in mask_error(path, palette(classes=("a", "b"))).why


def test_ids_without_a_name_are_an_error(tmp_path: Path) -> None:
    wanted = palette(palette="camvid")
    ids = np.zeros((3, 5), np.uint8)
    ids[1, 3:], ids[2, 4] = 12, 200
    error = mask_error(put(tmp_path / "x.png", ids), wanted)
    assert "3 of the mask's 15 pixels" in error.why and "0..11" in error.why
    assert "12 (2 px, first at x=3, y=1), 200 (1 px, first at x=4, y=2)" in error.why
    assert "--data.ignore '[\"12\"]'" in error.cure
    assert "one name is missing" not in error.cure
    ids[2, 4] = 12  # the one id after the last name
    assert "one name is missing" in mask_error(put(tmp_path / "one.png", ids), wanted).cure
    deep = np.full((2, 2), 300, np.uint16)
    assert "300 (4 px" in mask_error(put(tmp_path / "deep.png", deep), wanted).why  # not 300 % 256
    negative = np.array([[0, -1], [70_000, 1]], np.int32)
    why = mask_error(put(tmp_path / "negative.tif", negative), wanted).why
    assert "-1 (1 px, first at x=1, y=0)" in why and "70000 (1 px, first at x=0, y=1)" in why


def test_ids_of_16_bits_up_to_254_names(tmp_path: Path) -> None:
    ids = np.arange(254, dtype=np.uint16).reshape(2, 127)
    assert np.array_equal(read_mask(put(tmp_path / "x.png", ids), palette(classes=names(254))), ids)
    far = palette(classes=("a", "b"), ignore=("65535",))
    mask = read_mask(put(tmp_path / "y.png", np.array([[1, 65535, 0]], np.uint16)), far)
    assert mask.tolist() == [[1, IGNORE, 0]]
    assert np.array_equal(read_mask(put(tmp_path / "z.png", write_mask(mask, far)), far), mask)


def test_ids_0_and_255_suggest_the_binary_palette(tmp_path: Path) -> None:
    mask = np.array([[0, 255], [255, 255]], np.uint8)
    path = put(tmp_path / "x.png", mask)
    error = mask_error(path, palette(classes=("no", "yes")))
    assert "only 0 and 255" in error.why and "--data.palette binary" in error.cure
    assert read_mask(path, palette(palette="binary")).tolist() == [[0, 1], [1, 1]]
    assert read_mask(put(tmp_path / "1.png", Image.fromarray(mask).convert("1")), palette(palette="binary")).sum() == 3
    rgb = put(tmp_path / "rgb.png", Image.fromarray(mask).convert("RGB"))
    assert read_mask(rgb, palette(palette="binary")).sum() == 3
    void = palette(classes=("a", "b"), ignore=("255",))
    assert read_mask(path, void).tolist() == [[0, IGNORE], [IGNORE, IGNORE]]
    soft = put(tmp_path / "soft.png", np.array([[0, 254, 3]], np.uint8))
    assert "--data.threshold 128" in mask_error(soft, palette(palette="binary")).cure
    assert read_mask(soft, palette(palette="binary", threshold=128)).tolist() == [[0, 1, 0]]


def test_a_color_outside_the_palette_suggests_all_settings_that_accept_it(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[2:, 1] = (0, 250, 5)
    path = put(tmp_path / "x.png", rgb)
    error = mask_error(path, palette(colors={"a": (0, 0, 0), "b": (0, 255, 0)}))
    assert "(0, 250, 5) (2 px, first at x=1, y=2; 5 from b)" in error.why
    assert "--data.tolerance 5" in error.cure and "--data.threshold 128" in error.cure
    assert "--data.colors as NAME: [0, 250, 5]" in error.cure
    facts = MaskFacts(inexact=7)
    near = palette(colors={"a": (0, 0, 0), "b": (0, 255, 0)}, tolerance=5)
    assert read_mask(path, near, facts=facts).sum() == 2 and facts.inexact == 9  # increased by 2
    other = mask_error(path, palette(colors={"a": (0, 0, 0), "b": (0, 200, 0)}))
    assert "--data.threshold" not in other.cure and "--data.tolerance 50" in other.cure
    far = mask_error(path, palette(colors={"a": (0, 0, 0), "b": (255, 0, 255)}))
    assert "--data.tolerance" not in far.cure


def test_positions_and_counts_do_not_depend_on_the_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 6, (37, 11)).astype(np.uint8)
    wanted = palette(palette="landcover")
    rgb = np.array(wanted.colors, np.uint8)[truth]
    rgb[random.random(truth.shape) < 0.3] ^= 5  # inexact colors in every strip
    path = put(tmp_path / "x.png", rgb)
    whole = MaskFacts()
    assert np.array_equal(read_mask(path, wanted, facts=whole), truth)
    strict = palette(colors=dict(zip(wanted.names, wanted.colors or (), strict=True)))
    error = mask_error(path, strict)
    monkeypatch.setattr(masks, "STRIP_PIXELS", 11 * 3)
    pieces = MaskFacts()
    assert np.array_equal(read_mask(path, wanted, facts=pieces), truth)
    assert pieces == whole and whole.inexact > 50
    assert mask_error(path, strict).why == error.why


def test_a_photograph_is_recognized_by_its_number_of_colors(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    error = mask_error(put(tmp_path / "x.png", noise), palette(palette="binary"))
    assert "at least" in error.why and "photograph" in error.cure and len(error.why) < 1000


def test_unreadable_files(tmp_path: Path) -> None:
    wanted = palette(palette="landcover")
    whole = Path(put(tmp_path / "x.png", np.zeros((50, 50, 3), np.uint8))).read_bytes()
    for content in (b"", whole[:60], b"<html>", b"version https://git-lfs.github.com/spec/v1"):
        assert mask_error(put(tmp_path / "bad.png", content), wanted).what == "this mask cannot be read"
    assert "data.max_pixels" in mask_error(str(tmp_path / "x.png"), wanted, max_pixels=2499).why
    assert mask_error(str(tmp_path / "absent.png"), wanted)
    os.mkfifo(tmp_path / "pipe.png")
    assert "regular" in mask_error(str(tmp_path / "pipe.png"), wanted).why


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_masks_are_rotated_by_exif_like_images(tmp_path: Path, ending: str) -> None:
    ids = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6  # displayed rotated by 90 degrees clockwise
    path = put(tmp_path / f"x{ending}", ids, exif=exif)
    assert read_mask(path, palette(classes=names(6))).tolist() == np.rot90(ids, -1).tolist()
    assert image_size(path) == (3, 2)


def test_image_size_is_the_size_after_rotation(tmp_path: Path) -> None:
    assert image_size(put(tmp_path / "x.jpg", np.zeros((4, 7, 3), np.uint8))) == (4, 7)
    with pytest.raises(SightlineError) as caught:
        image_size(put(tmp_path / "bad.jpg", b"nothing"))
    assert caught.value.where.endswith("bad.jpg")


def test_class_indices_without_a_name_cannot_be_written() -> None:
    wanted = palette(palette="binary")
    for value in (IGNORE, 2):
        with pytest.raises(SightlineError) as caught:
            write_mask(np.array([[0, value]], np.uint8), wanted)
        assert caught.value.cure
    assert Image.open(io.BytesIO(write_mask(np.zeros((2, 2), np.uint8), wanted))).mode == "L"
    assert Image.open(io.BytesIO(write_mask(np.zeros((2, 2), np.uint8), palette(palette="landcover")))).mode == "RGB"


def test_shipped_palettes() -> None:
    land, street, two = (palette(palette=name) for name in ("landcover", "camvid", "binary"))
    assert land.classes == ("urban", "agriculture", "rangeland", "forest", "water", "barren")
    assert (land.ignored, land.threshold, land.index.tolist()) == (("unknown",), 128, [0, 1, 2, 3, 4, 5, IGNORE])
    assert (len(street.classes), street.ignored, street.colors) == (11, ("void",), None)
    assert two.classes == ("background", "foreground") and two.threshold == 0
    assert display_colors(land).tolist()[:2] == [[0, 255, 255], [255, 255, 0]]
    assert display_colors(street).tolist()[3] == [128, 64, 128]
    assert palette(palette="landcover", tolerance=9).threshold == 0  # nearest instead of thresholded


def test_the_background_is_dark_so_that_the_other_classes_stand_out() -> None:
    colors = display_colors(palette_of(Data(), ("background", "cat", "dog")))
    assert colors[0].max() < 80 < colors[1:].max(1).min()


def test_display_colors_of_ids_are_distinct() -> None:
    shown = display_colors(palette(classes=names(254)))
    assert shown.shape == (254, 3) and shown.dtype == np.uint8 and len(np.unique(shown, axis=0)) == 254
    extra = display_colors(palette(palette="camvid", ignore=("255", "sky")))
    assert extra[0].tolist() == [128, 0, 0]


def test_merging_and_ignoring() -> None:
    green = {"agriculture": "green", "rangeland": "green", "forest": "green"}
    merged = palette(palette="landcover", merge=green, ignore=("water",))
    assert merged.classes == ("urban", "green", "barren")
    assert merged.index.tolist() == [0, 1, 1, 1, IGNORE, 2, IGNORE] and merged.ignored == ("water", "unknown")
    assert display_colors(merged)[1].tolist() == [255, 255, 0]  # that of the first name
    onto = palette(palette="landcover", merge={"urban": "forest"})  # first where its first name stands
    assert onto.classes[0] == "forest" and onto.index[3] == 0
    kept = palette(palette="landcover", merge={"unknown": "barren"})
    assert kept.ignored == () and kept.index[6] == kept.index[5]
    removed = palette(palette="landcover", merge={"urban": "unknown"})
    assert removed.ignored == ("urban", "unknown")
    renamed = palette(classes=("road", "car"), merge={"road": "roads"})
    assert renamed.classes == ("roads", "car")
    assert palette(palette="camvid", ignore=("3",)).ignored == ("road", "void")  # by id


@pytest.mark.parametrize(
    ("settings_", "expected"),
    [
        ({"palette": "landcove"}, ["did you mean 'landcover'?"]),
        ({"palette": "landcover", "colors": {"a": (0, 0, 0), "b": (1, 1, 1)}}, ["data.colors"]),
        ({"palette": "landcover", "classes": ("a", "b")}, ["data.classes"]),
        (
            {"colors": {"a": (0, 0, 0), "b": (1, 1, 1)}, "classes": ("b", "a")},
            ["data.colors and data.classes all define"],
        ),
        ({}, ["it is not set", "--data.palette", "--data.colors", "--data.classes"]),
        ({"palette": "landcover", "merge": {"foresst": "water"}, "ignore": ("urbann",)}, ["'forest'", "'urban'"]),
        (
            {"palette": "landcover", "merge": {"urban": "x", "forest": "urban"}},
            ["becomes 'urban', which itself becomes 'x'"],
        ),
        ({"palette": "landcover", "merge": {"urban": "forest"}, "ignore": ("urban",)}, ["both merged and ignored"]),
        ({"palette": "binary", "ignore": ("background",)}, ["after merging and ignoring: 1", "needs at least 2"]),
        ({"classes": names(255)}, ["255 names", "254"]),
        ({"classes": ("a", "a")}, ["differ only in case", "'a' and 'a'"]),
        ({"colors": {"a": (0, 0, 0), "b": (0, 0, 0)}}, ["same color"]),
        ({"palette": "camvid", "tolerance": 3, "threshold": 9}, ["data.tolerance", "data.threshold"]),
        ({"palette": "binary", "tolerance": 3, "threshold": 9}, ["only one of"]),
        ({"colors": {"a": (0, 0, 0), "b": (0, 9, 0)}, "threshold": 128}, ["no pixel can be 'b'"]),
    ],
)
def test_all_errors_of_an_invalid_palette_are_reported(settings_: dict[str, object], expected: list[str]) -> None:
    with pytest.raises(SightlineError) as caught:
        palette(**settings_)
    assert caught.value.where and caught.value.cure
    assert all(text in str(caught.value) for text in expected), str(caught.value)


def test_a_class_list_gives_the_names_of_ids() -> None:
    assert palette_of(Data(), ("a", "b")).classes == ("a", "b")
    assert palette_of(Data(classes=("x", "y")), ("a", "b")).classes == ("x", "y")  # settings first
    assert palette_of(Data(palette="binary"), ("a", "b")).classes == ("background", "foreground")


@pytest.mark.parametrize(
    "change",
    [
        {"index": [0, 1]},
        {"index": [0, 1, 2, 3, 4, 7, 255]},
        {"index": [0, 1, 2, 3, 4, 5, 300]},
        {"colors": [[0, 0, 0]]},
        {"colors": [[0, 0, 256]] * 7},
        {"names": 3},
        {"strays": [[[1, 2, 3], 9]]},
        {"tolerance": "x"},
    ],
)
def test_a_damaged_palette_is_an_error(change: dict[str, object]) -> None:
    with pytest.raises(SightlineError) as caught:
        from_dict(to_dict(palette(palette="landcover")) | change, "config.json")
    assert caught.value.where == "config.json"


def test_facts_of_pairs() -> None:
    mask = np.array([[0, 2, 2], [IGNORE, 2, 0]], np.uint8)
    fact = item_facts((2, 3), mask, 3, 5)
    assert (fact.shape, fact.counts.tolist(), fact.ignored, fact.inexact) == ((2, 3), [2, 0, 3], 1, 5)
    nothing = item_facts((1, 2), np.full((1, 2), IGNORE, np.uint8), 3)
    facts = split_facts([fact, nothing], 3)
    assert facts.shapes.tolist() == [[2, 3], [1, 2]] and facts.shapes.dtype == np.int64
    assert facts.counts.tolist() == [[2, 0, 3], [0, 0, 0]] and facts.counts.dtype == np.int64
    assert facts.ignored.tolist() == [1, 2] and facts.inexact.tolist() == [5, 0]
    with pytest.raises(SightlineError) as caught:
        item_facts((3, 2), mask, 3)
    assert "2 x 3 pixels, but its mask has 3 x 2" in caught.value.what and "EXIF" in caught.value.cure
    with pytest.raises(SightlineError) as caught:
        item_facts((9, 9), mask, 3)
    assert "EXIF" not in caught.value.cure


SAMPLE = os.path.join(os.environ.get("SIGHTLINE_REAL_DATA", ""), "landcover-sample")


@pytest.mark.real_data
@pytest.mark.skipif(not os.path.isdir(SAMPLE), reason="needs real data: set SIGHTLINE_REAL_DATA")
def test_the_real_land_cover_mask() -> None:
    path, facts = os.path.join(SAMPLE, "6399_mask.png"), MaskFacts()
    mask = read_mask(path, palette(palette="landcover"), facts=facts)
    high = (np.asarray(Image.open(path)) >= 128) @ np.array([4, 2, 1])
    truth = np.array([IGNORE, 4, 3, 0, IGNORE, 2, 1, 5])[high]  # 4 is red: two pixels between magenta and yellow
    assert np.array_equal(mask, truth) and facts.inexact == 1666


def test_renumbered_palettes_are_an_error(tmp_path: Path) -> None:
    """Programs that reduce colors number them anew in each file; palettes that only have other unused colors do not."""
    colors, wanted, numbering = [(0, 0, 0), (128, 0, 0), (0, 128, 0)], palette(classes=names(3)), {}

    def file(name: str, order: list[int], rest: int = 0) -> str:
        image = Image.fromarray(np.argsort(order).astype(np.uint8)[[[0, 1], [1, 2]]], "P")
        image.putpalette([*np.array(colors, np.uint8)[order].ravel().tolist(), *[rest] * 30])
        return put(tmp_path / name, image)

    for name, rest in (("a.png", 0), ("b.png", 7)):
        read_mask(file(name, [0, 1, 2], rest), wanted, numbering=numbering)
    with pytest.raises(SightlineError, match="renumbered the indices") as caught:
        read_mask(file("c.png", [1, 0, 2]), wanted, numbering=numbering)
    assert f"in {tmp_path / 'a.png'}" in caught.value.why and "--data.colors" in caught.value.cure


def test_masks_of_0_and_1_are_no_dark_masks_of_0_and_255(tmp_path: Path) -> None:
    error = mask_error(put(tmp_path / "m.png", np.array([[0, 1]], np.uint8)), palette(palette="binary"))
    assert "--data.classes '[background, foreground]'" in error.cure and "tolerance" not in error.cure
