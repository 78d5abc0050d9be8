"""The rounds of `Steps`, one by one, on a clock of the tests: who leaves, begins, is stepped and answered."""

import threading
from types import SimpleNamespace

import pytest
from core_kit import LOGGER, make_plan

from kindaware import Done, Next, RequestError
from kindaware._batch.counters import Counters
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestContext
from kindaware._batch.request_info import RequestInfo
from kindaware._batch.results import Failure
from kindaware._device.health import Health
from kindaware._device.runtime import CpuRuntime
from kindaware._execute import steps as _steps
from kindaware._execute.steps import GROWTH_STEPS, WATCH_SECONDS, Steps

REFUSED = Failure("unreadable", "INVALID_ARG")


class Thread:
    """Stands for a `WorkThread`: runs what it is handed at once, and its work never."""

    def __init__(self, name, logger, *, work):
        self.seconds_to_end = None

    def call(self, function):
        function()

    def run(self, function):
        return function()

    def end(self, seconds):
        self.seconds_to_end = seconds


class Sender:
    """Stands for an `ItemSender`; notes what it is given."""

    def __init__(self, plan, counters):
        self.sent = []
        self.refused = []
        self.watched = []
        self.is_closed = False

    def send(self, deliveries):
        self.sent += deliveries

    def refuse(self, responses, failure):
        self.refused.append((responses, failure))

    def watch(self, streams):
        self.watched.append(streams)

    def close(self):
        self.is_closed = True


class Responses:
    """Stands for a `ResponseSender`."""

    def __init__(self, *, is_cancelled=False):
        self._is_cancelled = is_cancelled

    def is_cancelled(self):
        return self._is_cancelled

    def size_of(self, outputs, parameters):
        return outputs["Y"]


class Runner:
    """Stands for a `StepRunner`: the state of a stream is its id and how often it was stepped."""

    def __init__(self):
        self.counters = Counters()
        self.device = SimpleNamespace(health=Health(CpuRuntime(), "m", LOGGER))
        self.begun, self.stepped, self.ended = [], [], []
        self.warmed_up = []
        self.result = lambda id, n: Next((id, n + 1), n)
        self.on_begin = lambda request: Next((request.id, 0))
        self.on_keep = lambda request: request
        self.on_end = lambda state: None
        self.on_bring_back = lambda items: [{"Y": item} for item in items]

    def keep(self, request):
        return self.on_keep(request)

    def begin(self, request):
        self.begun.append(request.id)
        return self.on_begin(request)

    def step(self, states, requests):
        self.stepped.append([id for id, _ in states])
        return [self.result(*state) for state in states]

    def end(self, state):
        self.ended.append(state)
        self.on_end(state)

    def bring_back(self, items, requests):
        return self.on_bring_back(items)

    def warm_up(self, request, num_streams):
        self.warmed_up.append((request, num_streams))


