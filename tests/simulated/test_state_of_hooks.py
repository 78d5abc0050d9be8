"""What is current while a hook runs: device, stream, gradients, inference mode, autocast; in any thread."""

import threading

import pytest
import torch
from simulated_kit import Doubler, assert_answers, entries, serve


def state(model):
    return {
        "device": torch.cuda.current_device(),
        "own stream": torch.cuda.current_stream() == model.cuda_stream,
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None,
    }


class Witness(Doubler):
    """Notes what is current in each hook."""

    def note(self, hook):
        self.__dict__.setdefault("states", {})[hook] = state(self)

    def load(self):
        self.note("load")

    def preprocess(self, inputs):
        self.note("preprocess")
        return inputs

    def collate(self, name, tensors):
        self.note("collate")
        return torch.cat(tensors)

    def forward(self, X):
        self.note("forward")
        self.inputs = X
        return 2 * X

    def postprocess(self, outputs):
        self.note("postprocess")
        return outputs


EXPECTED = {"device": 1, "own stream": True, "grad": False, "inference": False, "autocast": None}


def in_thread(function):
    """Run a function in a thread of its own, as a server that answers from a pool would."""
    raised = []

    def run():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("where", [lambda function: function(), in_thread], ids=["main", "worker"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_execute_hooks_find_device_stream_and_modes(where, precision):
    autocast = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    sent = entries(1, 2)
    with serve(Witness, precision=precision, warmup="off") as harness:
        model = harness.instance
        assert model.cuda_stream != torch.cuda.default_stream(1)
        where(lambda: assert_answers(harness.infer_batch(sent), sent))
        assert model.states.pop("load") == {**EXPECTED, "grad": True}
        assert model.states == {
            "preprocess": EXPECTED,
            "collate": EXPECTED,
            "forward": {**EXPECTED, "inference": True, "autocast": autocast},
            "postprocess": {**EXPECTED, "inference": True},
        }
        assert not model.inputs.is_inference()
        assert model.inputs.device == torch.device("cuda:1")


def test_modules_are_moved_on_the_stream_that_will_use_them():
    class Noting(torch.nn.Linear):
        def _apply(self, function, recurse=True):
            states.append((torch.cuda.current_device(), torch.cuda.current_stream()))
            return super()._apply(function, recurse)

    class Moved(Doubler):
        def load(self):
            self.layer = Noting(4, 4)

    states = []
    with serve(Moved, precision="bf16-true") as harness:
        stream = harness.instance.cuda_stream
    assert states
    assert set(states) == {(1, stream)}


def test_execute_leaves_what_is_current_as_it_was():
    with serve(Witness) as harness:
        with torch.cuda.device(0):
            before = torch.cuda.current_device(), torch.cuda.current_stream(1), torch.is_grad_enabled()
            harness.infer_batch(entries(1))
            after = torch.cuda.current_device(), torch.cuda.current_stream(1), torch.is_grad_enabled()
        assert before == after


def test_warm_up_runs_in_the_same_state():
    with serve(Witness) as harness:
        assert harness.instance.states["forward"] == {**EXPECTED, "inference": True}
        assert harness.instance.states["preprocess"] == EXPECTED


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_execute_true_precision_converts_inputs_on_the_device(precision):
    sent = entries(1, 2)
    with serve(Witness, precision=precision) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert harness.instance.inputs.dtype in (torch.bfloat16, torch.float16)
