"""Cache of decoded images: complete or absent entries, keys, damage, unreadable images, concurrent writers."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sightline.config.schema import Data
from sightline.data import cache, image_cache
from sightline.data.cache import cache_clear, cache_list, checksum_matches, load_entry
from sightline.data.decode import decoding, rasters
from sightline.data.decode.crash_guard import FAILS
from sightline.data.decode.images import Square
from sightline.data.image_cache import decode
from sightline.data.sources.open import open_source
from sightline.data.types import Decoded, Source
from sightline.errors import ENVIRONMENT, SightlineError
from sightline.runs.atomic import TEMPORARY


def intact(folder: Path) -> bool:
    """Whether an entry is complete and matches its checksum, which is computed again."""
    cache._verified.discard(folder)
    entry = load_entry(folder)
    return entry is not None and checksum_matches(folder, entry)


def silent(text: str) -> None:
    """An `announce` function that prints nothing."""


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Data]:
    """settings(**settings): `Data` for 2 class folders of 6 noise images with 12x9 pixels, with a separate cache."""
    random = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(6):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).save(path)
    return lambda **more: Data.model_validate(
        {"path": str(tmp_path / "photos"), "cache_dir": str(tmp_path / "cache"), "val_fraction": 0.34, **more}
    )


def content(data: Data, side: int = 16) -> tuple[Source, Decoded]:
    source = open_source(data, 0)
    return source, decode(source, "train", side, data, silent)


def entries(data: Data) -> list[cache.CacheEntry]:
    return cache_list(Path(data.cache_dir))


def test_images_of_one_small_size_are_not_resized(settings: Callable[..., Data]) -> None:
    data = settings()
    source, decoded = content(data)
    assert decoded.images.shape == (8, 3, 9, 12) and decoded.images.dtype == np.uint8 and decoded.nbytes == 8 * 324
    for index in range(8):
        expected = np.asarray(source.splits["train"].read(index)).transpose(2, 0, 1)
        assert np.array_equal(decoded.images[index], expected)
    assert decoded.names == source.splits["train"].names and decoded.classes == ("a", "b")
    assert np.array_equal(decoded.labels, source.splits["train"].labels)


def test_fit_crop_stores_central_squares_of_small_images_too(settings: Callable[..., Data]) -> None:
    """Without the crop, images of 12x9 pixels would be squashed on the device."""
    plain = content(settings())[1]
    source, decoded = content(settings(fit="crop"))
    assert plain.images.shape == (8, 3, 9, 12) and decoded.images.shape == (8, 3, 16, 16)
    for index in range(8):
        image = source.splits["train"].read(index)
        assert np.array_equal(decoded.images[index], Square(16, fit="crop").of(image))
    assert not np.array_equal(content(settings(fit="crop", filter="bicubic"))[1].images, decoded.images)


def test_eval_crop_applies_to_images_of_data_size_only(settings: Callable[..., Data]) -> None:
    """Training images stored at augment.resize are cropped at random later."""
    cropping = settings(size=16, eval_crop=0.5)
    source, decoded = content(cropping)
    for index in range(8):
        image = source.splits["train"].read(index)
        assert np.array_equal(decoded.images[index], Square(16, share=0.5).of(image))
    assert np.array_equal(content(cropping, side=20)[1].images, content(settings(size=16), side=20)[1].images)


def test_images_that_are_large_or_differ_in_size_are_resized_to_squares(settings: Callable[..., Data]) -> None:
    data = settings()
    source, decoded = content(data, side=10)
    assert decoded.images.shape == (8, 3, 10, 10)
    assert np.array_equal(decoded.images[3], Square(10).of(source.splits["train"].read(3)))
    last = Path(data.path) / source.splits["train"].names[-1]
    Image.new("RGB", (12, 10), "red").save(last)
    source, decoded = content(data)
    assert decoded.images.shape == (8, 3, 16, 16) and (decoded.images[-1] == [[[255]], [[0]], [[0]]]).all()


def test_cached_images_are_not_decoded_again(settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch) -> None:
    data, messages = settings(), []
    source = open_source(data, 0)
    first = decode(source, "train", 16, data, messages.append)
    assert messages == [f"decoding 8 images into the cache, 3 kB in all: {data.cache_dir}"]
    monkeypatch.setattr(image_cache, "write_images", None)
    again = decode(open_source(data, 0), "train", 16, data, messages.append)
    assert len(messages) == 1 and again.digest == first.digest and np.array_equal(again.images, first.images)
    again.images[0] = 0  # copy-on-write: the file does not change
    assert np.array_equal(decode(source, "train", 16, data, silent).images, first.images)


def test_changed_files_names_or_sizes_are_decoded_again(settings: Callable[..., Data]) -> None:
    data = settings()
    source, decoded = content(data)
    content(data, side=8)
    assert len(entries(data)) == 2
    path = Path(data.path) / source.splits["train"].names[0]
    Image.new("RGB", (12, 9), "blue").save(path)
    _, changed = content(data)
    assert changed.images[0].max() == 255 and changed.images[0, 0].max() == 0
    assert changed.digest != decoded.digest and len(entries(data)) == 3
    path.rename(path.with_name("new.png"))
    assert content(data)[1].digest != changed.digest


def test_files_with_equal_names_in_two_folders_have_separate_entries(
    settings: Callable[..., Data], tmp_path: Path
) -> None:
    for folder, color in (("one", "red"), ("two", "blue")):
        for split in ("train", "val"):
            for label in ("a", "b"):
                path = tmp_path / folder / split / label / "0.bmp"
                path.parent.mkdir(parents=True)
                Image.new("RGB", (4, 4), color if split == "train" else "white").save(path)
                os.utime(path, ns=(0, 0))
    means = []
    for folder in ("one", "two"):
        data = settings(path=str(tmp_path / folder))
        source = open_source(data, 0)
        means += [
            decode(source, split, 8, data, silent).images[0].mean(axis=(1, 2)).tolist() for split in ("train", "val")
        ]
    assert means == [[255, 0, 0], [255] * 3, [0, 0, 255], [255] * 3]


def test_relabeling_keeps_the_pixels(settings: Callable[..., Data]) -> None:
    data = settings()
    _, decoded = content(data)
    _, turned = content(settings(classes=("b", "a")))
    assert np.array_equal(turned.labels, 1 - decoded.labels) and turned.digest != decoded.digest
    assert len(entries(data)) == 1


def test_damaged_entries_are_detected(settings: Callable[..., Data]) -> None:
    data = settings()
    source, decoded = content(data)
    expected = decoded.images.copy()
    entry = entries(data)[0]
    assert intact(entry.folder)
    file = entry.folder / "images.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    assert not intact(entry.folder)
    messages: list[str] = []
    assert np.array_equal(decode(source, "train", 16, data, messages.append).images, expected)
    assert messages[0].startswith("decoding again")
    meta = entry.folder / "meta.json"
    meta.write_text(meta.read_text().replace(str(source.path), "elsewhere"))
    assert not intact(entry.folder)
    file.write_bytes(whole[:-1])  # truncated: built again without an announcement
    assert np.array_equal(decode(source, "train", 16, data, silent).images, expected)
    assert intact(entry.folder)


def test_all_unreadable_images_are_listed_in_one_error(settings: Callable[..., Data]) -> None:
    data = settings()
    names = open_source(data, 0).splits["train"].names
    (Path(data.path) / names[1]).write_bytes(b"")
    (Path(data.path) / names[5]).write_bytes(b"<html>")
    with pytest.raises(SightlineError) as caught:
        content(data)
    text = str(caught.value)
    assert all(name in text for name in (names[1], names[5])) and "2 of 8" in text
    assert "0 bytes" in text and "a download failed" in text and "on_bad_image skip" in text
    assert entries(data) == [] and list(Path(data.cache_dir).iterdir()) == []


def test_on_bad_image_skip_leaves_out_a_few_images(settings: Callable[..., Data]) -> None:
    data = settings(on_bad_image="skip")
    names = open_source(data, 0).splits["train"].names
    whole = content(data)[1].images.copy()
    (Path(data.path) / names[0]).write_bytes(b"")
    for _ in range(2):  # decoded, then from the cache
        messages: list[str] = []
        decoded = decode(open_source(data, 0), "train", 16, data, messages.append)
        assert decoded.names == names[1:] and np.array_equal(decoded.images, whole[1:])
        assert (
            len(decoded.labels) == 7
            and f"1 of 8 images of the train split cannot be read and are left out:\n    {names[0]}" in messages[-1]
        )
    with pytest.raises(SightlineError, match="1 of 8 images") as caught:
        content(settings())
    assert "--data.on_bad_image skip" in caught.value.cure


@pytest.mark.parametrize(("why", "count"), [("no decoder", 8), (f"{FAILS}: SIGSEGV", 7)])
def test_an_image_that_can_be_read_again_is_no_longer_left_out(
    settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch, why: str, count: int
) -> None:
    """As after `chmod` or the installation of a decoder, which change neither size nor time of the file. An image that
    crashes the decoder is not read again."""
    data, real = settings(on_bad_image="skip"), rasters.open_image
    names = open_source(data, 0).splits["train"].names

    def without_decoder(path: str, *arguments: Any) -> Image.Image:
        if path.endswith(names[0]):
            raise SightlineError("this image cannot be read", where=path, why=why, cure="pip install")
        return real(path, *arguments)

    monkeypatch.setattr(rasters, "open_image", without_decoder)
    assert content(data)[1].names == names[1:]
    monkeypatch.setattr(rasters, "open_image", real)
    assert len(content(data)[1].names) == count


def test_too_many_unreadable_images_are_an_error(
    settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = settings(on_bad_image="skip")
    names = open_source(data, 0).splits["train"].names
    for name in names[:2]:
        (Path(data.path) / name).write_bytes(b"")
    assert len(content(data)[1].images) == 6  # half of the class a
    (Path(data.path) / names[2]).write_bytes(b"")
    with pytest.raises(SightlineError, match="3 of 8 images") as caught:
        content(data)
    assert (
        "at most half of a class may be left out; more than half is unreadable in: a\n" in caught.value.why
        and names[2] in caught.value.why
    )
    with pytest.raises(SightlineError) as stopped:
        content(settings())
    assert caught.value.cure == stopped.value.cure == "repair or remove these files"
    for name in names[:3]:
        (Path(data.path) / name).unlink()
    assert len(content(data)[1].images) + len(open_source(data, 0).splits["val"].names) == 9
    monkeypatch.setattr(image_cache, "FEW_SKIPPED", 1)
    names = open_source(data, 0).splits["train"].names
    for index in (0, -1):
        (Path(data.path) / names[index]).write_bytes(b"")
    with pytest.raises(SightlineError, match="too many") as caught:
        content(data)
    assert "at most 1% of a split, or 1 images if that is more (here 1)" in caught.value.why


def test_many_chunks_keep_the_order(settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch) -> None:
    data = settings()
    whole = content(data)[1].images.copy()
    cache_clear(Path(data.cache_dir))
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 1)
    monkeypatch.setattr(decoding, "PROGRESS_SECONDS", 0.0)
    messages: list[str] = []
    assert np.array_equal(decode(open_source(data, 0), "train", 16, data, messages.append).images, whole)
    assert messages[-1].startswith("decoded 8 of 8 images")


def test_insufficient_disk_space_is_an_error_before_decoding(
    settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = settings()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(SightlineError) as caught:
        content(data)
    assert caught.value.status == ENVIRONMENT and "need 3 kB of disk" in caught.value.what
    assert "--data.size" in caught.value.cure and "--data.cache_dir" in caught.value.cure
    assert list(Path(data.cache_dir).iterdir()) == []


def test_a_failed_write_leaves_no_files(settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    data = settings()
    monkeypatch.setattr(decoding, "write_header", full)
    with pytest.raises(SightlineError) as caught:
        content(data)
    assert caught.value.status == ENVIRONMENT and "--data.cache_dir" in caught.value.cure
    assert list(Path(data.cache_dir).iterdir()) == []


def test_clearing_the_cache_keeps_other_files(
    settings: Callable[..., Data], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "elsewhere"))
    data = settings(cache_dir="")
    _, decoded = content(data)
    assert [entry.folder.parent for entry in cache_list()] == [tmp_path / "elsewhere"]
    keep = tmp_path / "elsewhere" / "torchvision"
    keep.mkdir()
    dead = tmp_path / "elsewhere" / f"{TEMPORARY}999999999-{cache.platform.node()}-aa"
    alive = tmp_path / "elsewhere" / f"{TEMPORARY}{os.getpid()}-{cache.platform.node()}-bb"
    dead.mkdir()
    alive.mkdir()
    assert cache_clear() == (1, decoded.nbytes)
    assert cache_list() == [] and keep.exists() and alive.exists() and not dead.exists()
    assert cache_clear() == (0, 0)


RACER = """
import sys, time
from pathlib import Path
from sightline.config.schema import Data
from sightline.data import cache, image_cache
from sightline.data.sources.open import open_source

