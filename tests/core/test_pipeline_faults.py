"""A shape that forward refuses, memory that runs out, a device that fails."""

import weakref

import pytest
import torch
from core_kit import (
    BAD,
    Faulty,
    Forward,
    Releasing,
    answers_of,
    make_pipeline,
    make_request,
    make_spec,
    run,
)

from kindaware import RequestError, TensorSpec
from kindaware._batch import pipeline as _pipeline
from kindaware._device.runtime import CpuRuntime

DYNAMIC = make_spec(inputs=[TensorSpec("X", "FP32", [-1])], outputs=[TensorSpec("Y", "FP32", [-1])])


def picky(X):
    """Takes rows of two; refuses a bad value."""
    if X.shape[-1] != 2 or (X == BAD).any():
        raise ValueError("refused")
    return 2 * X


def test_run_shape_that_forward_refuses_is_an_invalid_argument(caplog):
    requests = [
        make_request("a", 1),
        make_request("b", 1, width=3),
        make_request("c", BAD),
        make_request("d", 1, width=3),
    ]
    outcomes = make_pipeline(picky, spec=DYNAMIC).run(requests)
    assert answers_of(outcomes) == [2, "INVALID_ARG", "INTERNAL", "INVALID_ARG"]
    assert outcomes[1].text == (
        "model 'm' request 'b': expected inputs of a shape that forward takes, got {'X': [1, 3]} "
        "(ValueError: refused); send another shape: zeros of this one fail in the same way"
    )
    assert outcomes[3].text.startswith("model 'm' request 'd': ")
    [record] = caplog.records  # the same line raised for all three
    assert "failed 3 request(s), ids ['c', 'b', 'd']" in record.getMessage()


def test_run_shape_that_was_answered_before_is_never_to_blame():
    is_down = []

    def forward(X):
        if is_down:
            raise RuntimeError("feature store is down")
        return X

    pipeline = make_pipeline(forward, spec=DYNAMIC)
    assert answers_of(pipeline.run([make_request("a", 1)])) == [1]
    assert answers_of(pipeline.run([make_request("b", 1, width=3)])) == [1]
    is_down.append(True)
    assert answers_of(pipeline.run([make_request("b", 1)])) == ["INTERNAL"]


def test_run_zeros_that_fail_at_another_line_do_not_blame_the_shape():
    def forward(X):
        if X.max() > 10:
            raise ValueError("above 10")
        if X.max() == 0:
            raise ValueError("nothing but zeros")
        return X

    pipeline = make_pipeline(forward, spec=DYNAMIC)
    assert answers_of(pipeline.run([make_request("a", 11)])) == ["INTERNAL"]


@pytest.mark.parametrize("order", [(2, 3), (3, 2)])
def test_run_shape_refused_first_in_a_call_is_told_from_a_broken_model(order):
    pipeline = make_pipeline(picky, spec=DYNAMIC, has_answered=False)
    outcomes = pipeline.run([make_request(width, 1, width=width) for width in order])
    assert answers_of(outcomes) == [2 if width == 2 else "INVALID_ARG" for width in order]


def raises_in(file):
    """A function that raises in the second line of a file."""
    space = {}
    exec(compile("def refuse():\n    raise ValueError('refused')", file, "exec"), space)
    return space["refuse"]


def test_run_zeros_that_fail_in_another_file_do_not_blame_the_shape():
    refuse, refuse_zeros = raises_in("a.py"), raises_in("b.py")
    pipeline = make_pipeline(lambda X: refuse() if X.any() else refuse_zeros(), spec=DYNAMIC)
    assert answers_of(run(pipeline, [1])) == ["INTERNAL"]
    pipeline = make_pipeline(lambda X: refuse(), spec=DYNAMIC)
    assert answers_of(run(pipeline, [1])) == ["INVALID_ARG"]


def test_run_request_that_forward_refuses_itself_is_not_tried_with_zeros():
    batches = []

    def forward(X):
        batches.append(X.tolist())
        raise RequestError("too bright", code="UNSUPPORTED")

    assert answers_of(run(make_pipeline(forward, spec=DYNAMIC), [1])) == ["UNSUPPORTED"]
    assert batches == [[[1, 1]]]


def test_run_model_that_never_answered_is_to_blame_itself():
    pipeline = make_pipeline(picky, spec=DYNAMIC, has_answered=False)
    assert answers_of(pipeline.run([make_request("a", 1, width=3)])) == ["INTERNAL"]


def test_run_fixed_shape_is_never_to_blame():
    assert answers_of(make_pipeline(picky).run([make_request("a", 1, width=3)])) == ["INTERNAL"]


def test_run_output_of_a_wrong_shape_is_never_the_clients_fault():
    spec = make_spec(inputs=DYNAMIC.inputs)
    assert answers_of(make_pipeline(lambda X: X, spec=spec).run([make_request("a", 1, width=3)])) == [
        "INTERNAL"
    ]


