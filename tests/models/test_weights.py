"""Loading weights into classifiers: matching, the load report, other classes, downloads, unsafe and damaged files."""

import importlib
import io
import json
import pickle
import re
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
from sightline.models import Classifier, build_model
from sightline.models.pretrained import downloads
from sightline.models.pretrained.published import Published, published
from sightline.models.weights import LoadReport, load_weights, match_names

ARGS = {"widths": [4, 8], "hidden": 6}


def small(classes: int = 3, seed: int = 0, args: dict | None = None) -> Classifier:
    torch.manual_seed(seed)
    return build_model("small_cnn", classes, 16, args or ARGS)


def state(model: Classifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def load(model: Classifier, path: Path, **more: list[str]) -> LoadReport:
    return load_weights(model, str(path), "small_cnn", 16, **more)


def error_of(model: Classifier, path: Path) -> str:
    """The message of the error of `load`, which must not change the model."""
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
    """The format is detected from the contents: the file name has no extension."""
    source, model = small(seed=1), small(seed=2)
    save(state(source), tmp_path / "weights")
    report = load(model, tmp_path / "weights")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model.state_dict().items())
    total = len(source.state_dict())
    assert (report.matched, report.total, report.new, report.ignored, report.share) == (total, total, (), (), 1.0)
    assert str(report) == f"loaded {total} of {total} tensors (100.0 % of the parameters) from {tmp_path / 'weights'}"
    assert json.loads(json.dumps(report.as_dict()))["matched"] == total


def test_other_class_count_makes_a_new_head(tmp_path: Path) -> None:
    source, model = small(classes=7, seed=1), small(classes=3, seed=2)
    head = model.head.weight.clone()
    torch.save(state(source), tmp_path / "w.pt")
    report = load(model, tmp_path / "w.pt")
    assert report.new == report.ignored == ("head.weight", "head.bias")
    assert torch.equal(model.head.weight, head)
    parameters = sum(value.numel() for value in model.parameters())
    assert report.share == pytest.approx(1 - (6 * 3 + 3) / parameters)
    assert str(report).endswith("; the head is new; the classifier of the file is not used, as expected")


def test_only_other_tensors_than_the_classifier_are_called_unused() -> None:
    report = LoadReport(1, 1, (), ("module.classifier.bias", "conv_head.weight"), "w.pt")
    said = "the classifier of the file is not used, as expected; unused tensors of the file: conv_head.weight"
    assert said in str(report)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.backbone.", ""])
@pytest.mark.parametrize("container", [(), ("state_dict",), ("checkpoint", "model")])
def test_prefixes_and_containers(tmp_path: Path, prefix: str, container: tuple[str, ...]) -> None:
    """Names of a backbone with prefixes of wrappers, at the top level and in entries of a checkpoint."""
    source, model = small(seed=1), small(seed=2)
    content: dict = {prefix + key: value for key, value in source.backbone.state_dict().items()}
    for entry in reversed(container):
        content = {"epoch": 3, entry: content}
    torch.save(content, tmp_path / "w.pt")
    if container == ("checkpoint", "model"):
        assert "'epoch', 'checkpoint'" in error_of(model, tmp_path / "w.pt")
        return
    report = load(model, tmp_path / "w.pt")
    assert report.new == ("head.weight", "head.bias") and not report.ignored
    assert all(
        torch.equal(value, source.state_dict()[key])
        for key, value in model.backbone.state_dict(prefix="backbone.").items()
    )
    notes = [f"read from the file's entry {container[0]!r}"] if container else []
    removed = {"module._orig_mod.": "_orig_mod., module.", "model.backbone.": "model."}.get(prefix, prefix)
    assert list(report.notes) == notes + ([f"prefixes removed from tensor names: {removed}"] if removed else [])


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
    report = load(model, tmp_path / "w.pt")
    assert report.notes == ("cast from bfloat16",) and model.head.weight.dtype == torch.float32
    assert torch.equal(model.head.weight, source.head.weight.bfloat16().float())


def test_broadcastable_shapes_do_not_count_as_equal(tmp_path: Path) -> None:
    """copy_ would broadcast a tensor (1, ...) to (4, ...)."""
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


