"""Which streams fail when `begin`, `step` or `end` raises, and which go on as if nothing had happened."""

import re
import threading
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from core_kit import without_id
from step_kit import BOTH, InPlace, Values, number, open_harness, seen, together, until

from kindaware import Done, Next, RequestError
from kindaware._hooks.step_results import is_immutable


@pytest.mark.parametrize("model_class", BOTH)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("no", code="UNSUPPORTED"), "UNSUPPORTED"),
        (ValueError("broken"), "INTERNAL"),
        (SystemExit(3), "INTERNAL"),
    ],
)
def test_begin_that_raises_fails_its_request_alone(model_class, error, code):
    class Picky(model_class):
        def begin(self, N):
            if N[0, 0] == 13:
                raise error
            return super().begin(N)

    with open_harness(Picky) as model:
        streams = [model.stream(N=[[n]], empty_final=True, request_id=f"r{n}") for n in (12, 13, 14)]
        results = [list(stream) for stream in streams]
        assert [seen(one)[-1] for one in (results[0], results[2])] == ["END", "END"]
        assert [len(one) for one in results] == [13, 1, 15]
        assert seen(results[1]) == [code]
        is_refusal = isinstance(error, RequestError)
        text = "no" if is_refusal else "model 's' request 'r13': expected begin to return, got "
        assert results[1][0].error.message().startswith(text)
        assert ("failed 1 request(s), ids ['r13']" in model.log_text()) == (not is_refusal)
        assert sorted(state.last for state in model.instance.ended) == [12, 14]


def test_begin_that_raises_an_error_of_another_hook_is_named():
    error = ValueError("again")

    class Fails(Values):
        def preprocess(self, inputs):
            if inputs["N"][0, 0] == 13:
                raise error
            return inputs

        def begin(self, N):
            raise error

    with open_harness(Fails) as model:
        for value, hook in ((13, "preprocess"), (1, "begin")):
            [failed] = model.stream(N=[[value]])
            assert f"expected {hook} to return, got ValueError: again" in failed.error.message()


def test_begin_that_returns_an_error_fails_its_request_alone():
    class Picky(Values):
        def begin(self, N):
            return RequestError("not this one") if N[0, 0] == 13 else super().begin(N)

    with open_harness(Picky) as model:
        assert [seen(model.stream(N=[[n]])) for n in (13, 1)] == [["INVALID_ARG"], [0]]
        assert [state.last for state in model.instance.ended] == [1]


def raising(model_class, error, at=3, **changes):
    """A model whose step raises where the stream of 13 has come to a number; the others must not notice."""

    class Raising(together(model_class, 7)):
        def step(self, states):
            if len(self.begun) == 7 and any((one.last, one.next) == (13, at) for one in states):
                raise error(states) if callable(error) else error
            return super().step(states)

    return type("Raising", (Raising,), changes)


NUMBERS = [10, 11, 12, 13, 14, 15, 16]


def send_all(model, numbers=NUMBERS):
    streams = [model.stream(N=[[n]], request_id=f"r{n}") for n in numbers]
    return {n: list(stream) for n, stream in zip(numbers, streams, strict=True)}


def check_that_only_one_has_failed(model, results, code, at=3):
    for n, items in results.items():
        assert seen(items) == ([*range(at), code] if n == 13 else list(range(n)))
    assert sorted(state.last for state in model.instance.ended) == NUMBERS
    assert seen(model.stream(N=[[2]])) == [0, 1]


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("broken"), "INTERNAL"), (RequestError("no"), "INVALID_ARG")]
)
def test_step_that_raises_for_one_of_the_immutable_states_fails_that_one_alone(error, code):
    with open_harness(raising(Values, error)) as model:
        results = send_all(model)
        check_that_only_one_has_failed(model, results, code)
        if code == "INTERNAL":
            assert without_id(results[13][-1].error.message()) == (
                "model 's' request 'r13': expected step to return, got ValueError: broken; see error ID in "
                "the server's log"
            )
            assert "failed 1 request(s), ids ['r13']" in model.log_text()


def naming_13(states, **changes):
    return RequestError("no", rows=[n for n, one in enumerate(states) if one.last == 13], **changes)


def test_step_that_names_one_of_the_immutable_states_is_repeated_once_without_it():
    with open_harness(raising(Values, naming_13)) as model:
        check_that_only_one_has_failed(model, send_all(model), "INVALID_ARG")
        retries = model.instance._kindaware_instance._counters.retries
        assert retries == 1


def test_step_mask_with_one_boolean_per_state_names_streams_too():
    def masked(states):
        return RequestError("no", rows=[one.last == 13 for one in states])

    with open_harness(raising(Values, masked)) as model:
        check_that_only_one_has_failed(model, send_all(model), "INVALID_ARG")


