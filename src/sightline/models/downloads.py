"""ImageNet weights of torchvision and timm: out of the libraries' own caches, or downloaded, or a quick clear error."""

import os
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import torch

from ..errors import ENVIRONMENT, SightlineError
from .library import TORCHVISION, library_model

SECONDS = 3.0
"""How long a server may take to answer before the machine counts as offline."""


def imagenet_file(name: str) -> tuple[Path, str]:
    """The file with a library's best ImageNet weights for the model `name`, and what it is in words.

    Downloads it where the library's cache lacks it. Raises SightlineError where there are no such weights, and with
    the status ENVIRONMENT within seconds where there is no network.
    """
    found = library_model(name)
    if found is None:
        raise SightlineError(
            f"there are no ImageNet weights for {name}",
            where="model.weights",
            why="it is a network of Sightline's own",
            cure=f"set model.weights to none, or take {', '.join(TORCHVISION)}, beit_base, timm/X or torchvision/X",
        )
    library, model = found
    return torchvision_file(model) if library == "torchvision" else timm_file(model)


def torchvision_file(model: str) -> tuple[Path, str]:
    """torchvision's default weights of a model, in torch.hub's cache."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(model).__members__["DEFAULT"]
    return hub_file(weights.url), f"torchvision {weights}"


def hub_file(url: str) -> Path:
    """The file behind `url` in torch.hub's cache; a download is checked against the hash in the file's name."""
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
    """timm's weights of a model (`NAME` or `NAME.TAG`), in the cache of the Hugging Face hub or of torch.hub."""
    import timm

    weights = timm.get_pretrained_cfg(model)
    if weights is None or not (weights.hf_hub_id or weights.url):
        others = timm.list_pretrained(f"{model.partition('.')[0]}.*")
        cure = f"choose one of {', '.join(others)}" if others else "choose another model"
        raise SightlineError(
            f"there are no ImageNet weights for timm/{model}", where="model.weights", why="timm has none", cure=cure
        )
    source = f"timm {weights.architecture}.{weights.tag}" if weights.tag else f"timm {weights.architecture}"
    if not weights.hf_hub_id:
        return hub_file(str(weights.url)), source
    names = (weights.hf_hub_filename,) if weights.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    return hugging_face_file(weights.hf_hub_id, names), source


def hugging_face_file(repository: str, names: tuple[str, ...]) -> Path:
    """The first of `names` that a repository of the Hugging Face hub has; the cache is asked before the network.

    timm's own way retries for most of a minute where there is no network.
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
        except Exception as error:  # the HTTP libraries behind it have families of errors of their own
            # A LocalEntryNotFoundError is a broken connection in disguise.
            if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
                raise download_error(url, str(error).split("\n")[0]) from error
    raise download_error(url, f"the repository has none of {', '.join(names)}")


def require_network(url: str) -> None:
    """Raise SightlineError unless the server of `url`, or the proxy on the way, answers within SECONDS."""
    proxy = (
        None if urllib.request.proxy_bypass(urlsplit(url).hostname or "") else urllib.request.getproxies().get("https")
    )
    place = urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}" if proxy else url)
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((place.hostname, place.port or 443), timeout=SECONDS).close()
            answered.set()
        except (OSError, UnicodeError):
            pass

    # In a thread of its own, because looking up a name takes no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if not answered.is_set():
        raise download_error(url, f"{place.hostname} does not answer: this machine seems to be offline")


def download_error(url: str, why: str) -> SightlineError:
    """The error for weights that cannot be fetched, with the way to bring them by hand."""
    return SightlineError(
        f"cannot download the weights {os.path.basename(urlsplit(url).path)}",
        where=url,
        why=why,
        cure="fetch that address elsewhere and give the file: --model.weights FILE; or train with --model.weights none",
        status=ENVIRONMENT,
    )
