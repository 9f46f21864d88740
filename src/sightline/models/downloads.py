"""Files of pre-trained weights from torchvision, timm and segmentation_models_pytorch (smp)."""

import os
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ..errors import ENVIRONMENT, SightlineError
from .library import TORCHVISION, library_model

CONNECT_TIMEOUT = 3.0
"""Timeout in seconds for a connection to a server, after which the machine is assumed to be offline."""


def imagenet_file(name: str) -> tuple[Path, str]:
    """The file with the default ImageNet weights of the model `name`, and a description of them: (path, description).

    It is downloaded if it is not in the cache of the library. Raises SightlineError if there are no such weights; if
    there is no network, within seconds and with status ENVIRONMENT.
    """
    found = library_model(name)
    if found is None:
        raise SightlineError(
            f"there are no ImageNet weights for {name}",
            where="model.weights",
            why="the model is defined by Sightline, which publishes no weights",
            cure="train from random weights: --model.weights none; or use a model with such weights: --model.name "
            f"{', '.join(TORCHVISION)}, beit_base, timm/NAME or torchvision/NAME",
        )
    library, model = found
    return torchvision_file(model) if library == "torchvision" else timm_file(model)


def torchvision_file(model: str) -> tuple[Path, str]:
    """The file with torchvision's default weights of a model, in the cache of torch.hub: (path, description)."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(model).__members__["DEFAULT"]
    return hub_file(weights.url), f"torchvision {weights}"


def hub_file(url: str) -> Path:
    """The file from `url` in torch.hub's cache; if missing, downloaded and compared with the hash in its name."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if path.is_file():
        return path
    require_network(url)
    digest = torch.hub.HASH_REGEX.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest.group(1) if digest else None)
    except (OSError, RuntimeError) as error:
        raise download_error(url, str(error)) from error
    return path


def timm_file(model: str) -> tuple[Path, str]:
    """The file with timm's weights of a model, `NAME` or `NAME.TAG`: (path, description). The file is in the cache
    of the Hugging Face hub or of torch.hub. Raises SightlineError if timm has no weights of it."""
    import timm

    weights = timm.get_pretrained_cfg(model)
    if weights is None or not (weights.hf_hub_id or weights.url):
        others = timm.list_pretrained(f"{model.partition('.')[0]}.*")
        cure = "choose another model with --model.name, or train from random weights: --model.weights none"
        if others:
            cure = f"use one of these models: --model.name {', '.join(f'timm/{name}' for name in others)}"
        raise SightlineError(
            f"there are no ImageNet weights for timm/{model}",
            where="model.weights",
            why="timm has no weights of this model",
            cure=cure,
        )
    source = f"timm {weights.architecture}.{weights.tag}" if weights.tag else f"timm {weights.architecture}"
    if not weights.hf_hub_id:
        return hub_file(str(weights.url)), source
    names = (weights.hf_hub_filename,) if weights.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    return hugging_face_file(weights.hf_hub_id, names), source


def smp_file(encoder: str) -> tuple[Path, str]:
    """The file with the ImageNet weights of an encoder of segmentation_models_pytorch (smp): (path, description).

    For encoders that smp itself defines; those of other libraries have their own functions. Errors as in
    `imagenet_file`.
    """
    from huggingface_hub import try_to_load_from_cache
    from segmentation_models_pytorch.encoders import encoders

    choices: Any = encoders[encoder]["pretrained_settings"]
    tag = "imagenet" if "imagenet" in choices else next(iter(choices), None)
    if tag is None:
        cure = (
            "choose another encoder: --model.name smp/ARCH/ENCODER; or train from random weights: --model.weights none"
        )
        what = f"segmentation_models_pytorch has no weights for {encoder}"
        raise SightlineError(what, where="model.weights", cure=cure)
    hub, name = choices[tag], "model.safetensors"
    # smp's own downloads are cached under a fixed revision.
    cached = try_to_load_from_cache(hub["repo_id"], name, revision=hub["revision"])
    path = Path(cached) if isinstance(cached, str) else hugging_face_file(hub["repo_id"], (name,))
    return path, f"smp {encoder} ({tag})"


def hugging_face_file(repository: str, names: tuple[str, ...]) -> Path:
    """The first file of `names` that exists in a repository of the Hugging Face hub; downloaded if it is not in the
    cache.

    This function fails fast: timm's own function retries for most of a minute without a network. Raises SightlineError
    if the download fails.
    """
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    url = f"{constants.ENDPOINT}/{repository}/resolve/main/{names[0]}"
    if constants.HF_HUB_OFFLINE:
        raise download_error(url, "the environment variable HF_HUB_OFFLINE forbids downloads")
    require_network(url)
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # the HTTP libraries raise many types
            # LocalEntryNotFoundError, a subclass of EntryNotFoundError, means that the connection failed.
            if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
                raise download_error(url, str(error).split("\n")[0]) from error
    raise download_error(url, f"the repository has none of {', '.join(names)}")


def require_network(url: str) -> None:
    """Raise SightlineError if the server of `url`, or the proxy, accepts no connection within CONNECT_TIMEOUT."""
    proxy = (
        None if urllib.request.proxy_bypass(urlsplit(url).hostname or "") else urllib.request.getproxies().get("https")
    )
    server = urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}" if proxy else url)
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((server.hostname, server.port or 443), timeout=CONNECT_TIMEOUT).close()
            connected.set()
        except (OSError, UnicodeError):
            pass

    # In a separate thread: name resolution has no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT)
    if not connected.is_set():
        raise download_error(url, f"cannot connect to {server.hostname}: this machine seems to be offline")


def download_error(url: str, why: str) -> SightlineError:
    """The SightlineError for a failed download. Its cure is to download the file on another machine and copy it."""
    return SightlineError(
        f"cannot download the weights {os.path.basename(urlsplit(url).path)}",
        where=url,
        why=why,
        cure="download this URL on another machine, copy the file here, and set --model.weights FILE; or train from "
        "random weights: --model.weights none",
        status=ENVIRONMENT,
    )