def test_step_mask_of_another_length_fails_all_of_the_step():
    with open_harness(raising(Values, RequestError("no", rows=[True, False]))) as model:
        for items in send_all(model).values():
            assert seen(items) == [0, 1, 2, "INTERNAL"]
            assert "with one boolean for each of the 7 states, got 2 booleans" in items[-1].error.message()


def test_step_that_names_one_of_the_mutable_states_fails_all_of_the_step():
    with open_harness(raising(InPlace, naming_13)) as model:
        results = send_all(model)
        assert seen(results[13]) == [0, 1, 2, "INVALID_ARG"]
        for n, items in results.items():
            if n != 13:
                assert seen(items) == [0, 1, 2, "INTERNAL"]
        assert sorted(state.last for state in model.instance.ended) == NUMBERS


def test_step_that_raises_over_mutable_states_fails_all_of_them_once_with_the_reason():
    with open_harness(raising(InPlace, ValueError("broken"))) as model:
        results = send_all(model)
        for n, items in results.items():
            assert seen(items) == [0, 1, 2, "INTERNAL"]
            assert without_id(items[-1].error.message()) == (
                f"model 's' request 'r{n}': expected step to return, got KindAwareError: model 's' step: "
                "expected to return for all of its 7 streams, got ValueError: broken; return a RequestError "
                "for the stream that is to blame; or keep states in tuples or frozen dataclasses and return "
                "kindaware.Next, so that the others can be stepped again; see error ID in the server's log"
            )
        assert model.log_text().count("ValueError: broken\n") <= 2
        assert model.instance.sizes[-1] == 7
        assert sorted(state.last for state in model.instance.ended) == NUMBERS


def test_step_that_raises_over_a_single_mutable_state_fails_it_with_its_own_error():
    class Raising(InPlace):
        def step(self, states):
            raise RequestError("no more", code="NOT_FOUND")

    with open_harness(Raising) as model:
        [failed] = model.stream(N=[[1]])
        assert (failed.error.code().name, failed.error.message()) == ("NOT_FOUND", "no more")


@pytest.mark.parametrize("model_class", BOTH)
def test_step_that_returns_an_error_for_one_state_fails_that_one_alone(model_class):
    class Returning(together(model_class, 7)):
        def result(self, state):
            is_guilty = (state.last, state.next) == (13, 3)
            return RequestError("no", code="UNAVAILABLE") if is_guilty else super().result(state)

    with open_harness(Returning) as model:
        check_that_only_one_has_failed(model, send_all(model), "UNAVAILABLE")


def test_step_isolate_errors_off_fails_all_of_a_step():
    with open_harness(raising(Values, ValueError("broken"), isolate_errors=False)) as model:
        results = send_all(model)
        assert {seen(items)[-1] for items in results.values()} == {"INTERNAL"}
        assert model.instance._kindaware_instance._counters.retries == 0


def test_step_beyond_the_budget_of_searches_fails_all_of_a_step():
    with open_harness(raising(Values, ValueError("broken"), max_isolation=0)) as model:
        results = send_all(model)
        assert {seen(items)[-1] for items in results.values()} == {"UNAVAILABLE"}
        assert model.instance._kindaware_instance._counters.retries == 0
        assert {without_id(items[-1].error.message()) for items in results.values()} == {
            f"model 's' request 'r{n}': expected time to find the request that step raises for, got more "
            "than 0 of it spent on such searches (max_isolation); send it again, or see error ID in the "
            "server's log"
            for n in NUMBERS
        }
        assert "ValueError: broken" in model.log_text()


def test_step_further_steps_of_a_search_use_up_the_budget():
    with open_harness(raising(Values, ValueError("broken"))) as model:
        budget = model.instance._kindaware_instance._steps._isolation._isolation
        send_all(model)
        assert budget._left < 10.0


def test_step_that_always_raises_fails_all_streams_after_a_bounded_number_of_steps():
    calls = []

    class Broken(together(Values, 7)):
        def result(self, state):
            calls.append(1)
            raise ValueError("broken")

    with open_harness(Broken) as model:
        assert {tuple(seen(items)) for items in send_all(model).values()} == {("INTERNAL",)}
    # The first, and at most 2 log2(7) + 2 more.
    assert len(calls) <= 1 + 7


WRONG = {
    "fewer": (
        lambda results: results[:-1],
        "a list of 7 results, one per state, got 6; return for each state",
    ),
    "more": (lambda results: [*results, None], "a list of 7 results, one per state, got 8"),
    "nothing": (lambda results: None, "a list of 7 results, one per state, got a NoneType"),
    "dict": (dict.fromkeys, "a list of 7 results, one per state, got a dict"),
}


