"""Weights go where they belong, the receipt says so, and hostile or broken files are refused."""

import importlib
import io
import json
import pickle
import socket
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sightline.errors import ENVIRONMENT, USER, SightlineError
from sightline.models import Classifier, build_model, downloads
from sightline.models.weights import Receipt, load_weights, match_names

ARGS = {"widths": [4, 8], "hidden": 6}


def small(classes: int = 3, seed: int = 0, args: dict | None = None) -> Classifier:
    torch.manual_seed(seed)
    return build_model("small_cnn", classes, 16, args or ARGS)


def state(model: Classifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def load(model: Classifier, path: Path, **more: list[str]) -> Receipt:
    return load_weights(model, str(path), "small_cnn", 16, **more)


def error_of(model: Classifier, path: Path) -> str:
    """The message of a refusal, after which the model must be as it was."""
    before = state(model)
    with pytest.raises(SightlineError) as caught:
        load(model, path)
    assert caught.value.status == USER and caught.value.cure
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize(
    "save", [torch.save, save_file, lambda t, p: torch.save(t, p, _use_new_zipfile_serialization=False)]
)
def test_every_format_gives_the_same_tensors(tmp_path: Path, save: Callable) -> None:
    """The format is told by the content: the name says nothing here."""
    source, model = small(seed=1), small(seed=2)
    save(state(source), tmp_path / "weights")
    receipt = load(model, tmp_path / "weights")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    total = len(source.state_dict())
    assert (receipt.matched, receipt.total, receipt.new, receipt.ignored, receipt.share) == (total, total, (), (), 1.0)
    assert str(receipt) == f"loaded {total} of {total} tensors (100.0 % of the parameters) from {tmp_path / 'weights'}"
    assert json.loads(json.dumps(receipt.as_dict()))["matched"] == total


def test_other_class_count_makes_a_new_head(tmp_path: Path) -> None:
    source, model = small(classes=7, seed=1), small(classes=3, seed=2)
    head = model.head.weight.clone()
    torch.save(state(source), tmp_path / "w.pt")
    receipt = load(model, tmp_path / "w.pt")
    assert receipt.new == receipt.ignored == ("head.weight", "head.bias")
    assert torch.equal(model.head.weight, head)
    parameters = sum(value.numel() for value in model.parameters())
    assert receipt.share == pytest.approx(1 - (6 * 3 + 3) / parameters)
    assert "; new: head.weight, head.bias; left out of the file: head.weight, head.bias" in str(receipt)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.backbone.", ""])
@pytest.mark.parametrize("container", [(), ("state_dict",), ("checkpoint", "model")])
def test_prefixes_and_containers(tmp_path: Path, prefix: str, container: tuple[str, ...]) -> None:
    """Names of a bare backbone under wrappers' prefixes; entries of a checkpoint are opened where they are known."""
    source, model = small(seed=1), small(seed=2)
    content: dict = {prefix + key: value for key, value in source.backbone.state_dict().items()}
    for entry in reversed(container):
        content = {"epoch": 3, entry: content}
    torch.save(content, tmp_path / "w.pt")
    if container == ("checkpoint", "model"):
        assert "'epoch', 'checkpoint'" in error_of(model, tmp_path / "w.pt")
        return
    receipt = load(model, tmp_path / "w.pt")
    assert receipt.new == ("head.weight", "head.bias") and not receipt.ignored
    assert all(
        torch.equal(value, source.state_dict()[key])
        for key, value in model.backbone.state_dict(prefix="backbone.").items()
    )
    notes = [f"taken from the file's entry {container[0]!r}"] if container else []
    off = {"module._orig_mod.": "_orig_mod., module.", "model.backbone.": "model."}.get(prefix, prefix)
    assert list(receipt.notes) == notes + ([f"prefixes removed from the names: {off}"] if off else [])


def test_compiled_backbone_inside_a_classifier(tmp_path: Path) -> None:
    source, model = small(seed=1), small(seed=2)
    torch.save(
        {key.replace("backbone.", "backbone._orig_mod."): value for key, value in state(source).items()}, tmp_path / "w"
    )
    assert load(model, tmp_path / "w").new == ()


def test_half_precision_is_cast_and_said(tmp_path: Path) -> None:
    source, model = small(seed=1), small(seed=2)
    halves = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state(source).items()}
    torch.save(halves, tmp_path / "w.pt")
    receipt = load(model, tmp_path / "w.pt")
    assert receipt.notes == ("cast from bfloat16",) and model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, source.head.weight.bfloat16().float())