folder, photos, mine, other = sys.argv[1:]
publish = cache.publish

def together(temporary, target):  # so that both build the entry before either publishes it
    Path(folder, mine).touch()
    deadline = time.monotonic() + 30
    while not Path(folder, other).exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    publish(temporary, target)

cache.publish = together
data = Data(path=photos, cache_dir=folder + "/cache")
decoded = image_cache.decode(open_source(data, 0), "train", 16, data, lambda text: None)
print(decoded.digest, int(decoded.images.sum()))
"""


def test_two_processes_build_the_same_entry(settings: Callable[..., Data], tmp_path: Path) -> None:
    data = settings(val_fraction=0.1)
    command = [sys.executable, "-c", RACER, str(tmp_path), data.path]
    racers = [
        subprocess.Popen([*command, mine, other], stdout=subprocess.PIPE, text=True)
        for mine, other in (("one", "two"), ("two", "one"))
    ]
    outputs = [racer.communicate(timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    folders = list((tmp_path / "cache").iterdir())
    assert len(folders) == 1 and entries(data)[0].folder == folders[0]
    assert intact(folders[0])


def test_threads_can_decode_the_same_split(settings: Callable[..., Data]) -> None:
    data = settings()
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(content(data)[1].digest)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4 and len(set(digests)) == 1


def test_small_images_are_enlarged_counted_and_named(settings: Callable[..., Data]) -> None:
    data = settings()
    root = Path(data.path)
    Image.new("RGB", (1, 1), "red").save(root / "a" / "dot.png")
    Image.new("RGB", (40, 9), "red").save(root / "b" / "strip.png")
    messages: list[str] = []
    source = open_source(data, 0, hold_out=False)
    for _ in range(2):  # decoded, then from the cache
        found = decode(source, "all", 10, data, messages.append)
        assert (found.images[found.names.index("a/dot.png")] == np.array([255, 0, 0])[:, None, None]).all()
        assert messages[-1].startswith("all 14 images of all are smaller than 10 x 10 pixels and are enlarged: ")
        assert ": a/dot.png (1 x 1), a/0.png (12 x 9), a/1.png (12 x 9)" in messages[-1] and messages[-1].endswith(
            ", ..."
        )
    assert sum("are enlarged" in line for line in messages) == 2
    decode(source, "all", 9, data, messages.append)
    assert messages[-1] == "1 of 14 images of all are smaller than 9 x 9 pixels and are enlarged: a/dot.png (1 x 1)"


@pytest.mark.filterwarnings("ignore:.*orrupt EXIF")
def test_damaged_exif_blocks_are_counted_once_per_call(settings: Callable[..., Data]) -> None:
    data = settings()
    torn = b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff"
    for number in range(10):
        Image.new("RGB", (12, 9)).save(Path(data.path) / "a" / f"t{number}.jpg", exif=torn)
    messages: list[str] = []
    source = open_source(data, 0, hold_out=False)
    for times in (1, 2):
        decode(source, "all", 16, data, messages.append)
        notes = [line for line in messages if "EXIF" in line]
        assert len(notes) == times and notes[-1].startswith("10 of 22 images of all have a damaged EXIF block")
        assert notes[-1].endswith("a/t6.jpg, a/t7.jpg, ...")
