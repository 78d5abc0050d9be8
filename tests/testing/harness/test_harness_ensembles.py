"""Ensembles in a harness: the same as on the server, also called by a model and with steps that stream."""

import queue

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness_kit import write_model
from tritonclient.utils import InferenceServerException

from kindaware import ConfigError, KindAwareModel
from kindaware.testing import HarnessError, InferenceError, ModelHarness, TritonContractError, TritonServer

FLOATS = "TYPE_FP32 dims: 2"
X = 'input { name: "X" data_type: TYPE_FP32 dims: 2 }'
Y = 'output { name: "Y" data_type: TYPE_FP32 dims: 2 }'
PLAIN = f'backend: "python" max_batch_size: 4 {X} {Y} instance_group {{ kind: KIND_CPU }}'
TELLS = PLAIN + ' output { name: "T" data_type: TYPE_STRING dims: 1 }'
STREAMS = PLAIN + " model_transaction_policy { decoupled: true }"

MODELS = {
    "adds": (
        """
class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        told = [request.request_id(), request.flags(), request.timeout()]
        told += [json.loads(request.parameters() or "{}"), sorted(request.requested_output_names())]
        x = get(request)
        texts = np.array([[json.dumps(told, sort_keys=True)]] * len(x), dtype=object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x + 1), pb_utils.Tensor("T", texts)])
""",
        TELLS,
    ),
    "doubles": (
        """
class TritonPythonModel:
    def execute(self, requests):
        return [self.one(get(request)) for request in requests]

    def one(self, x):
        if (x < 0).any():
            error = pb_utils.TritonError("negative", pb_utils.TritonError.NOT_FOUND)
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([] if (x > 100).any() else [pb_utils.Tensor("Y", x * 2)])
""",
        PLAIN,
    ),
    "counts": (
        """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender, x = request.get_response_sender(), get(request)
            for number in range(int(x[0, 1])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x + number)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
        STREAMS,
    ),
}


def step(model, inputs, outputs):
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
    maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in outputs.items()]
    return f'{{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'


def ensemble(outputs, *steps):
    tensors = " ".join(
        f'output {{ name: "{name}" data_type: {"TYPE_STRING dims: 1" if name == "TOLD" else FLOATS} }}'
        for name in outputs
    )
    return (
        f'platform: "ensemble" max_batch_size: 4 input {{ name: "IN" data_type: {FLOATS} }} {tensors} '
        f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}"
    )


ADDS = step("adds", {"X": "IN"}, {"Y": "MID"})
TOLD = step("adds", {"X": "IN"}, {"Y": "MID", "T": "TOLD"})
DOUBLES = step("doubles", {"X": "MID"}, {"Y": "OUT"})
COUNTS = step("counts", {"X": "IN"}, {"Y": "MID"})
ENSEMBLES = {
    "chain": ensemble(["OUT"], DOUBLES, ADDS),
    "shows": ensemble(["OUT", "MID", "TOLD"], DOUBLES, TOLD),
    "fork": ensemble(["OUT", "SUM"], ADDS, DOUBLES, step("adds", {"X": "MID"}, {"Y": "SUM"})),
    "streams": ensemble(["OUT"], COUNTS, DOUBLES),
    "nested": ensemble(["OUT"], step("chain", {"IN": "IN"}, {"OUT": "MID"}), DOUBLES),
}
ASKED = [
    ("chain", {"value": 1.0}),
    ("chain", {"value": 1.0, "rows": 3}),
    ("chain", {"value": -5.0}),
    ("chain", {"value": 200.0}),
    ("chain", {"value": 1.0, "rows": 9}),
    ("chain", {"value": 1.0, "outputs": ["NO"]}),
    ("shows", {"value": 1.0, "request_id": "r", "timeout": 5_000_000, "parameters": {"a": 1, "b": "c"}}),
    ("shows", {"value": 1.0, "outputs": ["OUT"]}),
    ("shows", {"value": 1.0, "outputs": ["MID"]}),
    ("shows", {"value": 1.0, "outputs": ["TOLD", "MID"]}),
    ("shows", {"value": 1.0, "outputs": ["OUT", "MID"]}),
    ("shows", {"value": 200.0}),
    ("fork", {"value": 3.0}),
    ("fork", {"value": 3.0, "outputs": ["SUM"]}),
    ("fork", {"value": 3.0, "outputs": ["OUT"]}),
    ("fork", {"value": -3.0, "outputs": ["SUM"]}),
    ("streams", {"value": 1.0}),
    ("nested", {"value": 1.0}),
    ("nested", {"value": -5.0}),
]
STREAMED = [("streams", 3.0), ("streams", 1.0), ("streams", 0.0), ("streams", 101.0), ("chain", 1.0)]


def write_all(folder):
    for name, (source, config) in MODELS.items():
        write_model(folder, name, source, config)
    for name, config in ENSEMBLES.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
    return folder


def array(value, rows=1, count=None):
    given = np.full((rows, 2), value, np.float32)
    if count is not None:
        given[:, 1] = count
    return given


def shown(outputs):
    return {name: one.tolist() for name, one in outputs.items()}


def ours(model, *, value, rows=1, outputs=None, **options):
    try:
        result = model.infer(IN=array(value, rows), requested_outputs=outputs, **options)
    except InferenceError as error:
        return error.message
    return shown(result.outputs)


def read(result):
    return {one.name: result.as_numpy(one.name).tolist() for one in result.get_response().outputs}


def tensor(given):
    return [grpcclient.InferInput("IN", list(given.shape), "FP32").set_data_from_numpy(given)]


def theirs(client, name, *, value, rows=1, outputs=None, **options):
    wanted = None if outputs is None else [grpcclient.InferRequestedOutput(one) for one in outputs]
    try:
        return read(client.infer(name, tensor(array(value, rows)), outputs=wanted, **options))
    except InferenceServerException as error:
        return error.message()


def streamed(model, value, count):
    answers = model.stream(IN=array(value, count=count), empty_final=True)
    return [shown(one.outputs) if one.error is None else one.error.message() for one in answers]


def streamed_by_server(server, name, value, count):
    answers = queue.Queue()
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(name, tensor(array(value, count=count)), enable_empty_final_response=True)
        client.stop_stream()
    found = [answers.get() for _ in range(answers.qsize())]
    return [read(result) if error is None else error.message() for result, error in found]


@pytest.mark.server
def test_ensembles_answer_as_on_the_server(tmp_path):
    write_all(tmp_path)
    with TritonServer(tmp_path) as server, grpcclient.InferenceServerClient(server.grpc_url) as client:
        expected = [theirs(client, name, **asked) for name, asked in ASKED]
        expected_streams = [streamed_by_server(server, name, 1.0, count) for name, count in STREAMED]
        failing = streamed_by_server(server, "streams", -1.0, 3)
    harnesses = {name: ModelHarness(tmp_path / name, raise_errors=True) for name in ENSEMBLES}
    found = []
    for name, asked in ASKED:
        with harnesses[name] as model:
            found.append(ours(model, **asked))
    assert found == expected
    streams = []
    for name, count in STREAMED:
        with ModelHarness(tmp_path / name, raise_errors=False) as model:
            streams.append(streamed(model, 1.0, count))
    for own, theirs_ in zip(streams, expected_streams, strict=True):
        assert theirs_ in (own, [*own, {}])  # the end may come with the last answer, or after it
    with ModelHarness(tmp_path / "streams", raise_errors=False) as model:
        assert streamed(model, -1.0, 3) == failing
    assert any("unexpected deadlock" in str(one) for one in expected)


CALLS = """
class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        inputs = [pb_utils.Tensor("IN", get(request))]
        call = pb_utils.InferenceRequest(model_name=NAME, requested_output_names=["OUT"], inputs=inputs)
        found = list(call.exec(decoupled=True)) if DECOUPLED else [call.exec()]
        answers = [one for one in found if one.has_error() or one.output_tensors()]
        for one in answers:
            if one.has_error():
                return pb_utils.InferenceResponse(error=one.error())
        total = sum(one.output_tensors()[0].as_numpy() for one in answers)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", total)])
"""


@pytest.mark.parametrize(
    ("name", "decoupled", "value", "expected"),
    [
        ("chain", False, 1.0, [[4.0, 4.0]]),
        ("chain", True, 1.0, [[4.0, 4.0]]),
        ("streams", True, 2.0, [[10.0, 10.0]]),
        ("chain", False, -5.0, "in ensemble 'chain', negative"),
        ("streams", True, -5.0, "in ensemble 'streams', negative"),
    ],
)
def test_model_can_call_an_ensemble(tmp_path, name, decoupled, value, expected):
    write_all(tmp_path)
    source = CALLS.replace("NAME", repr(name)).replace("DECOUPLED", str(decoupled))
    folder = write_model(tmp_path, "calls", source, PLAIN)
    with ModelHarness(folder, models=[tmp_path / name]) as model:
        if isinstance(expected, str) and name == "streams":
            value_sent = np.array([[value, 2.0]], np.float32)
        else:
            value_sent = array(value)
        try:
            found = model.infer(X=value_sent).outputs["Y"].tolist()
        except InferenceError as error:
            found = error.message
    assert found == expected or (isinstance(expected, str) and expected in found)


class Doubles(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        return 2 * X


def test_steps_may_be_classes_and_run_where_the_test_says(tmp_path):
    write_all(tmp_path)
    folder = tmp_path / "chain"
    models = [(Doubles, PLAIN + ' name: "doubles"')]
    with ModelHarness(folder, models=models, kind="CPU") as model:
        assert ours(model, value=1.0) == {"OUT": [[4.0, 4.0]]}
        assert isinstance(model.model("doubles").instance, Doubles)
        assert model.is_ready()


def test_ensemble_has_no_instance_of_its_own(tmp_path):
    write_all(tmp_path)
    with ModelHarness(tmp_path / "chain") as model:
        assert model.instances == []
        for ask in (lambda: model.instance, lambda: model.args, lambda: model.pb_utils):
            with pytest.raises(HarnessError, match="ensemble 'chain': expected an instance, got none"):
                ask()


def test_ensemble_of_a_model_that_is_nowhere_is_refused(tmp_path):
    (tmp_path / "chain" / "1").mkdir(parents=True)
    (tmp_path / "chain" / "config.pbtxt").write_text(ENSEMBLES["chain"])
    text = "ensemble 'chain': expected steps of models that are loaded, or lie beside it, got 'doubles'"
    with pytest.raises(ConfigError, match=text):
        ModelHarness(tmp_path / "chain").start()


def test_request_without_rows_and_elements_would_wait_for_ever(tmp_path):
    write_all(tmp_path)
    for path in tmp_path.glob("*/config.pbtxt"):
        path.write_text(path.read_text().replace("dims: 2", "dims: -1"))
    with (
        ModelHarness(tmp_path / "chain") as model,
        pytest.raises(TritonContractError, match="waiting for ever: request '' has no rows and no elements"),
    ):
        model.infer(IN=np.zeros((0, 0), np.float32))