def test_weights_of_another_model_are_an_error_with_names_of_both_and_the_likely_model(tmp_path: Path) -> None:
    with torch.device("meta"):
        other = build_model("resnet18", 2, 64)
    torch.save({f"layers.{i}": torch.ones(3) for i in range(8)}, tmp_path / "strange.pt")
    message = error_of(small(), tmp_path / "strange.pt")
    assert (
        "nothing of its backbone matched" in message
        and "layers.4 and 3 more" in message
        and "backbone.blocks.0.0.weight" in message
    )
    save_file(
        {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in other.backbone.state_dict().items()},
        tmp_path / "r.safetensors",
    )
    assert "--model.name resnet18" in error_of(small(), tmp_path / "r.safetensors")


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
    """Unpickling an instance creates the file `trace`."""

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
    assert "run code" in message and not trace.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert trace.exists(), "the file of this test must contain code"


def test_a_pickled_module_is_an_error_with_its_class(tmp_path: Path) -> None:
    torch.save(small().head, tmp_path / "w.pt")
    assert "torch.nn.modules.linear.Linear" in error_of(small(), tmp_path / "w.pt")


def rewritten(source: Path, change: Callable[[zipfile.ZipInfo, bytes], tuple[zipfile.ZipInfo, bytes]]) -> None:
    """Rewrite a zip archive with each record replaced by the result of `change`."""
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
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("the compressed file was loaded"))
    assert "compressed" in error_of(small(), tmp_path / "bomb.pt")


