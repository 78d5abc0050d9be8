"""The number of threads that an instance measures when it loads on a server."""

import asyncio

import pytest
import torch
from core_kit import Doubler, group, make_config, start, tensor

from kindaware import KindAwareModel, RequestError
from kindaware._tuning.quiet import OthersMeasureError
from kindaware._tuning.threads import ThreadTimes

TUNER = "kindaware._tuning.instance_tuner"
COST = {1: {1: 1e-5}, 2: {1: 1e-3}, 4: {1: 1e-3}}


class Noting(Doubler):
    """Notes with how many threads it was called, and the rows of each batch."""

    def load(self):
        self.seen = []

    def forward(self, X):
        self.seen.append((torch.get_num_threads(), len(X)))
        return 2 * X


@pytest.fixture
def server(monkeypatch):
    """A server with four free cores, on which one thread is best; returns what was measured."""
    asked = []

    def measure(counts, forwards, set_threads):
        for count in counts:
            set_threads(count)
            for run in forwards.values():
                run()
        asked.append((list(counts), list(forwards)))
        return ThreadTimes(counts[0], {count: {1: COST[count][1]} for count in counts})

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("kindaware._device.placed_instance.count_cores", lambda: 4)
    monkeypatch.setattr("kindaware._instance.is_stub", lambda: True)
    monkeypatch.setattr(f"{TUNER}.measure_in_quiet", lambda measure, cores: (measure(cores), cores))
    monkeypatch.setattr(f"{TUNER}.measure_threads", measure)
    return asked


def test_auto_sets_the_number_that_was_measured_and_logs_it(server, caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        model = start(Noting)
    assert server == [([4, 2, 1], [1, 8])]
    assert model.seen == [(4, 1), (4, 8), (2, 1), (2, 8), (1, 1), (1, 8), (1, 1)]
    assert torch.get_num_threads() == 1
    assert "threads 1 of 4: batches of 1 with 1: 0.01 ms" in caplog.text
    assert "threads 1 (measured, of 4 cores / 1 CPU instance)" in caplog.text


def test_auto_where_all_threads_are_best_keeps_them(server, monkeypatch):
    monkeypatch.setitem(COST, 1, {1: 1.0})
    monkeypatch.setitem(COST, 2, {1: 1.0})
    start(Noting)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("changes", "counts", "sizes"),
    [
        ({"instance_group": [group(count=2)]}, [2, 1], [1, 8]),
        ({"max_batch_size": 3}, [4, 2, 1], [1, 3]),
        ({"max_batch_size": 0, "dynamic_batching": None}, [4, 2, 1], [1]),
        ({"dynamic_batching": None}, [4, 2, 1], [1]),
        ({"parameters": {"kindaware.warmup": "4,2"}}, [4, 2, 1], [2, 4]),
        ({"parameters": {"kindaware.wait_policy": "passive"}}, [4, 1], [1, 8]),
    ],
)
def test_auto_tries_what_is_served(server, monkeypatch, changes, counts, sizes):
    monkeypatch.setattr("kindaware._device.placed_instance.stop_spinning", lambda *_: None)
    start(
        Noting,
        config=make_config(**{"parameters": {}, **changes}) if "parameters" not in changes else None,
        **({"parameters": changes["parameters"]} if "parameters" in changes else {}),
    )
    assert server == [(counts, sizes)]


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ({"parameters": {"kindaware.num_threads": "share"}}, 4),
        ({"parameters": {"kindaware.num_threads": "3"}}, 3),
        ({"parameters": {"kindaware.warmup": "off"}}, 4),
        ({"instance_group": [group(count=4)]}, 1),
        ({"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])]}, 4),
        ({"sequence_batching": {}, "dynamic_batching": None}, 4),
    ],
)
def test_nothing_is_measured_where_nothing_is_to_be_chosen(server, changes, threads):
    start(Noting, **changes)
    assert server == []
    assert torch.get_num_threads() == threads


def test_nothing_is_measured_of_a_stream(server):
    class Streaming(KindAwareModel):
        def load(self):
            pass

        def stream(self, X):
            yield X

    start(Streaming, model_transaction_policy={"decoupled": True}, dynamic_batching=None)
    assert server == []


def test_nothing_is_measured_outside_of_a_server(server, monkeypatch):
    monkeypatch.setattr("kindaware._instance.is_stub", lambda: False)
    assert start(Noting).seen == [(4, 1)]


def test_number_holds_on_the_thread_of_an_asynchronous_forward(server):
    class Awaiting(Noting):
        async def load(self):
            Noting.load(self)
            assert torch.ones(1).item() == 1  # torch reads the number of a thread at its first operation

        async def forward(self, X):
            await asyncio.sleep(0)
            return Noting.forward(self, X)

    assert start(Awaiting).seen == [(4, 1), (4, 8), (2, 1), (2, 8), (1, 1), (1, 8), (1, 1)]


@pytest.mark.parametrize(("policy", "counts"), [("default", [2, 1]), ("passive", [4, 1])])
def test_cores_that_others_use_are_not_counted_and_the_log_says_so(
    server, monkeypatch, caplog, policy, counts
):
    monkeypatch.setattr("kindaware._device.placed_instance.stop_spinning", lambda *_: None)
    monkeypatch.setattr(f"{TUNER}.measure_in_quiet", lambda measure, cores: (measure(2), 2))
    with caplog.at_level("INFO", logger="kindaware"):
        start(Noting, parameters={"kindaware.wait_policy": policy})
    assert server == [(counts, [1, 8])]
    assert "threads 1 (measured with 2 free, of 4 cores / 1 CPU instance)" in caplog.text


def test_others_that_measure_leave_the_share_and_the_log_says_why(server, monkeypatch, caplog):
    def never(measure, num_cores):
        raise OthersMeasureError("other instances measured for 5 s")

    monkeypatch.setattr(f"{TUNER}.measure_in_quiet", never)
    with caplog.at_level("INFO", logger="kindaware"):
        start(Noting)
    assert torch.get_num_threads() == 4
    reason = "4 cores / 1 CPU instance; not measured: other instances measured for 5 s"
    assert f"threads 4 ({reason})" in caplog.text


def test_forward_that_refuses_a_batch_leaves_the_share_and_the_model_loads(server, caplog):
    class Single(Noting):
        def forward(self, X):
            if len(X) > 1:
                raise ValueError("one\nat a time")
            return Noting.forward(self, X)

    with caplog.at_level("INFO", logger="kindaware"):
        start(Single)
    assert torch.get_num_threads() == 4
    assert "not measured: ValueError: one)" in caplog.text


def test_forward_that_refuses_zeros_is_skipped_as_ever(server, caplog):
    class Refusing(Doubler):
        def forward(self, X):
            raise RequestError("no zeros")

    with caplog.at_level("INFO", logger="kindaware"):
        start(Refusing)
    assert "warm-up skipped (zeros are refused: no zeros" in caplog.text


def test_modules_are_compiled_for_the_number_that_was_chosen(server, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **_: compiled.append(torch.get_num_threads())
    )

    class Linear(KindAwareModel):
        compile = "default"

        def load(self):
            return torch.nn.Linear(4, 4)

        def forward(self, X):
            return self.model(X)

    start(Linear)
    assert compiled == [1]
