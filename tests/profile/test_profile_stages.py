"""Spans: what they count, and where they are put."""

import time

import pytest
from profile_kit import CONFIG, NET

from kindaware.cli._recorder import Recorder
from kindaware.cli._stages import EXECUTE, FORWARD, STAGES, mark_stages
from kindaware.testing import ModelHarness

GPU = CONFIG.replace("KIND_CPU", "KIND_GPU")
ROW = {"X": [[0.0] * 8]}


def test_span_counts_itself_without_the_spans_in_it():
    recorder = Recorder()
    with recorder.span("outer"):
        time.sleep(0.01)
        with recorder.span("inner"):
            time.sleep(0.2)

    assert 0.01 <= recorder.seconds["outer"] < 0.2 <= recorder.seconds["inner"]


def test_span_that_ends_with_an_error_is_counted_and_closed():
    recorder = Recorder()
    with pytest.raises(ValueError, match="no"), recorder.span("one"):
        raise ValueError("no")
    with recorder.span("two"):
        pass

    assert set(recorder.seconds) == {"one", "two"}


def test_wrapped_method_leaves_its_class_and_other_objects_alone():
    class Adder:
        def add(self, a, *, b):
            return a + b

    one, other, recorder = Adder(), Adder(), Recorder()
    recorder.wrap(one, "add", "adding")

    assert (one.add(1, b=2), other.add(3, b=4)) == (3, 7)
    assert list(vars(other)) == []
    assert len(recorder.seconds) == 1


def stages_of(model, num_requests=2):
    """The spans of one execute."""
    recorder = Recorder()
    mark_stages(model.instance, recorder)
    model.infer_batch([ROW] * num_requests)
    return set(recorder.seconds)


def test_stages_of_a_plain_model_on_a_cpu_are_those_of_the_fast_path(write_model):
    with ModelHarness(write_model()) as model:
        assert stages_of(model) == {EXECUTE, "read", "collate", FORWARD, "postprocess", "respond"}


def test_stages_on_a_cpu_are_all_but_the_copy_and_the_hooks_that_are_not_there(write_model):
    with ModelHarness(write_model(), parameters={"kindaware.precision": "bf16-true"}) as model:
        assert stages_of(model) == {EXECUTE, *STAGES} - {"copy in", "preprocess"}


@pytest.mark.parametrize("graphs", ["off", "2"])
def test_stages_on_a_gpu_have_the_copy_with_graphs_and_without(write_model, graphs):
    with ModelHarness(
        write_model(config=GPU),
        kind="GPU",
        accelerator="simulated",
        parameters={"kindaware.cuda_graphs": graphs},
    ) as model:
        assert stages_of(model) == {EXECUTE, *STAGES} - {"preprocess"}


def test_span_of_forward_has_nearly_all_of_a_slow_one(write_model):
    slow = NET.replace("return self", "__import__('time').sleep(0.2); return self")
    with ModelHarness(write_model(slow)) as model:
        recorder = Recorder()
        mark_stages(model.instance, recorder)
        model.infer_batch([ROW] * 2)

    others = sum(seconds for stage, seconds in recorder.seconds.items() if stage != FORWARD)
    assert recorder.seconds[FORWARD] >= 0.2 > others


def test_instance_that_is_not_profiled_has_no_span(write_model):
    with ModelHarness(write_model()) as model:
        assert "execute" not in vars(model.instance)
        assert "read" not in vars(model.instance._kindaware_instance._adapter.requests)
