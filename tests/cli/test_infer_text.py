"""Text that streams, as `kindaware infer` prints it; the server is left out."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from kindaware.cli._app import run
from kindaware.client._metadata import Metadata, Tensor

PIECES = ["Once ", "upon", " a time"]


@pytest.fixture
def infer(monkeypatch, capsys):
    """Runs the command on a model that streams these pieces; returns what it prints."""

    @contextlib.contextmanager
    def client(*_, **__):
        metadata = Metadata("story", (), (Tensor("PIECE", "BYTES", (1,), False),), False, True)
        items = [{"PIECE": np.array([piece.encode()], dtype=object)} for piece in PIECES]
        yield SimpleNamespace(metadata=metadata, stream=lambda *_, **__: iter(items))

    monkeypatch.setattr("kindaware.client.ModelClient", client)
    monkeypatch.setattr(
        "kindaware.client._transport.Transport", lambda *_: SimpleNamespace(close=lambda: None)
    )

    def infer(*options):
        with pytest.raises(SystemExit) as ended:
            run(["infer", "story", *options])
        return ended.value.code or 0, *capsys.readouterr()

    return infer


def test_streamed_text_in_a_pipe_has_a_line_for_each_item(infer):
    assert infer() == (0, "Once \nupon\n a time\n", "")


def test_streamed_text_in_a_terminal_is_joined(infer, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert infer()[1] == "Once upon a time\n"


def test_streamed_text_as_json_is_as_before(infer):
    assert infer("--json")[1].splitlines()[1] == '{"outputs": {"PIECE": ["upon"]}}'


def test_best_classes_of_a_text_are_refused(infer):
    code, out, errors = infer("--top", "3")
    assert (code, out) == (1, "")
    assert errors.startswith("kindaware infer: --top 3: expected an output of numbers")
    assert errors.rstrip().endswith("got PIECE BYTES; leave --top and --labels out")
