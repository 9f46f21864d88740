"""Misspelled settings, invalid values and YAML pitfalls, in recipe files and on the command line."""

import contextlib
import io
import itertools
import string
from collections.abc import Generator
from unittest import mock

import numpy as np

from reliability.contract import Outcome, Row, Settings
from sightline import __main__ as command
from sightline.config import resolve as recipes
from sightline.config.schema import Config
from sightline.errors import SightlineError
from sightline.tasks import files

SECTION = "Invalid input"
LETTERS = string.ascii_lowercase + "_"
OPTIONS = 6  # misspellings of each key that are also tried on the command line


def misspellings(key: str, random: np.random.Generator) -> list[str]:
    """The key with each letter omitted, doubled, replaced, or swapped with the next one; dots are kept."""
    made: list[str] = []
    for index, letter in enumerate(key):
        if letter == ".":
            continue
        before, after, other = key[:index], key[index + 1 :], LETTERS[int(random.integers(len(LETTERS)))]
        made += [before + after, before + letter + letter + after, before + other + after]
        if after and after[0] != ".":
            made.append(before + after[0] + letter + after[1:])
    known = recipes.all_keys()
    return list(dict.fromkeys(word for word in made if word not in known and all(word.split("."))))


def common_prefix(first: str, second: str) -> int:
    """The length of the common prefix of two texts."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def one_edit_apart(first: str, second: str) -> bool:
    """Whether two texts differ by at most one inserted, omitted or replaced letter, or two swapped neighbors."""
    start = common_prefix(first, second)
    first, second = first[start:], second[start:]
    end = common_prefix(first[::-1], second[::-1])
    first, second = first[: len(first) - end], second[: len(second) - end]
    return max(len(first), len(second)) <= 1 or (len(first) == len(second) == 2 and first == second[::-1])


def wrong_suggestion(key: str, word: str, message: str) -> bool:
    """Whether the message about the misspelling `word` suggests neither `key` nor another key that is one edit away."""
    suggested = message.partition("did you mean ")[2].partition("?")[0].split(" or ")
    near = [other for other in recipes.all_keys() if one_edit_apart(word, other)]
    return key not in suggested and not (len(near) > 1 and set(near) & set(suggested))


def train(recipe: str, options: list[str]) -> tuple[int, str]:
    """(exit status, output) of `sightline train RECIPE ...` with a missing data folder."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = command.run(["train", recipe, "--data", "nowhere", *options])
    return status, output.getvalue()


def check_misspellings(settings: Settings) -> Outcome:
    """Try misspellings of every key in a recipe file, and some of them as an option."""
    random = np.random.default_rng(settings.seed)
    path, tried, failures = settings.folder / "mine.yaml", 0, []
    keys = recipes.all_keys()
    for key in keys[:: 30 if settings.short else 1]:
        every = misspellings(key, random)
        for word in every[:: 5 if settings.short else 1]:
            section, _, name = word.rpartition(".")
            path.write_text(f"{section}:\n  {name}: 1\n" if section else f"{name}: 1\n")
            tried += 1
            try:
                files.load_recipe_file(path)
                failures.append(f"{word} was accepted in a file")
            except SightlineError as error:
                text = str(error)
                if wrong_suggestion(key, word, text) or str(path) not in text or error.status != 2:
                    failures.append(f"{word} in a file, of {key}: {text}")
        if "." in key:  # other keys are not options
            for word in random.choice(every, 1 if settings.short else OPTIONS, replace=False).tolist():
                tried += 1
                status, text = train("digits", [f"--{word}", "1"])
                if status != 2 or wrong_suggestion(key, word, text) or "Traceback" in text:
                    failures.append(f"--{word}, of {key}: status {status}, {text}")
    return Outcome(tried, tuple(failures), {"keys": len(keys)})


@contextlib.contextmanager
def no_hint() -> Generator[None]:
    """Errors about unknown keys suggest a wrong key."""
    with mock.patch.object(recipes, "nearest", lambda key, kind=None: "another"):
        yield


@contextlib.contextmanager
def drop_unknown_keys() -> Generator[None]:
    """A validation that drops unknown keys."""
    real = recipes.validated

    def validated(values: dict, where: str, kind: type[Config]) -> Config:
        known = set(recipes.all_keys(kind))
        for section, inner in list(values.items()):
            if isinstance(inner, dict):
                values[section] = {name: value for name, value in inner.items() if f"{section}.{name}" in known}
            elif section not in known:
                del values[section]
        return real(values, where, kind)

    with mock.patch.object(recipes, "validated", validated):
        yield


# ------------------------------------------------------------------------------------------------------ YAML pitfalls

