"""Streaming from shards: equal to the cache, reproducible order, resumption, bounded memory, errors."""

import contextlib
import functools
import http.server
import io
import json
import pickle
import shutil
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import sightline
from config_toys import configured
from sightline import SightlineError
from sightline.config.resolve import resolve
from sightline.config.schema import Config, Data
from sightline.data.augment.windows import find_anchors
from sightline.data.image_cache import decode
from sightline.data.loader import training_batches
from sightline.data.pair_cache import decode_pairs
from sightline.data.parallel import Share, permutation
from sightline.data.shard_format import NUMBERS, SampleTable, parse_table, table_bytes
from sightline.data.shards import fetch
from sightline.data.shards.index import Shards, is_sharded
from sightline.data.shards.stream import GROUP, ORDER, Stream, stream_images, stream_pairs
from sightline.data.sources.open import open_source
from sightline.data.sources.pairs import open_pairs
from sightline.data.types import Batch, Decoded
from sightline.errors import ENVIRONMENT
from sightline.models import build_backbone
from sightline.runs.atomic import read_json_lines

pytestmark = pytest.mark.usefixtures("no_reports")


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos` in nine shards of training images."""
    return sightline.pack(photos, tmp_path_factory.mktemp("packed") / "out", shard_mb=0.03, quiet=True)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a fifth of the toy data at a time, and retry downloads without pauses."""
    monkeypatch.setattr(Stream, "chunk_bytes", 45_000)
    monkeypatch.setattr(fetch, "PAUSES_SECONDS", (0.0, 0.0))


def streamed(path: Path | str, side: int = 16, **settings: Any) -> Decoded:
    data = Data.model_validate({"path": str(path), **settings})
    return stream_images(open_source(data, 0), "train", side, data)


def same(first: Batch, second: Batch) -> bool:
    labels = all(torch.equal(a, b) for a, b in [(first.labels, second.labels)] if a is not None and b is not None)
    return labels and torch.equal(first.images, second.images) and torch.equal(first.samples, second.samples)


def test_tables_are_parsed_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [np.arange(3)] * len(NUMBERS)
    content, load, inside, most = table_bytes(SampleTable(*columns, ("a", "b", "c"))), np.load, [0], [0]

    @contextlib.contextmanager
    def slow_load(*args: Any, **options: Any) -> Iterator[Any]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.005)
        yield load(*args, **options)
        inside[0] -= 1

    monkeypatch.setattr(np, "load", slow_load)
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda number: parse_table(content, str(number), 3), range(8)))
    assert most == [1] and tables[7].names == ("a", "b", "c")


@pytest.mark.parametrize(("side", "fit"), [(16, "squash"), (12, "squash"), (12, "crop"), (20, "squash"), (20, "crop")])
def test_every_sample_is_yielded_once_with_the_pixels_of_the_cache(
    photos: Path, packed: Path, side: int, fit: str
) -> None:
    data = Data.model_validate({"path": str(photos), "fit": fit})
    cached, stream = decode(open_source(data, 0), "train", side, data), streamed(packed, side, fit=fit)
    assert stream.names == cached.names and stream.classes == cached.classes
    assert stream.images.shape == cached.images.shape and (stream.labels == cached.labels).all()
    batches = list(training_batches(stream, 10, 0, 0))
    assert [len(batch.samples) for batch in batches] == [9, 9, 9, 9, 9, 9, 10]
    for batch in batches:
        assert (batch.images.numpy() == cached.images[batch.samples.numpy()]).all()
        assert batch.labels is not None and (batch.labels.numpy() == cached.labels[batch.samples.numpy()]).all()
    assert sorted(torch.cat([batch.samples for batch in batches]).tolist()) == list(range(64))
    assert (stream.images[[5, 63, 5]] == cached.images[[5, 63, 5]]).all()


def test_the_order_depends_on_seed_and_epoch_and_mixes_shards(packed: Path) -> None:
    stream = streamed(packed).stream
    assert stream is not None and len(stream.shards.entries) > 6
    orders = {(seed, epoch): stream.order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == list(range(64)) for order in orders.values())
    assert len(set(stream.shards.owners[orders[0, 0][:10]])) > 2  # a batch has samples of several shards
    given = torch.cat([batch.samples for batch in training_batches(streamed(packed), 10, 1, 1)])
    assert given.tolist() == orders[1, 1].tolist()


def test_a_stream_starts_at_any_batch_and_reads_the_remaining_samples_only(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, read, read_shards = streamed(packed), [], Shards.read
    monkeypatch.setattr(
        Shards, "read", lambda self, indices, *rest: (read.extend(indices), read_shards(self, indices, *rest))[1]
    )
    whole = list(training_batches(decoded, 10, 3, 2))
    for first in range(8):
        read.clear()
        rest = list(training_batches(decoded, 10, 3, 2, first))
        assert len(rest) == 7 - first and all(map(same, rest, whole[first:]))
        assert len(read) == sum(len(batch.samples) for batch in whole[first:])
    begun = training_batches(decoded, 10, 3, 2)  # iteration can be stopped at any batch
    assert same(next(begun), whole[0])
    begun.close()  # ty: ignore


@pytest.mark.parametrize("world", [2, 4])
def test_processes_take_contiguous_parts_of_each_batch(packed: Path, world: int) -> None:
    stream = streamed(packed).stream
    assert stream is not None
    whole = list(stream.batches(10, 0, 0, 1))
    parts = [list(stream.batches(10, 0, 0, 1, share=Share(rank, world), overlap=True)) for rank in range(world)]
    for number, batch in enumerate(whole):
        if len(batch.samples) < world:  # every process takes such a small batch completely
            assert all(torch.equal(each[number].samples, batch.samples) for each in parts)
            continue
        indices = []
        for each in parts:
            part = each[number]
            assert part.overlap == 1 and torch.equal(part.all_samples, batch.samples)
            assert int(part.samples[0]) == int(batch.samples[part.start - 1])  # the partner for mixing
            indices.append(part.samples[1:])
            rows = [batch.samples.tolist().index(index) for index in part.samples.tolist()]
            assert torch.equal(part.images, batch.images[rows])
        assert torch.equal(torch.cat(indices), batch.samples)


def test_memory_does_not_depend_on_the_size_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0)
    for number in range(300):
        folder = tmp_path / "data" / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(folder / f"{number}.png")
    out = sightline.pack(tmp_path / "data", tmp_path / "out", shard_mb=0.5, quiet=True)
    monkeypatch.setattr(Stream, "chunk_bytes", 40_000)
    decoded, side = streamed(out, 8), 8
    size = sum(path.stat().st_size for path in out.glob("train-*.tar"))
    assert size > 50 * 2 * 40_000 * 0.9
    list(training_batches(decoded, 4, 0, 0))  # memory that is allocated once is not counted
    tracemalloc.start()
    for _ in training_batches(decoded, 4, 0, 1):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 40_000 + 5 * 4 * (15_000 + 3 * side * side) + 400_000, f"{peak} of {size}"


def train(data: Path | str, out: Path, tiny: dict, **more: object) -> sightline.Run:
    settings = {"model.args": {"widths": [8, 16, 16], "hidden": 32}, "report.samples": 4, "optim.lr": 0.05}
    return sightline.train(resolve(Config(name="t"), tiny | settings | more), str(data), out=out, quiet=True)


def test_a_streamed_run_equals_a_cached_run_with_the_same_order(
    photos: Path, packed: Path, tmp_path: Path, tiny: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = train(packed, tmp_path / "stream", tiny)
    train_stream = streamed(packed).stream
    assert train_stream is not None

    def order(seed: int, epoch: int, count: int, sampling: object = None) -> torch.Tensor:
        return torch.from_numpy(train_stream.order(seed, epoch))

    monkeypatch.setattr("sightline.data.loader.epoch_order", order)
    cache = train(photos, tmp_path / "cache", tiny)
    losses = [
        [r["loss"] for r in read_json_lines(run.path / "metrics.jsonl") if "loss" in r] for run in (stream, cache)
    ]
    assert losses[0] == losses[1] and len(losses[0]) > 10
    files = [run.path / "checkpoints" / "last" / "model.safetensors" for run in (stream, cache)]
    assert files[0].read_bytes() == files[1].read_bytes()
    tables = [(run.path / "predictions" / "val.csv").read_bytes() for run in (stream, cache)]
    assert tables[0] == tables[1]
    again = sightline.evaluate(stream.path, quiet=True)
    assert again["accuracy"] == stream.metrics["accuracy"] and again["loss"] == stream.metrics["loss"]


class Server:
    """HTTP server for a folder. failing: paths with response 503. asked: requested paths. hangs: delay in seconds."""

    def __init__(self, folder: Path):
        self.failing, self.asked, self.hangs = set(), [], 0.0
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                time.sleep(outer.hangs)
                if self.path in outer.failing:
                    self.send_error(503)
                else:
                    super().do_GET()

            def log_message(self, format: str, *values: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the client closed the connection
                    super().handle()

        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def served(packed: Path) -> Iterator[Server]:
    server = Server(packed)
    thread = threading.Thread(target=server.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.server.shutdown()
    thread.join()
    server.server.server_close()


def test_a_run_can_be_resumed_after_its_server_failed(packed: Path, served: Server, tmp_path: Path, tiny: dict) -> None:
    settings = {"train.checkpoint_minutes": 0}
    whole = train(packed, tmp_path / "whole", tiny, **settings)
    sequence = permutation(9, 0, 0, ORDER)
    served.failing = {f"/train-{number:06d}.tar" for number in sequence[GROUP:]}  # all but the first group
    with pytest.raises(SightlineError, match="cannot be downloaded") as caught:
        train(served.address, tmp_path / "run", tiny, **settings)
    assert caught.value.status == ENVIRONMENT and "sightline resume" in caught.value.cure and "503" in caught.value.why
    steps = [r["step"] for r in read_json_lines(tmp_path / "run" / "metrics.jsonl") if r["event"] == "train"]
    assert 0 < len(steps) < 7
    served.failing = set()
    resumed = sightline.resume(tmp_path / "run", quiet=True)
    files = [run.path / "checkpoints" / "last" / "model.safetensors" for run in (whole, resumed)]
    first, second = map(load_file, files)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed.metrics["accuracy"] == whole.metrics["accuracy"]


def test_remote_shards_equal_local_shards(
    packed: Path, served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.data.shards.stream.GROUP", 1)
    monkeypatch.setattr(fetch, "SPOOLED_SHARDS", 2)
    local = list(training_batches(streamed(packed), 10, 0, 0))
    far = streamed(served.address, cache_dir=str(tmp_path / "cache"))
    assert far.stream is not None
    store, most = far.stream.shards.store, 0
    for batch, other in zip(training_batches(far, 10, 0, 0), local, strict=True):
        assert same(batch, other)
        most = max(most, len(list(store.spool.iterdir())))
    assert 0 < most <= 2  # the current group and the next
    assert max(map(served.asked.count, served.asked)) == 1  # each file is requested once per epoch
    served.asked.clear()
    assert (far.images[np.arange(64)] == streamed(packed).images[np.arange(64)]).all()
    assert max(map(served.asked.count, served.asked)) == 1


@pytest.mark.parametrize(("optimizer", "cure"), [("lbfgs", "photos_scratch"), ("sgd", "--model.freeze false")])
def test_fixed_features_of_shards_on_a_server_are_an_error_with_a_cure(
    optimizer: str, cure: str, served: Server, tmp_path: Path, tiny: dict
) -> None:
    chosen = {"task": "classify", "train.epochs": 1, "model.freeze": True, "optim.name": optimizer}
    config = configured({key: value for key, value in tiny.items() if not key.startswith("augment.")} | chosen)
    with pytest.raises(SightlineError, match="features that are computed once") as caught:
        sightline.train(config, served.address, out=tmp_path / "run", quiet=True)
    assert "copy the shards" in caught.value.cure and cure in caught.value.cure and "on a server" in caught.value.why


def test_a_server_that_hangs_is_an_error_after_retries(served: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.05)
    served.hangs = 0.3
    with pytest.raises(SightlineError, match="cannot be downloaded") as caught:
        streamed(served.address)
    assert caught.value.status == ENVIRONMENT and len(served.asked) == 3
    with pytest.raises(SightlineError, match="cannot be downloaded"):
        streamed("http://127.0.0.1:9/nothing")


@pytest.mark.parametrize("harm", ["flipped", "truncated", "missing"])
def test_a_damaged_shard_is_an_error_with_its_path(packed: Path, tmp_path: Path, harm: str) -> None:
    folder = shutil.copytree(packed, tmp_path / "set")
    shard = folder / "train-000003.tar"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content) if harm == "flipped" else content[: len(content) // 2])
    if harm == "missing":
        shard.unlink()
    with pytest.raises(SightlineError) as caught:
        list(training_batches(streamed(folder), 10, 0, 0))
    assert str(shard) in caught.value.where
    reasons = {"flipped": "SHA-256", "truncated": "bytes", "missing": "No such file"}
    assert reasons[harm] in caught.value.why


def test_an_index_with_unsafe_paths_is_an_error(packed: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(packed, tmp_path / "set")
    index = json.loads((folder / "index.json").read_text())
    for name in ("../../etc/passwd.tar", "/etc/x.tar", "a/../../x.tar", 7):
        index["splits"]["train"]["shards"][0]["file"] = name
        (folder / "index.json").write_text(json.dumps(index))
        with pytest.raises(SightlineError, match="index is missing or damaged"):
            streamed(folder)
    (folder / "index.json").write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(SightlineError, match="format 99"):
        streamed(folder)


def shard_of(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as file:
        for key, members in samples:
            for ending, content in members.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def encoded_image(number: int, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 5 % 256, 40, 90)).save(file, format)
    return file.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_shards_of_other_programs_are_indexed_once_without_unpickling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    for part in range(3):
        rows = range(8 * part, 8 * part + 8)
        samples = [
            (
                f"../a/{n}",
                {"jpg": encoded_image(n, "JPEG"), "cls": str(n % 2).encode(), "pyd": bomb, "pth": bomb, "npy": b"x"},
            )
            for n in rows
        ]
        shard_of(tmp_path / "set" / f"train-{part:06d}.tar", samples)
    shard_of(
        tmp_path / "set" / "val-0.tar",
        [(f"v{n}", {"png": encoded_image(n), "json": b'{"label": %d}' % (n % 2)}) for n in range(4)],
    )
    data = Data(path=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    source = open_source(data, 0)
    assert source.classes == ("0", "1")
    assert len(source.splits["val"].names) == 4 and source.splits["val"].labels.tolist() == [0, 1, 0, 1]  # ty: ignore
    batches = list(training_batches(stream_images(source, "train", 8, data), 6, 0, 0))
    assert sorted(int(n) for batch in batches for n in batch.samples) == list(range(24))
    for batch in batches:
        for image, label, index in zip(batch.images, batch.labels, batch.samples, strict=True):  # ty: ignore
            assert abs(int(image[0, 0, 0]) - 5 * int(index)) < 6 and int(label) == int(index) % 2
    assert not Path("exploded").exists() and "once to list" in capsys.readouterr().err
    pattern = str(tmp_path / "set" / "train-{000000..000002}.tar")
    held = open_source(data.model_copy(update={"path": pattern}), 0)
    assert {len(held.splits["train"].names), len(held.splits["val"].names)} == {16, 8}
    one = str(shutil.copy(tmp_path / "set" / "val-0.tar", tmp_path / "set" / "some.tar"))
    assert set(open_source(data.replace(path=one), 0, hold_out=False).splits) == {"all"}
    assert open_source(data, 0).classes == ("0", "1") and capsys.readouterr().err.count("once to list") == 3


def test_invalid_shards_of_other_programs_are_errors(tmp_path: Path) -> None:
    def error_for(name: str, samples: list[tuple[str, dict[str, bytes]]], **settings: Any) -> SightlineError:
        shard_of(tmp_path / name / "train-0.tar", samples)
        shard_of(tmp_path / name / "val-0.tar", [("v", {"png": encoded_image(1), "cls": b"0"})])
        with pytest.raises(SightlineError) as caught:
            list(training_batches(streamed(tmp_path / name, 8, **settings), 2, 0, 0))
        return caught.value

    good = ("g", {"png": encoded_image(3), "cls": b"1"})
    assert "no image" in error_for("bare", [("k", {"txt": b"hello", "cls": b"1"}), good]).why
    assert "k" in error_for("unlabeled", [("k", {"png": encoded_image(3)}), good]).why
    broken = encoded_image(1)[:-30]
    error = error_for("broken", [good, ("half", {"png": broken, "cls": b"0"})])
    assert "train-0.tar, sample half" in error.where and "cannot be read" in error.what
    assert "2 classes" in str(
        error_for("classes", [("h", {"png": encoded_image(3), "cls": b"5"}), good], classes=("a", "b"))
    )
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train-0.tar").write_bytes(b"no tar file at all" * 100)
    with pytest.raises(SightlineError, match="damaged"):
        streamed(tmp_path / "text")
    with pytest.raises(SightlineError, match="do not exist"):
        streamed(tmp_path / "none-{0..2}.tar")


def test_only_folders_without_images_are_recognized_as_shards(tmp_path: Path, packed: Path) -> None:
    assert is_sharded(Data(path=str(packed))) and is_sharded(Data(path="https://host/set"))
    for split in ("train", "val"):
        (tmp_path / "split" / split).mkdir(parents=True)
        (tmp_path / "split" / split / "0.tar").touch()
        (tmp_path / "photos" / split / "cat").mkdir(parents=True)
    assert is_sharded(Data(path=str(tmp_path / "split")))
    (tmp_path / "photos" / "train" / "backup.tar").touch()
    (tmp_path / "photos" / "backup.tar").touch()
    assert not is_sharded(Data(path=str(tmp_path / "photos"))) and not is_sharded(Data(path=str(tmp_path)))


def test_shards_have_no_inner_split(packed: Path) -> None:
    with pytest.raises(SightlineError, match="data in shards have no inner split") as caught:
        open_source(Data(path=str(packed), inner_fraction=0.2), 0)
    assert "--data.inner_fraction" in caught.value.cure


def test_without_webdataset_the_error_has_the_install_command(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "webdataset.tariterators", None)
    with pytest.raises(SightlineError, match="in shards") as caught:
        streamed(packed)
    assert caught.value.cure == "pip install 'sightline-vision[stream]'"


def test_streamed_pairs_equal_cached_pairs(
    tmp_path: Path, make_scenes: Callable[..., Path], toy: Callable[..., Config]
) -> None:
    land = make_scenes(tmp_path / "land")
    image, mask = (Image.open(land / "train" / f"0000_{end}") for end in ("sat.jpg", "mask.png"))
    image.crop((0, 0, 20, 28)).save(land / "train" / "0001_sat.jpg")
    mask.crop((0, 0, 20, 28)).save(land / "train" / "0001_mask.png")
    out = sightline.pack(land, tmp_path / "out", shard_mb=0.01, quiet=True, **{"data.palette": "landcover"})
    given = Data(path=str(land), palette="landcover")
    cached = decode_pairs(*(open_pairs(given, 0)[0], "train", open_pairs(given, 0)[1], given))
    data = Data(path=str(out))
    source, palette = open_pairs(data, 0)
    stream = stream_pairs(source, "train", palette, data)
    assert stream.names == cached.names and (stream.sizes == cached.sizes).all()
    assert (stream.counts == cached.counts).all() and stream.images.shape == cached.images.shape
    for batch in training_batches(stream, 3, 0, 0):
        indices = batch.samples.numpy()
        assert batch.labels is not None and (batch.labels.numpy() == cached.masks[indices]).all()
        for row, index in zip(batch.images.numpy(), indices, strict=True):
            height, width = cached.sizes[index]
            assert (row[:, :height, :width] == cached.images[index][:, :height, :width]).all()
    run = sightline.train(toy(**{"train.epochs": 1, "augment.window": [16, 16]}), out, out=tmp_path / "run", quiet=True)
    assert run.metrics["mean_iou"] > 0 and len(list((run.path / "predictions" / "val").glob("*.png"))) == 4
    anchors = [find_anchors(some.masks, some.sizes, 6, 0) for some in (cached, stream)]
    assert torch.equal(anchors[0].points, anchors[1].points) and torch.equal(anchors[0].chances, anchors[1].chances)


def test_pre_training_on_shards_with_and_without_labels(
    packed: Path, photos: Path, tmp_path: Path, small: Callable[..., Config]
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((photos / "train").rglob("*.png"))):
        shutil.copy(path, flat / f"image{number}.png")
    bare = sightline.pack(flat, tmp_path / "bare", shard_mb=0.1, quiet=True)
    for name, data in (("labels", packed), ("none", bare)):
        run = sightline.train(small(**{"train.epochs": 1}), data, out=tmp_path / name, quiet=True)
        assert ("knn_accuracy" in run.metrics) == (name == "labels") and 0 < run.metrics["feature_std"] <= 1


@pytest.mark.parametrize("method", ["simsiam", "moco", "dino", "distill"])
def test_the_other_objectives_on_shards(
    method: str, packed: Path, tmp_path: Path, small: Callable[..., Config]
) -> None:
    settings = {"pretrain.method": method, "train.epochs": 1, "report.baselines": False}
    if method == "dino":
        settings |= {"pretrain.prototypes": 16}
    if method in ("simsiam", "distill"):  # without a target network
        settings |= {"pretrain.momentum": 0.996, "pretrain.momentum_batch": 4096}
    if method == "distill":
        teacher, file = "timm/test_efficientnet", tmp_path / "teacher.safetensors"
        save_file(build_backbone(teacher, 32)[0].state_dict(), file)
        settings |= {"pretrain.teacher": teacher, "pretrain.teacher_weights": str(file), "pretrain.teacher_size": 32}
    run = sightline.train(small(**settings), packed, out=tmp_path / "run", quiet=True)
    assert run.metrics["epoch"] == 1 and 0 < run.metrics["feature_std"] <= 1
