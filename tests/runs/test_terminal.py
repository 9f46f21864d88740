"""Printed text is escaped, and paths are written to pipes unchanged."""

import io
import os
import sys
from pathlib import Path

import pytest

from sightline.runs.terminal import print_path, print_plain

HOSTILE = "a\x1b[2J\x9bb\u202egnp \udcff\r"
ESCAPED = "a\\x1b[2J\\x9bb\\u202egnp \\udcff\\r"


class Screen(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_control_characters_are_escaped_for_terminals(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Screen()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))  # errors="strict", as Python's stdout
    print_plain(f"{HOSTILE} caf\xe9\nsecond line")
    print_path(Path(HOSTILE))
    cafe = "caf\xe9" if encoding == "utf-8" else "caf\\xe9"
    assert raw.getvalue().decode(encoding) == f"{ESCAPED} {cafe}\nsecond line\n{ESCAPED}\n"


def test_paths_are_written_to_pipes_as_exact_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    print("before")
    print_path(Path(HOSTILE))
    assert raw.getvalue() == b"before\n" + os.fsencode(HOSTILE) + b"\n"


def test_printing_without_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as in a program without a console
    print_plain("a")
    print_path("a")