def test_broadcastable_shapes_do_not_count_as_equal(tmp_path: Path) -> None:
    """(1, ...) would copy silently into (4, ...)."""
    tensors = state(small(seed=1))
    tensors["backbone.hidden.0.weight"] = tensors["backbone.hidden.0.weight"][:1]
    save_file({key: value.contiguous() for key, value in tensors.items()}, tmp_path / "w.safetensors")
    message = error_of(small(), tmp_path / "w.safetensors")
    assert "backbone.hidden.0.weight ([1, 128] in the file, [6, 128] in the model)" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite_tensors_are_named(tmp_path: Path, bad: float) -> None:
    tensors = state(small(seed=1))
    tensors["backbone.blocks.0.0.weight"][0, 0, 0, 0] = bad
    torch.save(tensors, tmp_path / "w.pt")
    assert "backbone.blocks.0.0.weight" in error_of(small(), tmp_path / "w.pt")


def test_nothing_matched_names_both_sides_and_the_likely_model(tmp_path: Path) -> None:
    with torch.device("meta"):
        other = build_model("resnet18", 2, 64)
    torch.save({f"layers.{i}": torch.ones(3) for i in range(8)}, tmp_path / "strange.pt")
    message = error_of(small(), tmp_path / "strange.pt")
    assert "nothing matched" in message and "layers.4 and 3 more" in message and "backbone.blocks.0.0.weight" in message
    save_file(
        {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in other.backbone.state_dict().items()},
        tmp_path / "r.safetensors",
    )
    assert "they look like resnet18" in error_of(small(), tmp_path / "r.safetensors")


def test_less_than_nine_tenths_of_the_backbone_is_refused(tmp_path: Path) -> None:
    tensors = state(small(seed=1))
    del tensors["backbone.hidden.0.weight"]
    torch.save(tensors, tmp_path / "w.pt")
    assert "% of its backbone matched" in error_of(small(), tmp_path / "w.pt")
    tensors = state(small(seed=1))
    del tensors["backbone.blocks.0.0.weight"]
    torch.save(tensors, tmp_path / "w.pt")
    assert load(small(), tmp_path / "w.pt").new == ("backbone.blocks.0.0.weight",)


