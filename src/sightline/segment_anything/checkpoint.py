"""Locate the weights of Segment Anything: in a folder or in the local cache of the Hugging Face hub.

Files are downloaded only with `download`. Only safetensors are read; pickles are rejected.
"""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from ..errors import ENVIRONMENT, SightlineError
from ..models.pretrained.downloads import require_network
from ..runs.atomic import read_json

BASE, LARGE, HUGE = "facebook/sam-vit-base", "facebook/sam-vit-large", "facebook/sam-vit-huge"
NAMES = {"vit_b": BASE, "base": BASE, "vit_l": LARGE, "large": LARGE, "vit_h": HUGE, "huge": HUGE}
MEGABYTES = {BASE: 375, LARGE: 1250, HUGE: 2560}
"""Size of the download in megabytes, by repository."""
MODEL_TYPES = ("sam", "sam2", "sam2_video", "sam3_tracker", "sam3_video")
"""The supported values of `model_type` in config.json. In transformers, all these models have the same interface for
prompts."""
WEIGHTS = "model.safetensors"
REQUIRED = (("config.json",), (WEIGHTS,), ("preprocessor_config.json", "processor_config.json"))
"""The files that a checkpoint must have: of each tuple, at least one."""
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class Checkpoint(NamedTuple):
    """A checkpoint folder on this machine. name: the folder or repository that the user asked for."""

    name: str
    folder: Path
    model_type: str


def find_checkpoint(name: str, download: bool = False) -> Checkpoint:
    """Locate a checkpoint.

    name: a short name (`vit_b`), a folder written by save_pretrained, or `owner/name` on the Hugging Face hub. Names on
    the hub are looked up in the local cache. download: whether to download missing files. Raises SightlineError; its
    status is ENVIRONMENT if the checkpoint is not on this machine or cannot be downloaded.
    """
    require_sam()
    if os.path.isdir(name):
        return open_checkpoint(name, Path(name))
    if name.lower().endswith((".pth", ".pt", ".bin", ".ckpt", ".pkl")):
        why = "it is a pickle, and loading a pickle can execute arbitrary code"
        cure = (
            "use the same weights as safetensors: --model vit_b --download (or vit_l, vit_h), which downloads "
            f"{BASE} (or -large, -huge)"
        )
        raise SightlineError("pickled weights are not supported", where=name, why=why, cure=cure)
    repository = NAMES.get(name, name)
    if os.path.exists(name) or not REPOSITORY.fullmatch(repository):
        why = f"it is neither an existing folder nor a repository name (OWNER/NAME) nor one of {', '.join(NAMES)}"
        cure = f"use --model vit_b, --model {BASE}, or a folder that save_pretrained has written: --model FOLDER"
        raise SightlineError("this is not a checkpoint", where=name, why=why, cure=cure)
    return open_checkpoint(repository, hub_folder(repository, download))


def require_sam() -> None:
    """Raise SightlineError with the install command if transformers or pycocotools is missing."""
    try:
        import pycocotools.mask  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        what, why = "Segment Anything needs transformers and pycocotools", f"{error.name} is not installed"
        raise SightlineError(what, why=why, cure="pip install 'sightline-vision[sam]'", status=ENVIRONMENT) from error


def hub_folder(repository: str, download: bool) -> Path:
    """Locate a repository in the local cache of the Hugging Face hub.

    download: whether to download missing JSON and safetensors files. Raises SightlineError with the status ENVIRONMENT
    if the repository is not cached or the download fails.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    files, name = ["*.json", "*.safetensors"], repository.partition("/")[2]
    url = f"{constants.ENDPOINT}/{repository}"
    try:
        cached = Path(snapshot_download(repository, allow_patterns=files, local_files_only=True))
        if not download or not missing_file(cached):
            return cached
    except LocalEntryNotFoundError as error:
        if not download:
            what, where = f"the checkpoint {repository} is not on this machine", shlex.quote(constants.HF_HUB_CACHE)
            size = f" ({MEGABYTES[repository]:,} MB)" if repository in MEGABYTES else ""
            command = f"sightline masks IMAGES --out FOLDER --model {repository} --download"
            cure = f"download it{size} from huggingface.co: {command}; or use a local folder: --model FOLDER, of serve "
            cure += "--sam FOLDER"
            why = "it is downloaded only if the option --download is given"
            raise SightlineError(what, where=where, why=why, cure=cure, status=ENVIRONMENT) from error
    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("the environment variable HF_HUB_OFFLINE forbids downloads")
        require_network(url)
        return Path(snapshot_download(repository, allow_patterns=files, local_files_only=False))
    except Exception as error:  # SightlineError, OSError, and many types of the HTTP libraries
        why = error.why if isinstance(error, SightlineError) else str(error).strip().split("\n")[0]
        cure = (
            f"run on a machine with network access: hf download {repository} --local-dir {name} "
            f"--include '*.json' --include '*.safetensors'; copy that folder here, and use --model {name}/"
        )
        raise SightlineError(f"cannot download {name}", where=url, why=why, cure=cure, status=ENVIRONMENT) from error


def missing_file(folder: Path) -> str:
    """The name of the first required file that a checkpoint folder lacks; "" if it has all of them."""
    return next((names[0] for names in REQUIRED if not any((folder / name).is_file() for name in names)), "")


def open_checkpoint(name: str, folder: Path) -> Checkpoint:
    """The checkpoint in a folder; raises SightlineError if a file is missing or the model is unsupported."""
    config, missing = read_json(folder / "config.json"), missing_file(folder)
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if not missing and model_type in MODEL_TYPES:
        return Checkpoint(name, folder, model_type)
    cure = (
        "download it again with --download, or write it again with model.save_pretrained and processor.save_pretrained"
    )
    why = f"it has no {missing}"
    if not missing:
        why = f"the model_type in its config.json is {model_type!r}; supported: {', '.join(MODEL_TYPES)}"
        cure = "use --model vit_b, or the folder of another checkpoint: --model FOLDER"
    raise SightlineError("this folder is not a checkpoint of Segment Anything", where=str(folder), why=why, cure=cure)
