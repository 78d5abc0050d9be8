"""Errors of a model that runs in this process: its log, and one line that says what failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import typer

from kindaware._errors import KindAwareError
from kindaware._server.log import Record
from kindaware._server.request_failures import read_failed_requests, write_failed, write_load_failure
from kindaware.cli import _recorder
from kindaware.testing import InferenceError, ModelHarness, ModelLoadError, TritonContractError


class ModelFailedError(KindAwareError):
    """The model's own code failed while it loaded, or on a request."""


@contextlib.contextmanager
def explained(harness: ModelHarness) -> Iterator[None]:
    """Print the warnings and errors of a model's log where the block fails, and name the user's own line.

    Raises:
        ModelFailedError: in place of an error of the model's code, in one line.
    """
    try:
        yield
    except KindAwareError as error:
        failed = None
        for line in harness.logs:
            if line.level in ("WARNING", "ERROR"):
                typer.echo(_without_spans(line.text), err=True)
                failed = read_failed_requests(Record(line.level[0], line.text)) or failed
        if isinstance(error, ModelLoadError):
            text = f"model {error.model_name!r} can't be loaded: {write_load_failure(error.reason)}"
            raise ModelFailedError(text) from error
        if isinstance(error, InferenceError) and failed is not None:
            raise ModelFailedError(write_failed(failed)) from error
        raise
    except TritonContractError as error:
        raise ModelFailedError(str(error).partition("\n")[0]) from error


def _without_spans(text: str) -> str:
    """Return a traceback without the frames that only take the time."""
    spans = f"  {_recorder.__file__}("
    return "\n".join(line for line in text.rstrip().split("\n") if not line.startswith(spans))
