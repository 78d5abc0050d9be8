"""`begin` and `step`: open streams are stepped together, and each gets its own items and one FINAL."""

import threading
import time

import pytest
import torch
from step_kit import BOTH, CONFIG, Counting, InPlace, Values, number, open_harness, seen, together, until

from kindaware import Done, KindAwareModel, Next, RequestError
from kindaware.testing import ModelLoadError


@pytest.mark.parametrize("model_class", BOTH)
@pytest.mark.parametrize("num_items", [0, 1, 5])
def test_step_sends_each_item_and_one_final(model_class, num_items):
    with open_harness(model_class) as model:
        assert seen(model.stream(N=[[num_items]], empty_final=True)) == [*range(num_items), "END"]
        until(lambda: len(model.instance.ended) == 1)
        assert model.instance.sizes == [1] * (num_items + 1)


@pytest.mark.parametrize("model_class", BOTH)
def test_step_gets_the_states_of_all_open_streams_and_each_gets_its_own_items(model_class):
    with open_harness(together(model_class, 12)) as model:
        numbers = [30 + n for n in range(12)]
        streams = [model.stream(N=[[number]]) for number in numbers]
        assert [seen(stream) for stream in streams] == [list(range(number)) for number in numbers]
        assert max(model.instance.sizes) == 12
        assert sum(model.instance.sizes) == sum(number + 1 for number in numbers)
        assert [state.last for state in model.instance.ended] == numbers


def test_step_state_order_is_that_of_the_requests():
    seen_states = []

    class Watched(Values):
        def step(self, states):
            seen_states.append([one.last for one in states])
            return super().step(states)

    with open_harness(together(Watched, 6)) as model:
        streams = [model.stream(N=[[40 - n]]) for n in range(6)]
        assert [len(seen(stream)) for stream in streams] == [40 - n for n in range(6)]
    assert [40, 39, 38, 37, 36, 35] in seen_states
    assert all(states == sorted(states, reverse=True) for states in seen_states)


def test_begin_may_send_the_first_item_or_be_all_there_is():
    class Quick(Values):
        def begin(self, N):
            first = int(N[0, 0])
            if first == 0:
                return Done()
            return Done(number(7)) if first == 1 else Next(super().begin(N), number(70))

    with open_harness(Quick) as model:
        answers = [seen(model.stream(N=[[n]], empty_final=True)) for n in (0, 1, 2)]
        assert answers == [["END"], [7, "END"], [70, 0, 1, "END"]]
        # Of a stream that never had a state nothing is to be ended.
        assert [state.last for state in model.instance.ended] == [2]


@pytest.mark.parametrize("first", [None, ()])
def test_begin_bare_state_may_be_any_value(first):
    class Empty(Counting):
        def begin(self, N):
            return first

        def step(self, states):
            assert states == [first] * len(states)
            return [Done(number(3))] * len(states)

    with open_harness(Empty) as model:
        assert seen(model.stream(N=[[1]])) == [3]
        assert model.instance.ended == [first]


def test_step_none_sends_nothing_and_goes_on():
    class Halting(InPlace):
        def result(self, state):
            item = super().result(state)
            return None if state.next % 2 else item

    with open_harness(Halting) as model:
        assert seen(model.stream(N=[[6]], empty_final=True)) == [1, 3, 5, "END"]


def test_step_item_without_next_leaves_an_immutable_state_as_it_is():
    class Stuck(Values):
        def result(self, state):
            return number(len(self.sizes)) if len(self.sizes) < 4 else Done(number(state.next))

    with open_harness(Stuck) as model:
        assert seen(model.stream(N=[[9]])) == [1, 2, 3, 0]


def test_step_done_with_an_item_sends_it_before_the_end():
    class Last(Values):
        def result(self, state):
            return Done(number(42))

    with open_harness(Last) as model:
        assert seen(model.stream(N=[[1]], empty_final=True)) == [42, "END"]


def test_step_items_of_several_rows_are_split_by_request():
    class Rows(Counting):
        def begin(self, N):
            return (N, 0)

        def step(self, states):
            self.sizes.append(len(states))
            return [Next((N, step + 1), N + step) if step < 3 else Done() for N, step in states]

    with open_harness(Rows) as model:
        inputs = [[[10]], [[20], [30]], [[40], [50], [60]]]
        streams = [model.stream(N=rows) for rows in inputs]
        for rows, stream in zip(inputs, streams, strict=True):
            got = [result.outputs["I"].tolist() for result in stream]
            assert got == [[[value + step] for [value] in rows] for step in range(3)]