def test_records_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Several entries of the zip directory with the data of one record: together they are larger than the file."""
    torch.save({"a": torch.zeros(1000)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt", "a") as archive:
        large = max(archive.infolist(), key=lambda entry: entry.file_size)
        for index in range(3):
            double = zipfile.ZipInfo(f"w/data/extra{index}")
            double.header_offset, double.CRC = large.header_offset, large.CRC
            double.file_size = double.compress_size = large.file_size
            archive.filelist.append(double)
        archive._didModify = True
    assert "add up to more than" in error_of(small(), tmp_path / "w.pt")


def test_names_that_leave_the_archive_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt", "a") as archive:
        archive.writestr("../outside", b"")
    assert "outside the archive" in error_of(small(), tmp_path / "w.pt")


def test_giant_tensor_of_stride_zero_is_refused(tmp_path: Path) -> None:
    """Four bytes in the file with the shape of a terabyte, which must not be copied."""
    torch.save({"backbone.hidden.0.weight": torch.zeros(1).expand(500_000, 500_000)}, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").stat().st_size < 5000
    message = error_of(small(), tmp_path / "w.pt")
    assert "backbone.hidden.0.weight has the shape [500000, 500000]" in message


def test_sparse_and_complex_tensors_are_refused(tmp_path: Path) -> None:
    for tensor in (torch.eye(3).to_sparse(), torch.zeros(3, dtype=torch.complex64)):
        torch.save({"a": tensor}, tmp_path / "w.pt")
        assert "not a dense tensor" in error_of(small(), tmp_path / "w.pt")


@pytest.mark.parametrize("save", [torch.save, save_file])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_truncated_files_are_an_error_with_their_size(tmp_path: Path, save: Callable, keep: float) -> None:
    save(state(small(seed=1)), tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: int(len(content) * keep)])
    message = error_of(small(), tmp_path / "w")
    assert "truncated" in message and f"{int(len(content) * keep):,}" in message
    assert save is torch.save or keep < 0.5 or f"of {len(content):,} bytes" in message


def test_truncated_legacy_file(tmp_path: Path) -> None:
    torch.save(state(small(seed=1)), tmp_path / "w", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: len(content) // 2])
    assert "truncated" in error_of(small(), tmp_path / "w")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n <!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"Entry not found", "'Entry not found'"),
        (b"\x1f\x8b\x08\x00aaaaaaaaaaaa", "1f 8b 08"),
        (b"PK\x03\x04 and nothing of a zip archive", "truncated"),
        (struct.pack("<Q", 10) + b'{"a": 1}  ', "damaged"),
        (struct.pack("<Q", 1 << 40) + b"{", "truncated"),
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
    assert "it contains list" in error_of(small(), tmp_path / "w.pt")
    assert "no file or folder" in error_of(small(), tmp_path / "absent.pt")
    assert "checkpoints/best" in error_of(small(), tmp_path)


def test_damage_anywhere_is_an_error_or_harmless(tmp_path: Path) -> None:
    """A changed byte results in a SightlineError or a load, never in another exception."""
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
    best = tmp_path / "run" / "checkpoints" / "best"
    best.mkdir(parents=True)
    save_file(state(small(len(classes), seed)), best / "model.safetensors")
    config = {"format": 1, "model": {"name": "small_cnn", "args": ARGS}, "classes": classes}
    (best / "config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def test_run_and_checkpoint_folders(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ["cat", "cow", "dog"])
    for folder in (run, run / "checkpoints" / "best"):
        report = load(small(seed=2), folder, classes=["cat", "cow", "dog"])
        assert report.source == str(run / "checkpoints" / "best") and report.new == () and report.notes == ()


def test_other_order_of_classes_makes_a_new_head(tmp_path: Path) -> None:
    """The shape of the head matches, but its outputs are of other classes."""
    run = run_folder(tmp_path, ["cat", "cow", "dog"])
    model = small(seed=2)
    head = model.head.weight.clone()
    report = load(model, run, classes=["cow", "cat", "dog"])
    assert report.new == ("head.weight", "head.bias") and torch.equal(model.head.weight, head)
    assert any("or their order differ" in note for note in report.notes)


def test_other_class_names_make_a_new_head(tmp_path: Path) -> None:
    """With the same number of classes, for the path of a checkpoint folder and of its weight file."""
    best = run_folder(tmp_path, ["cat", "cow", "dog"]) / "checkpoints" / "best"
    for path in (best, best / "model.safetensors"):
        model = small(seed=2)
        head = model.head.weight.clone()
        report = load(model, path, classes=["car", "bus", "van"])
        assert report.new == ("head.weight", "head.bias") and torch.equal(model.head.weight, head)
        assert any("class names or their order differ" in note for note in report.notes)
        assert load(small(seed=2), path, classes=["cat", "cow", "dog"]).new == ()


def test_a_head_without_class_names_is_loaded_with_a_note(tmp_path: Path) -> None:
    torch.save(state(small(seed=1)), tmp_path / "w.pt")
    report = load(small(seed=2), tmp_path / "w.pt", classes=["car", "bus", "van"])
    said = str(report)
    assert report.new == () and "has no class names" in said and "--model.fresh_head true" in said
    torch.save(state(small(classes=7, seed=1)), tmp_path / "seven.pt")
    report = load(small(seed=2), tmp_path / "seven.pt", classes=["car", "bus", "van"])
    assert report.new == ("head.weight", "head.bias") and "has no class names" not in str(report)
    classes = ["car", "bus", "van"]
    asked = load_weights(small(seed=2), str(tmp_path / "w.pt"), "small_cnn", 16, classes, fresh_head=True)
    assert asked.new == ("head.weight", "head.bias") and "has no class names" not in str(asked)


def test_the_head_of_imagenet_is_loaded_for_the_imagenet_classes_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm's transformers have a last layer `head`, whose shape matches that of any 1,000 classes."""
    weights = importlib.import_module("sightline.models.weights")
    source = small(classes=1000, seed=1)
    save_file(state(source), tmp_path / "w.safetensors")
    monkeypatch.setattr(weights, "published", lambda name: Published("timm x", "timm/x", "ImageNet-1k"))
    monkeypatch.setattr(weights, "library_file", lambda *args, **kwargs: tmp_path / "w.safetensors")
    ids = [f"n{number:08d}" for number in range(1000)]
    for classes, kept in ((ids, True), (ids[::-1], False), ([f"bird {n:04d}" for n in range(1000)], False)):
        model = small(classes=1000, seed=2)
        report = load_weights(model, "imagenet", "small_cnn", 16, classes)
        assert torch.equal(model.head.weight, source.head.weight) == kept == (report.new == ())
        assert ("new random weights" in str(report)) == (not kept) and "has no class names" not in str(report)


def test_unreadable_config_is_a_note(tmp_path: Path) -> None:
    run = run_folder(tmp_path, ["a", "b", "c"])
    (run / "checkpoints" / "best" / "config.json").write_text("{")
    assert "config.json" in str(load(small(seed=2), run))


