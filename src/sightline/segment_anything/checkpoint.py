"""Where the weights of Segment Anything come from: a folder, or the local cache of the Hugging Face hub.

Nothing is downloaded unless it is asked for, and nothing is unpickled: only safetensors are read.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import read_json, sha256

NAMES = {
    "vit_b": "facebook/sam-vit-base",
    "base": "facebook/sam-vit-base",
    "vit_l": "facebook/sam-vit-large",
    "large": "facebook/sam-vit-large",
    "vit_h": "facebook/sam-vit-huge",
    "huge": "facebook/sam-vit-huge",
}
MEGABYTES = {"facebook/sam-vit-base": 375, "facebook/sam-vit-large": 1250, "facebook/sam-vit-huge": 2560}
KINDS = ("sam", "sam2", "sam2_video", "sam3_tracker", "sam3_video")
"""The `model_type` of the checkpoints that answer points and boxes through one interface."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
SAFE = (
    "the same weights as safetensors are facebook/sam-vit-base, -large and -huge: "
    "--model vit_b, vit_l or vit_h, with --download"
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine. kind: its model_type. weights: its safetensors files."""

    name: str
    folder: Path
    kind: str
    weights: tuple[Path, ...]

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of each file of weights; reads them whole."""
        return {path.name: sha256(path) for path in self.weights}


def require_sam() -> None:
    """SightlineError with the command that installs them where transformers or pycocotools is missing."""
    for package in ("transformers", "pycocotools.mask"):
        try:
            __import__(package)
        except ImportError as error:
            cure, why = "pip install 'sightline-vision[sam]'", f"{package.partition('.')[0]} is not installed"
            what = "Segment Anything needs transformers and pycocotools"
            raise SightlineError(what, why=why, cure=cure, status=ENVIRONMENT) from error


def find_checkpoint(name: str, download: bool = False) -> Checkpoint:
    """The checkpoint called `name`: a short name, a folder that save_pretrained wrote, or `owner/name` on the hub.

    A name of the hub is looked up in the local cache; the network is asked only with `download`, and only for what the
    cache lacks. Raises SightlineError, ENVIRONMENT where it is not on this machine or cannot be fetched.
    """
    require_sam()
    repository = NAMES.get(name, name)
    if name not in NAMES and os.path.isdir(name):
        return opened(name, Path(name))
    if name not in NAMES and (os.path.exists(name) or name.lower().endswith((*PICKLES, ".safetensors"))):
        raise not_a_folder(name)
    if repository.count("/") != 1 or not all(repository.split("/")) or repository[0] in "./~":
        why = f"it is neither a folder here nor a name on the hub; short names are {', '.join(NAMES)}"
        cure = "--model vit_b, --model facebook/sam-vit-base, or --model FOLDER"
        raise SightlineError("there is no such checkpoint", where=name, why=why, cure=cure)
    cached = from_hub(repository, local=True)
    if download and (cached is None or not is_whole(cached)):
        from .hub import fetched

        cached = fetched(repository)
    if cached is None:
        raise not_here(repository)
    return opened(repository, cached)


def from_hub(repository: str, local: bool) -> Path | None:
    """The folder of a repository in the hub's cache, None where it has none; `local` False fetches what is missing.

    Only JSON and safetensors are taken, whatever else the repository holds.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        wanted = ["*.json", "*.safetensors"]
        return Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=local))
    except HFValidationError as error:
        why, cure = str(error).split("\n")[0], "--model vit_b, or OWNER/NAME as on huggingface.co"
        raise SightlineError("this is no name of a checkpoint", where=repository, why=why, cure=cure) from error
    except LocalEntryNotFoundError:
        if local:
            return None
        raise


def is_whole(folder: Path) -> bool:
    """Whether a cached copy has all that `opened` needs: an earlier download may have been cut off, or of a pickle."""
    try:
        opened(str(folder), folder)
    except SightlineError:
        return False
    return True


def opened(name: str, folder: Path) -> Checkpoint:
    """The checkpoint in a folder; SightlineError where it lacks a part, is of another kind of model, or is a pickle."""
    config = read_json(folder / "config.json")
    files = sorted(path.name for path in folder.iterdir())
    what, cure = "this folder is no checkpoint of Segment Anything", "model.save_pretrained(FOLDER) writes one"
    if not isinstance(config, dict):
        pickled = [file for file in files if file.lower().endswith(PICKLES)]
        if pickled:
            raise unpickled(f"{folder}/{pickled[0]}")
        why = "its config.json cannot be read" if "config.json" in files else "it has no config.json"
        raise SightlineError(what, where=str(folder), why=why, cure=cure)
    kind = config.get("model_type")
    if kind not in KINDS:
        why = f"its config.json is of a model {kind!r}; what is supported: {', '.join(KINDS)}"
        raise SightlineError(what, where=str(folder), why=why, cure="--model vit_b, or another folder")
    weights = tuple(folder / file for file in weight_files(folder))
    missing = [path.name for path in weights if not path.is_file()]
    if not weights or missing:
        pickled = [file for file in files if file.lower().endswith(PICKLES)]
        if pickled:
            raise unpickled(f"{folder}/{pickled[0]}")
        why = f"it has no {missing[0] if missing else WEIGHTS}"
        raise SightlineError(what, where=str(folder), why=why, cure=cure)
    if not any(file in files for file in PROCESSORS):
        cure = "processor.save_pretrained(FOLDER) writes it, beside the model"
        raise SightlineError(what, where=str(folder), why=f"it has no {PROCESSORS[0]}", cure=cure)
    return Checkpoint(name, folder, kind, weights)


def weight_files(folder: Path) -> list[str]:
    """The names of the weights' files; none where an index names anything but safetensors beside it."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = read_json(folder / INDEX)
    places = index.get("weight_map") if isinstance(index, dict) else None
    files = sorted({str(file) for file in places.values()}) if isinstance(places, dict) else []
    return files if all(file.endswith(".safetensors") and os.path.basename(file) == file for file in files) else []


def unpickled(path: str) -> SightlineError:
    """The refusal of weights that only unpickling could read."""
    why = "its weights are a pickle, and a pickle can run any program when it is read"
    return SightlineError("these weights are not read", where=path, why=why, cure=SAFE)


def not_a_folder(name: str) -> SightlineError:
    """The error for a file in place of a folder."""
    if name.lower().endswith(PICKLES):
        return unpickled(name)
    why = "weights alone do not say what model they are of"
    cure = "--model FOLDER with config.json, preprocessor_config.json and model.safetensors in it"
    return SightlineError("a checkpoint is a folder", where=name, why=why, cure=cure)


def not_here(repository: str) -> SightlineError:
    """The error for a checkpoint of the hub that the cache lacks."""
    from huggingface_hub import constants

    size = f" ({MEGABYTES[repository]:,} MB)" if repository in MEGABYTES else ""
    cure = f"--download fetches it{size} from huggingface.co; or name a folder that has it: --model FOLDER"
    return SightlineError(
        f"the checkpoint {repository} is not on this machine",
        where=shlex.quote(constants.HF_HUB_CACHE),
        why="nothing is downloaded unless it is asked for",
        cure=cure,
        status=ENVIRONMENT,
    )
