"""Parameters of responses and of calls: what Triton can't pass on is refused."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType

from kindaware._errors import RequestError, message


def check_parameters(parameters: Mapping[str, object], subject: str) -> None:
    """Refuse parameters of a response or a call that Triton can't pass on unchanged.

    A server of 26.x aborts on a whole number that is not INT64, and every server cuts text at a NUL.
    Source: measured on tritonserver 2.51.0 and 2.73.0dev.

    Raises:
        RequestError: a name or value can't be passed on.
    """
    for name, value in parameters.items():
        got = ""
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            got = f"{value}, which is no INT64"
        elif "\0" in name or (isinstance(value, str) and "\0" in value):
            got = "text with a NUL"
        elif not (_is_utf8(name) and _is_utf8(value)):
            got = "text that has no UTF-8, such as half of a surrogate pair"
        if got:
            text = message(
                f"{subject} {name!r}",
                expected="booleans, text in UTF-8 without NUL, and whole numbers from -2**63 to 2**63 - 1",
                got=got,
                remedy="send it as text in another form, or as an output",
            )
            raise RequestError(text)


def _is_utf8(value: object) -> bool:
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def require_response_parameters(pb_utils: ModuleType, model: str) -> None:
    """Refuse response parameters on a server that doesn't support them.

    Raises:
        RequestError: the server is older than 25.02.
    """
    if not hasattr(pb_utils.InferenceResponse, "parameters"):
        text = message(
            f"model {model!r} response_parameters",
            expected="a server whose responses have parameters",
            got="one before release 25.02",
            remedy="use a newer server, or an output",
        )
        raise RequestError(text, code="UNSUPPORTED")