@pytest.mark.parametrize("name", ["resnet18", "torchvision/mobilenet_v3_small", "timm/resnet18"])
def test_bare_library_weights_load_into_the_wrapper(tmp_path: Path, name: str) -> None:
    """State dictionaries of torchvision and timm, whose classifiers have other names than `head`."""
    import timm
    from torchvision import models

    torch.manual_seed(1)
    library, _, inner = name.rpartition("/")
    source = timm.create_model(inner) if library == "timm" else models.get_model(inner, weights=None)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = build_model(name, 4, 64)
    report = load_weights(model, str(tmp_path / "w.pth"), name, 64)
    small_stem = ("backbone.conv1.weight",) if name == "resnet18" else ()
    assert report.new == (*small_stem, "head.weight", "head.bias")
    own = model.backbone.state_dict()
    same = [key for key, value in source.state_dict().items() if key in own and own[key].shape == value.shape]
    assert len(same) == report.matched and all(torch.equal(own[key], source.state_dict()[key]) for key in same)


def test_alexnet_loads_all_published_weights() -> None:
    from torchvision import models

    with torch.device("meta"):
        published = models.alexnet(weights=None).state_dict()
        wanted = build_model("alexnet", 4, 64).state_dict()
    match = match_names(published, wanted)
    assert set(wanted) - set(match.tensors) == {"head.weight", "head.bias"} and match.used == set(published)


def test_timm_position_embeddings_are_resized_to_the_image_size(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    source = timm.create_model("vit_tiny_patch16_224")
    torch.save({f"module.{key}": value for key, value in source.state_dict().items()}, tmp_path / "w.pth")
    model = build_model("timm/vit_tiny_patch16_224", 4, 64)
    before = model.backbone.get_parameter("pos_embed").clone()
    report = load_weights(model, str(tmp_path / "w.pth"), "timm/vit_tiny_patch16_224", 64)
    assert report.new == ("head.weight", "head.bias") and report.ignored == ("module.head.weight", "module.head.bias")
    assert any("converted by timm" in note for note in report.notes)
    assert not torch.equal(model.backbone.get_parameter("pos_embed"), before)
    assert torch.equal(model.backbone.get_parameter("norm.weight"), source.norm.weight)


def test_imagenet_weights_are_read_from_the_cache_of_torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: pytest.fail("a connection was opened"))
    weights = models.ResNet18_Weights.DEFAULT
    path = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    source = models.resnet18(weights=None)
    torch.save(source.state_dict(), path)
    model = build_model("resnet18", 4, 224)
    report = load_weights(model, "imagenet", "resnet18", 224)
    assert report.source == f"torchvision {weights}" and report.new == ("head.weight", "head.bias")
    assert torch.equal(model.backbone.get_parameter("conv1.weight"), source.conv1.weight)


def test_imagenet_weights_are_read_from_the_cache_of_the_hugging_face_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import timm

    source = timm.create_model("resnet18")
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    asked: list[tuple[str, str]] = []

    def cached(repository: str, name: str, revision: str) -> str:
        asked.append((repository, name))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    model = build_model("timm/resnet18.a1_in1k", 4, 64)
    report = load_weights(model, "imagenet", "timm/resnet18.a1_in1k", 64)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")] and report.source == "timm resnet18.a1_in1k"
    assert torch.equal(model.backbone.get_parameter("conv1.weight"), source.conv1.weight)


@pytest.mark.parametrize("name", ["resnet18", "beit_base"])
@pytest.mark.parametrize("how", ["refused", "silent"])
def test_offline_is_an_error_within_seconds(
    name: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a refused connection, and for one without an answer, such as of an unreachable name server."""

    def connect(*args: object, **kwargs: object) -> None:
        if how == "silent":
            time.sleep(10)
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(downloads, "CONNECT_TIMEOUT", 0.2)
    importlib.import_module("timm")  # imported before the time is measured
    start = time.monotonic()
    with pytest.raises(SightlineError) as caught:
        downloads.library_file(published(name))
    assert time.monotonic() - start < 5
    assert caught.value.status == ENVIRONMENT and re.search(r"set --model.weights \S+;", caught.value.cure)
    assert caught.value.where.startswith("https://")


def test_timm_models_without_weights_are_an_error() -> None:
    with pytest.raises(SightlineError, match="no pre-trained weights for timm/coatnet_0_224") as caught:
        published("timm/coatnet_0_224")
    assert caught.value.why.startswith("timm has no weights") and "choose another model" in caught.value.cure


def test_sightlines_models_have_no_imagenet_weights() -> None:
    with pytest.raises(SightlineError, match="no pre-trained weights for small_cnn") as caught:
        load_weights(small(), "imagenet", "small_cnn", 16)
    assert "resnet50" in caught.value.cure and "beit_base" in caught.value.cure
