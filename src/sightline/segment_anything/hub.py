"""Fetching a checkpoint from the Hugging Face hub, or a quick clear error."""

from pathlib import Path

from ..errors import ENVIRONMENT, SightlineError
from ..models.downloads import require_network


def fetched(repository: str) -> Path:
    """The folder of a repository in the hub's cache, with what it lacked; SightlineError, ENVIRONMENT, if it fails."""
    from huggingface_hub import constants

    from .checkpoint import from_hub

    url = f"{constants.ENDPOINT}/{repository}"
    if constants.HF_HUB_OFFLINE:
        raise refusal(url, "the environment variable HF_HUB_OFFLINE forbids downloads")
    try:
        require_network(url)
    except SightlineError as error:
        raise refusal(url, error.why) from error
    try:
        folder = from_hub(repository, local=False)
    except SightlineError:
        raise
    except Exception as error:  # the HTTP libraries behind it have families of errors of their own
        raise refusal(url, str(error).strip().split("\n")[0]) from error
    assert folder is not None, "only a look into the cache gives None"
    return folder


def refusal(url: str, why: str) -> SightlineError:
    """The error for a checkpoint that cannot be fetched, with the way to bring it by hand."""
    name = url.rpartition("/")[2]
    cure = (
        f"where there is a network: hf download {'/'.join(url.split('/')[-2:])} --local-dir {name} "
        f"--include '*.json' '*.safetensors'; bring that folder here: --model {name}/"
    )
    return SightlineError(f"cannot download {name}", where=url, why=why, cure=cure, status=ENVIRONMENT)
