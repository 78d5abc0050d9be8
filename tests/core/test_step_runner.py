"""`StepRunner`: whose requests the hooks work for, what is counted, and how items are brought back."""

import pytest
import torch
from core_kit import start, tensor
from stream_kit import Beat

from kindaware import ConfigError, Done, KindAwareModel, Next, RequestError
from kindaware._batch.request import Request
from kindaware._batch.request_context import RequestContext, current_context
from kindaware._errors import OutputError
from kindaware.testing.accelerator import SimulatedAccelerator

DECOUPLED = {
    "input": [tensor("N", [1], "TYPE_INT32")],
    "output": [tensor("I", [1], "TYPE_INT32")],
    "model_transaction_policy": {"decoupled": True},
}


class Model(KindAwareModel):
    """The state of a stream is its input, and so is its item; notes for whom each hook works."""

    def load(self):
        self.seen = []
        self.ended = []

    def note(self, hook):
        self.seen.append((hook, current_context().request_id))

    def begin(self, N):
        self.note("begin")
        return (N,)

    def step(self, states):
        self.note("step")
        return [Next(state, state[0]) for state in states]

    def postprocess(self, outputs):
        self.note("postprocess")
        return outputs

    def end(self, state):
        self.ended.append(state)


@pytest.fixture
def make():
    """Makes a model and the runner of its steps, without a warm-up."""
    made = []

    def make(model_class=Model, warmup="off", **options):
        parameters = {"kindaware.warmup": warmup, **options.pop("parameters", {})}
        made.append(start(model_class, parameters=parameters, **{**DECOUPLED, **options}))
        instance = made[-1]._kindaware_instance
        return made[-1], instance._steps._runner

    yield make
    for model in made:
        model.finalize()


def request(id, *rows):
    return Request(RequestContext(id), {"N": torch.tensor(rows, dtype=torch.int32)[:, None]}, len(rows))


def numbers(*rows):
    return torch.tensor(rows, dtype=torch.int32)[:, None]


def shown(brought):
    """Items as lists, and errors as they are."""
    return [one if isinstance(one, Exception) else one["I"].flatten().tolist() for one in brought]


def test_hooks_work_for_the_requests_of_their_streams(make):
    model, runner = make()
    first, second = request("7", 1), request("8", 2)
    state = runner.begin(first).state
    runner.step([state, state], [second, first])
    runner.bring_back([numbers(1), numbers(2)], [second, first])
    assert model.seen == [("begin", "7"), ("step", "8"), ("postprocess", "8")]
    assert current_context() == RequestContext()


@pytest.mark.parametrize("is_defined", [True, False])
def test_stages_of_a_stream_have_the_hooks_that_the_class_defines(make, is_defined):
    members = {"preprocess": lambda self, inputs: inputs} if is_defined else {"end": None}
    model, _ = make(type("Defines", (Model,), members))
    stages = [one.name for one in model._kindaware_instance.stages()]
    assert ("preprocess" in stages, "end" in stages) == (is_defined, is_defined)


def test_each_hook_runs_within_a_beat(make):
    class Beating(Model):
        def note(self, hook):
            self.seen.append((hook, beat.depth > 0))

        def preprocess(self, inputs):
            self.note("preprocess")
            return inputs

        def end(self, state):
            self.note("end")

    beat = Beat()
    model, runner = make(Beating)
    runner.watch(beat)
    begun = runner.begin(request("7", 1))
    [stepped] = runner.step([begun.state], [request("7", 1)])
    runner.bring_back([stepped.item], [request("7", 1)])
    runner.end(begun.state)
    assert model.seen == [(name, True) for name in ("preprocess", "begin", "step", "postprocess", "end")]
    assert beat.depth == 0


def test_steps_are_counted_and_so_is_the_time_of_hooks_and_copies(make):
    _, runner = make()
    before = dict(runner.counters.seconds)
    state = runner.begin(request("7", 1)).state
    runner.step([state] * 3, [request("7", 1)] * 3)
    assert (runner.counters.steps, runner.counters.stepped_streams) == (1, 3)
    runner.bring_back([numbers(1)], [request("7", 1)])
    assert all(runner.counters.seconds[stage] > before[stage] for stage in ("copy_in", "forward", "copy_out"))