@pytest.mark.parametrize("model_class", BOTH)
@pytest.mark.parametrize("what", WRONG)
def test_step_with_a_wrong_number_of_results_fails_its_streams_and_no_other(model_class, what):
    make, text = WRONG[what]

    class Wrong(together(model_class, 7)):
        def step(self, states):
            results = super().step(states)
            return results if len(self.begun) != 7 or states[0].last == 2 else make(results)

    with open_harness(Wrong) as model:
        results = send_all(model)
        for items in results.values():
            assert seen(items) == ["INTERNAL"]
            assert text in items[0].error.message()
        assert len(model.instance.ended) == 7
        assert seen(model.stream(N=[[2]])) == [0, 1]


ITEMS = {
    "name": (lambda N: {"J": N}, r"model 's' step: expected outputs \['I'\], got outputs \['J'\]"),
    "type": (lambda N: N.long(), "output 'I': expected data type INT32, got INT64; convert it in step"),
    "rows": (lambda N: torch.cat([N, N]), "expected 1 rows, as many as the batch has"),
    "shape": (lambda N: torch.cat([N, N], 1), r"expected shape \[B, 1\], got shape \[1, 2\]"),
    "scalar": (lambda N: N[0, 0], r"expected 1 rows"),
    "text": (lambda N: "a", "output 'I': expected a torch.Tensor, got str"),
    "error": (lambda N: ValueError("x"), "output 'I': expected a torch.Tensor, got ValueError"),
}


@pytest.mark.parametrize("what", ITEMS)
def test_step_wrong_item_ends_that_stream_only(what):
    make, text = ITEMS[what]

    class Wrong(together(Values, 7)):
        def result(self, state):
            result = super().result(state)
            is_guilty = (state.last, state.next) == (13, 3)
            return type(result)(result.state, make(result.item)) if is_guilty else result

    with open_harness(Wrong) as model:
        results = send_all(model)
        assert re.search(text, results[13][-1].error.message())
        check_that_only_one_has_failed(model, results, "INTERNAL")


def test_step_items_whose_rows_only_add_up_are_not_taken_for_each_others():
    class Swapped(together(Values, 2)):
        def result(self, state):
            return Done(number(state.last, rows=state.last))

    with open_harness(Swapped) as model:
        streams = [model.stream(N=[[2]]), model.stream(N=[[1], [1]])]
        assert [seen(stream) for stream in streams] == [["INTERNAL"], ["INTERNAL"]]


def test_postprocess_that_raises_for_one_item_fails_that_stream_alone():
    class Posting(together(Values, 7)):
        def postprocess(self, outputs):
            if (outputs["I"] == 13).any():
                raise RequestError("unlucky")
            return outputs

    with open_harness(Posting) as model:
        results = send_all(model)
        for n, items in results.items():
            assert seen(items) == (list(range(n)) if n <= 13 else [*range(13), "INVALID_ARG"])


def test_end_that_raises_is_logged_and_changes_nothing():
    class Ending(Values):
        def end(self, state):
            super().end(state)
            raise ValueError("slot lost")

    with open_harness(Ending) as model:
        assert seen(model.stream(N=[[2]], empty_final=True)) == [0, 1, "END"]
        assert seen(model.stream(N=[[1]], empty_final=True)) == [0, "END"]
        assert "E model.py" in model.log_text() or "stream not closed: " in model.log_text()
        assert "ValueError: slot lost" in model.log_text()


class Narrow:
    """What a device does that has memory for so many states."""

    def __init__(self, num_states):
        self.num_states = num_states

    def check(self, states):
        if len(states) > self.num_states:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_step_out_of_memory_sets_the_younger_half_aside_and_loses_no_stream():
    seen_states = []

    class Large(together(Values, 7)):
        room = Narrow(3)

        def step(self, states):
            if len(self.begun) == 7:
                self.room.check(states)
                seen_states.append([one.last for one in states])
            return super().step(states)

    with open_harness(Large) as model:
        results = send_all(model)
        assert {n: seen(items) for n, items in results.items()} == {n: list(range(n)) for n in NUMBERS}
        counters = model.instance._kindaware_instance._counters
        assert counters.preemptions >= 1
    # The oldest went on at once.
    assert seen_states[0] == [10, 11]
    assert max(map(len, seen_states)) == 3


def test_step_out_of_memory_with_a_single_stream_fails_it():
    class Larger(Values):
        def step(self, states):
            Narrow(0).check(states)

    with open_harness(Larger) as model:
        [failed] = model.stream(N=[[1]], request_id="r1")
        assert "got OutOfMemoryError: CUDA out of memory" in failed.error.message()


