"""`StreamArrivals`: requests as they are read, each with what answers it, whatever reading raises."""

from types import SimpleNamespace

import pytest
from core_kit import LOGGER, Faulty, make_plan

from kindaware._batch.counters import Counters
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._device.health import Health
from kindaware._execute.stream_arrivals import StreamArrivals

REFUSED = Failure("unreadable", "INVALID_ARG")
REQUESTS = [SimpleNamespace(requested_output_names=set, get_response_sender=lambda: None) for _ in range(2)]


class Arrivals:
    """Reads with a function."""

    def __init__(self, function):
        self.counters = Counters()
        self.health = Health(Faulty(), "m", LOGGER)
        self._arrivals = StreamArrivals(
            make_plan(lambda X: X, step=len), self.health, self.counters, outlives_execute=True
        )
        self._adapter = SimpleNamespace(requests=SimpleNamespace(read=function), responses=None)

    def read(self):
        return self._arrivals.read(self._adapter, REQUESTS)


def test_request_and_one_that_could_not_be_read_each_have_what_answers_them():
    arrivals = Arrivals(lambda requests: [Request("7", {}, 1), REFUSED])
    (request, first), (refused, second) = arrivals.read()
    assert (request.id, refused) == ("7", REFUSED)
    assert first is not second
    assert arrivals.counters.seconds["read"] > 0


def test_requests_that_a_failed_device_keeps_from_being_read_are_unavailable():
    def fail(requests):
        raise RuntimeError("CUDA error: launch failure")

    arrivals = Arrivals(fail)
    read = arrivals.read()
    assert [one.code for one, _ in read] == ["UNAVAILABLE"] * 2
    assert "launch failure" in arrivals.health.fault


def test_error_of_the_servers_module_is_raised():
    def fail(requests):
        raise RuntimeError("no shared memory")

    arrivals = Arrivals(fail)
    with pytest.raises(RuntimeError, match="no shared memory"):
        arrivals.read()
    assert arrivals.health.fault is None