def test_step_without_a_batch_dimension_gives_items_as_declared():
    class Unbatched(Counting):
        def begin(self, N):
            self.begun.append(N)
            return (int(N[0]), 0)

        def step(self, states):
            self.sizes.append(len(states))
            return [
                Next((last, n + 1), torch.tensor([n], dtype=torch.int32)) if n < last else Done()
                for last, n in states
            ]

    with open_harness(together(Unbatched, 4), config={**CONFIG, "max_batch_size": 0}) as model:
        streams = [model.stream(N=[20 + n]) for n in range(4)]
        assert [seen(stream) for stream in streams] == [list(range(20 + n)) for n in range(4)]
        assert max(model.instance.sizes) == 4


def test_execute_returns_before_the_first_step():
    release = threading.Event()

    class Slow(Values):
        def begin(self, N):
            release.wait(20)
            return super().begin(N)

    with open_harness(Slow) as model:
        stream = model.stream(N=[[2]])
        release.set()
        assert seen(stream) == [0, 1]


def test_step_begins_new_streams_while_others_run():
    release = threading.Event()

    class Endless(Values):
        def result(self, state):
            if state.last == 1000 and not release.is_set():
                return Next(state)
            return super().result(state) if state.last < 1000 else Done(number(1))

    with open_harness(Endless) as model:
        long = model.stream(N=[[1000]])
        assert [seen(model.stream(N=[[n]])) for n in (3, 4)] == [[0, 1, 2], [0, 1, 2, 3]]
        release.set()
        assert seen(long) == [1]


def test_step_at_most_max_streams_are_open_and_the_rest_wait_in_order():
    class Few(Values):
        max_streams = 3

    with open_harness(together(Few, 3)) as model:
        streams = [model.stream(N=[[20 + n]]) for n in range(10)]
        assert [seen(stream) for stream in streams] == [list(range(20 + n)) for n in range(10)]
        assert max(model.instance.sizes) == 3
        assert model.instance.begun == [20 + n for n in range(10)]