class Rounds:
    """A `Steps` whose rounds the test runs."""

    def __init__(self, monkeypatch, **settings):
        self.now = 100.0
        monkeypatch.setattr(_steps, "WorkThread", Thread)
        monkeypatch.setattr(_steps, "ItemSender", Sender)
        monkeypatch.setattr(_steps, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.runner = Runner()
        settings = {"max_streams": 3, "max_begins_per_step": 8, **settings}
        plan = make_plan(lambda X: X, step=len, **settings)
        self.steps = Steps(plan, self.runner)
        self.steps.arrivals = SimpleNamespace(read=lambda adapter, requests: requests)
        self.sender, self.counters = self.steps._sender, self.runner.counters

    def serve(self, *ids, responses=None, **options):
        """Take in requests of these ids."""
        for id in ids:
            context = RequestContext(id, None, options.get("deadline", float("inf")))
            request = Request(context, {}, 1, options.get("info"))
            self.steps.serve(None, [(request, responses or Responses())])

    def run(self, num_rounds=1):
        """Run rounds; return whether there is more to do."""
        for _ in range(num_rounds):
            is_left = self.steps._round()
        return is_left

    @property
    def open(self):
        return [one.request.id for one in self.steps._open]

    @property
    def sent(self):
        """What was sent since the last look, by id: items, codes of errors, and None for an end."""
        found = []
        for one in self.sender.sent:
            if one.outputs is not None:
                found.append((one.stream.request.id, one.outputs["Y"]))
            if one.is_last:
                found.append((one.stream.request.id, one.failure and one.failure.code))
        self.sender.sent.clear()
        return found


@pytest.fixture
def make(monkeypatch):
    return lambda **settings: Rounds(monkeypatch, **settings)


def test_round_begins_streams_steps_them_once_and_sends_each_its_item(make):
    rounds = make()
    rounds.serve("a", "b")
    assert rounds.run() is True
    assert rounds.runner.begun == ["a", "b"]
    assert rounds.runner.stepped == [["a", "b"]]
    assert rounds.sent == [("a", 0), ("b", 0)]
    rounds.run()
    assert rounds.sent == [("a", 1), ("b", 1)]
    assert (rounds.counters.open_streams, rounds.counters.waiting_streams) == (2, 0)


def test_round_without_streams_steps_nothing_and_has_nothing_left(make, caplog):
    rounds, seen = make(), []
    rounds.steps.after_round = lambda: seen.append("after")
    assert rounds.run() is False
    assert (rounds.runner.stepped, rounds.sender.watched, seen) == ([], [], ["after"])
    assert caplog.messages == []


def test_streams_that_are_done_end_with_or_without_an_item_and_leave_their_place(make):
    rounds = make()
    results = {"a": Done(7), "b": Done(), "c": Next(("c", 1))}
    rounds.runner.result = lambda id, n: results[id]
    rounds.serve("a", "b", "c")
    rounds.run()
    assert sorted(rounds.sent, key=str) == [("a", 7), ("a", None), ("b", None)]
    assert rounds.open == ["c"]
    assert rounds.runner.ended == [("a", 0), ("b", 0)]
    assert rounds.counters.open_streams == 1


def test_stream_that_begin_ends_is_not_stepped_and_has_no_end_hook(make):
    rounds = make()
    rounds.runner.on_begin = lambda request: Done(5)
    rounds.serve("a")
    assert rounds.run() is False
    assert rounds.sent == [("a", 5), ("a", None)]
    assert (rounds.runner.stepped, rounds.runner.ended) == ([], [])


def test_item_that_begin_returns_is_sent_before_the_first_step(make):
    rounds = make()
    rounds.runner.on_begin = lambda request: Next((request.id, 1), 100)
    rounds.serve("a")
    rounds.run()
    assert rounds.sent == [("a", 100), ("a", 1)]


@pytest.mark.parametrize(
    ("error", "code"), [(RequestError("odd"), "INVALID_ARG"), (OSError("x"), "INTERNAL")]
)
def test_begin_that_raises_ends_its_stream_alone(make, error, code, caplog):
    def begin(request):
        if request.id == "b":
            raise error
        return Next((request.id, 0))

    rounds = make()
    rounds.runner.on_begin = begin
    rounds.serve("a", "b", "c")
    rounds.run()
    assert rounds.sent == [("b", code), ("a", 0), ("c", 0)]
    assert rounds.open == ["a", "c"]
    assert rounds.runner.ended == []
    assert ("ids ['b']" in caplog.text) == (code == "INTERNAL")


def test_stream_for_which_step_returns_an_error_ends_alone(make):
    rounds = make()
    rounds.runner.result = lambda id, n: RequestError("odd") if id == "a" else Next((id, n + 1), n)
    rounds.serve("a", "b")
    rounds.run()
    assert rounds.sent == [("a", "INVALID_ARG"), ("b", 0)]
    assert rounds.open == ["b"]


def test_step_that_raises_for_all_ends_all_and_is_logged_once(make, caplog):
    def result(id, n):
        raise ValueError("odd")

    rounds = make(isolate_errors=False)
    rounds.runner.result = result
    rounds.serve("a", "b")
    assert rounds.run() is False
    assert rounds.sent == [("a", "INTERNAL"), ("b", "INTERNAL")]
    assert caplog.text.count("failed 2 request(s), ids ['a', 'b']") == 1


def test_error_of_the_library_itself_leaves_no_client_without_an_end(make, caplog):
    rounds = make(max_streams=1)
    rounds.serve("a", "b")

    def broken(*_):
        raise SystemExit(3)

    rounds.steps._isolation = SimpleNamespace(run=broken)
    assert rounds.run() is False
    assert rounds.sent == [("a", "INTERNAL"), ("b", "INTERNAL")]


def test_item_that_can_not_be_brought_back_ends_its_stream_alone(make):
    rounds = make()
    rounds.runner.on_bring_back = lambda items: [ValueError("odd"), *({"Y": one} for one in items[1:])]
    rounds.serve("a", "b")
    rounds.run()
    assert rounds.sent == [("a", "INTERNAL"), ("b", 0)]
    assert rounds.open == ["b"]


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
def test_items_none_of_which_can_be_brought_back_end_their_streams(make, error):
    def fail(items):
        raise error

    rounds = make()
    rounds.runner.on_bring_back = fail
    rounds.runner.result = lambda id, n: Next((id, n + 1), None if id == "b" else n)
    rounds.serve("a", "b")
    rounds.run()
    assert rounds.sent == [("a", "INTERNAL")]
    assert rounds.open == ["b"]


def test_nothing_is_brought_back_where_no_stream_has_an_item(make):
    rounds = make()
    rounds.runner.on_bring_back = lambda items: pytest.fail("asked for nothing")
    rounds.runner.result = lambda id, n: Next((id, n + 1))
    rounds.serve("a")
    rounds.run()
    assert rounds.sent == []


def test_item_has_a_copy_of_the_parameters_that_the_hook_has_set(make):
    info = RequestInfo("a", 1)
    rounds = make()
    rounds.serve("a", info=info)
    info.response_parameters["n"] = 1
    rounds.run()
    info.response_parameters["n"] = 2
    assert [one.parameters for one in rounds.sender.sent] == [{"n": 1}]
    rounds.serve("b")
    rounds.run()
    assert rounds.sender.sent[-1].parameters is None


def test_end_that_raises_is_logged_and_its_place_is_free(make, caplog):
    def fail(state):
        raise SystemExit(3)

    rounds = make(max_streams=1, max_begins_per_step=1)
    rounds.runner.on_end = fail
    rounds.runner.result = lambda id, n: Done()
    rounds.serve("a", "b")
    stream = rounds.steps._waiting[0]
    rounds.run()
    assert "model 'm': stream not closed: " in caplog.text
    assert stream.state is None
    rounds.serve("c")  # would wait for a place
    rounds.run(2)
    assert rounds.sent == [("a", None), ("b", None), ("c", None)]


def test_stream_that_has_ended_keeps_no_state(make):
    rounds = make()
    rounds.runner.result = lambda id, n: Done()
    rounds.serve("a")
    stream = rounds.steps._waiting[0]
    rounds.run()
    assert stream.state is None


@pytest.mark.parametrize(("after", "code"), [(4.99, 0), (5.0, "UNAVAILABLE"), (6.0, "UNAVAILABLE")])
def test_stream_ends_at_its_deadline_and_the_text_says_after_how_many_items(make, after, code):
    rounds = make()
    rounds.serve("a", "b", deadline=105.0)
    rounds.serve("c")
    rounds.run()
    rounds.now += after
    rounds.sender.sent.clear()
    rounds.run()
    failures = [one.failure for one in rounds.sender.sent if one.failure]
    assert len(failures) == (2 if code else 0)
    assert all("got 1 items by then" in one.text and one.code == code for one in failures)
    assert rounds.open == (["c"] if code else ["a", "b", "c"])


@pytest.mark.parametrize("state", ["open", "waiting"])
def test_stream_whose_client_has_gone_leaves(make, state):
    rounds = make(max_streams=1)
    rounds.serve("a", "b")
    rounds.run()
    [stream] = rounds.steps._open if state == "open" else rounds.steps._waiting
    stream.is_gone = True
    rounds.sender.sent.clear()
    rounds.run()
    id = stream.request.id
    assert rounds.sent[0] == (id, "CANCELLED")
    assert rounds.runner.begun == (["a", "b"] if state == "open" else ["a"])
    assert [ended for ended, _ in rounds.runner.ended] == (["a"] if state == "open" else [])


def test_stream_that_was_cancelled_before_it_begins_is_never_begun(make):
    rounds = make()
    rounds.serve("a", responses=Responses(is_cancelled=True))
    rounds.serve("b")
    rounds.run()
    assert rounds.runner.begun == ["b"]
    assert rounds.sent == [("a", "CANCELLED"), ("b", 0)]


def test_stream_with_an_item_that_was_not_sent_leaves_with_that_error(make):
    rounds = make()
    rounds.serve("a", "b")
    rounds.run()
    rounds.steps._open[0].unsent = REFUSED
    rounds.sender.sent.clear()
    rounds.run()
    assert rounds.sent == [("a", "INVALID_ARG"), ("b", 1)]
    assert rounds.open == ["b"]


def test_clients_are_asked_for_once_per_interval_all_at_once(make):
    rounds = make(max_streams=1)
    rounds.serve("a", "b")
    rounds.run(2)
    assert [[one.request.id for one in some] for some in rounds.sender.watched] == [["a", "b"]]
    rounds.now += WATCH_SECONDS
    rounds.run(2)
    assert len(rounds.sender.watched) == 2


def test_streams_on_a_device_that_has_failed_end_and_no_hook_runs(make):
    rounds = make(max_streams=1)
    rounds.serve("a", "b")
    rounds.run()
    rounds.runner.device.health.fault = "RuntimeError: CUDA error"
    rounds.sender.sent.clear()
    assert rounds.run() is False
    assert rounds.sent == [("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")]
    assert (rounds.runner.begun, len(rounds.runner.stepped), rounds.runner.ended) == (["a"], 1, [])


def test_device_that_fails_in_a_step_ends_all_streams_as_unavailable(make):
    def result(id, n):
        rounds.runner.device.health.fault = "RuntimeError: CUDA error"
        raise RuntimeError("CUDA error")

    rounds = make()
    rounds.runner.result = result
    rounds.serve("a", "b")
    rounds.run(2)
    assert sorted(rounds.sent) == [("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")]


def test_device_that_fails_in_begin_is_no_error_of_that_request(make, caplog):
    def begin(request):
        rounds.runner.device.health.fault = "RuntimeError: CUDA error"
        raise RuntimeError("CUDA error")

    rounds = make()
    rounds.runner.on_begin = begin
    rounds.serve("a")
    rounds.run()
    assert rounds.sent == [("a", "UNAVAILABLE")]
    assert caplog.records == []


def test_at_most_max_begins_per_step_begin_in_a_round(make):
    rounds = make(max_begins_per_step=1)
    rounds.serve("a", "b", "c")
    rounds.run()
    assert (rounds.runner.begun, rounds.counters.waiting_streams) == (["a"], 2)
    rounds.run()
    assert rounds.runner.begun == ["a", "b"]


def test_at_most_max_streams_are_open_and_the_next_begins_when_one_has_ended(make):
    rounds = make(max_streams=2)
    rounds.runner.result = lambda id, n: Done() if (id, n) == ("a", 1) else Next((id, n + 1), n)
    rounds.serve("a", "b", "c")
    rounds.run(2)
    assert (rounds.runner.begun, rounds.open) == (["a", "b"], ["b"])
    rounds.run()
    assert (rounds.runner.begun, rounds.open) == (["a", "b", "c"], ["b", "c"])


def test_serve_waits_where_as_many_are_open_and_waiting_as_may_be(make):
    rounds = make(max_streams=1, max_begins_per_step=1)
    rounds.runner.result = lambda id, n: Done()
    rounds.serve("a", "b")
    third = threading.Thread(target=rounds.serve, args=["c"], daemon=True)
    third.start()
    third.join(0.1)
    assert third.is_alive()
    rounds.run()  # a ends
    third.join(10)
    assert not third.is_alive()


def test_request_that_could_not_be_read_or_kept_is_refused_and_takes_no_place(make, caplog):
    def keep(request):
        raise OSError("no memory")

    rounds = make(max_streams=1, max_begins_per_step=1)
    rounds.runner.on_keep = keep
    responses = Responses()
    for _ in range(3):
        rounds.steps.serve(None, [(REFUSED, responses)])
    assert rounds.sender.refused == [(responses, REFUSED)] * 3
    rounds.serve("a", responses=responses)
    failure = rounds.sender.refused[-1][1]
    assert failure.code == "INTERNAL"
    assert "request 'a': expected begin to return, got OSError: no memory" in failure.text
    assert rounds.run() is False


def out_of_memory_above(rounds, num_streams):
    """Let a step of more streams run out of memory."""

    def step(states, requests):
        if len(states) > num_streams:
            raise MemoryError("too many")
        return step_well(states, requests)

    step_well = type(rounds.runner).step.__get__(rounds.runner)
    rounds.runner.step = step


def test_streams_without_memory_wait_in_their_order_and_before_those_that_have_not_begun(make):
    rounds = make(max_streams=4)
    out_of_memory_above(rounds, 2)
    rounds.serve(*"abcde")
    rounds.run()
    assert rounds.runner.stepped == [["a", "b"]]
    assert rounds.open == ["a", "b"]
    assert [one.request.id for one in rounds.steps._aside] == ["c", "d"]
    assert (rounds.counters.preemptions, rounds.counters.open_streams) == (1, 4)
    rounds.runner.result = lambda id, n: Done() if id == "a" else Next((id, n + 1), n)
    rounds.run(2)
    assert rounds.open == ["b", "c"]
    assert rounds.runner.begun == ["a", "b", "c", "d"]


def test_one_stream_more_is_tried_after_some_good_steps_and_never_more_than_max_streams(make):
    rounds = make(max_streams=3)
    out_of_memory_above(rounds, 2)
    rounds.serve(*"abc")
    rounds.run()
    assert rounds.open == ["a", "b"]
    rounds.runner.step = type(rounds.runner).step.__get__(rounds.runner)
    rounds.runner.stepped.clear()
    rounds.run(GROWTH_STEPS + 1)
    assert rounds.runner.stepped == [["a", "b"]] * GROWTH_STEPS + [["a", "b", "c"]]
    rounds.run(2 * GROWTH_STEPS)
    assert rounds.steps._limit == 3


def test_begin_without_memory_waits_until_another_stream_has_ended(make):
    def begin(request):
        if request.id == "b" and not has_room:
            raise MemoryError("too many")
        return Next((request.id, 0))

    has_room = []
    rounds = make()
    rounds.runner.on_begin = begin
    rounds.serve("a", "b", "c")
    rounds.run(2)
    assert rounds.runner.begun == ["a", "b"]
    assert (rounds.open, rounds.counters.waiting_streams, rounds.counters.preemptions) == (["a"], 2, 1)
    rounds.runner.result = lambda id, n: Done() if id == "a" else Next((id, n + 1), n)
    rounds.sender.sent.clear()
    has_room.append(True)
    rounds.run(2)
    assert rounds.runner.begun == ["a", "b", "b"]
    assert rounds.open == ["b"]


@pytest.mark.parametrize(("error", "is_open"), [(MemoryError("too many"), False), (OSError("x"), True)])
def test_begin_that_no_other_stream_could_make_room_for_fails(make, error, is_open):
    def begin(request):
        if request.id == "b":
            raise error
        return Next((request.id, 0))

    rounds = make()
    rounds.runner.on_begin = begin
    rounds.serve(*(["a"] if is_open else []), "b")
    rounds.run()
    assert ("b", "INTERNAL") in rounds.sent
    assert rounds.counters.preemptions == 0


@pytest.mark.parametrize(("most", "num_items"), [(6, 3), (5, 2), (0, 4)])
def test_stream_may_send_as_many_bytes_as_max_stream_bytes(make, most, num_items):
    rounds = make(max_stream_bytes=most)
    rounds.runner.result = lambda id, n: Next((id, n + 1), n + 1)  # 1, 2, 3 and so on bytes
    rounds.serve("a")
    rounds.run(4)
    texts = [one.failure.text for one in rounds.sender.sent if one.failure]
    items = [("a", n + 1) for n in range(num_items)]
    assert rounds.sent == items + ([("a", "INVALID_ARG")] if most else [])
    assert all(f"got more after {num_items} items" in text for text in texts)
    assert rounds.open == ([] if most else ["a"])


def test_warm_up_runs_on_the_thread_of_the_steps_and_gives_the_request_back(make):
    rounds, request = make(), Request("warm-up", {}, 1)
    assert rounds.steps.warm_up(request, 3) is request
    assert rounds.runner.warmed_up == [(request, 3)]


def test_close_lets_streams_end_for_drain_seconds_and_ends_those_that_are_left(make):
    rounds = make(drain_seconds=2.0)
    rounds.serve("a")
    rounds.run()
    rounds.steps._thread.call(rounds.steps._drain)
    rounds.now += 1.99
    rounds.run()
    assert (rounds.open, rounds.steps._is_drained.is_set()) == (["a"], False)
    rounds.now = 102.0
    rounds.sender.sent.clear()
    assert rounds.run() is False
    assert rounds.sent == [("a", "UNAVAILABLE")]
    assert rounds.steps._is_drained.is_set()


def test_close_of_streams_that_have_ended_waits_no_longer(make):
    rounds = make(drain_seconds=60.0)
    rounds.run()
    assert not rounds.steps._is_drained.is_set()
    rounds.steps._thread.call(rounds.steps._drain)
    rounds.run()
    assert rounds.steps._is_drained.is_set()
    rounds.steps.close()
    assert rounds.steps._thread.seconds_to_end == 0.5
    assert (rounds.sender.sent, rounds.sender.is_closed) == ([], True)


def test_close_while_a_hook_hangs_ends_all_streams(make, monkeypatch):
    monkeypatch.setattr(_steps, "_CLOSING_SECONDS", 0.01)
    rounds = make(drain_seconds=0.0, max_streams=1)
    rounds.serve("a", "b")
    rounds.run()
    rounds.sender.sent.clear()
    rounds.steps.close()
    assert rounds.sent == [("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")]
    assert rounds.sender.is_closed


def test_end_leaves_no_stream_another_step(make):
    rounds = make(drain_seconds=60.0, max_streams=1)
    rounds.serve("a", "b")
    rounds.run()
    rounds.sender.sent.clear()
    rounds.steps.end()
    assert rounds.run() is False
    assert rounds.sent == [("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")]
    assert (len(rounds.runner.stepped), rounds.runner.ended) == (1, [("a", 1)])