def test_step_that_returns_for_others_than_its_streams_is_not_counted(make):
    class Short(Model):
        def step(self, states):
            return states[1:]

    _, runner = make(Short)
    with pytest.raises(OutputError, match="expected a list of 2 results, one per state, got 1;"):
        runner.step([(1,), (2,)], [request("7", 1)] * 2)
    assert runner.counters.steps == 0


def test_items_of_several_streams_go_through_postprocess_at_once_and_each_is_its_own(make):
    model, runner = make()
    requests = [request("7", 1, 2), request("8", 3)]
    assert shown(runner.bring_back([numbers(10, 20), numbers(30)], requests)) == [[10, 20], [30]]
    assert len(model.seen) == 1


def test_items_of_other_rows_than_their_requests_fail_even_if_their_sum_is_right(make):
    _, runner = make()
    brought = runner.bring_back([numbers(10, 20), numbers(30)], [request("7", 1), request("8", 2, 3)])
    assert [isinstance(one, OutputError) for one in brought] == [True, True]


def test_item_without_its_batch_dimension_is_not_joined_to_others(make):
    model, runner = make(output=[tensor("I", [], "TYPE_INT32")])
    good = torch.tensor([10], dtype=torch.int32)
    brought = runner.bring_back([good, good[None]], [request("7", 1), request("8", 2)])
    assert brought[0]["I"].tolist() == [10]
    assert isinstance(brought[1], OutputError)
    assert "expected shape [B], got shape [1, 1]" in str(brought[1])
    assert len(model.seen) == 2


def test_items_of_different_types_stay_so(make):
    _, runner = make()
    brought = runner.bring_back([numbers(10), numbers(20).long()], [request("7", 1), request("8", 2)])
    assert brought[0]["I"].tolist() == [[10]]
    assert "output 'I': expected data type INT32, got INT64" in str(brought[1])


@pytest.mark.parametrize("has_postprocess", [True, False])
def test_items_of_different_sizes_are_postprocessed_apart_and_fetched_at_once(
    make, has_postprocess, monkeypatch
):
    members = {} if has_postprocess else {"postprocess": None}
    model, runner = make(type("Sizes", (Model,), members), output=[tensor("I", [-1], "TYPE_INT32")])
    fetches, fetch = [], runner._output_stage.fetch
    monkeypatch.setattr(runner._output_stage, "fetch", lambda outputs: fetches.append(1) or fetch(outputs))
    items = [torch.full((1, size), size, dtype=torch.int32) for size in (2, 3)]
    brought = runner.bring_back(items, [request("7", 1), request("8", 2)])
    assert shown(brought) == [[2, 2], [3, 3, 3]]
    assert len(model.seen) == (2 if has_postprocess else 0)
    assert len(fetches) == 1


@pytest.mark.parametrize("size", [1, 2])
def test_text_of_several_streams_is_each_ones_own(make, size):
    _, runner = make(output=[tensor("I", [-1], "TYPE_STRING")])
    items = [[["a"]], [["b"] * size]]
    brought = runner.bring_back(items, [request("7", 1), request("8", 2)])
    assert [one["I"].tolist() for one in brought] == [[[b"a"]], [[b"b"] * size]]


def test_postprocess_that_raises_runs_for_a_single_item_once(make):
    class Fails(Model):
        def postprocess(self, outputs):
            self.note("postprocess")
            raise RequestError("odd")

    model, runner = make(Fails)
    [error] = runner.bring_back([numbers(1)], [request("7", 1)])
    assert str(error) == "odd"
    assert len(model.seen) == 1


def test_item_that_fails_leaves_the_others_as_they_are(make):
    class Fails(Model):
        def postprocess(self, outputs):
            if (outputs["I"] == 2).any():
                raise RequestError("odd")
            return outputs

    _, runner = make(Fails)
    brought = shown(
        runner.bring_back([numbers(n) for n in (1, 2, 3)], [request(str(n), n) for n in (1, 2, 3)])
    )
    assert (brought[0], str(brought[1]), brought[2]) == ([1], "odd", [3])


