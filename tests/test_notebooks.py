"""The notebooks in docs/notebooks: their cells and scripts run, with one epoch, few images and narrow networks."""

import ast
import importlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

import sightline
from sightline.runs.atomic import atomic_write

pytestmark = pytest.mark.usefixtures("quick_figures")
FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
ARGUMENTS = {
    "classifier": {"widths": [8, 16, 16, 16]},
    "masks": {"width": 8, "blocks": [1, 1, 1, 1], "decoder": [8], "context": False},
}
"""Narrow networks, by the name of the notebook."""


def run_cell(code: str, names: dict[str, object], arguments: dict[str, object]) -> object:
    """Execute a cell as IPython does; returns the value of its last line if that is an expression."""
    quick = re.sub(r'"train.epochs": \d+', f'"train.epochs": 1, "model.args": {arguments}', code)
    quick = quick.replace("count_train=64, count_val=12", "count_train=8, count_val=2")
    tree = ast.parse(quick)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier", "masks"])
def test_the_cells_of_a_notebook_and_its_script_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    few = Bunch(images=digits.images[:300], target=digits.target[:300], target_names=digits.target_names)
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: few)
    if name == "masks":  # no other cell uses its graph; test_shipped.py has the graph of a U-Net
        export = lambda folder, config, target, *rest: atomic_write(target, b"graph")  # noqa: E731
        monkeypatch.setattr(importlib.import_module("sightline.export"), "export_onnx", export)
    content = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [("".join(cell["source"]), cell) for cell in content["cells"]]
    assert not any(cell.get("outputs") for _, cell in cells), "notebooks are stored without outputs"
    names: dict[str, object] = {}
    shown = [run_cell(text, names, ARGUMENTS[name]) for text, cell in cells if cell["cell_type"] == "code"]
    (run,) = [value for value in shown if isinstance(value, sightline.Run)]
    assert 'class="lead"' in run._repr_html_() and "curve loss" in run._repr_html_()
    images = [value for value in shown if isinstance(value, Image.Image)]
    assert [image.size for image in images if image._repr_png_()] == ([(96, 96)] * 2 if name == "masks" else [])
    assert (run.path / "export" / "model.onnx").is_file()
    (script,) = re.findall(r"```python\n(.*?)```", cells[-1][0], re.DOTALL)
    run_cell(
        script.partition("sightline.export(run)")[0], {}, ARGUMENTS[name]
    )  # the export takes seconds, and was tried above
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert len([line for line in lines if "1/1" in line]) == 2, "one line per epoch"
