"""A fault at each call of the device, one after another; then a good batch."""

import gc

import pytest
import torch
from simulated_kit import Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor

INJECTED = "injected into call"


class Hooked(Doubler):
    """With every hook; each works on the device."""

    def preprocess(self, inputs):
        return {name: one + 0 for name, one in inputs.items()}

    def postprocess(self, outputs):
        return {name: one * 1 for name, one in outputs.items()}


class Faults:
    """Raises at one call of the device, counted from `arm` on.

    Args:
        make_error: makes what is raised, given a text.
        applies: whether a call of this name is meant.
    """

    def __init__(self, make_error, applies=lambda name: True):
        self._make_error = make_error
        self._applies = applies
        self._at = None
        self.names = []
        self.struck = None

    def arm(self, at):
        self._at, self.names, self.struck = at, [], None

    def __call__(self, number, name):
        if not self._applies(name):
            return None
        self.names.append(name)
        if len(self.names) != self._at:
            return None
        self.struck = number
        return self._make_error(f"CUDA error: {INJECTED} {self._at}\n{name}")


def of_a_launch(text):
    """An error that CUDA tells once, and that leaves the device as it was."""
    return torch.AcceleratorError(
        text.replace("CUDA error: ", "CUDA error: invalid configuration argument, ")
    )


def is_allocation(name):
    return name.startswith("allocate")


def is_of_library(name):
    """Neither a view, which asks nothing of the device, nor what Triton's stub does with its own stream."""
    views = ("aten::alias", "aten::detach", "aten::resolve_neg", "aten::slice.Tensor")
    return name not in (*views, "make a stream", "wait for a stream")


class Padded(Doubler):
    """Answers requests of different length together."""

    def load(self):
        self.sizes = []

    def forward(self, X):
        self.sizes.append(tuple(X.shape))
        return 2 * X


SHAPES = {
    "one request": {"rows": (3,)},
    "several requests": {"rows": (1, 3, 2)},
    "one on the GPU": {"rows": (3,), "input_device": "cuda:1"},
    "several on the GPU": {"rows": (1, 3, 2), "input_device": "cuda:1"},
}
SERVED = {
    "plain": (Doubler, {}),
    "hooks": (Hooked, {}),
    "outputs stay": (Doubler, {"output_device": "instance"}),
    "graphs": (Doubler, {"cuda_graphs": "4,6"}),
}


@pytest.fixture(params=SERVED)
def served(request):
    model, settings = SERVED[request.param]
    return lambda: serve(model, takes_gpu_inputs=True, **settings)


@pytest.fixture(params=SHAPES)
def sent(request):
    shape = dict(SHAPES[request.param])
    return entries(*shape.pop("rows"), **shape)


def num_calls_of(harness, sent, faults):
    """How many calls of the device a good batch makes, once buffers are there."""
    harness.accelerator.fault = faults
    harness.infer_batch(sent)
    faults.arm(None)
    assert_answers(harness.infer_batch(sent), sent)
    return len(faults.names)


@pytest.mark.parametrize("sticky", [False, True])
def test_execute_fault_at_any_call_of_a_padded_batch(sticky):
    """Rows are cut on the GPU once more, when all forwards are done."""
    sent = [*entries(2, width=3), *entries(1, first=10, width=5)]
    config = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])

    def make_error(text):
        return torch.AcceleratorError(text) if sticky else torch.OutOfMemoryError(text)

    def open_harness():
        return serve(Padded, config=config, pad="X=0", unpad="Y=X", output_device="instance")

    with open_harness() as harness:
        num_calls = num_calls_of(harness, sent, Faults(make_error, is_of_library))
        assert set(harness.instance.sizes) == {(3, 5)}
    for at in range(1, num_calls + 1):
        faults = Faults(make_error, is_of_library)
        with open_harness() as harness:
            num_calls_of(harness, sent, faults)
            faults.arm(at)
            for result, entry in zip(harness.infer_batch(sent), sent, strict=True):
                if sticky:
                    assert result.error.code().name == "UNAVAILABLE"
                elif result.error is None:
                    assert_answers([result], [entry])
                else:
                    assert result.error.message().startswith("model 'm'")
                    assert f"{INJECTED} {at}" in result.error.message()
            if not sticky:
                assert_clean(harness)
                assert_answers(harness.infer_batch(sent), sent)
        assert not sticky or harness.accelerator.num_calls == faults.struck + 1


@pytest.mark.parametrize(
    ("make_error", "applies"),
    [
        (lambda text: RuntimeError(text.removeprefix("CUDA error: ")), is_of_library),
        (lambda text: torch.OutOfMemoryError(text.removeprefix("CUDA error: ")), is_allocation),
        (of_a_launch, is_of_library),
    ],
    ids=["RuntimeError", "OutOfMemoryError", "of a launch"],
)
def test_execute_error_at_any_call_fails_no_more_than_its_batch(served, sent, make_error, applies):
    faults = Faults(make_error, applies)
    with served() as harness:
        allocated = harness.accelerator.devices[1].memory.allocated_bytes
        num_calls = num_calls_of(harness, sent, faults)
        for at in range(1, num_calls + 1):
            faults.arm(at)
            results = harness.infer_batch(sent)
            assert faults.struck is not None
            for result, entry in zip(results, sent, strict=True):
                if result.error is None:
                    assert_answers([result], [entry])
                else:
                    assert f"{INJECTED} {at}" in result.error.message()
                    assert result.error.code().name == "INTERNAL"
            assert sum(one.error is not None for one in results) <= 1, (at, faults.names)
            assert harness.instance.is_ready()
            del results, result
            assert_clean(harness)
            later = [dict(entry) for entry in reversed(sent)]
            assert_answers(harness.infer_batch(later), later)
            assert_clean(harness)
        if harness.instance.settings.output_device == "cpu":
            gc.collect()  # of requests and their answers
            assert harness.accelerator.devices[1].memory.allocated_bytes == allocated


def test_execute_sticky_fault_at_any_call_makes_all_unavailable_and_is_the_last_call(served, sent):
    def make_error(text):
        return torch.AcceleratorError(text)

    with served() as harness:
        num_calls = num_calls_of(harness, sent, Faults(make_error))
    for at in range(1, num_calls + 1):
        faults = Faults(make_error)
        with served() as harness:
            num_calls_of(harness, sent, faults)
            faults.arm(at)
            results = harness.infer_batch(sent)
            assert [one.error.code().name for one in results] == ["UNAVAILABLE"] * len(sent)
            assert f"{INJECTED} {at}" in results[0].error.message()
            assert not harness.instance.is_ready()
            assert [one.error.code().name for one in harness.infer_batch(sent)] == ["UNAVAILABLE"] * len(sent)
        assert harness.accelerator.num_calls == faults.struck + 1  # the question whether it is lost
        assert harness.accelerator.violations == []
