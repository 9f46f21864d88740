"""Downloads by the real client of the Hugging Face hub, from a server of the test's own."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from hub_toys import Hub, hub_of, json_bytes
from sightline import Config
from sightline.__main__ import run
from sightline.config.schema import Augment, Model
from sightline.errors import ENVIRONMENT, USER, SightlineError
from sightline.models import build_model
from sightline.models.encoder_weights import load_encoder
from sightline.models.formats import tensors_digest
from sightline.models.pretrained import downloads
from sightline.models.pretrained.preprocessing import with_own_preprocessing
from sightline.models.segmenters import build_segmenter
from sightline.models.weights import LoadReport, load_weights

NAME = "timm/mobilenetv3_small_050.lamb_in1k"
FILE = f"{NAME}/model.safetensors"
DINO = "timm/vit_small_patch14_dinov2.lvd142m"


@pytest.fixture(scope="module")
def content() -> bytes:
    """A file of random weights with the names and shapes of the published ones."""
    import timm

    torch.manual_seed(5)
    return save(timm.create_model(NAME.removeprefix("timm/")).state_dict())


@pytest.fixture
def hub(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server with one repository, which the client uses with an empty cache."""
    with hub_of({FILE: content}) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 20_000)  # a cut connection loses less than this
        monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.setenv("TQDM_POSITION", "-1")  # a progress bar without a terminal
        yield hub


def load(said: list[str] | None = None, weights: str = "pretrained", name: str = NAME) -> LoadReport:
    torch.manual_seed(0)
    say = said.append if said is not None else lambda text: None
    return load_weights(build_model(name, 3, 32), weights, name, 32, say=say)


def load_error(status: int = ENVIRONMENT) -> SightlineError:
    with pytest.raises(SightlineError) as caught:
        load()
    assert caught.value.status == status and caught.value.where and caught.value.why and caught.value.cure
    return caught.value


def cached_file() -> Path:
    """The only file of weights in the cache."""
    (found,) = Path(constants.HF_HUB_CACHE).glob("*/snapshots/*/model.safetensors")
    return found


