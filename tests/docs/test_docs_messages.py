"""Each message that the documentation quotes is one that the code produces."""

import logging
import re
import tempfile
import time
from pathlib import Path

import pytest
import torch
from docs_models import args_for, run
from docs_pages import OUR_PAGES, blocks_of, code_in, name_of, without_blocks
from torch import nn

from kindaware import ConfigError, DevicePlacement, KindAwareError, KindAwareModel, TensorSpec, graphed
from kindaware._batch.request import Request
from kindaware._triton.module import _check_shadow, check_pb_utils
from kindaware.testing import InferenceError, ModelHarness, ModelLoadError

IN = {"name": "A", "data_type": "TYPE_FP32", "dims": [4]}
OUT = {"name": "Y", "data_type": "TYPE_FP32", "dims": [4]}
CONFIG = {"name": "net", "max_batch_size": 8, "input": [IN], "output": [OUT]}
SEQUENCES = CONFIG | {
    "sequence_batching": {
        "control_input": [{"name": "READY", "control": [{"kind": "CONTROL_SEQUENCE_READY"}]}],
    }
}
DECOUPLED = CONFIG | {"model_transaction_policy": {"decoupled": True}}
TWO = CONFIG | {"input": [IN, IN | {"name": "B"}]}
OPTIONAL = CONFIG | {"input": [IN, IN | {"name": "B", "optional": True}]}


def make_class(*, without=(), **members):
    """A model that works but for what is said."""
    whole = {"load": lambda self: None, "forward": lambda self, A: A} | members
    return type("TritonPythonModel", (KindAwareModel,), {k: v for k, v in whole.items() if k not in without})


def load(config=CONFIG, *, kind="CPU", without=(), parameters=(), **members):
    settings = {f"kindaware.{key}": {"string_value": value} for key, value in dict(parameters).items()}
    model = make_class(without=without, **members)()
    model.initialize(args_for(config | {"parameters": settings}, kind))
    return model


def items(self, A):
    yield A


def first_alone(self, name, tensors):
    return tensors[0]


async def async_hook(self, inputs):
    return inputs


def no_zeros(self, A):
    raise ValueError("no zeros, please")


def pinned_module(self):
    class Pinned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def _apply(self, *args, **kwargs):
            self.weight = torch.nn.Parameter(torch.ones(1, device="meta"))
            return self

    return Pinned()


VARYING = CONFIG | {
    "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
}
"""An input and an output of any length."""


