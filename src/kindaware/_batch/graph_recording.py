"""The CUDA graphs of an instance, recorded when the warm-up has run their batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from logging import Logger

from kindaware._batch.request import Request
from kindaware._batch.runner import BatchRunner
from kindaware._errors import message


def record_graphs(runner: BatchRunner, requests: Sequence[Request], model: str, logger: Logger) -> list[int]:
    """Record a graph for the rows of each request, and replay it once: that sends it to the device.

    The largest comes first, so that the others find room in its memory.

    Args:
        runner: which has run each of the requests.
        requests: one per batch size.
        model: the model's name, for messages.
        logger: told why there is no graph for a size.

    Returns:
        The rows for which there is a graph, in rising order.

    Sync:
        Host with device.
    """
    refused: dict[str, list[int]] = {}
    recorded = []
    for request in sorted(requests, key=lambda one: one.rows or 0, reverse=True):
        reason = runner.record_graph(request)
        if reason is None:
            recorded.append(request)
        else:
            refused.setdefault(reason, []).append(request.rows or 0)
    for reason, sizes in refused.items():
        text = message(
            f"model {model!r} cuda_graphs batch size(s) {', '.join(map(str, sorted(sizes)))}",
            expected="a forward that can be captured",
            got=reason,
            remedy="these run without a graph; change forward, or set cuda_graphs to 'off'",
        )
        logger.warning("%s", text)
    for request in reversed(recorded):
        runner.begin_call()
        runner.run([request])
    return sorted(request.rows or 0 for request in recorded)
