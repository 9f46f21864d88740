"""`sightline export --format safetensors`: write a small run folder that has only the files needed for prediction."""

import json
from pathlib import Path

from ..config.paths import paths_in
from ..config.resolve import resolve, to_yaml
from ..config.schema import Config
from ..errors import SightlineError
from ..runs import run_folder
from ..runs.atomic import atomic_write, remove, write_json
from ..runs.checkpoint import CONFIG, MODEL, load_model
from ..runs.code_file import keep_copy
from ..runs.provenance import installed_versions
from ..runs.tensor_file import sidecar

MARKER = "export.json"
README = """# {name}

Weights of the Sightline run {name}.

    pip install sightline-vision
    sightline predict . IMAGES --out OUT

- `checkpoints/*/model.safetensors`: the weights, float32; `safetensors.torch.load_file` reads them without Sightline.
- `checkpoints/*/config.json`: the model's name and arguments, classes, preprocessing and palette.
- `recipe.yaml`: the settings of the run, without paths.
{thresholds}
For programs without PyTorch and Sightline: `sightline export RUN --format onnx`.
"""


def export_weights(folder: Path, config: Config, target: Path) -> Path:
    """Write a small run folder to `target`: the final weights, the recipe without paths, the final metrics, README.md.

    If the run has thresholds, they are included. The final weights are those of the best epoch, or of each member of an
    ensemble. Before they are copied, all files are compared with their stored SHA-256; SightlineError if one differs.
    The files of an earlier export in `target` are removed after that.
    """
    if target.resolve() == folder.resolve():
        cure = "choose another folder: --out FOLDER"
        raise SightlineError("the output folder is the run itself", where=str(target), cure=cure)
    members, written = run_folder.shipped_checkpoints(folder), list[Path]()
    for member in members:
        load_model(member)  # raises SightlineError if the checksum of the weights is wrong
    for member in members:
        files = (member / MODEL, sidecar(member / MODEL), member / CONFIG)
        copies = {path: target / "checkpoints" / member.name / path.name for path in files if path.is_file()}
        written += [atomic_write(copy, path.read_bytes()) for path, copy in copies.items()]
    earlier = target / "checkpoints"  # an earlier export may have other epochs and files
    remove([path for path in earlier.iterdir() if path.name not in {member.name for member in members}])
    remove([path for path in earlier.glob("*/*") if path not in written])
    remove([target / "metrics.jsonl", target / run_folder.THRESHOLDS_FILE])  # which this run may not have
    name, metrics = folder.resolve().name, run_folder.final_record(folder) or {}
    private = dict.fromkeys([*paths_in(config), "data.cache_dir"], "")
    atomic_write(target / "recipe.yaml", to_yaml(resolve(config, private)))
    code = keep_copy(target) if "code" in run_folder.provenance(folder) else {}
    write_json(target / "provenance.json", code)
    if metrics:
        atomic_write(target / "metrics.jsonl", json.dumps(metrics) + "\n")
    thresholds = folder / run_folder.THRESHOLDS_FILE
    if thresholds.is_file():
        atomic_write(target / thresholds.name, thresholds.read_bytes())
    line = f"- `{thresholds.name}`: the lowest probability at which a class is predicted.\n"
    atomic_write(target / "README.md", README.format(name=name, thresholds=line if thresholds.is_file() else ""))
    version = installed_versions().get("sightline-vision", "")
    write_json(target / MARKER, {"format": "safetensors", "run": name, "sightline": version})
    return target
