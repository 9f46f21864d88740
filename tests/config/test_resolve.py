"""Configuration: errors with suggestions for invalid settings, strict YAML, and round trips through files."""

import functools
import string
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config_toys import configured
from sightline.config.resolve import all_keys, nearest, resolve, to_yaml, with_data
from sightline.config.schema import Augment, Config, Data, Model, Optim, Schedule, Train
from sightline.config.strict_yaml import parse_yaml
from sightline.errors import USER, SightlineError
from sightline.tasks.classify.config import ClassifyConfig
from sightline.tasks.files import load_recipe_file


def read(folder: Path, text: str) -> Config:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe_file(path)


def rejected(settings: dict[str, Any]) -> SightlineError:
    with pytest.raises(SightlineError) as caught:
        configured(settings)
    assert caught.value.status == USER and caught.value.cure
    return caught.value


def test_settings_without_effect_are_rejected() -> None:
    error = rejected({"optim.name": "adamw", "schedule.name": "one_cycle", "schedule.momentum_at_peak": 0.85})
    assert "schedule.momentum_at_peak needs optim.name sgd" in str(error)
    cycled = {"optim.name": "sgd", "schedule.name": "one_cycle", "schedule.momentum_at_peak": 0.85}
    assert configured(cycled).schedule.momentum_at_peak == 0.85


# ------------------------------------------------------------------------------------------------------ unknown keys


KEYS = set(all_keys())


def one_edit(key: str) -> set[str]:
    """Typos of a key: at each letter one is deleted, doubled, replaced or swapped with the next; dots remain."""
    typos = set()
    for i, letter in enumerate(key):
        if letter == ".":
            continue
        edits = [key[:i] + key[i + 1 :], key[:i] + letter + key[i:], key[:i] + "q" + key[i + 1 :]]
        if i + 1 < len(key) and key[i + 1] != ".":
            edits.append(key[:i] + key[i + 1] + letter + key[i + 2 :])
        typos.add(edits[i % len(edits)])
    return {typo for typo in typos - KEYS if not typo.endswith(".") and not typo.startswith(".")}


@pytest.mark.parametrize("key", all_keys())
def test_typos_of_every_key_suggest_the_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each typo is looked up twice, dotted and nested; a look-up takes milliseconds, and there are thousands.
    monkeypatch.setattr("sightline.config.resolve.nearest", functools.cache(nearest))
    for typo in one_edit(key):
        error = rejected({typo: 1})
        assert f"there is no setting {typo!r}" == error.what
        assert key in error.cure.split("?")[0].removeprefix("did you mean ").split(" or "), (typo, error.cure)
        nested: dict[str, Any] = {}
        *parents, last = typo.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = 1
        assert rejected(nested).what == error.what


def test_a_key_in_the_wrong_section_suggests_the_right_section() -> None:
    assert "did you mean train.epochs?" in rejected({"optim.epochs": 3}).cure
    assert "did you mean loss.gamma or schedule.gamma?" in rejected({"train.gamma": 3}).cure
    assert "did you mean optim.lr?" in rejected({"lr": 3}).cure
    assert "did you mean optim.lr?" in rejected({"optim.learning_rate": 3}).cure
    assert "did you mean data.size?" in rejected({"imgsz": 640}).cure
    assert "one of these sections: name, task, data" in rejected({"zzzzzzz": 3}).cure


def test_all_errors_are_reported_together() -> None:
    error = rejected({"optim.lr": -1, "optimm.lr": 1, "train.epoch": 3, "data": {"size": "big"}, "train.seed": True})
    for expected in ("optim.lr: input should be greater than 0, found -1", "did you mean optim.lr?", "train.epochs?",
                     "data.size: input should be a valid integer, found 'big'", "train.seed"):  # fmt: skip
        assert expected in error.why
    assert len(error.why.strip().splitlines()) == 5


def test_a_value_below_a_value_is_rejected() -> None:
    assert "there is no setting 'optim.lr.x', because 'lr' has the single value 0.1" in rejected({"optim.lr.x": 3}).what
    assert "single value" in rejected({"optim": 3, "optim.lr": 1}).what
    assert "optim: input should be" in rejected({"optim": 3}).what


def test_nearest_returns_text_for_any_key() -> None:
    for key in ("", ".", "x" * 10_000, "optim.", "字"):
        assert nearest(key)


