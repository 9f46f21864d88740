"""Generate the reference pages from the code: commands, settings, metrics, the Python API, error messages."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sightline
from sightline.__main__ import app
from sightline.config.described import UNITS, accepted, changed, explanations
from sightline.config.resolve import all_keys
from sightline.recipes import RECIPES, load_recipe
from sightline.stats.baselines import TITLES
from sightline.stats.segmentation import other_definitions
from sightline.tasks import TASKS

PACKAGE = Path(sightline.__file__).parent
MEMBERS = ["classes", "channels", "predict", "features", "transform", "model"]
METHODS = {
    "load": "sightline.inference.loaded.Loaded",
    "predict": "sightline.inference.loaded.Prediction",
    "runs_below": "sightline.report.compare.listing.ListedRun",
}
"""Function -> the class of its results, which is documented after it."""


def pages() -> dict[str, str]:
    """The name of each generated page -> its Markdown."""
    return {
        "commands": commands(),
        "settings": settings(),
        "metrics": metrics(),
        "python": python(),
        "errors": errors(),
    }


def commands() -> str:
    """Every command with its arguments and options, as cyclopts describes them."""
    text = app.generate_docs(output_format="markdown").partition("\n")[2]
    text = re.sub(r"## Table of Contents\n.*?(?=\n\*\*)", "", text, flags=re.DOTALL)  # the page has one at its side
    text = re.sub(r"^sightline (\w+) \1 ", r"sightline \1 ", text, flags=re.MULTILINE)  # as written with `usage`
    return "# Commands\n\n" + _linked(text)


def _linked(text: str) -> str:
    """Names of guides, such as docs/data.md, as links from a page in reference/."""
    return re.sub(r"docs/([\w-]+)\.md", r"[\1](../\1.md)", text)


def settings() -> str:
    """Every setting of every task, under a heading of its own, so that the search finds it."""
    tasks: dict[str, list[str]] = {}
    for name, task in TASKS.items():
        for key in all_keys(task.config):
            tasks.setdefault(key, []).append(name)
    recipes = _recipes_by_setting()
    lines = [
        "# Settings",
        "",
        f"The {len(tasks)} settings of a recipe. Each is an option of the commands that train: `--optim.lr 0.1`. The "
        "command line overrides the recipe, and the recipe overrides the defaults. `sightline recipes NAME` prints "
        "those that a recipe changes, and `--all` prints all.",
        "",
    ]
    section = ""
    for key in sorted(tasks, key=lambda key: _order(key, tasks)):
        if (here := key.rpartition(".")[0]) != section:
            section = here
            lines += [f"## {section}", ""]
        lines += _setting(key, tasks[key], recipes[key])
    return "\n".join(lines)


def _order(key: str, tasks: dict[str, list[str]]) -> tuple[int, int]:
    sections = list(dict.fromkeys(each.rpartition(".")[0] for each in tasks))
    return sections.index(key.rpartition(".")[0]), list(tasks).index(key)


def _setting(key: str, tasks: list[str], recipes: dict[str, list[str]]) -> list[str]:
    kind = TASKS[tasks[0]].config
    defaults = {name: _value(TASKS[name].config(), key) for name in tasks}
    common = max(defaults.values(), key=list(defaults.values()).count)
    others = [f"{name}: {_code(value)}" for name, value in defaults.items() if value != common]
    facts = [f"default {_code(common)}" + (f" ({', '.join(others)})" if others else "")]
    if key != "task":
        facts.append(accepted(key, kind) + (f", in {UNITS[key]}" if key in UNITS else ""))
    if len(tasks) < len(TASKS):
        facts.append(f"only of {', '.join(tasks)}")
    lines = [f"#### {key}", "", " · ".join(facts), "", _linked(explanations(kind)[key]), ""]
    if recipes and key not in ("name", "task"):
        count = sum(map(len, recipes.values()))
        values = "; ".join(f"{value}: {', '.join(names)}" for value, names in recipes.items())
        lines += [
            f"<details markdown><summary>changed by {count} recipe{'s' if count > 1 else ''}</summary>",
            "",
            values,
            "",
            "</details>",
            "",
        ]
    return lines


def _recipes_by_setting() -> dict[str, dict[str, list[str]]]:
    """Setting -> its value in a recipe, if it is not the default -> the recipes."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in RECIPES:
        for section, values in changed(load_recipe(name)).items():
            inner = (
                {f"{section}.{key}": value for key, value in values.items()}
                if isinstance(values, dict)
                else {section: values}
            )
            for key, value in inner.items():
                found[key][_code(value)].append(f"`{name}`")
    return found