def load_with_share(share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINDAWARE_CPU_SHARE", share)
        patch.delenv("OMP_NUM_THREADS", raising=False)
        load()


def load_without_gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        load(kind="GPU")


def sets(name, value=None, *, returns=None):
    """A `load` that sets an attribute."""

    def load(self):
        setattr(self, name, value)
        return returns

    return load


class ForgetsToInitialize(DevicePlacement):
    def initialize(self, args):
        self.model = torch.nn.ReLU().to(self.device)


ForgetsToInitialize.__name__ = "TritonPythonModel"


def complete_against_configuration():
    model_class = make_class(outputs=[TensorSpec("Y", "FP32", [4])], max_batch_size=16)
    try:
        ModelHarness(model_class, config={"name": "doubled", "max_batch_size": 32}).start()
    except ModelLoadError as error:
        raise error.__cause__ from None


class BrokenModule:
    """Triton's module, paired with a numpy that its stub can't read."""

    __file__ = __file__

    class Tensor:
        @staticmethod
        def from_dlpack(name, tensor):
            return BrokenModule.Tensor()

        def as_numpy(self):
            return torch.zeros(8).numpy()


class MockModule:
    __file__ = "/site-packages/triton_python_backend_utils.py"


class UnfilledBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("mask", torch.empty(4, device="meta"), persistent=False)


def load_weights(saved, network=None):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(saved, path)
        load(load=lambda self: self.load_weights(network or (lambda: nn.Linear(4, 4)), path))


STEPS = {"begin": lambda self, A: A, "step": lambda self, states: states}

LOADS = [
    load_without_gpu,
    lambda: load(kind="MODEL"),
    lambda: load(load=pinned_module),
    lambda: load(load=lambda self: "net"),
    lambda: load(without=["load"]),
    lambda: load(predict=lambda self, x: x, without=["forward"]),
    lambda: load(execute=lambda self, requests: []),
    lambda: load(pre_process=lambda self, inputs: inputs),
    lambda: load(pre_proces=lambda self, inputs: inputs),
    lambda: load(stream=lambda self, A: A, without=["forward"]),
    lambda: load(stream=items, without=["forward"]),
    lambda: load(DECOUPLED),
    lambda: load(DECOUPLED, step=lambda self, states: states),
    lambda: load(DECOUPLED, begin=lambda self, A: A, without=["forward"]),
    lambda: load(
        DECOUPLED, stream=items, collate=lambda self, name, tensors: tensors[0], without=["forward"]
    ),
    lambda: load(DECOUPLED, stream=items, parameters={"cuda_graphs": "8"}),
    lambda: load(DECOUPLED, stream=items, parameters={"pad": "A=0"}),
    lambda: load(DECOUPLED, **STEPS, without=["forward"], parameters={"cuda_graphs": "8"}),
    lambda: load(double=graphed(lambda self, A: A)),
    lambda: load(preprocess=async_hook),
    lambda: load(forward=answers_later, parameters={"cuda_graphs": "8"}),
    lambda: load(TWO),
    lambda: load(TWO, forward=lambda self, x: x),
    lambda: load(TWO, forward=lambda self, A, B, scale: A),
    lambda: load(OPTIONAL, forward=lambda self, A, B: A),
    lambda: load(forward=lambda self, A, lengths: A),
    lambda: load(parameters={"num_thread": "1"}),
    lambda: load(parameters={"precision": "fp16"}),
    lambda: load(parameters={"pad": "A=0"}),
    lambda: load(VARYING, parameters={"pad": "A=0"}),
    lambda: load(row_cost=lambda self, inputs: 1),
    lambda: load(parameters={"cuda_graphs": "8", "compile": "reduce-overhead"}),
    lambda: load_weights({"weight": torch.ones(4, 4)}),
    lambda: load_weights({"model": {"weight": torch.ones(4, 4)}}),
    lambda: load_weights({"weight": nn.Linear(4, 4)}),
    lambda: load_weights({"scale": torch.ones(4)}, UnfilledBuffer()),
    lambda: load(
        VARYING,
        load=lambda self: nn.Identity(),
        parameters={"compile": "default", "compile_cache": "true"},
    ),
    lambda: load(parameters={"warmup": "16"}),
    lambda: load(forward=no_zeros),
    lambda: load(CONFIG | {"batch_input": [{}]}),
    lambda: load(SEQUENCES | {"sequence_batching": {"state": [{"input_name": "H"}]}}),
    lambda: load(SEQUENCES, forward=lambda self, A, READY: A),
    lambda: load(preprocess=lambda self: None),
    *[lambda name=name: load(load=sets(name)) for name in ("device", "preprocess", "precision", "execute")],
    lambda: load(load=sets("model", "a name", returns=torch.nn.Identity())),
    lambda: load(TWO, forward=lambda self, b, a: a),
    lambda: load(inputs=[("A", "FP32", [4])]),
    complete_against_configuration,
    lambda: load_with_share("2"),
    lambda: check_pb_utils(BrokenModule),
    lambda: _check_shadow(MockModule),
]


def names_another(self, outputs):
    return {"LOGITS": outputs["SCORES"]} if outputs["SCORES"].any() else outputs


def read_failure(config, request, forward, warm=None, **hooks):
    """What a client reads when a model has answered `warm` and then gets `request`."""
    model = load(config | {"name": "sentiment"}, forward=forward, **hooks)
    for one in [warm] if warm else []:
        run(model, [one])
    (outcome,) = run(model, [request])
    return outcome.text


def no_such_id(self, A):
    if A.any():
        raise ValueError("no such id")
    return A


def four_features(self, X):
    if X.shape[1] != 4:
        raise ValueError(f"4 features needed, got {X.shape[1]}")
    return X


class AcceleratorError(RuntimeError):
    """Named as torch's own, which only a broken device raises."""


def read_fault():
    """What a client reads after a fault of a GPU; the model runs on the CPU."""
    model = load(CONFIG | {"name": "sentiment"})
    device = model._kindaware_instance._device
    device.runtime.device = torch.device("cuda:1")
    device.runtime.is_fault = lambda error: True
    device.health.note_fault(AcceleratorError("CUDA error: device-side assert triggered"))
    (outcome,) = run(model, [Request("", {"A": torch.ones(1, 4)}, 1)])
    return outcome.text


WRONG_OUTPUTS = [
    lambda A: None,
    lambda A: A[:0],
    lambda A: A[:, :2],
    lambda A: {"X": A},
    lambda A: (A, A),
]


def forgets_to_return(self, inputs):
    return None if inputs["A"].any() else inputs


def wrong_outputs(config, request):
    """What a client reads when `forward` or `preprocess` returns something else than it should."""

    def only_for(one):
        return lambda self, A: one(A) if A.any() else A

    for one in WRONG_OUTPUTS:
        yield read_failure(config, request, only_for(one))
    yield read_failure(config, request, only_for(lambda A: A), preprocess=forgets_to_return)


def answers():
    yield read_fault()
    request = Request("42", {"A": torch.ones(1, 4)}, 1)
    yield read_failure(CONFIG, request, no_such_id)
    yield read_failure(CONFIG, request, no_such_id, parameters={"error_detail": "id"})
    yield from (one.text for one in run(load(forward=no_such_id, max_isolation=0), [request] * 2))
    scores = OUT | {"name": "SCORES"}
    ones = Request("", {"A": torch.ones(1, 4)}, 1)
    yield read_failure(CONFIG | {"output": [scores]}, ones, lambda self, A: A.double() if A.any() else A)
    yield read_failure(CONFIG | {"output": [scores]}, ones, lambda self, A: A, postprocess=names_another)
    yield from wrong_outputs(CONFIG | {"output": [scores]}, ones)
    yield read_failure(
        CONFIG | {"output": [OUT | {"dims": [-1]}]},
        Request("", {"A": torch.arange(6.0)[:, None].expand(6, 4)}, 6),
        lambda self, A: A[:, : 1 + int(A[0, 0] > 3)],
        parameters={"max_rows_per_forward": "4"},
    )
    dynamic = CONFIG | {"input": [IN | {"name": "X", "dims": [-1]}]}
    yield read_failure(
        dynamic,
        Request("42", {"X": torch.ones(2, 3)}, 2),
        four_features,
        warm=Request("", {"X": torch.ones(1, 4)}, 1),
    )


def calls():
    """What calls of other models raise before the server has seen them."""

    def late(self, A):
        time.sleep(0.01)
        return self.call("large", A=A)["Y"]

    def wrong(self, A):
        return self.call("large", A=1.5)["Y"]

    for forward in (late, wrong):
        with ModelHarness(make_class(forward=forward, warmup="off"), config=CONFIG) as model:
            with pytest.raises(InferenceError) as raised:
                model.infer(A=torch.ones(1, 4), timeout=1000)
            yield str(raised.value)

    def early(self):
        self.call("large", A=torch.ones(1, 4))

    with pytest.raises(ModelLoadError) as raised:
        ModelHarness(make_class(load=early), config=CONFIG).start()
    yield str(raised.value)


def warnings():
    """What the log says of names that other frameworks use."""
    handler, records = logging.Handler(logging.WARNING), []
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("kindaware").addHandler(handler)
    load(decode_request=lambda self, request: request)
    logging.getLogger("kindaware").removeHandler(handler)
    return records


async def answers_later(self, A):
    return A


@pytest.fixture(scope="module")
def produced():
    """Every message that the quotes are looked for in."""
    messages = []
    threads = torch.get_num_threads()
    for trigger in LOADS:
        with pytest.raises(ConfigError) as raised:
            trigger()
        messages.append(str(raised.value))
    for trigger in (lambda: load().execute([]), lambda: ForgetsToInitialize().initialize(args_for(CONFIG))):
        with pytest.raises(KindAwareError) as raised:
            trigger()
        messages.append(str(raised.value))
    yield [*messages, *answers(), *calls(), *warnings()]
    torch.set_num_threads(threads)


def quotes():
    """Code in the pages that has the form of a message; prose and placeholders don't."""
    for page in OUR_PAGES:
        for block in blocks_of(page, "text"):
            for line in block.code.splitlines():
                if re.search(r": expected .*, got .*; ", line) and "<" not in line:
                    yield pytest.param(line, id=f"{name_of(page)}-{line[:40]}")
        for code in code_in(without_blocks(page)):
            if code.startswith("expected "):
                yield pytest.param(code, id=f"{name_of(page)}-{code[:40]}")


@pytest.mark.parametrize("quote", list(quotes()))
def test_quoted_message_is_one_that_the_code_produces(quote, produced):
    assert [message for message in produced if without_id(quote) in without_id(message)], "\n".join(produced)


def without_id(text):
    """A text with `ID` in the place of the id of an error, which is another each time."""
    return re.sub(r"\berror [0-9a-f]{8}\b", "error ID", text)
