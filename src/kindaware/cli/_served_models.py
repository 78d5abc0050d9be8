"""Errors about a server's models that say what the server has, and what the command line lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from kindaware._errors import ConfigError

if TYPE_CHECKING:
    from kindaware.client._metadata import Metadata, Tensor
    from kindaware.client._transport import Transport


@contextmanager
def unknown_named(transport: Transport, model: str, timeout_seconds: float) -> Iterator[None]:
    """Where the block fails since the server has no such model, name those that it has.

    Raises:
        ConfigError: in place of that error.
    """
    from kindaware.client import ModelClientError

    try:
        yield
    except ModelClientError as error:
        known = transport.ready_models(timeout_seconds) if error.was_sent else [model]
        if model in known:
            raise
        raise ConfigError.of(
            f"model {model!r} of {transport.scheme}://{transport.address}",
            expected="a model that is ready",
            got="none of that name",
            remedy=f"it has {', '.join(_nearest_first(model, known)) or 'no model that is ready'}",
        ) from error


def refuse_missing(model: str, inputs: Sequence[Tensor], values: Mapping[str, Any]) -> None:
    """Refuse to send a request without an input that the model needs.

    Raises:
        ConfigError: an input has no value.
    """
    missing = [one for one in inputs if not one.is_optional and one.name not in values]
    if missing:
        shown = ", ".join(f"{one.name} {one.datatype} {list(one.dims)}" for one in inputs)
        raise ConfigError.of(
            f"model {model!r} input {missing[0].name!r}",
            expected=f"a value for each input: {shown}",
            got="none",
            remedy=f"pass --input {missing[0].name}=VALUE, or --random",
        )


def refuse_no_sequence(metadata: Metadata) -> None:
    """Refuse to send a request of no sequence to a model that needs one.

    Raises:
        ConfigError: the model needs one.
    """
    if metadata.is_sequence:
        raise ConfigError.of(
            f"model {metadata.model!r}",
            expected="a request of a sequence",
            got="no --sequence-id",
            remedy="pass --sequence-id N, with --sequence-start on the first request and --sequence-end on "
            "the last",
        )


def _nearest_first(name: str, known: Sequence[str]) -> list[str]:
    return sorted(known, key=lambda one: -SequenceMatcher(None, name.lower(), one.lower()).ratio())
