"""Replicas on a Ray cluster of one node, with real servers: requests, resources, health, the end."""

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from ray_models import COUNT, COUNT_CONFIG, ECHO, ECHO_CONFIG, write_models
from typer.testing import CliRunner

from kindaware._server.ports import choose_ports
from kindaware.cli._app import app
from kindaware.client import ModelClient, ModelClientError
from kindaware.ray import triton_app

ray = pytest.importorskip("ray", reason="no Ray: pip install 'kindaware[ray]'")
serve = pytest.importorskip("ray.serve", reason="no Ray Serve: pip install 'kindaware[ray]'")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster

AGENTS = tuple(
    f"{name}_port"
    for name in ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
)
"""Ports that a node waits 15 s for unless they are given: too short on a busy machine, and then it ends."""

pytestmark = [
    pytest.mark.server,
    pytest.mark.timeout(600),  # a cluster and its servers start with the first test
    # Ray's own: of the packages that it brings, and of sockets that its client leaves to the end.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def port():
    """The HTTP port of Serve on a cluster of one node, which claims to have three GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # what others take is no reason to kill a replica
        patch.setenv("RAY_agent_register_timeout_ms", "120000")  # the machine may be busy
        patch.setenv("RAY_prestart_worker_first_driver", "0")  # nor need it start a process per CPU
        patch.setenv("RAY_worker_niceness", "0")  # by default 15, and other tests leave it next to nothing
        # Serve kills a proxy that takes longer to start; by default longer than 5 s.
        patch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "120")
        *agents, port = choose_ports("127.0.0.1", dict.fromkeys([*AGENTS, "--http-port"], 0)).values()
        nodes = Cluster()
        try:
            nodes.add_node(
                node_ip_address="127.0.0.2",  # for 127.0.0.1 Ray would take the machine's own address
                num_cpus=4,
                num_gpus=3,
                include_dashboard=False,
                object_store_memory=100 * 2**20,
                **dict(zip(AGENTS, agents, strict=True)),
            )
            ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            yield port
        finally:
            if ray.is_initialized():  # else Serve would start a cluster to shut down
                serve.shutdown()
                ray.shutdown()
            nodes.shutdown()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray") / "models"
    return write_models(folder, echo=(ECHO, ECHO_CONFIG), count=(COUNT, COUNT_CONFIG))


@pytest.fixture(scope="module")
def handle(port, repository):
    """A replica with two of the GPUs, and one of the four CPUs."""
    return serve.run(triton_app(repository, cpus=1, gpus=2), name="both", route_prefix="/both")


def told_of(outputs):
    return json.loads(outputs["TOLD"].ravel()[0])


def test_handle_gets_arrays_and_gives_arrays(handle):
    x = np.array([[1, 2], [3, 4]], np.float32)
    outputs = handle.infer.remote("echo", {"X": x}, parameters={"a": 1}).result()
    np.testing.assert_array_equal(outputs["Y"], 2 * x)
    assert told_of(outputs)["parameters"] == {"a": 1}


def test_handle_takes_a_row_without_its_batch_dimension(handle):
    outputs = handle.infer.remote("echo", {"X": [1, 2]}, outputs=["Y"]).result()
    assert outputs.keys() == {"Y"}
    np.testing.assert_array_equal(outputs["Y"], [2, 4])


def test_many_requests_by_handle_are_each_answered_their_own(handle):
    sent = [handle.infer.remote("echo", {"X": [number, number]}, outputs=["Y"]) for number in range(200)]
    assert [one.result()["Y"].tolist() for one in sent] == [[2.0 * n, 2.0 * n] for n in range(200)]


@pytest.mark.parametrize(
    ("model", "inputs", "code", "text"),
    [
        ("echo", {"X": [-1, 1]}, "INVALID_ARGUMENT", "negative"),
        ("echo", {"Z": [1, 1]}, "CLIENT", "expected one of the model's inputs ['X'], got another name"),
        ("none", {"X": [1, 1]}, "NOT_FOUND", "unknown model: 'none' is not found"),
    ],
)
def test_error_reaches_the_caller_of_a_handle_with_its_code(handle, model, inputs, code, text):
    with pytest.raises(ModelClientError) as raised:
        handle.infer.remote(model, inputs).result()
    assert raised.value.code == code
    assert text in str(raised.value)


def test_stream_by_handle_yields_each_answer(handle):
    answers = handle.options(stream=True).stream.remote("count", {"N": [5]})
    assert [int(one["ONE"][0]) for one in answers] == [0, 1, 2, 3, 4]


def test_stream_by_handle_ends_with_its_error(handle):
    answers = handle.options(stream=True).stream.remote("count", {"N": [20]})
    assert [int(next(answers)["ONE"][0]) for _ in range(13)] == [*range(13)]
    with pytest.raises(ModelClientError, match="thirteen"):
        next(answers)


WRONG_SHAPE = b'{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'


def post(port, path, body, headers=()):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, dict(headers))
    return urllib.request.urlopen(request, timeout=30)


def test_http_in_tritons_form_with_binary_tensors(handle, port):
    from tritonclient import http

    client = http.InferenceServerClient(f"127.0.0.1:{port}/both")
    x = http.InferInput("X", [2, 2], "FP32")
    x.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.float32), binary_data=True)
    y = http.InferRequestedOutput("Y", binary_data=True)
    result = client.infer("echo", [x], outputs=[y], request_compression_algorithm="gzip")
    np.testing.assert_array_equal(result.as_numpy("Y"), [[2, 4], [6, 8]])
    assert client.is_model_ready("echo")
    assert client.get_model_metadata("echo")["name"] == "echo"
    client.close()


def test_http_client_of_kindaware_works_through_serve(handle, port):
    with ModelClient(f"http://127.0.0.1:{port}/both", "echo") as model:
        np.testing.assert_array_equal(model.infer(X=[1, 2])["Y"], [2, 4])


def test_http_stream_passes_events_on_as_they_come(handle, port):
    with post(port, "/both/v2/models/count/generate_stream", b'{"N": [13]}') as answer:
        events, times = [], []
        for line in answer:
            if line.startswith(b"data: "):
                events.append(json.loads(line[6:])["ONE"])
                times.append(time.monotonic())
    assert events == [*range(13)]
    assert times[-1] - times[0] > 0.04


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/both/v2/models/none/infer", b"{}", 404, "unknown model"),
        ("/both/v2/models/echo/infer", WRONG_SHAPE, 400, "unexpected shape for input 'X'"),
        ("/both/v2/repository/models/echo/unload", b"{}", 403, "every replica answers alike"),
    ],
)
def test_http_error_has_tritons_form(handle, port, path, body, status, text):
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(port, path, body)
    with raised.value as error:
        assert error.status == status
        assert text in json.loads(error.read())["error"]


def test_server_has_the_gpus_and_the_cores_that_ray_has_assigned(handle):
    from kindaware._placement.threads import count_cores

    told = told_of(handle.infer.remote("echo", {"X": [1, 1]}).result())
    assert len(told["CUDA_VISIBLE_DEVICES"].split(",")) == 2
    assert float(told["KINDAWARE_CPU_SHARE"]) == pytest.approx(1 / count_cores())
    assert told["OMP_NUM_THREADS"] is None


def test_replica_without_gpus_shows_its_server_none_and_has_other_gpus_than_the_next(
    port, repository, handle
):
    options = {"name": "other", "route_prefix": "/other"}
    other = serve.run(triton_app(repository, cpus=0.5, gpus=1), **options)
    taken = told_of(handle.infer.remote("echo", {"X": [1, 1]}).result())["CUDA_VISIBLE_DEVICES"].split(",")
    told = told_of(other.infer.remote("echo", {"X": [1, 1]}).result())
    assert {told["CUDA_VISIBLE_DEVICES"], *taken} == {"0", "1", "2"}
    other = serve.run(triton_app(repository, cpus=0.5), **options)
    assert told_of(other.infer.remote("echo", {"X": [1, 1]}).result())["CUDA_VISIBLE_DEVICES"] == ""
    serve.delete("other")


def test_replica_whose_stub_has_died_is_replaced(port, repository):
    handle = serve.run(triton_app(repository, cpus=0.5), name="dying", route_prefix="/dying")
    first = told_of(handle.infer.remote("echo", {"X": [1, 1]}).result())["pid"]
    with pytest.raises(ModelClientError):
        handle.infer.remote("echo", {"X": [1000, 1]}).result()
    deadline = time.monotonic() + 60
    while True:
        try:
            second = told_of(handle.infer.remote("echo", {"X": [1, 1]}).result())["pid"]
            break
        except Exception:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert second != first
    serve.delete("dying")


def failure_of(app):
    """The message of the deployment that Serve can't start."""
    with pytest.raises(RuntimeError):
        serve.run(app, name="failing", route_prefix="/failing")
    deployment = serve.status().applications["failing"].deployments["TritonReplica"]
    serve.delete("failing")
    return deployment.message


def test_other_files_than_those_deployed_are_not_served(port, repository):
    text = failure_of(triton_app(repository, cpus=0.1, digest="0123"))
    assert "expected the files that were deployed, with digest 0123, got others, with digest " in text


def test_sequences_that_several_replicas_would_tear_apart_are_refused(port, tmp_path):
    models = write_models(tmp_path, echo=(ECHO, f"{ECHO_CONFIG}\nsequence_batching {{ }}"))
    text = failure_of(triton_app(models, cpus=0.1, replicas=2))
    assert "expected one replica, since Ray sends each request to any of them, got 2" in text


def test_file_of_the_command_is_served(port, repository, tmp_path):
    options = ["--name", "file", "--route-prefix", "/file", "--cpus", "0.1", "--max-replicas", "2"]
    done = CliRunner().invoke(app, ["deploy", "ray", str(repository), "-o", str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    program = Path(sys.executable).with_name("serve")
    address = ray.get_runtime_context().gcs_address
    command = [program, "run", "--non-blocking", "--address", address, tmp_path / "out" / "serve.yaml"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    deadline = time.monotonic() + 220  # the command doesn't wait
    while serve.status().applications["file"].status == "DEPLOYING" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert serve.status().applications["file"].status == "RUNNING"
    with ModelClient(f"http://127.0.0.1:{port}/file", "echo") as model:
        np.testing.assert_array_equal(model.infer(X=[1, 2])["Y"], [2, 4])
    status = serve.status().applications["file"].deployments["TritonReplica"]
    assert status.replica_states == {"RUNNING": 1}
    serve.delete("file")


def test_deleted_application_leaves_no_process_and_no_file(port, repository):
    handle = serve.run(triton_app(repository, cpus=0.1), name="ending", route_prefix="/ending")
    command = told_of(handle.infer.remote("echo", {"X": [1, 1]}).result())["server"]
    prefix = re.search("shm-region-prefix-name=(kindaware-server-[^-]+)", command)[1]

    def left():
        processes = [
            one for one in Path("/proc").iterdir() if one.name.isdigit() and prefix in _command_of(one)
        ]
        return [*processes, *Path("/dev/shm").glob(f"{prefix}*"), *Path("/tmp").glob(prefix)]

    assert len(left()) > 3
    serve.delete("ending")
    deadline = time.monotonic() + 30
    while left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left() == []


def _command_of(entry):
    try:
        return (entry / "cmdline").read_text()
    except OSError:
        return ""
