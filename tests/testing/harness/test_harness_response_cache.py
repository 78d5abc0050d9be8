"""`response_cache` in a harness: the same as on a server that was started with `--cache-config`."""

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness_kit import BATCHED, PLAIN, write_model
from tritonclient.utils import InferenceServerException

from kindaware import KindAwareModel, RequestError
from kindaware.testing import InferenceError, ModelHarness, ModelLoadError, TritonServer

COUNTS = """
class TritonPythonModel:
    def initialize(self, args):
        self.num_calls = 0

    def execute(self, requests):
        self.num_calls += 1
        return [self.one(get(request)) for request in requests]

    def one(self, x):
        if x.flatten()[0] < 0:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("no"))
        calls = np.full_like(x, self.num_calls)
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x), pb_utils.Tensor("Z", calls)])
"""
CONFIG = (
    PLAIN
    + """
output { name: "Z" data_type: TYPE_FP32 dims: -1 }
max_batch_size: 4
response_cache { enable: true }
instance_group { kind: KIND_CPU }
"""
)
ASKED = [
    {"value": -1.0},
    {"value": -1.0},
    {"value": 1.0},
    {"value": 1.0, "parameters": {"a": 1}, "request_id": "r"},
    {"value": 2.0, "outputs": ["Y"]},
    {"value": 2.0},
    {"value": 2.0, "outputs": ["Z"]},
    {"value": 3.0, "rows": 2},
    {"value": 3.0, "rows": 1},
    {"value": 3.0, "rows": 2},
]


def in_harness(model, *, value, rows=1, outputs=None, **options):
    try:
        result = model.infer(X=np.full((rows, 2), value, np.float32), requested_outputs=outputs, **options)
    except InferenceError as error:
        return error.message
    return {name: array.tolist() for name, array in result.outputs.items()}


def on_server(client, *, value, rows=1, outputs=None, **options):
    given = grpcclient.InferInput("X", [rows, 2], "FP32")
    given.set_data_from_numpy(np.full((rows, 2), value, np.float32))
    wanted = None if outputs is None else [grpcclient.InferRequestedOutput(name) for name in outputs]
    try:
        result = client.infer("m", [given], outputs=wanted, **options)
    except InferenceServerException as error:
        return error.message()
    return {one.name: result.as_numpy(one.name).tolist() for one in result.get_response().outputs}


@pytest.mark.server
@pytest.mark.wheel_server("whether a newer server caches errors was not seen")
def test_cached_answers_are_those_of_the_server(tmp_path):
    folder = write_model(tmp_path, "m", COUNTS, CONFIG)
    with (
        TritonServer(tmp_path, args=["--cache-config=local,size=1048576"]) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        theirs = [on_server(client, **one) for one in ASKED]
    with ModelHarness(folder) as model:
        assert [in_harness(model, **one) for one in ASKED] == theirs
    assert theirs[:2] == ["no", {}]


def test_batch_asks_the_model_only_for_what_is_not_cached(tmp_path):
    with ModelHarness(write_model(tmp_path, "m", COUNTS, CONFIG)) as model:
        first = model.infer(X=np.ones((1, 2), np.float32))
        both = model.infer_batch([{"X": np.full((1, 2), value, np.float32)} for value in (1, 2)])
        assert [one.outputs["Z"].flatten()[0] for one in (first, *both)] == [1, 1, 2]
        assert model.instance.num_calls == 2


def test_called_model_answers_from_its_cache(tmp_path):
    write_model(tmp_path, "m", COUNTS, CONFIG)
    body = """
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.ask(one).output_tensors()) for one in requests]

    def ask(self, request):
        call = pb_utils.InferenceRequest(
            model_name="m", requested_output_names=["Y", "Z"], inputs=request.inputs()
        )
        return call.exec()
"""
    config = CONFIG.replace("response_cache { enable: true }", "")
    with ModelHarness(write_model(tmp_path, "caller", body, config), models=[tmp_path / "m"]) as model:
        answers = [in_harness(model, value=1.0) for _ in range(2)]
        assert answers[0] == answers[1]
        assert model.model("m").instance.num_calls == 1


class Refuses(KindAwareModel):
    def load(self):
        self.num_calls = 0

    def forward(self, X):
        self.num_calls += 1
        if (X < 0).any():
            raise RequestError("X is negative")
        return X


def test_model_with_a_cache_does_not_load():
    text = (
        r"model 'm' response_cache: expected none: .*, got enable: true; remove response_cache, or set "
        r"kindaware\.allow_response_cache to 'true'"
    )
    with pytest.raises(ModelLoadError, match=text):
        ModelHarness(Refuses, config=BATCHED + "response_cache { enable: true }", name="m").start()


@pytest.mark.parametrize("config", ["", "response_cache { }", "response_cache { enable: false }"])
def test_model_without_a_cache_loads_and_is_asked_each_time(config):
    with ModelHarness(Refuses, config=BATCHED + config, parameters={"kindaware.warmup": "off"}) as model:
        for _ in range(2):
            model.infer(X=[[1.0]])
        assert model.instance.num_calls == 2


def test_model_that_allows_the_cache_is_asked_once():
    parameters = {"kindaware.allow_response_cache": "true", "kindaware.warmup": "off"}
    with ModelHarness(
        Refuses, config=BATCHED + "response_cache { enable: true }", parameters=parameters
    ) as model:
        for _ in range(2):
            assert model.infer(X=[[1.0]]).outputs["Y"].tolist() == [[1.0]]
        assert model.instance.num_calls == 1