# ------------------------------------------------------------------------------------------------------ invalid values

WRONG = {
    "optim.lr": ["abc", True, None, [0.1], {"a": 1}, 0, -1, float("nan"), float("inf"), ".nan", ".inf", "1e400"],
    "train.epochs": [0, -1, 1.5, 3.0, "1.5", "1e3", True, "true", "", None, 10**30, "0x10", "012", "1:30"],
    "train.seed": [-1, 1.5, "abc", 2**31],
    "train.batch_size": [0, 2**31],
    "model.freeze": ["yes", "no", "on", "off", "True", "y", 1, 0, "1", None],
    "data.size": [-1, "224px", [224], "[224]"],
    "data.layout": ["folders", 3, None],
    "data.path": [3, None, ["a"], True],
    "data.classes": ["cat", "[1, 2]", [1], "[cat, null]", "{a: b}"],
    "data.val_fraction": [0, 1, 1.5],
    "optim.betas": ["[0.9]", [0.9, 0.9, 0.9], "[0.9, 1]", [0.9, "0.9"], 0.9],
    "optim.name": [1],
    "augment.crop_scale": [[0.5, 0.1], [0, 1], [0.5, 1.1], "[0.5]"],
    "augment.blur_sigma": ["[2, 1]"],
    "augment.rand_magnitude": [31, -1],
    "augment.hue": [0.6],
    "model.args": [3, "text", "[1]"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_wrong_types_and_ranges_are_rejected(key: str, value: object) -> None:
    error = rejected({key: value})
    assert key in error.what + error.why


def test_long_values_are_shortened_in_errors() -> None:
    assert len(str(rejected({"optim.lr": ["x" * 1_000_000]}))) < 500


def test_contradicting_settings_are_rejected() -> None:
    assert "nesterov needs momentum above 0" in rejected({"optim": {"nesterov": True, "momentum": 0}}).what
    assert "alternate_flip needs horizontal_flip above 0" in rejected({"augment.alternate_flip": True}).what
    both = rejected({"loss.terms": {"dice": 1.0}, "train.best_metric": "mean_iou"}).what
    assert (
        "loss.terms, a sum of losses, is available for segmentation only" in both
        and "train.best_metric must be accuracy" in both
    )


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ClassifyConfig().optim.lr = 1.0  # ty: ignore[invalid-assignment]


# --------------------------------------------------------------------------------------------- command-line text


def test_strings_are_parsed_unless_the_setting_is_a_string() -> None:
    config = configured(
        {
            "optim.lr": "1e-3",
            "optim.betas": "[0.9, 0.95]",
            "schedule.milestone_epochs": "[10,50]",
            "model.freeze": "true",
            "train.epochs": "60",
            "data.classes": "[cat, 01, no]",
            "model.args": "{depth: 3, act: gelu}",
            "model.args.width": "8",
            "optim.name": "adamw",
        },
    )
    assert config.optim == Optim(name="adamw", lr=0.001, betas=(0.9, 0.95))
    assert config.schedule.milestone_epochs == (10, 50) and config.train.epochs == 60 and config.model.freeze
    assert config.data.classes == ("cat", "01", "no")
    assert config.model.args == {"depth": 3, "act": "gelu", "width": 8}


@pytest.mark.parametrize(
    "text", ["01", "1e-3", "true", "null", "{label}_{id}", "[a]", "- x: &y", "a: b", "~", "!!x", ""]
)
def test_strings_are_unchanged_if_the_setting_is_a_string(text: str) -> None:
    config = configured({"data.pattern": text, "data.path": text, "train.device": text})
    assert config.data.pattern == config.data.path == config.train.device == text


def test_the_error_of_invalid_yaml_names_the_setting() -> None:
    error = rejected({"optim.betas": "[0.9, "})
    assert "optim.betas" in error.where and "not valid YAML" in error.what


def test_overrides_change_neither_other_settings_nor_the_base() -> None:
    base = ClassifyConfig(model=Model(args={"depth": 2}), optim=Optim(lr=0.5, momentum=0.8))
    config = resolve(base, {"optim": {"lr": 0.1}, "model": {"args": {"width": 3}}})
    assert config.optim == Optim(lr=0.1, momentum=0.8) and config.model.args == {"width": 3}
    assert base.model.args == {"depth": 2} and resolve(base) == base


def test_a_setting_given_twice_is_rejected(tmp_path: Path) -> None:
    assert "'optim.lr' is given twice" in rejected({"optim": {"lr": 1}, "optim.lr": 2}).what
    values = {"model.args.width": 3, "model.args": {"depth": 2}}
    assert configured(values).model.args == {"depth": 2, "width": 3}, "in whatever order"
    assert with_data({"data": {"size": 16}}, "photos") == {"data.size": 16, "data.path": "photos"}
    with pytest.raises(SightlineError, match=r"'data\.path' is given twice"):
        with_data({"data.path": "a"}, "b")
    with pytest.raises(SightlineError, match="given twice"):
        read(tmp_path, "optim.lr: 1\noptim:\n  lr: 2\n")


# -------------------------------------------------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("1E5", 1e5), ("-1.5e+2", -150.0), ("1.", 1.0), (".5", 0.5), ("+3", 3), ("0", 0), ("-0.0", -0.0),
     ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
     ("012", "012"), ("0x1f", "0x1f"), ("1:30", "1:30"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("True", "True"),
     ("2001-01-01", "2001-01-01"), (".inf", ".inf"), (".nan", ".nan"), ("e5", "e5"), ("1e", "1e"), ("1.2.3", "1.2.3"),
     ("'1'", "1"), ("[10, 50]", [10, 50]), ("[a, [b]]", ["a", ["b"]])],
)  # fmt: skip
def test_scalars_have_the_expected_type_and_value(text: str, value: object) -> None:
    found = parse_yaml(text, "here")
    assert found == value and type(found) is type(value)


def test_values_of_equal_texts_are_independent() -> None:
    parse_yaml("a: [1]", "x")["a"].append(2)
    assert parse_yaml("a: [1]", "x") == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [("a: 1\nb: 2\na: 3", 3, "appears twice"), ("optim: {lr: 1, lr: 2}", 1, "appears twice"), ("a: &x 1", 1, "anchors"),
     ("a: 1\nb: *x", 2, "aliases"), ("a: !!python/name:os.system", 1, "tags"), ("!!float ''", 1, "tags"),
     ("a: !!timestamp x", 1, "tags"), ("a: !x 1", 1, "tags"), ("? [a]\n: 1", 1, "single"), ("{{a: 1}: 2}", 1, "single"),
     ("a:\n\tb: 1", 2, ""), ("a: [1", 1, ""), ("a: 1\n---\nb: 2", 2, ""), ("<<: {a: 1}", 1, ""), ("a: 'x", 1, "")],
)  # fmt: skip
def test_yaml_errors_have_line_and_column(text: str, line: int, why: str) -> None:
    with pytest.raises(SightlineError, match="not valid YAML") as caught:
        parse_yaml(text, "recipe.yaml")
    assert f"recipe.yaml, line {line}, column" in caught.value.where and why in caught.value.why


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: &a [*a]", "[" * 50_000, "{a: " * 50_000, "- " * 5_000, "x" * 1_000_001, "9" * 5000, "\x00", "\x1b"],
    ids=["bomb", "loop", "lists", "mappings", "dashes", "long", "digits", "null byte", "escape"],
)  # fmt: skip
def test_malicious_files_are_rejected_quickly(tmp_path: Path, text: str) -> None:
    start = time.process_time()
    with pytest.raises(SightlineError):
        read(tmp_path, text)
    assert time.process_time() - start < 3


PIECES = [
    *"[]{},!'\"|>#\t\\=@`._1a",
    "optim",
    "lr",
    ": ",
    "\n",
    "  ",
    "- ",
    "&x",
    "*x",
    "!!int",
    "1e-3",
    "~",
    "<<",
    "? ",
]
PIECES += ["---", "%YAML 1.1", "\u2028", "0o7"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.text(max_size=60)))
def test_any_text_is_read_or_rejected(text: str) -> None:
    try:
        value = parse_yaml(text, "here")
        configured(value if isinstance(value, dict) else {"data.classes": text, "model.args": text})
    except SightlineError as error:
        assert error.status == USER and str(error)


