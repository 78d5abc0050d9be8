"""Where commands find the token of a server."""

import pytest

from kindaware._errors import OptionError
from kindaware.cli._token import read_token


def test_token_is_that_of_the_option_or_the_file(tmp_path):
    (tmp_path / "token").write_text("from-a-file\n")
    assert read_token(None, None) is None
    assert read_token("given", None) == "given"
    assert read_token(None, tmp_path / "token") == "from-a-file"


@pytest.mark.parametrize(
    ("token", "text", "words"),
    [
        ("given", "from-a-file", "--token with --token-file: expected one of them, got both"),
        (
            "two words",
            None,
            "--token: expected a token, of ASCII letters, digits and signs, got others, or a",
        ),
        ("a\r\nHost: b", None, "got others, or a blank; correct it"),
        ("grün", None, "got others, or a blank; correct it"),
        ("", None, "--token: expected a token, .* got none; correct it"),
        (None, "\n", "--token-file .*token: expected a token, .* got none; correct it"),
    ],
)
def test_read_token_refuses(tmp_path, token, text, words):
    path = None if text is None else tmp_path / "token"
    if path is not None:
        path.write_text(text)
    with pytest.raises(OptionError, match=words):
        read_token(token, path)


def test_read_token_refuses_a_file_that_can_not_be_read(tmp_path):
    with pytest.raises(
        OptionError, match=r"--token-file .*/none: expected a file to read, got .*No such file"
    ):
        read_token(None, tmp_path / "none")
