"""SightlineError: message, escaping of control characters, pickling."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import ENVIRONMENT, USER, SightlineError, listing, printable


def test_message_has_what_where_why_and_cure() -> None:
    error = SightlineError("no images found", where="photos/", why="the folder is empty", cure="name another folder")
    expected = "no images found\n  where: photos/\n  why:   the folder is empty\n  cure:  name another folder"
    assert str(error) == expected and error.status == USER
    assert str(SightlineError("no images found", cure="x")) == "no images found\n  cure:  x"


def test_a_note_has_the_python_form_of_options_and_the_message_does_not() -> None:
    cure = "sightline train x --optim.lr 0.1 (--shard-mb 2); or --overwrite; or pip install --upgrade pillow"
    error = SightlineError("invalid value of --extend", cure=f"{cure}, --overwrite")
    (note,) = error.__notes__
    assert note == (
        'in Python: --extend is extend=...; --optim.lr is **{"optim.lr": ...}; --shard-mb is shard_mb=...; '
        "--overwrite is overwrite=..."
    )
    assert "in Python" not in str(error) and not hasattr(SightlineError("a--b", cure="use a-b -- c"), "__notes__")
    again = pickle.loads(pickle.dumps(error))
    assert again.__notes__ == [note]


def test_errors_can_be_pickled() -> None:
    error = SightlineError("a", where="b", why="c", cure="d", status=ENVIRONMENT)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.status == ENVIRONMENT and again.why == "c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("caf\xe9 \u5b57", "caf\xe9 \u5b57"), ("a\x1b[31m\rb\x00", "a\\x1b[31m\\rb\\x00"), ("\udcff.jpg", "\\udcff.jpg"),
     ("two\nlines", "two\nlines"), ("\u202egpj", "\\u202egpj"), (b"x", "b'x'"), (None, "None")],
)  # fmt: skip
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=())))
def test_printable_never_fails(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert all(c.isprintable() or c == "\n" for c in shown) and printable(shown) == shown


def test_listing_counts_the_omitted_items() -> None:
    assert listing([]) == ""
    assert listing(["a", "b"]) == "    a\n    b"
    assert listing([str(i) for i in range(1025)], 2) == "    0\n    1\n    ... and 1,023 more"
    assert listing(("a\n    forged",)) == "    a\\n    forged"


def test_long_lines_of_a_message_are_cut() -> None:
    text = str(SightlineError(f"only 1 class was found ({'x' * 10**6!r})", where="/data", why="a\n" + "b" * 3000))
    assert len(text) < 5000 and "more characters" in text and "/data" in text and "\na\n" not in text[:9]