class Executes:
    """Pickles to a call of a builtin function that leaves a trace on the disk."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_never_run(tmp_path: Path, form: str) -> None:
    path, trace = tmp_path / "w.pt", tmp_path / "trace"
    content = {"backbone": torch.ones(2), "payload": Executes(trace)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    message = error_of(small(), path)
    assert "refused" in message and not trace.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file of this test is harmless: it proves nothing"


def test_a_whole_pickled_model_is_explained(tmp_path: Path) -> None:
    torch.save(small().head, tmp_path / "w.pt")
    assert "torch.nn.modules.linear.Linear" in error_of(small(), tmp_path / "w.pt")


def rewritten(source: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[zipfile.ZipInfo, bytes]]) -> None:
    """Write the zip archive anew with every record passed through `change`."""
    with zipfile.ZipFile(source) as archive:
        records = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(source, "w") as archive:
        for entry, content in records:
            entry, content = change(entry, content)
            archive.writestr(entry, content, compress_type=entry.compress_type)


def test_zip_bombs_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(4_000_000)}, tmp_path / "bomb.pt")

    def compress(entry: zipfile.ZipInfo, content: bytes) -> tuple[zipfile.ZipInfo, bytes]:
        entry.compress_type = zipfile.ZIP_DEFLATED
        return entry, content

    rewritten(tmp_path / "bomb.pt", compress)
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("the bomb was opened"))
    assert "compressed" in error_of(small(), tmp_path / "bomb.pt")


def test_records_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Many entries of the table pointing at one record: each is plain, together they claim more than there is."""
    torch.save({"a": torch.zeros(1000)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt", "a") as archive:
        large = max(archive.infolist(), key=lambda entry: entry.file_size)
        for index in range(3):
            double = zipfile.ZipInfo(f"w/data/extra{index}")
            double.header_offset, double.CRC = large.header_offset, large.CRC
            double.file_size = double.compress_size = large.file_size
            archive.filelist.append(double)
        archive._didModify = True
    assert "claims to hold more" in error_of(small(), tmp_path / "w.pt")


def test_names_that_leave_the_archive_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt", "a") as archive:
        archive.writestr("../outside", b"")
    assert "leave the archive" in error_of(small(), tmp_path / "w.pt")


def test_giant_tensor_of_stride_zero_is_refused(tmp_path: Path) -> None:
    """Four bytes on the disk that claim a terabyte: nothing may copy it."""
    torch.save({"backbone.hidden.0.weight": torch.zeros(1).expand(500_000, 500_000)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 5000
    message = error_of(small(), tmp_path / "w.pt")
    assert "backbone.hidden.0.weight claims the shape [500000, 500000]" in message


def test_sparse_and_complex_tensors_are_refused(tmp_path: Path) -> None:
    for tensor in (torch.eye(3).to_sparse(), torch.zeros(3, dtype=torch.complex64)):
        torch.save({"a": tensor}, tmp_path / "w.pt")
        assert "not a plain dense tensor" in error_of(small(), tmp_path / "w.pt")


@pytest.mark.parametrize("save", [torch.save, save_file])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_files_are_said_to_end_early(tmp_path: Path, save: Callable, keep: float) -> None:
    save(state(small(seed=1)), tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: int(len(content) * keep)])
    message = error_of(small(), tmp_path / "w")
    assert "ends early" in message and f"{int(len(content) * keep):,}" in message
    assert save is torch.save or keep < 0.5 or f"of {len(content):,} bytes" in message


def test_legacy_file_that_ends_early(tmp_path: Path) -> None:
    torch.save(state(small(seed=1)), tmp_path / "w", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: len(content) // 2])
    assert "ends early" in error_of(small(), tmp_path / "w")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n <!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"Entry not found", "'Entry not found'"),
        (b"\x1f\x8b\x08\x00aaaaaaaaaaaa", "1f 8b 08"),
        (b"PK\x03\x04 and nothing of a zip archive", "ends early"),
        (struct.pack("<Q", 10) + b'{"a": 1}  ', "damaged"),
        (struct.pack("<Q", 1 << 40) + b"{", "ends early"),
    ],
)
def test_other_files_are_recognized(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    assert words in error_of(small(), tmp_path / "w.pt")


def test_other_zip_archives_and_contents(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    assert "'a.npy'" in error_of(small(), tmp_path / "w.npz")
    torch.save([torch.zeros(2)], tmp_path / "w.pt")
    assert "it holds list" in error_of(small(), tmp_path / "w.pt")
    assert "no file and no folder" in error_of(small(), tmp_path / "absent.pt")
    assert "checkpoints/best" in error_of(small(), tmp_path)


def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Whatever byte is wrong: a SightlineError or a load, never another exception."""
    buffer = io.BytesIO()
    torch.save({key: value.clone() for key, value in state(small(seed=1)).items()}, buffer)
    original = buffer.getvalue()
    for position in range(0, len(original), len(original) // 100):
        damaged = bytearray(original)
        damaged[position] ^= 0xFF
        (tmp_path / "w.pt").write_bytes(bytes(damaged))
        try:
            load(small(), tmp_path / "w.pt")
        except SightlineError:
            continue


def run_folder(tmp_path: Path, classes: list[str], seed: int = 1) -> Path:
    place = tmp_path / "run" / "checkpoints" / "best"
    place.mkdir(parents=True)
    save_file(state(small(len(classes), seed)), place / "model.safetensors")
    config = {"format": 1, "model": {"name": "small_cnn", "args": ARGS}, "classes": classes}
    (place / "config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def test_run_and_checkpoint_folders(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ["cat", "cow", "dog"])
    for folder in (run, run / "checkpoints" / "best"):
        receipt = load(small(seed=2), folder, classes=["cat", "cow", "dog"])
        assert receipt.source == str(run / "checkpoints" / "best") and receipt.new == () and receipt.notes == ()


def test_other_order_of_classes_makes_a_new_head(tmp_path: Path) -> None:
    """The shape fits and the meaning does not."""
    run = run_folder(tmp_path, ["cat", "cow", "dog"])
    model = small(seed=2)
    head = model.head.weight.clone()
    receipt = load(model, run, classes=["cow", "cat", "dog"])
    assert receipt.new == ("head.weight", "head.bias") and torch.equal(model.head.weight, head)
    assert any("another order" in note for note in receipt.notes)


def test_the_file_of_a_checkpoint_knows_its_classes(tmp_path: Path) -> None:
    """Equal counts and other names: the head is new, however the weights are named."""
    place = run_folder(tmp_path, ["cat", "cow", "dog"]) / "checkpoints" / "best"
    for path in (place, place / "model.safetensors"):
        model = small(seed=2)
        head = model.head.weight.clone()
        receipt = load(model, path, classes=["car", "bus", "van"])
        assert receipt.new == ("head.weight", "head.bias") and torch.equal(model.head.weight, head)
        assert any("other classes" in note for note in receipt.notes)
        assert load(small(seed=2), path, classes=["cat", "cow", "dog"]).new == ()


def test_a_head_without_names_is_taken_and_said(tmp_path: Path) -> None:
    torch.save(state(small(seed=1)), tmp_path / "w.pt")
    receipt = load(small(seed=2), tmp_path / "w.pt", classes=["car", "bus", "van"])
    said = str(receipt)
    assert receipt.new == () and "has no class names" in said and "--model.fresh_head true" in said
    torch.save(state(small(classes=7, seed=1)), tmp_path / "seven.pt")
    receipt = load(small(seed=2), tmp_path / "seven.pt", classes=["car", "bus", "van"])
    assert receipt.new == ("head.weight", "head.bias") and "does not name" not in str(receipt)
    classes = ["car", "bus", "van"]
    asked = load_weights(small(seed=2), str(tmp_path / "w.pt"), "small_cnn", 16, classes, fresh_head=True)
    assert asked.new == ("head.weight", "head.bias") and "does not name" not in str(asked)


def test_the_head_of_imagenet_is_for_its_own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's transformers call their last layer `head`, and a thousand classes of one's own would fit it."""
    weights = importlib.import_module("sightline.models.weights")
    source = small(classes=1000, seed=1)
    save_file(state(source), tmp_path / "w.safetensors")
    monkeypatch.setattr(weights, "imagenet_file", lambda name: (tmp_path / "w.safetensors", "timm x"))
    ids = [f"n{number:08d}" for number in range(1000)]
    for classes, kept in ((ids, True), (ids[::-1], False), ([f"bird {n:04d}" for n in range(1000)], False)):
        model = small(classes=1000, seed=2)
        receipt = load_weights(model, "imagenet", "small_cnn", 16, classes)
        assert torch.equal(model.head.weight, source.head.weight) == kept == (receipt.new == ())
        assert ("other classes" in str(receipt)) == (not kept) and "does not name" not in str(receipt)


def test_unreadable_config_is_said(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ["a", "b", "c"])
    (run / "checkpoints" / "best" / "config.json").write_text("{")
    assert "config.json" in str(load(small(seed=2), run))


@pytest.mark.parametrize("name", ["resnet18", "torchvision/mobilenet_v3_small", "timm/resnet18"])
def test_bare_library_weights_load_into_the_wrapper(tmp_path: Path, name: str) -> None:
    """State dictionaries as torchvision and timm publish them, whose own classifiers have other names."""
    import timm
    from torchvision import models

    torch.manual_seed(1)
    library, _, inner = name.rpartition("/")
    source = timm.create_model(inner) if library == "timm" else models.get_model(inner, weights=None)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = build_model(name, 4, 64)
    receipt = load_weights(model, str(tmp_path / "w.pth"), name, 64)
    small_stem = ("backbone.conv1.weight",) if name == "resnet18" else ()
    assert receipt.new == (*small_stem, "head.weight", "head.bias")
    own = model.backbone.state_dict()
    same = [key for key, value in source.state_dict().items() if key in own and own[key].shape == value.shape]
    assert len(same) == receipt.matched and all(torch.equal(own[key], source.state_dict()[key]) for key in same)


def test_whole_networks_take_all_weights_with_their_classifier() -> None:
    from torchvision import models

    with torch.device("meta"):
        published = models.alexnet(weights=None).state_dict()
        wanted = build_model("alexnet", 4, 64).state_dict()
    match = match_names(published, wanted)
    assert set(wanted) - set(match.tensors) == {"head.weight", "head.bias"} and match.used == set(published)


def test_timm_position_tables_follow_the_image_size(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    source = timm.create_model("vit_tiny_patch16_224")
    torch.save({f"module.{key}": value for key, value in source.state_dict().items()}, tmp_path / "w.pth")
    model = build_model("timm/vit_tiny_patch16_224", 4, 64)
    before = model.backbone.get_parameter("pos_embed").clone()
    receipt = load_weights(model, str(tmp_path / "w.pth"), "timm/vit_tiny_patch16_224", 64)
    assert receipt.new == ("head.weight", "head.bias") and receipt.ignored == ("module.head.weight", "module.head.bias")
    assert any("converted by timm" in note for note in receipt.notes)
    assert not torch.equal(model.backbone.get_parameter("pos_embed"), before)
    assert torch.equal(model.backbone.get_parameter("norm.weight"), source.norm.weight)


def test_imagenet_comes_out_of_the_cache_of_torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: pytest.fail("the network was asked"))
    weights = models.ResNet18_Weights.DEFAULT
    path = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    source = models.resnet18(weights=None)
    torch.save(source.state_dict(), path)
    model = build_model("resnet18", 4, 224)
    receipt = load_weights(model, "imagenet", "resnet18", 224)
    assert receipt.source == f"torchvision {weights}" and receipt.new == ("head.weight", "head.bias")
    assert torch.equal(model.backbone.get_parameter("conv1.weight"), source.conv1.weight)


def test_imagenet_comes_out_of_the_cache_of_the_hugging_face_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import timm

    source = timm.create_model("resnet18")
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, str]] = []

    def cached(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    model = build_model("timm/resnet18.a1_in1k", 4, 64)
    receipt = load_weights(model, "imagenet", "timm/resnet18.a1_in1k", 64)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")] and receipt.source == "timm resnet18.a1_in1k"
    assert torch.equal(model.backbone.get_parameter("conv1.weight"), source.conv1.weight)


@pytest.mark.parametrize("name", ["resnet18", "beit_base"])
@pytest.mark.parametrize("how", ["refused", "silent"])
def test_offline_is_said_within_seconds(name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection and one that never answers, such as a name server that is away."""

    def connect(*args: object, **kwargs: object) -> None:
        if how == "silent":
            time.sleep(10)
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(downloads, "SECONDS", 0.2)
    importlib.import_module("timm")  # takes seconds of its own
    start = time.monotonic()
    with pytest.raises(SightlineError) as caught:
        downloads.imagenet_file(name)
    assert time.monotonic() - start < 5
    assert caught.value.status == ENVIRONMENT and "--model.weights FILE" in caught.value.cure
    assert caught.value.where.startswith("https://")


def test_timm_models_without_weights_are_said() -> None:
    with pytest.raises(SightlineError, match="no ImageNet weights for timm/resnet33ts_none") as caught:
        downloads.timm_file("resnet33ts_none")
    assert caught.value.why == "timm has none" and caught.value.cure == "choose another model"


def test_own_networks_have_no_imagenet_weights() -> None:
    with pytest.raises(SightlineError, match="no ImageNet weights for small_cnn") as caught:
        load_weights(small(), "imagenet", "small_cnn", 16)
    assert "resnet50" in caught.value.cure and "beit_base" in caught.value.cure
