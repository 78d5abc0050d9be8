"""`Begins`: whose error is whose when streams begin together, and who waits on without memory."""

import pytest
import torch
from core_kit import make_device, make_plan

from kindaware import Next, RequestError
from kindaware._batch.counters import Counters
from kindaware._batch.request import Request
from kindaware._execute.begins import Begins
from kindaware._execute.open_stream import OpenStream

FULL = torch.OutOfMemoryError("full")


class Runner:
    """Begins streams by their ids; some raise when they are placed, or in a group."""

    def __init__(self, unplaced=(), raised=()):
        self.device = make_device()
        self.counters = Counters()
        self.calls = []
        self._unplaced = dict(unplaced)
        self._raised = dict(raised)

    def place(self, request):
        if request.id in self._unplaced:
            raise self._unplaced[request.id]
        return request.id

    def begin_together(self, placed):
        self.calls.append("".join(placed))
        for one in placed:
            if one in self._raised:
                raise self._raised[one]
        return [Next(one) for one in placed]


def begin(ids, *, may_wait=False, **raised):
    """What becomes of streams with these ids: those that begin, fail and wait, and the calls of the hook."""
    plan = make_plan(lambda X: X, begin_batch=lambda inputs: inputs, step=lambda states: states)
    runner, taken = Runner(**raised), []
    begins = Begins(plan, runner)

    def take(results):
        runner.calls.append("taken")
        taken.extend(stream.request.id for stream, result in results if result.state == stream.request.id)

    streams = [OpenStream(Request(one, {}, 1), None) for one in ids]
    stepped = begins.run(streams, take, may_wait=may_wait)
    failed = {one.request.id: error for error, group in stepped.failed for one in group}
    return "".join(taken), failed, "".join(one.request.id for one in stepped.aside), runner


def test_streams_begin_together():
    taken, failed, aside, runner = begin("abc")
    assert (taken, failed, aside, runner.calls) == ("abc", {}, "", ["abc", "taken"])


def test_results_are_taken_before_others_begin():
    error = ValueError("c")
    taken, failed, _, runner = begin("abcd", raised={"c": error})
    assert (taken, failed) == ("abd", {"c": error})
    assert runner.calls == ["abcd", "ab", "taken", "cd", "c", "d", "taken"]
    assert runner.counters.retries == 4


def test_streams_that_an_error_names_fail_and_the_others_begin():
    error = RequestError("b and d", rows=[1, 3])
    taken, failed, _, runner = begin("abcd", raised={"b": error, "d": error})
    assert (taken, failed) == ("ac", {"b": error, "d": error})
    assert runner.calls == ["abcd", "ac", "taken"]


def test_stream_that_cannot_be_placed_fails_alone():
    error = ValueError("b")
    taken, failed, aside, runner = begin("abc", unplaced={"b": error})
    assert (taken, failed, aside, runner.calls) == ("ac", {"b": error}, "", ["ac", "taken"])


@pytest.mark.parametrize(
    ("may_wait", "full", "ends"),
    [
        (False, "a", ("bc", "", "a")),
        (True, "a", ("", "", "abc")),
        (False, "b", ("a", "", "bc")),
        (False, "abc", ("", "abc", "")),
    ],
)
def test_streams_that_there_is_no_memory_to_place_wait_for_others_if_there_are_any(may_wait, full, ends):
    taken, failed, aside, _ = begin("abc", may_wait=may_wait, unplaced=dict.fromkeys(full, FULL))
    assert (taken, "".join(failed), aside) == ends


@pytest.mark.parametrize(
    ("may_wait", "full", "ends"),
    [
        # The later half always waits, as the earlier may have been what was too large.
        (False, "a", ("", "a", "bcd")),
        (True, "a", ("", "", "abcd")),
        (False, "b", ("a", "", "bcd")),
        (False, "c", ("ab", "", "cd")),
    ],
)
def test_streams_that_there_is_no_memory_to_begin_wait_for_others_if_there_are_any(may_wait, full, ends):
    taken, failed, aside, runner = begin("abcd", may_wait=may_wait, raised=dict.fromkeys(full, FULL))
    assert (taken, "".join(failed), "".join(sorted(aside))) == ends
    assert runner.counters.out_of_memory >= 1


def test_error_of_a_stream_that_is_not_about_memory_fails_it_beside_others():
    error = ValueError("a")
    _, failed, aside, _ = begin("a", may_wait=True, raised={"a": error})
    assert (failed, aside) == ({"a": error}, "")