def test_the_first_download_and_the_cache(
    hub: Hub, content: bytes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data, license, size and source are said before the download; afterwards no server is needed."""
    said: list[str] = []
    first = load(said)
    megabytes = f"{len(content) / 1e6:.1f} MB"
    assert said == [
        "weights: timm mobilenetv3_small_050.lamb_in1k; trained on: ImageNet-1k; license: apache-2.0; downloading "
        f"{megabytes} from {hub.url}/{NAME}"
    ]
    assert "model.safetensors: 100%" in capfd.readouterr().err
    assert hub.requests == [f"HEAD {FILE}", f"HEAD {FILE}", f"GET {FILE}"]
    assert first.sha256 == hashlib.sha256(content).hexdigest() and first.as_dict()["sha256"] == first.sha256
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.status = 500
    assert load(said) == first == load(weights="imagenet") and len(hub.requests) == 3
    assert said[1].endswith(f"; in the cache: {cached_file()}")


def test_a_cut_connection_is_resumed(hub: Hub, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    hub.cut = 100_000
    assert load().sha256 == hashlib.sha256(content).hexdigest()
    gets = [request for request in hub.requests if request.startswith("GET")]
    assert gets == [f"GET {FILE}", f"GET {FILE} bytes=100000-"]
    assert "Trying to resume download" in caplog.text


def test_a_server_that_stalls_ends_in_an_error(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's timeout, 10 seconds by default, and six attempts."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    hub.stall = 0.6
    error = load_error()
    assert (
        "did not send data in time" in error.why
        and "hf download" in error.cure
        and caplog.text.count("Trying to resume") == 5
    )


@pytest.mark.parametrize(("status", "code"), [(401, "GatedRepo"), (403, "GatedRepo"), (401, "RepoNotFound")])
def test_a_gated_repository(hub: Hub, status: int, code: str) -> None:
    hub.status, hub.code = status, code
    error = load_error()
    assert str(status) in error.why and f"accept the license at {hub.url}/{NAME}" in error.cure
    assert "`hf auth login`" in error.cure


def test_a_repository_that_does_not_exist(hub: Hub) -> None:
    hub.files.clear()
    assert load_error().why == "the server has no such repository"


def test_a_repository_with_only_pickles_is_refused(hub: Hub) -> None:
    hub.files[f"{NAME}/pytorch_model.bin"] = hub.files.pop(FILE)
    error = load_error(USER)
    assert error.what == "the repository has no model.safetensors" and "pickles" in error.why
    assert not any("GET" in request for request in hub.requests)


def test_a_truncated_file(hub: Hub) -> None:
    hub.missing = 1000
    assert load_error().why.startswith("the file is truncated: Consistency check failed")


def test_a_wrong_digest(hub: Hub, content: bytes) -> None:
    """Also of a file that was damaged in the cache; the cure downloads it again."""
    hub.digest = "ab" * 32
    error = load_error()
    assert "abababababab" in error.why and error.cure.startswith("delete the file")
    os.remove(error.cure.rpartition("rm ")[2])
    hub.digest = ""
    assert load().matched
    blob = cached_file().resolve()
    blob.write_bytes(content[:-1] + b"\0")
    assert load_error().what == "the downloaded weights are damaged"


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(url: str, file: object, **rest: object) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", write)
    error = load_error()
    assert error.what.startswith("the disk is full") and error.where == constants.HF_HUB_CACHE
    assert "HF_HOME" in error.cure


def test_offline_without_a_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in load_error().why and not hub.requests


def test_a_copied_cache_and_a_copied_file_give_the_same_weights(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How weights are brought to a machine without a network (docs/weights.md)."""
    first = load()
    Path(constants.HF_HUB_CACHE).rename(tmp_path / "elsewhere")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(downloads, "require_network", lambda url: pytest.fail("a connection was tried"))
    assert load() == first and load(weights=str(cached_file())).sha256 == first.sha256


def test_smp_encoders_and_their_preprocessing(hub: Hub, tmp_path: Path) -> None:
    """Of its own encoders, smp has mean and deviation on the hub only."""
    model = build_segmenter("smp/unet/mobilenet_v2", 2)
    repository = "smp-hub/mobilenet_v2.imagenet"
    hub.files[f"{repository}/model.safetensors"] = save(model.encoder.state_dict())
    hub.files[f"{repository}/config.json"] = json_bytes({"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]})
    assert load_encoder(model, "pretrained").sha256
    chosen = Model(name="smp/unet/mobilenet_v2", weights="pretrained")
    config, _ = with_own_preprocessing(Config(model=chosen, augment=Augment(normalize="pretrained")))
    assert config.augment.mean == (0.1, 0.2, 0.3)


def test_imagenet_is_a_word_for_imagenet_only(hub: Hub) -> None:
    with pytest.raises(SightlineError, match=r"lvd142m are not of ImageNet") as caught:
        load_weights(build_model(NAME, 3, 32), "imagenet", DINO)
    assert caught.value.cure == "use them: --model.weights pretrained" and "LVD-142M" in caught.value.why
    assert caught.value.status == USER and not hub.requests


def test_nothing_is_downloaded_unless_weights_are_asked_for(hub: Hub) -> None:
    build_model(NAME, 3, 32)
    with_own_preprocessing(Config(model=Model(name=NAME), augment=Augment(normalize="pretrained")))
    assert not hub.requests


def test_the_digest_of_tensors() -> None:
    one = {"b": torch.ones(2, 3), "a": torch.zeros(2, dtype=torch.int64)}
    same = {"a": one["a"].clone(), "b": one["b"].t().contiguous().t()}
    assert tensors_digest(one) == tensors_digest(same) and len(tensors_digest(one)) == 64
    for other in (one | {"b": torch.ones(3, 2)}, one | {"b": torch.full((2, 3), 1.5)}, {"c": one["b"], "a": one["a"]}):
        assert tensors_digest(other) != tensors_digest(one)


@pytest.mark.usefixtures("no_reports")
def test_training_from_the_hub(hub: Hub, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command: exit statuses, the log, recipe.yaml with numbers, and provenance.json with the digest."""
    out = tmp_path / "run"
    command = ["train", "photos_finetune", "--data", str(photos), "--out", str(out), "--train.device", "cpu"]
    command += ["--model.name", NAME, "--model.weights", "pretrained", "--data.size", "32", "--augment.resize", "0"]
    command += ["--augment.crop", "none", "--augment.normalize", "pretrained", "--data.filter", "pretrained"]
    command += ["--train.epochs", "1", "--train.precision", "fp32"]
    hub.status, hub.code = 403, "GatedRepo"
    assert run(command) == ENVIRONMENT and "hf auth login" in capsys.readouterr().err and not out.exists()
    hub.status = 200
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert (
        "license: apache-2.0" in shown and "preprocessing of timm mobilenetv3_small_050.lamb_in1k: data.filter" in shown
    )
    recipe = (out / "recipe.yaml").read_text()
    assert "filter: bicubic" in recipe and "0.485" in recipe and "pretrained" in recipe
    assert (
        json.loads((out / "provenance.json").read_text())["weights"]["sha256"]
        == hashlib.sha256(hub.files[FILE]).hexdigest()
    )


def test_hf_endpoint_in_another_process(hub: Hub, tmp_path: Path) -> None:
    """The environment variables of the client, which it reads when it is imported."""
    code = (
        "from sightline.models.pretrained.downloads import library_file\n"
        "from sightline.models.pretrained.published import Published\n"
        f"print(library_file(Published('weights', {NAME!r}, 'ImageNet-1k'), say=print))"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"from {hub.url}/{NAME}" in done.stdout and str(tmp_path / "home" / "hub") in done.stdout
    assert "model.safetensors: 100%" in done.stderr
