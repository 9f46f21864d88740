"""Download published weights into the caches of huggingface_hub and of torch.hub, where their libraries find them too.

A file is downloaded only if it is not in the cache, and compared with the SHA-256 that the hub states for it.
"""

import errno
import hashlib
import os
import re
import shlex
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import torch

from ...errors import ENVIRONMENT, SightlineError
from .published import Published

CONNECT_TIMEOUT = 3.0
"""Timeout in seconds for a connection to a server, after which the machine is assumed to be offline."""

Say = Callable[[str], None]


def library_file(weights: Published, name: str = "", say: Say = lambda text: None) -> Path:
    """The file with published weights, or another file `name` of their repository.

    It is downloaded if it is not in the cache; `say` is called before with a line that states its source, its size, the
    data it was trained on and its license. Raises SightlineError if the download fails; if there is no network, within
    seconds and with status ENVIRONMENT.
    """
    if weights.on_hub:
        return hugging_face_file(weights, name or weights.filename, say)
    return hub_file(weights, say)


def require_available(weights: Published) -> None:
    """Raise SightlineError if published weights are neither in the cache nor can be downloaded, because downloads are
    forbidden or there is no network. Nothing is downloaded."""
    if not weights.on_hub:
        if not hub_path(weights).is_file():
            require_network(weights.location)
    elif not hugging_face_cached(weights, weights.filename):
        from huggingface_hub import constants

        require_hugging_face(f"{constants.ENDPOINT}/{weights.location}")


def hub_path(weights: Published) -> Path:
    """The path of weights from a URL in torch.hub's cache."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.location).path).name


def hugging_face_cached(weights: Published, name: str) -> Path | None:
    """The path of the file `name` of a repository in the cache of huggingface_hub; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    for revision in dict.fromkeys((weights.revision, "main")):
        cached = try_to_load_from_cache(weights.location, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    return None


def require_hugging_face(page: str) -> None:
    """Raise SightlineError if files of the repository at the URL `page` cannot be downloaded: HF_HUB_OFFLINE is set, or
    there is no network."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        why = "the environment variable HF_HUB_OFFLINE forbids downloads, and they are not in the cache"
        raise download_error(page, ConnectionError(why), Path(constants.HF_HUB_CACHE))
    require_network(page)


def hub_file(weights: Published, say: Say) -> Path:
    """The file with weights from a URL, in torch.hub's cache; if missing, downloaded and compared with the hash in its
    name."""
    url, path = weights.location, hub_path(weights)
    if path.is_file():
        say(f"weights: {weights}; in the cache: {path}")
        return path
    require_network(url)
    say(announcement(weights, url, weights.megabytes))
    digest = torch.hub.HASH_REGEX.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest.group(1) if digest else None)
    except (OSError, RuntimeError) as error:
        raise download_error(url, error, path.parent) from error
    return path


def hugging_face_file(weights: Published, name: str, say: Say) -> Path:
    """The file `name` of a repository of the Hugging Face hub, in the cache of huggingface_hub.

    This function fails fast: timm's own function retries for most of a minute without a network. Only safetensors are
    downloaded, no pickles. Raises SightlineError if the download fails.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, page = weights.location, f"{constants.ENDPOINT}/{weights.location}"
    if cached := hugging_face_cached(weights, name):
        say(f"weights: {weights}; in the cache: {cached}")
        return cached
    require_hugging_face(page)
    try:
        url = hf_hub_url(repository, name, revision=weights.revision)
        say(announcement(weights, page, (get_hf_file_metadata(url).size or 0) / 1e6))
        return Path(hf_hub_download(repository, name, revision=weights.revision))
    except Exception as error:  # the HTTP libraries raise many types
        # LocalEntryNotFoundError, a subclass of EntryNotFoundError, means that the connection failed.
        if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
            raise download_error(page, error, Path(constants.HF_HUB_CACHE)) from error
        raise SightlineError(
            f"the repository has no {name}",
            where=page,
            why="weights are downloaded as safetensors only; pickles, such as pytorch_model.bin, can contain code",
            cure="choose another model with --model.name; or, if you trust the repository, download its file and set "
            "--model.weights FILE, which reads tensors without running code",
        ) from error


def announcement(weights: Published, page: str, megabytes: float) -> str:
    """The line that is printed before a download."""
    return f"weights: {weights}; downloading {f'{megabytes:,.1f} MB ' if megabytes else ''}from {page}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file of weights. Raises SightlineError if it is in the cache of huggingface_hub, where the name of a
    file is the SHA-256 that the hub states, and has another one."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stored = path.resolve()
    if re.fullmatch("[0-9a-f]{64}", stored.name) and stored.name != digest:
        raise SightlineError(
            "the downloaded weights are damaged",
            where=str(path),
            why=f"their SHA-256 begins with {digest[:12]}, and that of the published file with {stored.name[:12]}",
            cure=f"delete the file and repeat the command, which downloads it again: rm {shlex.quote(str(stored))}",
            status=ENVIRONMENT,
        )
    return digest


def require_network(url: str) -> None:
    """Raise SightlineError if the server of `url`, or the proxy, accepts no connection within CONNECT_TIMEOUT."""
    parts = urlsplit(url)
    proxy = None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)
    server = urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}" if proxy else url)
    connected = threading.Event()

    def connect() -> None:
        try:
            port = server.port or (80 if parts.scheme == "http" else 443)
            socket.create_connection((server.hostname, port), timeout=CONNECT_TIMEOUT).close()
            connected.set()
        except (OSError, UnicodeError):
            pass

    # In a separate thread: name resolution has no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_TIMEOUT)
    if not connected.is_set():
        why = f"cannot connect to {server.hostname}: this machine seems to be offline"
        raise download_error(url, ConnectionError(why))


def download_error(page: str, error: Exception, cache: Path | None = None) -> SightlineError:
    """The SightlineError for a failed download. By default its cure is to download on another machine and copy.

    page: URL of the file, or of its repository. cache: the folder of the cache."""
    name, status = os.path.basename(urlsplit(page).path), getattr(getattr(error, "response", None), "status_code", 0)
    what, why = f"cannot download the weights {name}", (str(error).strip() or type(error).__name__).split("\n")[0]
    where, repository = page, urlsplit(page).path.strip("/")
    cure = (
        f"download {page} on another machine, copy the file here, and set --model.weights FILE"
        if repository.count("/") > 1
        else f"run on a machine with a network: hf download {repository} model.safetensors --local-dir {name}; copy "
        f"the folder here, and set --model.weights {name}/model.safetensors"
    )
    cure += "; or train from random weights: --model.weights none"
    if getattr(error, "errno", 0) == errno.ENOSPC:
        what, where, why = f"the disk is full: cannot store the weights {name}", str(cache), "no space left on device"
        cure = "free space there, or choose another disk for the cache: export HF_HOME=FOLDER (torchvision: TORCH_HOME)"
    elif status in (401, 403):
        why = f"the server refuses access ({status}): the license has to be accepted, or the repository does not exist"
        cure = f"accept the license at {page}, log in with `hf auth login`, and repeat the command"
    elif status == 404:
        why, cure = "the server has no such repository", "choose other weights with --model.name, and check HF_ENDPOINT"
    elif "Timeout" in type(error).__name__:
        why = f"the server did not send data in time ({why})"
        cure = f"repeat the command later, or wait longer: export HF_HUB_DOWNLOAD_TIMEOUT=60; or {cure}"
    elif "Consistency check failed" in why:
        why, cure = f"the file is truncated: {why}", "repeat the command; if it fails again, try later"
    return SightlineError(what, where=where, why=why, cure=cure, status=ENVIRONMENT)