def _value(config: Any, key: str) -> Any:
    values = config.model_dump(mode="json")
    for part in key.split("."):
        values = values[part]
    return values


def _code(value: Any) -> str:
    text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    return f"`{text}`" if text not in ("", [], {}) else "empty"


FINAL = {
    "best_epoch": "The epoch whose weights are in `checkpoints/best`.",
    "train_flops": "Floating-point operations of the training: forward and backward passes, a multiply-add as two.",
    "seconds": "Time since the start of the run, over all its resumes.",
    "NAME_interval": "95 % interval of the metric NAME: [lower end, upper end], over images, or over groups of images "
    "that belong together.",
    "calibration_error": "Expected calibration error: the mean gap between confidence and accuracy over 15 bins of the "
    "confidence, weighted by their numbers of images.",
    "frequency_weighted_iou": "Mean of the IoU of the classes, weighted by their share of the true pixels.",
    "mean_accuracy": "Mean over the classes of the share of their true pixels that are predicted right.",
    "feature_std": "Spread of the projections of a pre-training, from 0 (collapsed: all are equal) to 1.",
    "effective_rank": "Effective number of dimensions of the features of a pre-training: exp of the entropy of "
    "their normalized singular values, after centering. Close to 1 is a collapse.",
    "alignment": "Mean squared distance of the features of two views of an image, scaled to length 1.",
    "uniformity": "How evenly the features of different images are spread: the lower, the more evenly; 0 if all are "
    "equal.",
    "linear_accuracy": "Accuracy of a logistic regression on the features of a pre-training.",
    "micro_precision": "Precision of all decisions together, one for each image and class.",
    "micro_recall": "Recall of all decisions together.",
    "micro_f1": "F1 of all decisions together.",
    "exact": "Share of the images whose labels are all right, with none missing.",
    "classes_without_positive": "Number of classes without a validation image.",
    "classes_with_few_positives": "Number of classes with 1 to 9 validation images or groups.",
    "auc": "Area under the ROC curve of a classifier of two classes: the probability that an image of the second class "
    "gets a higher probability of it than an image of the first.",
    "knn_accuracy": "Accuracy of the 20 nearest training images by features, without further training.",
    "bfloat16": "How many predictions would change if the network were computed in bfloat16.",
    "baselines": "Scores that need no training, see below.",
    "baseline_notes": "Sentences on these scores.",
    "selection": "A sentence on how the best epoch was chosen on the validation images.",
}
"""Fields in the last line of metrics.jsonl beside the metrics of the tasks; some are in its `eval` lines too."""


def metrics() -> str:
    """The metrics by which runs are ranked, the other final numbers, baselines, other definitions of mean IoU."""
    lines = [
        "# Metrics",
        "",
        "Metrics are computed over all images of a split together, not averaged over batches. `sightline evaluate`, "
        "the report and the last line of `metrics.jsonl` have the same numbers. [What each sentence "
        "claims](../claims.md) has the measured coverage of the intervals.",
        "",
    ]
    for task in TASKS.values():
        rows = [
            (f"`{key}`", metric.title, "smaller" if metric.lower_is_better else "larger", metric.meaning)
            for key, metric in task.metrics.items()
        ]
        lines += [
            f"## {task.name}",
            "",
            f"A run of this task {task.does}. The metrics by which its epochs and runs are ranked:",
            "",
        ]
        lines += _table(("key", "name", "better", "meaning"), rows)
    lines += ["## Other final numbers", "", *_table(("key", "meaning"), [(f"`{k}`", v) for k, v in FINAL.items()])]
    lines += ["## Baselines", "", *_table(("key", "meaning"), [(f"`{k}`", v) for k, v in TITLES.items()])]
    lines += [
        "## Other definitions of mean IoU",
        "",
        "The report and `sightline score` have them beside `mean_iou`.",
        "",
    ]
    lines += _table(("key", "meaning and tools that print it"), list(_iou_definitions()))
    return "\n".join(lines)


def _iou_definitions() -> Iterator[tuple[str, str]]:
    import numpy as np

    for key, definition in other_definitions(np.eye(2, dtype=np.int64)[None], np.eye(3, dtype=np.int64)).items():
        yield f"`{key}`", definition[1]


