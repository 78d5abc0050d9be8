"""The CUDA graphs of an instance: in which order they are recorded, and that each is replayed once."""

import logging

import torch

from kindaware._batch.graph_recording import record_graphs
from kindaware._batch.request import Request

LOGGER = logging.getLogger("kindaware.tests")


class Runner:
    """Notes what is asked of it; captures no batch of more than 4 rows."""

    def __init__(self):
        self.log = []

    def record_graph(self, request):
        self.log.append(("record", request.rows))
        return "too large" if request.rows > 4 else None

    def begin_call(self):
        self.log.append("begin")

    def run(self, requests):
        self.log.append(("run", [one.rows for one in requests]))


def test_record_graphs_largest_first_and_replays_each_in_a_call_of_its_own(caplog):
    runner = Runner()
    requests = [Request("warm-up", {"X": torch.ones(rows, 2)}, rows) for rows in (2, 16, 4, 8)]
    assert record_graphs(runner, requests, "m", LOGGER) == [2, 4]
    recorded = [("record", rows) for rows in (16, 8, 4, 2)]
    assert runner.log == [*recorded, "begin", ("run", [2]), "begin", ("run", [4])]
    [record] = caplog.records
    assert (
        "model 'm' cuda_graphs batch size(s) 8, 16: expected a forward that can be captured, got too large;"
        in (record.getMessage())
    )