def test_items_that_can_not_be_fetched_fail_and_one_that_had_failed_keeps_its_error(make, monkeypatch):
    class Fails(Model):
        def postprocess(self, outputs):
            if (outputs["I"] == 2).any():
                raise RequestError("odd")
            return outputs

    def refuse(outputs):
        raise MemoryError("no room")

    _, runner = make(Fails)
    monkeypatch.setattr(runner._output_stage, "fetch", refuse)
    brought = runner.bring_back([numbers(n) for n in (1, 2, 3)], [request(str(n), n) for n in (1, 2, 3)])
    assert [str(one) for one in brought] == ["no room", "odd", "no room"]


def test_device_that_fails_while_items_are_brought_back_is_no_error_of_theirs(make, monkeypatch):
    _, runner = make()

    def lose(outputs):
        runner.device.health.fault = "RuntimeError: CUDA error"
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(runner._output_stage, "fetch", lose)
    with pytest.raises(RuntimeError, match="CUDA error"):
        runner.bring_back([numbers(1), numbers(2)], [request("7", 1), request("8", 2)])


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("num_items", [1, 2])
def test_items_on_a_gpu_are_computed_when_they_come_back(make, output_device, num_items):
    simulated = SimulatedAccelerator(2)
    with simulated.installed(lambda *_: None), simulated.entered():
        _, runner = make(kind="GPU", parameters={"kindaware.output_device": output_device})
        requests = [request(str(n), n) for n in range(num_items)]
        with runner.device.runtime.scope():
            items = [runner.begin(one).state[0] + 1 for one in requests]
        brought = runner.bring_back(items, requests)
        assert simulated.num_pending == 0
        assert shown(brought) == [[n + 1] for n in range(num_items)]
        assert {one["I"].device.type for one in brought} == {"cpu" if output_device == "cpu" else "cuda"}
        for item in items:  # the model may use its memory again
            item.zero_()
        assert shown(brought) == [[n + 1] for n in range(num_items)]
    assert simulated.violations == []


class FailsInWarmUp(Model):
    """Notes itself, which `make` does not return; its `step` is a test's."""

    made = None

    def load(self):
        super().load()
        type(self).made = self


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda self, states: 1 / 0, "ZeroDivisionError"),
        (
            lambda self, states: [Next(one, one[0].long()) for one in states],
            "expected data type INT32, got INT64",
        ),
    ],
)
def test_warm_up_that_fails_says_why_and_ends_its_streams(make, step, text):
    model_class = type("Fails", (FailsInWarmUp,), {"step": step})
    with pytest.raises(ConfigError, match=text):
        make(model_class, warmup="2")
    assert len(model_class.made.ended) == 2


def test_warm_up_whose_zeros_a_step_refuses_is_skipped_and_ends_its_streams(make, caplog):
    class Refuses(FailsInWarmUp):
        def step(self, states):
            return [RequestError("no zeros")] * len(states)

    with caplog.at_level("INFO"):
        model, _ = make(Refuses, warmup="2")
    assert "warm-up skipped (zeros are refused: no zeros" in caplog.text
    assert len(model.ended) == 2


def test_warm_up_steps_the_streams_that_begin_has_not_ended_and_ends_no_other(make):
    class Some(Model):
        def begin(self, N):
            self.note("begin")
            return Done(N) if len(self.seen) % 2 else (N,)

        def step(self, states):
            self.sizes = len(states)
            return super().step(states)

    model, _ = make(Some, warmup="4")
    assert (model.sizes, len(model.ended)) == (2, 2)


def test_warm_up_checks_the_item_that_begin_returns(make):
    class Wrong(Model):
        def begin(self, N):
            return Done(N.long())

    with pytest.raises(ConfigError, match="expected data type INT32, got INT64"):
        make(Wrong, warmup="1")
