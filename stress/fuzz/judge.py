"""What may come back for a case, and what may not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stress.fuzz.cases import STREAMING, Case
from stress.fuzz.wire import Outcome
from stress.messages import Values

SHAPES = {
    "batched": {"KEY": "INT64", "VALUES": "FP32", "TEXT": "BYTES"},
    "pipeline": {"KEY": "INT64", "VALUES": "FP32", "TEXT": "BYTES"},
    "sequence": {"KEY": "INT64", "VALUE": "INT64"},
    "streaming": {"KEY": "INT64", "COUNT": "INT32"},
    "step": {"KEY": "INT64", "COUNT": "INT32"},
}
"""Data types of each model's inputs by name."""

_LEAKS = re.compile(r"/tmp/|/srv/|/usr/|/home/|site-packages|Traceback|\.py\b")
"""What no client is to read: files of the server, and lines of code."""

_LIBRARY = re.compile(r"expected (execute|reading the request|building the response|sending the response) to")
"""What the library says of errors outside of the hooks: there should be none."""


def judge(case: Case, outcome: Outcome) -> str | None:
    """Return what is wrong with the outcome of a case; None if it is right."""
    if outcome.kind == "torn":
        return None
    if outcome.kind in ("hang", "closed"):
        return f"{outcome.kind}: {outcome.text}"
    # What the client itself has sent may come back.
    sent = repr((case.model, case.request_id, case.parameters, case.body, case.outputs, case.tensors))
    if (leak := _LEAKS.search(outcome.text)) and leak[0] not in sent:
        return f"leak: {outcome.text}"
    if _LIBRARY.search(outcome.text):
        return f"library: {outcome.text}"
    if "unreadable answer" in outcome.text:
        return outcome.text
    return _judge_items(case, outcome) if case.body is None else None


def _judge_items(case: Case, outcome: Outcome) -> str | None:
    """Compare each item with what was sent, where that is known."""
    sent = {one.name: one.values for one in case.tensors}
    types = {one.name: one.datatype for one in case.tensors}
    is_known = len(sent) == len(case.tensors) and types == SHAPES.get(case.model, {})
    if not is_known or None in sent.values():
        return None
    # HTTP leaves out an empty one.
    known_as = case.request_id.partition("\0")[0]  # the server's ids end at a zero byte
    if outcome.items and case.protocol in ("grpc", "stream") and outcome.request_id != known_as:
        return f"id {outcome.request_id!r}"
    if case.model in STREAMING:
        return _judge_stream(case, outcome, sent["KEY"], sent["COUNT"])
    wrong = [item for item in outcome.items if not _is_right(case, item, sent)]
    return f"answer {wrong[0]}" if wrong else None


def _is_right(case: Case, item: Values, sent: dict[str, Any]) -> bool:
    """Whether each output that came is that of the request's own inputs."""
    has_keys = item.get("KEY", list(sent["KEY"])) == list(sent["KEY"])
    has_values = "DOUBLED" not in item or _is_double(item["DOUBLED"], sent["VALUES"])
    return has_keys and has_values and ("TEXT" not in item or item["TEXT"] == _texts_of(case, sent["TEXT"]))


def _judge_stream(case: Case, outcome: Outcome, keys: Any, counts: Any) -> str | None:
    for index, item in enumerate(outcome.items):
        if item.get("KEY", list(keys)) != list(keys) or item.get("INDEX", [index]) != [index]:
            return f"item {index}: {item}"
    is_short = len(outcome.items) < abs(counts[0])
    # `generate` takes one item, and the others are none of an error.
    if outcome.kind == "answer" and (is_short or counts[0] < 0) and case.protocol == "stream":
        return f"{len(outcome.items)} items without an error"
    return None


def _is_double(found: list[Any], values: Any) -> bool:
    # JSON has no word for what is no number.
    numbers = [float("nan") if one is None else one for one in found]
    with np.errstate(over="ignore"):
        wanted = 2 * np.array(values, np.float32)
    return np.array_equal(np.array(numbers, np.float32), wanted, equal_nan=True)


def _texts_of(case: Case, values: Any) -> list[bytes]:
    """Return the texts as they were sent: in JSON each byte is a character."""
    if case.protocol == "http" and not case.is_binary:
        return [one.decode("latin-1").encode() for one in values]
    return list(values)