def test_step_out_of_memory_for_each_of_two_streams_fails_the_older_and_goes_on_with_the_younger():
    class Largest(together(Values, 2)):
        def step(self, states):
            if len(self.begun) == 2 and any(one.last == 10 for one in states):
                Narrow(0).check(states)
            return super().step(states)

    with open_harness(Largest) as model:
        results = send_all(model, [10, 11])
        assert seen(results[10]) == ["INTERNAL"]
        assert seen(results[11]) == list(range(11))


def test_step_out_of_memory_over_mutable_states_fails_them():
    class Large(together(InPlace, 7)):
        def step(self, states):
            if len(self.begun) == 7:
                Narrow(3).check(states)
            return super().step(states)

    with open_harness(Large) as model:
        for items in send_all(model).values():
            assert seen(items) == ["INTERNAL"]
            assert "so that the others can be stepped again" in items[0].error.message()


def test_begin_out_of_memory_waits_until_another_stream_has_ended():
    class Large(Values):
        room = 2

        def begin(self, N):
            if len(self.begun) - len(self.ended) >= self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().begin(N)

    with open_harness(Large) as model:
        results = send_all(model)
        assert {n: seen(items) for n, items in results.items()} == {n: list(range(n)) for n in NUMBERS}
        assert model.instance.begun == NUMBERS


def test_begin_out_of_memory_without_another_stream_fails_the_request():
    class Large(Values):
        def begin(self, N):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with open_harness(Large) as model:
        [failed] = model.stream(N=[[1]], request_id="r1")
        assert (
            "model 's' request 'r1': expected begin to return, got OutOfMemoryError" in failed.error.message()
        )


def test_step_more_streams_are_tried_again_some_time_after_memory_ran_out():
    sizes = []

    class Once(together(Values, 7)):
        has_failed = False

        def load(self):
            super().load()
            self.fails = [1]

        def step(self, states):
            if len(self.begun) == 7:
                if self.fails:
                    self.fails.clear()
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
                sizes.append(len(states))
            return super().step(states)

    with open_harness(Once) as model:
        numbers = [100 + n for n in range(7)]
        assert all(seen(items) == list(range(n)) for n, items in send_all(model, numbers).items())
    # Half of them, at once and for 16 further steps, then one more for another 16, and so on.
    assert sizes[:49] == [4] * 17 + [5] * 16 + [6] * 16


def test_step_whose_unload_comes_while_a_hook_hangs_still_ends_its_streams(monkeypatch):
    monkeypatch.setattr("kindaware._execute.steps._CLOSING_SECONDS", 0.3)
    release = threading.Event()

    class Hanging(Values):
        drain_seconds = 0

        def step(self, states):
            release.wait(30)
            return super().step(states)

    with open_harness(Hanging) as model:
        stream = model.stream(N=[[1]])
        until(lambda: model.instance.begun)
        pending = stream._pending
    assert [one.failure.code for one in pending.answers if one.failure is not None] == ["UNAVAILABLE"]
    assert pending.is_done
    release.set()


class Tuple(NamedTuple):
    one: object


@dataclass(frozen=True)
class Frozen:
    one: object


@dataclass
class Thawed:
    one: object


@pytest.mark.parametrize(
    "state",
    [
        (),
        (1, "a", b"b", None, 1.5, True),
        Tuple(torch.ones(2)),
        Frozen((torch.ones(2), Tuple(3))),
        7,
        "x",
        None,
    ],
)
def test_is_immutable_values_are(state):
    assert is_immutable(state)


@pytest.mark.parametrize(
    "state",
    [
        [],
        {},
        torch.ones(2),
        ([],),
        Tuple({}),
        Thawed(1),
        Frozen([1]),
        (Thawed(1),),
        object(),
        torch.Generator(),
        Frozen,
    ],
)
def test_is_immutable_what_a_step_may_change_is_not(state):
    assert not is_immutable(state)


def test_step_that_is_repeated_does_not_write_over_items_of_the_streams_before():
    class Reusing(Values):
        def load(self):
            super().load()
            self.memory = torch.empty(64, dtype=torch.int32)

        def step(self, states):
            if any(one.last == 99 and one.next == 2 for one in states):
                raise ValueError("number 99")
            results = super().step(states)
            for place, one in enumerate(results):
                if isinstance(one, Next):
                    item = self.memory[place : place + 1].view(1, 1).copy_(one.item + 100 * one.state.last)
                    results[place] = Next(one.state, item)
            return results

    with open_harness(together(Reusing, 4)) as model:
        streams = [model.stream(N=[[number]]) for number in (10, 20, 99, 30)]
        answers = [seen(stream) for stream in streams]
    assert answers.pop(2) == [9900, 9901, "INTERNAL"]
    assert answers == [[100 * last + n for n in range(last)] for last in (10, 20, 30)]
