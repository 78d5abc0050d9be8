"""`load_model`, `unload_model`, `is_model_ready` and `get_model_dir`."""

from __future__ import annotations

import re
from typing import Any

from kindaware.testing.stand_in.host.errors import RefusalError
from kindaware.testing.stand_in.host.host import Host
from kindaware.testing.stand_in.objects.metric_family import check_answers, refusal
from kindaware.testing.stand_in.objects.triton_error import TritonModelException
from kindaware.testing.stand_in.pybind.convert import (
    NO_CAST,
    MismatchError,
    shown,
    to_bool,
    to_object,
    to_str,
)
from kindaware.testing.stand_in.pybind.pybind import Arg, ModuleFunction, function

UNKNOWN_MODEL_RAISES_SINCE = (26, 7)
_MODEL = Arg("model_name", "str", to_str)


@function(_MODEL, Arg("config", "str", to_str, ""), Arg("files", "object", to_object, None))
def load_model(host: Host, model_name: str, config: str, files: Any) -> None:
    """Load another model."""
    name = shown(model_name)
    if files is not None and not isinstance(files, dict):
        raise TritonModelException(
            f"failed to load model '{name}', files should be a dictionary of file paths and file contents"
        )
    contents = {_read_path(path): _check_content(content) for path, content in (files or {}).items()}
    check_answers(host, "load_model")
    try:
        host.load_model(name, shown(config), contents)
    except RefusalError as error:
        raise refusal(host, "Failed to load model", error) from None


def _read_path(path: object) -> str:
    try:
        return shown(to_str(path))
    except MismatchError:
        raise RuntimeError(NO_CAST) from None


def _check_content(content: object) -> bytes:
    if not isinstance(content, bytes):
        raise TypeError(f"Object of type '{type(content).__name__}' is not an instance of 'bytes'")
    return content


@function(_MODEL, Arg("unload_dependents", "bool", to_bool, False))
def unload_model(host: Host, model_name: str, unload_dependents: bool) -> None:
    """Unload another model."""
    check_answers(host, "unload_model")
    try:
        host.unload_model(shown(model_name), unload_dependents)
    except RefusalError as error:
        raise refusal(host, "Failed to unload model", error) from None


@function(_MODEL, Arg("model_version", "str", to_str, ""), returns="bool")
def is_model_ready(host: Host, model_name: str, model_version: str) -> bool:
    """Ask whether a model is ready."""
    check_answers(host, "is_model_ready")
    prefix = "Failed to check model readiness"
    try:
        ready = host.is_model_ready(shown(model_name), _read_version(shown(model_version)))
    except RefusalError as error:
        raise refusal(host, prefix, error) from None
    if ready is None and host.server_version >= UNKNOWN_MODEL_RAISES_SINCE:
        raise refusal(host, prefix, f"Request for unknown model: '{shown(model_name)}' is not found")
    return bool(ready)


def _read_version(text: str) -> str:
    """Parse the number at the start of the text, as C's `strtol` does.

    Raises:
        RefusalError: there is none, or it is no version.
    """
    if not text:
        return ""
    found = re.match(r"\s*[+-]?\d+", text)
    number = None if found is None else int(found.group())
    details = " (details: stol)" if number is None or not -(2**63) <= number < 2**63 else ""
    if details or number is None or number < 0:
        raise RefusalError(
            f"failed to get model version from specified version string '{text}'{details}, "
            "version should be an integral value > 0"
        )
    return str(number)


@function(returns="str")
def get_model_dir(host: Host) -> str:
    """Return the directory of the model's version."""
    return host.model_dir


FUNCTIONS = {
    "get_model_dir": ModuleFunction(get_model_dir, is_in_c=False),
    "is_model_ready": ModuleFunction(is_model_ready),
    "load_model": ModuleFunction(load_model),
    "unload_model": ModuleFunction(unload_model),
}
"""Functions that both modules, or one of them, have beside their classes, by name."""