def test_execute_waits_when_as_many_streams_are_open_and_waiting_as_may_be():
    release = threading.Event()

    class Held(Values):
        max_streams = 2
        max_begins_per_step = 1

        def result(self, state):
            return Done(number(state.last)) if release.is_set() else None

    with open_harness(Held) as model:
        streams = [model.stream(N=[[n]]) for n in range(3)]
        places = model.instance._kindaware_instance._steps._places
        until(lambda: len(model.instance.begun) == 2)
        assert places.acquire(blocking=False) is False
        release.set()
        assert [seen(stream) for stream in streams] == [[0], [1], [2]]
        until(lambda: len(model.instance.ended) == 3)
        assert [places.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def test_begin_runs_at_most_max_begins_per_step_between_two_steps():
    order = []

    class Noting(Values):
        max_begins_per_step = 2

        def begin(self, N):
            order.append("begin")
            # All have arrived when the first begins, so that only the setting bounds what follows.
            until(lambda: len(streams) == 7)
            return super().begin(N)

        def step(self, states):
            order.append("step")
            return super().step(states)

    streams = []
    with open_harness(Noting) as model:
        for _ in range(7):
            streams.append(model.stream(N=[[5]]))
        assert [len(seen(stream)) for stream in streams] == [5] * 7
    runs = "".join("b" if one == "begin" else " " for one in order).split()
    assert max(map(len, runs)) == 2
    assert sum(map(len, runs)) == 7


def test_steps_hooks_all_run_on_one_thread_in_inference_mode_and_with_the_precision():
    modes = set()

    def note(hook):
        where = threading.current_thread().name
        modes.add((hook, where, torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))

    class Noting(Values):
        precision = "bf16-mixed"

        def begin(self, N):
            note("begin")
            return super().begin(N)

        def step(self, states):
            note("step")
            return super().step(states)

        def preprocess(self, inputs):
            note("preprocess")
            return inputs

        def postprocess(self, outputs):
            note("postprocess")
            return outputs

        def end(self, state):
            note("end")

    with open_harness(Noting) as model:
        assert seen(model.stream(N=[[3]])) == [0, 1, 2]
    assert modes == {
        ("preprocess", "kindaware-step", False, False),
        ("begin", "kindaware-step", True, True),
        ("step", "kindaware-step", True, True),
        ("postprocess", "kindaware-step", True, False),
        ("end", "kindaware-step", True, True),
    }


def test_step_parameters_requests_are_those_of_the_states():
    class Asking(Values):
        def begin(self, N, requests):
            assert [one.id for one in requests] == [f"r{int(N[0, 0])}"]
            return super().begin(N)

        def step(self, states, requests):
            assert [one.id for one in requests] == [f"r{one.last}" for one in states]
            for one, state in zip(requests, states, strict=True):
                one.response_parameters["at"] = state.next
            return super().step(states)

    with open_harness(Asking, server_version="current") as model:
        streams = [model.stream(N=[[n]], request_id=f"r{n}") for n in (20, 21, 22)]
        for n, stream in zip((20, 21, 22), streams, strict=True):
            results = list(stream)
            assert seen(results) == list(range(n))
            assert [one.parameters["at"] for one in results] == list(range(n))


@pytest.mark.parametrize("model_class", BOTH)
def test_step_item_is_sent_while_the_next_step_runs(model_class):
    received = threading.Event()

    class Slow(model_class):
        def step(self, states):
            if self.sizes and self.sizes[-1]:
                assert received.wait(20)
            return super().step(states)

    with open_harness(Slow) as model:
        stream = model.stream(N=[[3]])
        assert seen([next(stream)]) == [0]
        received.set()
        assert seen(stream) == [1, 2]


def test_step_item_whose_memory_is_used_again_was_copied():
    class Reusing(InPlace):
        def load(self):
            super().load()
            self.buffer = number(0)

        def result(self, state):
            item = super().result(state)
            return item if isinstance(item, Done) else self.buffer.copy_(item)

        def step(self, states):
            results = super().step(states)
            assert len(states) == 1
            return results

    with open_harness(Reusing) as model:
        assert seen(model.stream(N=[[200]])) == list(range(200))


@pytest.mark.parametrize("model_class", BOTH)
def test_step_cancelled_stream_leaves_and_the_others_go_on(model_class):
    class Slow(model_class):
        def step(self, states):
            time.sleep(0.002)
            return super().step(states)

    with open_harness(Slow) as model:
        others = [model.stream(N=[[150]]) for _ in range(2)]
        got = seen(model.stream(N=[[100_000]], cancelled=lambda num_sent: num_sent >= 3, empty_final=True))
        assert got[-2:] == ["CANCELLED", "END"]
        assert got[:-2] == list(range(len(got) - 2))
        assert 3 <= len(got) - 2 < 1000
        assert [seen(stream) for stream in others] == [list(range(150))] * 2
        assert sorted(state.last for state in model.instance.ended) == [150, 150, 100_000]
        assert "E " not in model.log_text()


def test_step_cancelled_before_it_begins_is_never_begun():
    with open_harness(Values) as model:
        assert seen(model.stream(N=[[5]], cancelled=True, empty_final=True)) == ["CANCELLED"]
        assert model.instance.begun == []


def test_step_request_whose_timeout_expires_ends_between_two_steps():
    class Slow(InPlace):
        def step(self, states):
            time.sleep(0.005)
            return super().step(states)

    with open_harness(Slow) as model:
        bounded = model.stream(N=[[100_000]], timeout=100_000, request_id="r1", empty_final=True)
        other = model.stream(N=[[60]])
        results = list(bounded)
        assert seen(results)[-2:] == ["UNAVAILABLE", "END"]
        assert (
            f"model 's' request 'r1': expected a stream that ends within the timeout of its request, got "
            f"{len(results) - 2} items by then; ask for less"
        ) in results[-2].error.message()
        assert seen(other) == list(range(60))


def test_step_stream_beyond_max_stream_bytes_ends_with_an_error():
    class Long(Values):
        max_stream_bytes = 3 * (1024 + 4)

    with open_harness(Long) as model:
        results = list(model.stream(N=[[10]], empty_final=True))
        assert seen(results) == [0, 1, 2, "INVALID_ARG", "END"]
        assert "max_stream_bytes), got more after 3 items" in results[3].error.message()
        assert seen(model.stream(N=[[3]])) == [0, 1, 2]
        until(lambda: len(model.instance.ended) == 2)


@pytest.mark.parametrize("drain_seconds", [0, 20])
def test_step_streams_that_are_open_when_the_model_ends_get_their_end(drain_seconds):
    class Slow(InPlace):
        def step(self, states):
            time.sleep(0.002)
            return super().step(states)

    parameters = {"kindaware.warmup": "off", "kindaware.drain_seconds": str(drain_seconds)}
    with open_harness(Slow, parameters=parameters) as model:
        stream = model.stream(N=[[100 if drain_seconds else 1_000_000]])
        assert seen([next(stream)]) == [0]
        instance, pending = model.instance, stream._pending
    steps = instance._kindaware_instance._steps
    assert not steps._thread.is_alive
    assert not steps._sender._thread.is_alive
    assert pending.is_done
    assert len(instance.ended) == 1
    failures = [one.failure.code for one in pending.answers if one.failure is not None]
    assert failures == ([] if drain_seconds else ["UNAVAILABLE"])


def test_step_preprocess_and_postprocess_apply_the_latter_once_per_step():
    calls = []

    class Hooked(Values):
        def preprocess(self, inputs):
            if inputs["N"][0, 0] > 50:
                raise RequestError("too many")
            return {"N": inputs["N"] + 1}

        def postprocess(self, outputs):
            calls.append(len(outputs["I"]))
            return {"I": outputs["I"] * 10}

    with open_harness(together(Hooked, 5)) as model:
        streams = [model.stream(N=[[30]]) for _ in range(5)]
        assert [seen(stream) for stream in streams] == [[10 * n for n in range(31)]] * 5
        assert seen(model.stream(N=[[51]], empty_final=True)) == ["INVALID_ARG"]
        assert max(calls) == 5
        # As many calls as steps with an item, and not as items.
        assert len(calls) <= len(model.instance.sizes)


def test_step_warm_up_begins_as_many_streams_as_the_setting_says_and_ends_them():
    class Noting(Values):
        warmup = (1, 4)

    with open_harness(Noting, parameters={}) as model:
        assert model.instance.sizes == [1, 4]
        assert len(model.instance.ended) == len(model.instance.begun) == 5
        assert "(numbers of streams 1, 4)" in model.log_text()
        assert seen(model.stream(N=[[2]])) == [0, 1]


def test_step_warm_up_of_a_model_that_does_not_batch_begins_as_many_streams_too():
    class Single(Values):
        warmup = (1, 3)
        max_streams = 3

        def begin(self, N):
            return super().begin(N[None])

        def result(self, state):
            one = super().result(state)
            return one if isinstance(one, Done) else Next(one.state, one.item[0])

    config = CONFIG | {"max_batch_size": 0}
    with open_harness(Single, config=config, parameters={}) as model:
        assert model.instance.sizes == [1, 3]
        assert "(numbers of streams 1, 3)" in model.log_text()
        assert seen(model.stream(N=[2])) == [0, 1]
    with pytest.raises(ModelLoadError, match="expected numbers of streams up to max_streams 3, got 4"):
        open_harness(Single, config=config, parameters={"kindaware.warmup": "4"}).__enter__()


class Text(KindAwareModel):
    """Sends pieces of text, of which those of several streams differ in number."""

    max_streams = 8

    def load(self):
        return None

    def begin(self, N):
        return (int(N[0, 0]), 0)

    def step(self, states):
        return [
            Next((last, n + 1), [[f"{last}-{n}-{k}" for k in range(n % 3)]]) if n < last else Done()
            for last, n in states
        ]


def test_step_items_of_text_of_different_sizes_are_each_ones_own():
    config = {**CONFIG, "output": [{"name": "T", "data_type": "TYPE_STRING", "dims": [-1]}]}
    with open_harness(Text, config=config) as model:
        streams = {last: model.stream(N=[[last]]) for last in (20, 25, 30)}
        for last, stream in streams.items():
            pieces = [result.outputs["T"].tolist() for result in stream]
            assert pieces == [[[f"{last}-{n}-{k}".encode() for k in range(n % 3)]] for n in range(last)]