# ------------------------------------------------------------------------------------------------------ recipe files


def test_a_recipe_file_overrides_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, "\ufeffoptim:\r\n  lr: 1e-3\r\ntrain: {epochs: 7}\r\n")
    assert config == ClassifyConfig(name="mine", optim=Optim(lr=0.001), train=Train(epochs=7))


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "must be a YAML mapping"), ("- a", "must be a YAML mapping"), ("hello", "must be a YAML mapping"),
     ("optim: {lr: '0.1'}", "optim.lr: input should be a valid number"), ("model: {freeze: yes}", "model.freeze"),
     ("train: {epochs: 012}", "train.epochs"), ("1: 2", "there is no setting '1'"), ("null: 2", "there is no setting"),
     ("optim:", "optim: input should be")],
)  # fmt: skip
def test_recipe_files_are_strict(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SightlineError) as caught:
        read(tmp_path, text)
    assert message in caught.value.what and str(tmp_path / "mine.yaml") in caught.value.where


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01" * 100)
    (tmp_path / "folder.yaml").mkdir()
    for name in ("binary.yaml", "folder.yaml", "none.yaml"):
        with pytest.raises(SightlineError, match="cannot read the recipe"):
            load_recipe_file(tmp_path / name)


def test_a_run_is_named_after_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg").mkdir()
    (tmp_path / "vgg" / "recipe.yaml").write_text("train: {epochs: 3}")
    monkeypatch.chdir(tmp_path / "vgg")
    assert (
        load_recipe_file(Path("recipe.yaml")).name == load_recipe_file(tmp_path / "vgg" / "recipe.yaml").name == "vgg"
    )


