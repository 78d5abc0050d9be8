"""Models that call one another, load one another, and wait for themselves."""

import time

import pytest
from harness_cases import model
from harness_kit import DECOUPLED, PLAIN, floats, infer_in_harness, write_model

from kindaware.testing import ModelHarness, TritonContractError

CALL = """
def call(request, name, **options):
    fields = {"inputs": request.inputs(), "requested_output_names": ["Y"], "model_name": name, **options}
    return pb_utils.InferenceRequest(**fields)

def forward(response):
    if response.has_error():
        return pb_utils.InferenceResponse(error=response.error())
    return pb_utils.InferenceResponse(response.output_tensors())
"""
DOUBLE = model("return [answer(get(one) * 2) for one in requests]")
REPEAT = model(
    "for one in requests:\n    sender = one.get_response_sender()\n"
    "    for index in range(3):\n        sender.send(answer(get(one) + index))\n    sender.send(flags=1)"
)
FAIL = model("raise ValueError('callee')")

BODIES = {
    "sync": "return [forward(call(one, 'double').exec()) for one in requests]",
    "unknown": "return [forward(call(one, 'nobody').exec()) for one in requests]",
    "version": "return [forward(call(one, 'double', model_version=7).exec()) for one in requests]",
    "failing": "return [forward(call(one, 'fail').exec()) for one in requests]",
    "wrong_output": (
        "return [forward(call(one, 'double', requested_output_names=['N']).exec()) for one in requests]"
    ),
    "wrong_input": (
        "inputs = [pb_utils.Tensor('X', np.ones(2))]\n"
        "return [forward(call(one, 'double', inputs=inputs).exec()) for one in requests]"
    ),
    "missing_input": "return [forward(call(one, 'double', inputs=[]).exec()) for one in requests]",
    "twice_input": (
        "return [forward(call(one, 'double', inputs=one.inputs() * 2).exec()) for one in requests]"
    ),
    "decoupled_without": "return [forward(call(one, 'repeat').exec()) for one in requests]",
    "decoupled": (
        "found = [one.output_tensors() for one in call(requests[0], 'repeat').exec(decoupled=True)]\n"
        "return [answer([len(one) for one in found])]"
    ),
    "one_as_decoupled": (
        "found = [one.output_tensors() for one in call(requests[0], 'double').exec(decoupled=True)]\n"
        "return [answer([len(one) for one in found])]"
    ),
}
ASYNC = (
    CALL + "class TritonPythonModel:\n    async def execute(self, requests):\n"
    "        calls = [call(requests[0], 'double').async_exec() for _ in range(3)]\n"
    "        responses = await asyncio.gather(*calls)\n"
    "        return [answer([float(get_out(one)) for one in responses])]\n"
    "def get_out(response):\n    return response.output_tensors()[0].as_numpy()[0]\n"
)
SOURCES = {**{f"bls_{name}": model(body, CALL) for name, body in BODIES.items()}, "bls_async": ASYNC}
CALLEES = {"double": (DOUBLE, PLAIN), "repeat": (REPEAT, DECOUPLED), "fail": (FAIL, PLAIN)}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bls")
    for name, (source, config) in CALLEES.items():
        write_model(folder, name, source, config)
    for name, source in SOURCES.items():
        write_model(folder, name, source)
    return folder


@pytest.fixture(scope="module")
def theirs(repository):
    """What a real server answers, by model."""
    from harness_kit import ServerClient

    from kindaware.testing import TritonServer

    with TritonServer(repository) as server:
        client = ServerClient(server.grpc_url)
        return {name: client.infer(name, {"X": floats(2)}) for name in SOURCES}


@pytest.mark.server
@pytest.mark.parametrize("name", list(SOURCES))
def test_a_call_of_another_model_gives_what_the_server_gives(repository, theirs, name):
    models = [repository / callee for callee in CALLEES]
    assert infer_in_harness(repository / name, [{"X": floats(2)}], models=models) == [theirs[name]]


def test_a_model_that_calls_itself_raises(tmp_path):
    folder = write_model(tmp_path, "self", model("return [forward(call(requests[0], 'self').exec())]", CALL))
    started = time.monotonic()
    with (
        pytest.raises(TritonContractError, match="all its instances are busy"),
        ModelHarness(folder) as harness,
    ):
        harness.infer(X=[1.0])
    assert time.monotonic() - started < 5.0  # it need not wait to know


