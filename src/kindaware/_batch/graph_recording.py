"""Recording of an instance's CUDA graphs, after the warm-up has run their batch sizes."""

from __future__ import annotations

from collections.abc import Sequence
from logging import Logger

from kindaware._batch.request import Request
from kindaware._batch.runner import BatchRunner
from kindaware._errors import message


def record_graphs(runner: BatchRunner, requests: Sequence[Request], model: str, logger: Logger) -> list[int]:
    """Record a CUDA graph for the batch size of each request, and replay it once, which uploads it.

    Args:
        runner: the runner, which has run each of the requests before.
        requests: one per batch size.
        model: name of the model, for messages.
        logger: gets a warning for each reason why a size has no graph.

    Returns:
        The batch sizes that have a graph, in rows, ascending.

    Sync:
        Host with device.
    """
    refused: dict[str, list[int]] = {}
    recorded = []
    # Largest first: all graphs share one memory pool, in which the smaller ones then fit.
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
    # Each as a call of its own, since outputs are fetched into buffers that a call holds until its end.
    for request in reversed(recorded):
        runner.begin_call()
        runner.run([request])
    return sorted(request.rows or 0 for request in recorded)
