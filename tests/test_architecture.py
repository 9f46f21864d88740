"""Structure of the package (docs/architecture.md): allowed imports, no cycles, one list of tasks, sizes."""

import ast
from collections import defaultdict
from pathlib import Path
from pkgutil import resolve_name

import sightline

PACKAGE = Path(sightline.__file__).parent
COMMANDS = {"export", "serve", "doctor", "segment_anything"}
ALLOWED = {
    "errors": set(),
    "config": {"errors"},
    "runs": {"errors", "config"},
    "data": {"errors", "config", "runs"},
    "models": {"errors", "config"},
    "stats": {"errors", "config", "runs", "data"},
    "insight": {"errors", "data", "runs", "stats"},
    "engine": {"errors", "config", "runs", "data", "models", "stats", "insight"},
    "inference": {"errors", "config", "runs", "data", "models", "engine"},
    "report": {"errors", "config", "runs", "data", "stats", "insight", "tasks"},
    "tasks": {"errors", "config", "runs", "data", "engine", "inference", "report", "a task"},
    "a task": {
        "errors",
        "config",
        "runs",
        "data",
        "models",
        "stats",
        "insight",
        "engine",
        "inference",
        "report",
        "tasks",
    }
    | COMMANDS,
    "user_code": {"errors", "runs"},
    "export": {"errors", "config", "runs", "data", "models", "stats", "engine", "inference", "tasks", "user_code"},
    "doctor": {
        "errors",
        "config",
        "runs",
        "data",
        "models",
        "stats",
        "insight",
        "engine",
        "report",
        "tasks",
        "user_code",
    },
    "recipes": {"errors", "config", "tasks", "a task", "transfer", "user_code"},
}
"""Package -> the packages that it may import. A package that is not listed may import all others."""


def modules() -> dict[str, Path]:
    """Module name without `sightline.` -> its file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> dict[str, set[str]]:
    """Module -> the modules of Sightline that it imports, also inside functions, for types and with `lazy`."""
    known, graph = modules(), defaultdict(set)
    for name, path in known.items():
        base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        base = [part for part in base if part]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.level or (node.module or "").startswith("sightline")):
                continue
            start = base[: len(base) - node.level + 1] if node.level else []
            parts = [*start, *(node.module or "").removeprefix("sightline").strip(".").split(".")]
            prefix = ".".join(part for part in parts if part)
            for alias in node.names:
                inner = f"{prefix}.{alias.name}".strip(".")
                graph[name].add(inner if inner in known else prefix)
        graph[name] |= {each.partition(":")[0].removeprefix("sightline.") for each in lazy_paths(path)}
    return graph


def lazy_paths(path: Path) -> list[str]:
    """The arguments of `tasks.contract.lazy` in a file, such as `package.module:name`."""
    return [
        argument.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]


def package_of(module: str) -> str:
    """The top-level package of a module, or its own name if it is in none; `a task` for modules in a task's package."""
    first, *rest = module.split(".")
    inside = first == "tasks" and rest and (PACKAGE / "tasks" / rest[0]).is_dir()
    return "a task" if inside else first


def test_packages_import_only_allowed_packages() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in sorted(others)
        if package_of(name) != package_of(other)
        and package_of(other) not in ALLOWED.get(package_of(name), {package_of(other)})
    ]
    assert not wrong, "\n".join(wrong)


def test_there_are_no_import_cycles() -> None:
    graph, state = imports(), {}

    def visit(module: str, path: tuple[str, ...]) -> None:
        state[module] = "open"
        for other in sorted(graph.get(module, ())):
            assert state.get(other) != "open" or other == module, " -> ".join((*path, module, other))
            if other not in state:
                visit(other, (*path, module))
        state[module] = "done"

    for module in modules():
        if module not in state:
            visit(module, ())


def test_lazy_functions_exist() -> None:
    paths = [each for path in (PACKAGE / "tasks").rglob("*.py") for each in lazy_paths(path)]
    assert len(paths) > 30 and all(callable(resolve_name(each)) for each in paths)


def test_only_tasks_and_recipes_name_a_task() -> None:
    names = {"classify", "segment", "pretrain", "multilabel", "byol"}
    quoted = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("tasks", "recipes")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not quoted


def test_packages_and_files_are_small_and_class_names_are_unique() -> None:
    classes, sizes = defaultdict(list), defaultdict(int)
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        sizes[path.parent] += 1
        assert text.count("\n") <= 350, path
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(path.name)
    assert sizes.pop(PACKAGE) <= 10 and max(sizes.values()) <= 14
    assert not {name: files for name, files in classes.items() if len(files) > 1}