NUMBERS = {"1e-3": 1e-3, "1E-3": 1e-3, "1.e-3": 1e-3, "5e-1": 0.5, ".5": 0.5, "0.1": 0.1, "+0.1": 0.1, "1e+0": 1.0}
INVALID = {
    "a value twice": "optim: {lr: 0.1, lr: 0.2}",
    "a section twice": "optim: {lr: 0.1}\noptim: {lr: 0.2}",
    "two keys of one name, dotted": "optim: {lr: 0.1}\noptim.lr: 0.2",
    "octal": "train: {epochs: 012}",
    "sexagesimal": "train: {epochs: '1:30'}",
    "hexadecimal": "train: {epochs: 0x10}",
    "yes for true": "model: {freeze: yes}",
    "no for false": "model: {freeze: no}",
    "on for true": "model: {freeze: on}",
    "a number among names": "data: {classes: [cat, 12]}",
    "false among names": "data: {classes: [cat, false]}",
    "a python object": "optim: {name: !!python/name:os.system }",
    "a python call": "name: !!python/object/apply:os.system ['true']",
    "a tag": "optim: {lr: !!float 0.1}",
    "an alias": "data: {classes: &a [x, y]}\nname: *a",
    "an anchor alone": "name: &a mine",
    "merged keys": "optim: {<<: {lr: 0.1}}",
    "deep nesting": "a: " + "[" * 5000 + "]" * 5000,
    "deep mappings": "{a: " * 5000 + "1" + "}" * 5000,
    "a tab": "optim:\n\tlr: 0.1",
    "bad indent": "optim:\n  lr: 0.1\n name: sgd",
    "no mapping": "- 1\n- 2",
    "a word": "hello",
    "empty": "",
    "two documents": "name: a\n---\nname: b",
    "a megabyte": "name: " + "x" * 1_000_001,
    "binary": "\x00\x01\x02",
    "nan": "optim: {lr: .nan}",
    "infinity": "optim: {lr: .inf}",
    "too large": "optim: {lr: 1e400}",
    "negative": "optim: {lr: -1}",
    "batch of none": "train: {batch_size: 0}",
    "huge": "train: {batch_size: 1" + "0" * 30 + "}",
    "text for a number": "optim: {lr: fast}",
    "a list for a number": "optim: {lr: [0.1]}",
    "a number for a list": "optim: {betas: 0.9}",
    "a section as a value": "optim: 3",
    "a key that is a list": "? [a, b]\n: 1",
    "an unknown section": "optimm: {lr: 0.1}",
    "a removed name": "optim: {learning_rate: 0.1}",
}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(8)
)


def check_pitfalls(settings: Settings) -> Outcome:
    """Read spellings of numbers, and files that YAML readers misinterpret or cannot finish."""
    path, failures, tried = settings.folder / "mine.yaml", [], 0
    spellings = itertools.product(NUMBERS.items(), ("", "\ufeff"), ("\n", "\r\n"))
    for (text, value), mark, end in spellings:
        path.write_bytes(f"{mark}name: mine{end}optim:{end}  lr: {text}{end}".encode())
        tried += 1
        try:
            found = files.load_recipe_file(path).optim.lr
            if found != value:
                failures.append(f"{text} became {found!r}")
        except SightlineError as error:
            failures.append(f"{text} was rejected: {error}")
    for name, text in {**INVALID, "an alias bomb": BOMB}.items():
        path.write_text(text, encoding="utf-8")
        tried += 1
        try:
            values = files.load_recipe_file(path)
            if text:
                failures.append(f"{name} was accepted: {values.name}")
        except SightlineError as error:
            if error.status != 2 or str(path) not in str(error) or not error.cure or len(str(error)) > 3000:
                failures.append(f"{name}: {error}")
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    for words in (["--optim.lr", "fast"], ["--optim.lr", "-1"], ["--train.epochs", "012"], ["--optim.lr", "&a 1"],
                  ["--optim", "3"], ["--lr", "1"], ["--optim.lr", "1", "--optim.lr", "2"], ["--optim.lr"]):  # fmt: skip
        tried += 1
        status, text = train("digits", words)
        if status != 2 or "Traceback" in text or "cure" not in text:
            failures.append(f"{' '.join(words)}: status {status}, {text}")
    status, text = train("digits", ["--optim.lr", "1e-3"])
    if "nowhere" not in text or "optim.lr" in text:
        failures.append(f"--optim.lr 1e-3: {text}")
    return Outcome(tried + 1, tuple(failures))


@contextlib.contextmanager
def plain_yaml() -> Generator[None]:
    """PyYAML's safe_load, which keeps the last of two equal keys."""
    import yaml

    def parse(text: str, where: str) -> object:
        try:
            return yaml.safe_load(text)
        except Exception as error:
            raise SightlineError("this is not valid YAML", where=where, why=str(error), cure="correct it") from error

    with mock.patch.object(files, "parse_yaml", parse):
        yield


ROWS = (
    Row(
        "misspelled settings",
        SECTION,
        "every key with one wrong letter (omitted, doubled, replaced or swapped) is an error with exit status 2 that "
        "suggests the correct key, in files and as an option",
        check_misspellings,
        {"wrong suggestions": no_hint, "unknown keys are dropped": drop_unknown_keys},
    ),
    Row(
        "YAML pitfalls",
        SECTION,
        "1e-3 is a number; duplicate keys, aliases, tags, deep nesting, tabs, octal numbers and the like are errors "
        "that name the file",
        check_pitfalls,
        {"yaml.safe_load": plain_yaml},
    ),
)