def test_a_call_that_never_ends_leaves_infer(tmp_path, repository):
    folder = write_model(
        tmp_path,
        "caller",
        model(
            "try:\n    call(requests[0], 'mute').exec()\nexcept Exception:\n    pass\nreturn [answer([1.0])]",
            CALL,
        ),
    )
    mute = write_model(tmp_path, "mute", model("return None"))
    with (
        pytest.raises(TritonContractError, match="model 'mute': the server would leave the client waiting"),
        ModelHarness(folder, models=[mute]) as harness,
    ):
        harness.infer(X=[1.0])


def test_models_are_clients_of_their_own(repository):
    with ModelHarness(repository / "bls_sync") as harness:
        double = harness.add_model(repository / "double")
        assert double.infer(X=floats(2)).outputs["Y"].tolist() == [2.0, 4.0]
        assert harness.infer(X=floats(2)).outputs["Y"].tolist() == [2.0, 4.0]
        assert harness.model("double").config["name"] == "double"


def test_models_see_their_own_modules_during_a_call(tmp_path):
    for name, other in (("a", "b"), ("b", None)):
        then = f"return [forward(call(requests[0], '{other}').exec())]" if other else "return [answer([1.0])]"
        folder = write_model(
            tmp_path, name, model(f"import beside\nassert beside.NAME == {name!r}\n{then}", CALL)
        )
        (folder / "beside.py").write_text(f"NAME = {name!r}\n")
    with ModelHarness(tmp_path / "a", models=[tmp_path / "b"]) as harness:
        for _ in range(2):
            assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [1.0]


COUNTS = """
class TritonPythonModel:
    def execute(self, requests):
        (request,) = requests
        sender = request.get_response_sender()
        self.sent = 0
        while self.sent < 500 and not request.is_cancelled():
            sender.send(answer([self.sent]))
            self.sent += 1
            time.sleep(0.01)
        sender.send(flags=1)
"""
READS = """
class TritonPythonModel:
    def call(self, requests):
        return pb_utils.InferenceRequest(
            model_name="counts", requested_output_names=["Y"], inputs=requests[0].inputs()
        )
"""
CANCELS = {
    "sync": ("    def execute(self, requests):\n        stream = self.call(requests).exec(decoupled=True)\n"),
    "async": (
        "    async def execute(self, requests):\n"
        "        stream = await self.call(requests).async_exec(decoupled=True)\n"
    ),
}


@pytest.mark.parametrize("how", CANCELS)
def test_a_stream_of_another_model_ends_when_its_caller_cancels(tmp_path, how):
    write_model(tmp_path, "counts", COUNTS, DECOUPLED)
    rest = (
        "        first = [next(stream) for _ in range(2)]\n        stream.cancel()\n"
        "        rest = len(list(stream))\n"
        "        return [answer([len(first), rest])]\n"
    )
    folder = write_model(tmp_path, "m", READS + CANCELS[how] + rest)
    with ModelHarness(folder, models=[tmp_path / "counts"], server_version="25.04") as harness:
        first, _ = harness.infer(X=floats(2)).outputs["Y"]
        assert first == 2
        assert harness.model("counts").instance.sent < 100


@pytest.mark.parametrize("how", CANCELS)
def test_a_called_stream_runs_beside_its_caller(tmp_path, how):
    asks = """
class TritonPythonModel:
    def execute(self, requests):
        sender = requests[0].get_response_sender()
        sender.send(answer([1.0]))
        import builtins
        assert builtins.kindaware_test_event.wait(20)
        sender.send(answer([2.0]), 1)
"""
    write_model(tmp_path, "counts", asks, DECOUPLED)
    rest = (
        "        first = next(stream)\n        builtins.kindaware_test_event.set()\n"
        "        return [answer([len(list(stream))])]\n"
    )
    head = "import builtins\nbuiltins.kindaware_test_event = threading.Event()\n"
    folder = write_model(tmp_path, "m", head + READS + CANCELS[how] + rest)
    with ModelHarness(folder, models=[tmp_path / "counts"]) as harness:
        assert harness.infer(X=floats(2)).outputs["Y"].tolist() == [1.0]


def test_a_called_stream_that_does_what_would_crash_the_server_is_reported(tmp_path):
    crashes = """
class TritonPythonModel:
    def execute(self, requests):
        requests[0].get_response_sender().send(answer([1.0]), 1)
        requests[0].is_cancelled()
"""
    write_model(tmp_path, "counts", crashes, DECOUPLED)
    folder = write_model(
        tmp_path, "m", READS + CANCELS["sync"] + "        list(stream)\n        return [answer([1.0])]\n"
    )
    with (
        pytest.raises(TritonContractError, match=r"is_cancelled\(\) after the request was answered"),
        ModelHarness(folder, models=[tmp_path / "counts"]) as harness,
    ):
        harness.infer(X=floats(2))
