"""What Optuna gives a sweep: the storage of its trials, and a sampler that goes through a grid."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ENVIRONMENT, SightlineError
from ..runs.atomic import disk_error

if TYPE_CHECKING:
    import optuna

JOURNAL = "trials.journal"


def need_optuna() -> None:
    """SightlineError where the extra is not installed."""
    try:
        import optuna
    except ImportError as error:
        why, cure = f"{error.name} is not installed", "pip install 'sightline-vision[sweep]'"
        raise SightlineError("a sweep needs Optuna", why=why, cure=cure, status=ENVIRONMENT) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def walker(row: dict[str, Any]) -> "optuna.samplers.BaseSampler":
    """A sampler that gives a trial these values."""
    import optuna

    class Walker(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return encoded(row[param_name])

    return Walker()


def open_storage(folder: Path, address: str) -> Any:
    """Optuna's storage: the journal in the folder, or a database; SightlineError where it cannot be opened."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if not address:
        path = folder / JOURNAL
        try:
            backend = JournalFileBackend(str(path))
            mend(path)
            return JournalStorage(backend)
        except OSError as error:
            raise disk_error(path, error) from error
    try:
        return RDBStorage(address)
    except (ImportError, ValueError, OSError, optuna.exceptions.OptunaError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise storage_error(why) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "sqlalchemy":
            raise
        raise storage_error(str(error).splitlines()[0]) from error


def storage_error(why: str) -> SightlineError:
    """The error for a database that cannot be opened."""
    cure = "--storage sqlite:///FILE or postgresql://USER@HOST/DATABASE (with its driver installed), or leave it out"
    return SightlineError("the database cannot be opened", where="--storage", why=why, cure=cure, status=ENVIRONMENT)


def mend(path: Path) -> None:
    """Cut off a last line that a crash has torn: nobody can read a journal with one in its middle."""
    from optuna.storages.journal import JournalFileSymlinkLock
    from optuna.storages.journal._file import get_lock_file

    def torn() -> int:
        size = path.stat().st_size
        with open(path, "rb") as file:
            file.seek(max(0, size - 1))
            if not size or file.read(1) == b"\n":
                return -1
            file.seek(0)
            return file.read().rfind(b"\n") + 1

    if torn() >= 0:
        with get_lock_file(JournalFileSymlinkLock(str(path))):
            if (end := torn()) >= 0:
                os.truncate(path, end)


def encoded(value: Any) -> Any:
    """A choice as Optuna can hold it: scalars themselves, lists and mappings as JSON behind a mark."""
    return value if isinstance(value, bool | int | float | str) else "json:" + json.dumps(value)


def decoded(value: Any) -> Any:
    """What `encoded` was given."""
    return json.loads(value.removeprefix("json:")) if isinstance(value, str) and value.startswith("json:") else value