def python() -> str:
    """The public functions and classes, by mkdocstrings from their docstrings."""
    lines = [
        "# Python",
        "",
        "Every command is also a function of the module `sightline`. Paths are texts or `pathlib.Path`; a run is its "
        'path, or the object that `train` returned. Settings follow as keyword arguments: `**{"optim.lr": 0.1}`. '
        "Messages name the options of the commands; a traceback in Python ends with the arguments for them.",
        "",
    ]
    for name, module in sightline._MODULES.items():
        lines += _documented(f"sightline.{module}.{name}", f"sightline.{name}", members=name == "Run")
        if name in METHODS:
            lines += _documented(METHODS[name], METHODS[name].rpartition(".")[2], members=True)
    return "\n".join(lines)


def _documented(path: str, heading: str, members: bool) -> list[str]:
    options = ["    options:", f"      heading: {heading}", f"      toc_label: {heading}"]
    options += [f"      members: {MEMBERS}"] if members else []
    return [f"::: {path}", *options, ""]


def errors() -> str:
    """The messages of SightlineError in the code and their cures, by the part of the package that raises them."""
    lines = [
        "# Error messages",
        "",
        "Messages that commands print for problems that you can solve, and what they say to do. `...` stands for a "
        "name, path or number. The exit status is 2 for invalid input, 3 for the environment (disk, memory, "
        "permission, network) and 4 for an interrupted run that can be resumed. A traceback is a bug in Sightline.",
        "",
    ]
    for package, rows in sorted(_messages().items()):
        lines += [
            f"## {'command line' if package == '__main__' else package}",
            "",
            _title(package),
            "",
            *_table(("message", "what to do"), sorted(set(rows))),
        ]
    return "\n".join(lines)


def _title(package: str) -> str:
    """The first line of the docstring of a package or module, which is not imported."""
    file = PACKAGE / package / "__init__.py" if (PACKAGE / package).is_dir() else PACKAGE / f"{package}.py"
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or package).splitlines()[0]


def _messages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        source = path.read_text(encoding="utf-8")
        functions = [] if "SightlineError(" not in source else ast.walk(ast.parse(source))
        for function in functions:
            calls = _errors_in(function) if isinstance(function, ast.FunctionDef) else []
            for call in calls:
                texts = _assigned_texts(function, call.lineno)
                cure = next((word.value for word in call.keywords if word.arg == "cure"), None)
                what = _text(call.args[0], texts) if call.args else ""
                if what.strip(". "):
                    found[package].append((what, _text(cure, texts) if cure else ""))
    return found


def _errors_in(function: ast.FunctionDef) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "SightlineError"
    ]


def _assigned_texts(function: ast.AST, line: int) -> dict[str, str]:
    """The texts that names have at a line of a function, if the last assignment before it was executed."""
    texts: dict[str, str] = {}
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Assign | ast.AugAssign) and node.lineno < line]
    for node in sorted(nodes, key=lambda node: node.lineno):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        pairs = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = list(zip(target.elts, node.value.elts, strict=True))
        for name, value in pairs:
            if isinstance(name, ast.Name):
                before = texts.get(name.id, "") if isinstance(node, ast.AugAssign) else ""
                texts[name.id] = before + _text(value, {})
    return texts


def _text(node: ast.expr, texts: dict[str, str]) -> str:
    """A text in the code, with `...` for what is known at run time only; both sides of a condition."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else "..."
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, {}) if isinstance(part, ast.Constant) else "..." for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, texts) + _text(node.right, texts)
    if isinstance(node, ast.IfExp):
        sides = [side for side in (_text(node.body, texts), _text(node.orelse, texts)) if side.strip(". ")]
        return "; or: ".join(sides) or "..."
    if isinstance(node, ast.Name):
        return texts.get(node.id, "...")
    return "..."


def _table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [" | ".join(_cell(cell) for cell in row) for row in rows]
    return [f"| {' | '.join(headers)} |", f"|{'---|' * len(headers)}", *(f"| {row} |" for row in cells), ""]


def _cell(text: str) -> str:
    plain = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")
    return (
        plain
        if text.startswith("`") and text.count("`") == 2
        else plain.replace("[", "\\[").replace("_", "\\_")
        if "`" not in text
        else plain
    )
