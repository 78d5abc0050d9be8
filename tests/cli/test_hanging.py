"""Long lines are folded in a terminal, and left alone in a pipe."""

import sys

import pytest

from kindaware.cli._hanging import hang

TEXT = "an error in the middle of a called model's stream is lost, and the caller may wait for ever"


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)


def test_a_pipe_gets_one_line():
    assert hang(TEXT, 12) == TEXT


def test_lines_are_folded_below_where_the_text_begins(terminal):
    first, *others = hang(TEXT, 12).splitlines()
    assert others
    assert 12 + len(first) <= 50
    assert all(line.startswith(" " * 12 + line[12]) and len(line) <= 50 for line in others)
    assert " ".join([first, *(line.strip() for line in others)]) == TEXT


def test_other_lines_may_have_an_indentation_of_their_own(terminal):
    assert all(
        line.startswith("    ") and line[4] != " " for line in hang(TEXT, 12, further=4).splitlines()[1:]
    )


def test_a_terminal_too_narrow_for_the_column_leaves_words_whole(terminal):
    assert [line.split() for line in hang("one two", 60).splitlines()] == [["one", "two"]]


def test_a_path_longer_than_a_line_stays_in_one_piece(terminal):
    assert "a" * 80 in hang("see " + "a" * 80, 2)
