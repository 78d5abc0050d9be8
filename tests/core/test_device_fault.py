"""After a fault of the device nothing is asked of it any more: no wait, no copy, no memory."""

import contextlib

import pytest
import torch
from core_kit import BAD, Doubler, answers_of, make_pipeline, make_request, run, start
from recording_runtime import RecordingRuntime

from kindaware import ConfigError
from kindaware._device import placed_instance
from kindaware._device.staging import PinnedStaging


class CudaError(RuntimeError):
    """What only a broken device raises."""

    def __init__(self, text="device-side assert triggered"):
        super().__init__(f"CUDA error: {text}")


class Breaking(RecordingRuntime):
    """Stands for a GPU whose every call fails once one has."""

    def __init__(self):
        super().__init__()
        self.is_broken = False
        self.fails_at = None

    def break_down(self):
        self.is_broken = True
        raise CudaError

    def is_fault(self, error):
        return isinstance(error, CudaError)

    def _call(self, name):
        self.log.append(name)
        if self.is_broken:
            raise CudaError(f"{name} after a fault")
        if name == self.fails_at:
            self.break_down()

    def activate(self):
        self._call("activate")

    @contextlib.contextmanager
    def scope(self):
        self._call("scope")
        yield

    def new_pinned(self, num_bytes):
        self._call("new_pinned")
        return super().new_pinned(num_bytes)

    def copy(self, target, source):
        self._call("copy")
        super().copy(target, source)

    def wait(self):
        self._call("wait")
        super().wait()

    def synchronize(self, device):
        self._call("synchronize")

    def release_memory(self):
        self._call("release_memory")


def open_pipeline(forward, **hooks):
    """A pipeline on a device that can break, and that device."""
    runtime = Breaking()
    staging = PinnedStaging(runtime, 2**20)
    return make_pipeline(forward, runtime=runtime, staging=staging, **hooks), runtime


def test_run_fault_with_copies_under_way_is_not_waited_for():
    before = []

    def forward(X):
        before.extend(runtime.log)
        runtime.break_down()

    pipeline, runtime = open_pipeline(forward)
    assert answers_of(run(pipeline, [1, 2])) == ["UNAVAILABLE"] * 2
    assert pipeline.runner.device.health.fault == "CudaError: CUDA error: device-side assert triggered"
    assert answers_of(run(pipeline, [1])) == ["UNAVAILABLE"]
    assert before[-1] == "copy"
    assert runtime.log == before


def test_run_fault_that_shows_only_in_the_wait_is_the_one_reported(caplog):
    def forward(X):
        runtime.fails_at = "wait"
        raise ValueError("of the model")

    pipeline, runtime = open_pipeline(forward)
    assert answers_of(run(pipeline, [1, 2])) == ["UNAVAILABLE"] * 2
    assert pipeline.runner.device.health.fault == "CudaError: CUDA error: device-side assert triggered"
    [record] = caplog.records
    assert "ValueError: of the model" in record.getMessage()


def test_run_fault_while_memory_is_handed_back_makes_everything_unavailable():
    def forward(X):
        runtime.fails_at = "release_memory"
        raise torch.OutOfMemoryError("full")

    pipeline, runtime = open_pipeline(forward)
    assert answers_of(run(pipeline, [1, 2])) == ["UNAVAILABLE"] * 2
    assert runtime.log[-1] == "release_memory"


def test_run_fault_in_preprocess_makes_everything_unavailable_and_runs_no_other():
    preprocessed = []

    def preprocess(inputs):
        preprocessed.append(float(inputs["X"][0, 0]))
        if (inputs["X"] == BAD).any():
            runtime.break_down()
        return inputs

    pipeline, runtime = open_pipeline(lambda X: X, preprocess=preprocess)
    assert answers_of(run(pipeline, [1, BAD, 3])) == ["UNAVAILABLE"] * 3
    assert preprocessed == [1, BAD]
    assert runtime.log == ["scope", "scope"]
    assert answers_of(pipeline.run([make_request("d", 4)])) == ["UNAVAILABLE"]


@pytest.fixture
def breaking(monkeypatch):
    """The device of the models that a test starts."""
    runtime = Breaking()
    monkeypatch.setattr(placed_instance, "open_runtime", lambda placement: runtime)
    return runtime


def test_finalize_after_a_fault_leaves_the_device_alone(breaking):
    class Model(Doubler):
        def unload(self):
            self.unloaded = True

    model = start(Model)
    assert model.is_ready()
    breaking.is_broken = True
    model._kindaware_instance._device.health.note_fault(CudaError())
    before = list(breaking.log)
    assert not model.is_ready()
    model.finalize()
    assert model.unloaded
    assert breaking.log == before


def test_initialize_fault_in_the_warm_up_is_the_one_reported(breaking):
    class Model(Doubler):
        def forward(self, X):
            breaking.break_down()

    with pytest.raises(ConfigError, match=r"got CudaError: CUDA error: device-side assert triggered;"):
        start(Model)
    assert breaking.log[-1] == "copy"


def test_note_fault_keeps_and_logs_the_first_one(caplog):
    pipeline, _ = open_pipeline(lambda X: X)
    health = pipeline.runner.device.health
    assert health.note_fault(CudaError("the first"))
    assert health.note_fault(CudaError("the second"))
    assert health.fault == "CudaError: CUDA error: the first"
    assert len(caplog.records) == 1