class Limited(Forward):
    """Runs out of memory above so many rows."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.memory_error = limit, error

    def __call__(self, X):
        if len(X) > self.limit:
            self.batches.append(len(X))
            raise self.memory_error("full")
        return super().__call__(X)


def full(text):
    """CUDA's own word for it, where no allocator of torch's was asked."""
    return RuntimeError(f"CUDA error: out of memory\n{text}")


def no_handle(text):
    """That of cuBLAS."""
    return RuntimeError(f"CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate {text}")


def by_script(text):
    """TorchScript raises what its operations raise as an error of another class."""
    return RuntimeError(
        "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript:\n"
        f"RuntimeError: CUDA out of memory. Tried to allocate 20.00 GiB {text}"
    )


def by_hip(text):
    return RuntimeError(f"HIP out of memory. Tried to allocate 20.00 GiB {text}")


def raised_from(text):
    error = RuntimeError("my layer failed")
    error.__cause__ = torch.OutOfMemoryError(text)
    return error


def raised_while_handling(text):
    error = ValueError("my layer failed")
    error.__context__ = RuntimeError("its cleanup failed")
    error.__context__.__context__ = MemoryError(text)
    return error


OUT_OF_MEMORY = [torch.OutOfMemoryError, MemoryError, full, no_handle]
OUT_OF_MEMORY += [by_script, by_hip, raised_from, raised_while_handling]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("isolate_errors", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 63])
def test_run_out_of_memory_halves_until_the_batch_fits(error, isolate_errors, limit):
    runtime, forward = Releasing(), Limited(limit, error)
    pipeline = make_pipeline(forward, runtime=runtime, isolate_errors=isolate_errors)
    assert answers_of(run(pipeline, range(64))) == [2.0 * value for value in range(64)]
    assert runtime.num_releases == sum(rows > limit for rows in forward.batches)


def test_run_refusal_raised_for_memory_that_ran_out_is_a_refusal():
    def refuse(text):
        error = RequestError("too large")
        error.__cause__ = MemoryError(text)
        return error

    pipeline = make_pipeline(Limited(1, refuse), isolate_errors=False)
    assert answers_of(run(pipeline, range(4))) == ["INVALID_ARG"] * 4
    assert pipeline.runner.counters.out_of_memory == 0


def test_run_out_of_memory_waits_before_memory_is_handed_back():
    runtime = Releasing()
    pipeline = make_pipeline(Limited(1, torch.OutOfMemoryError), runtime=runtime)
    run(pipeline, range(2))
    assert runtime.log == ["wait", "release_memory"]


@pytest.mark.parametrize("how", ["plainly", "from", "while handling"])
def test_run_out_of_memory_lets_go_of_the_batch_before_memory_is_handed_back(how):
    held, alive = [], []

    class Runtime(CpuRuntime):
        def release_memory(self):
            alive.append([reference() is not None for reference in held])

    def allocate(X):
        activations = X * 2
        held.append(weakref.ref(activations))
        if len(X) > 1:
            raise torch.OutOfMemoryError("full")
        return activations

    def forward(X):
        converted = X + 0
        held.append(weakref.ref(converted))
        if how == "plainly":
            return allocate(converted)
        try:
            return allocate(converted)
        except torch.OutOfMemoryError as error:
            if how == "from":
                raise torch.OutOfMemoryError("full") from error
            raise MemoryError("full")  # noqa: B904 - the context alone links the two

    outcomes = run(make_pipeline(forward, runtime=Runtime()), range(2))
    assert answers_of(outcomes) == [0, 2]
    assert alive == [[False, False]]


def test_run_error_of_memory_that_is_kept_until_the_end_of_the_call_holds_no_tensors():
    held, alive = [], []

    def forward(X):
        alive.append(sum(reference() is not None for reference in held))
        doubled = 2 * X
        held.append(weakref.ref(doubled))
        if (X == BAD).any():
            raise MemoryError("bad row")
        return doubled.clone()

    run(make_pipeline(forward), [1, BAD, 2, 3])
    assert len(alive) > 3
    assert sum(alive) == 0


def test_run_device_that_fails_while_memory_is_handed_back_is_unavailable():
    class Runtime(Faulty):
        def wait(self):
            raise RuntimeError("CUDA error: unspecified launch failure")

    pipeline = make_pipeline(Limited(1, torch.OutOfMemoryError), runtime=Runtime())
    assert answers_of(run(pipeline, range(2))) == ["UNAVAILABLE"] * 2
    assert pipeline.runner.device.health.fault == "RuntimeError: CUDA error: unspecified launch failure"


def test_run_request_that_never_fits_fails_alone():
    forward = Limited(4, torch.OutOfMemoryError)
    requests = [make_request("a", 1), make_request("big", 2, rows=5), make_request("c", 3)]
    assert answers_of(make_pipeline(forward).run(requests)) == [2, "INTERNAL", 6]
    dynamic = make_pipeline(forward, spec=DYNAMIC)
    assert answers_of(dynamic.run([make_request("big", 2, rows=5)])) == ["INTERNAL"]


@pytest.mark.parametrize(("num_requests", "halved"), [(1, 0), (2, 1), (4, 3)])
def test_run_out_of_memory_is_counted_where_a_batch_is_halved(num_requests, halved):
    pipeline = make_pipeline(Limited(0, torch.OutOfMemoryError))
    assert answers_of(run(pipeline, range(num_requests))) == ["INTERNAL"] * num_requests
    assert pipeline.runner.counters.out_of_memory == halved


def test_run_error_for_which_a_batch_is_halved_is_no_lack_of_memory():
    pipeline = make_pipeline(Forward())
    assert answers_of(run(pipeline, [1, BAD])) == [2, "INTERNAL"]
    counters = pipeline.runner.counters
    assert (counters.out_of_memory, counters.retries, counters.errors) == (0, 2, {"INTERNAL": 1})


def test_run_device_fault_makes_everything_unavailable_at_once(caplog):
    forward = Forward(RuntimeError, "CUDA error: an illegal memory access")
    preprocessed = []
    pipeline = make_pipeline(
        forward, runtime=Faulty(), preprocess=lambda inputs: preprocessed.append(1) or inputs
    )
    outcomes = pipeline.run([make_request("a", 1, rows=2), make_request("b", BAD), make_request("c", 1)])
    assert answers_of(outcomes) == ["UNAVAILABLE"] * 3
    assert forward.batches == [4]
    assert answers_of(run(pipeline, [1, 2])) == ["UNAVAILABLE"] * 2
    assert (forward.batches, len(preprocessed)) == ([4], 3)
    assert pipeline.runner.device.health.fault == "RuntimeError: CUDA error: an illegal memory access"
    assert outcomes[0].text.startswith(
        "model 'm': expected a working device, got cpu after RuntimeError: CUDA error"
    )
    [record] = caplog.records
    assert "Traceback" in record.getMessage()


def test_run_device_fault_keeps_answers_that_were_there_before():
    def forward(X):
        if X.shape[-1] == 3:
            raise RuntimeError("CUDA error")
        return X

    pipeline = make_pipeline(forward, spec=DYNAMIC, runtime=Faulty())
    requests = [make_request(n, n, width=width) for n, width in enumerate([2, 3, 2, 4])]
    assert answers_of(pipeline.run(requests)) == [0, "UNAVAILABLE", 2, "UNAVAILABLE"]


def test_run_answers_on_a_device_that_works_are_kept():
    pipeline = make_pipeline(lambda X: 2 * X, output_device="instance")
    assert answers_of(run(pipeline, [1, 2])) == [2, 4]


def test_run_device_fault_takes_answers_that_lay_on_the_device():
    def forward(X):
        if X.shape[-1] == 3:
            raise RuntimeError("CUDA error")
        return X

    pipeline = make_pipeline(forward, spec=DYNAMIC, runtime=Faulty(), output_device="instance")
    outcomes = pipeline.run([make_request(n, n, width=width) for n, width in enumerate([2, 3])])
    assert answers_of(outcomes) == ["UNAVAILABLE"] * 2


def test_run_remembers_the_shapes_of_late_and_not_all_there_ever_were(monkeypatch):
    monkeypatch.setattr(_pipeline, "_MAX_SHAPES", 3)
    pipeline = make_pipeline(lambda X: X, spec=DYNAMIC)
    held = []
    for width in range(1, 10):
        pipeline.run([make_request("r", 1, width=width)])
        held.append(len(pipeline._answered_shapes))
    assert held == [1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_run_device_that_fails_for_zeros_of_a_shape_does_not_blame_the_shape():
    def forward(X):
        raise RuntimeError("bad row" if X.any() else "CUDA error")

    pipeline = make_pipeline(forward, spec=DYNAMIC, runtime=Faulty())
    assert answers_of(run(pipeline, [1])) == ["INTERNAL"]
    assert pipeline.runner.device.health.fault == "RuntimeError: CUDA error"


def test_run_device_that_fails_behind_a_group_without_an_answer_is_asked_no_more():
    widths = []

    def forward(X):
        widths.append(X.shape[-1])
        raise RuntimeError("CUDA error" if X.shape[-1] == 3 else "refused")

    pipeline = make_pipeline(forward, spec=DYNAMIC, runtime=Faulty())
    requests = [make_request(n, 1, width=width) for n, width in enumerate([2, 3])]
    assert answers_of(pipeline.run(requests)) == ["INTERNAL", "UNAVAILABLE"]
    assert widths == [2, 3]