LOOKALIKES = [
    "yes",
    "no",
    "on",
    "null",
    "~",
    "true",
    "1e-3",
    "1e5",
    "012",
    "0x1f",
    "1:30",
    "2001-01-01",
    "1_000",
    ".inf",
]
LOOKALIKES += [
    "=",
    "<<",
    "",
    " ",
    "a: b",
    "# x",
    "- x",
    "*a",
    "&a",
    "!!int",
    "%x",
    "@x",
    "`x",
    "'",
    '"',
    "\\",
    "\t",
    "a\nb\n",
]
LOOKALIKES += [
    "字",
    "\U0001f600",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x00",
    "\x1b",
    "{label}_{id}",
    "[x]",
    "x" * 300,
    "1.",
    "+1",
]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_strings_that_look_like_other_types_round_trip(tmp_path: Path, text: str) -> None:
    config = ClassifyConfig(
        name=text, data=Data(path=text, classes=(text, text)), model=Model(args={"x": text, "y": [text, [1]]})
    )
    assert read(tmp_path, to_yaml(config)) == config


def test_shared_values_are_written_without_aliases(tmp_path: Path) -> None:
    shared = [1, 2]
    config = ClassifyConfig(model=Model(args={"a": shared, "b": shared, "c": {"d": shared}}))
    assert read(tmp_path, to_yaml(config)) == config


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(
    words,
    st.lists(st.one_of(words, st.sampled_from(LOOKALIKES)), max_size=4),
    st.dictionaries(words, st.one_of(words, numbers, st.integers(), st.booleans(), st.none()), max_size=4),
    st.floats(min_value=1e-300, max_value=1e300),
    st.lists(st.floats(min_value=1e-3, max_value=1e6), max_size=3),
)
def test_any_configuration_round_trips_through_yaml(
    word: str, classes: list[str], args: dict[str, Any], rate: float, milestones: list[float]
) -> None:
    config = ClassifyConfig(
        data=Data(path=word, classes=tuple(classes)),
        model=Model(args=args),
        optim=Optim(lr=rate),
        schedule=Schedule(milestone_epochs=tuple(milestones)),
        augment=Augment(horizontal_flip=0.5, alternate_flip=True),
    )
    assert configured(parse_yaml(to_yaml(config), "here")) == config


@pytest.mark.parametrize("text", [string.printable, "".join(map(chr, range(256)))])
def test_any_character_in_a_name_round_trips(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, to_yaml(ClassifyConfig(name=text))).name == text


def test_a_recipe_cannot_replace_a_setting_that_its_section_lacks() -> None:
    with pytest.raises(AssertionError, match=r"Train has not all of .*clip_norm"):
        Train().replace(clip_norm=3.0)
