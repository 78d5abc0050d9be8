"""What tells that a model has lost a stub or hangs, how often it is healed, what is told of its health."""

import json
import os
import queue
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kindaware._execute.beat import Beat
from kindaware._server.endpoint import ModelStatus
from kindaware._server.failure import ServerError, ServerOptionError
from kindaware._server.grpc_load import load_over_grpc, write_request
from kindaware._server.healing.budget import HealBudget, HealLimit
from kindaware._server.healing.control import decide_to_heal, read_obstacle
from kindaware._server.healing.hangs import HangFinder, read_progress
from kindaware._server.healing.health import HealthBook
from kindaware._server.healing.health_page import HealthPage, answer
from kindaware._server.healing.losses import Loss, LossFinder
from kindaware._server.healing.stubs import Stub
from kindaware._server.healing.stuck_models import StuckModels, read_live
from kindaware._server.own_thread import OwnThread, run_outside
from kindaware.testing import TritonServer

METRICS = """
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="net",version="1"} 3
nv_inference_request_failure{model="net",reason="BACKEND",version="1"} 1
nv_inference_request_failure{model="net",reason="OTHER",version="1"} 0
nv_inference_exec_count{model="net",version="1"} 4
nv_inference_pending_request_count{model="net",version="1"} WAITING
nv_inference_queue_duration_us{model="net",version="1"} 99
nv_inference_pending_request_count{model="calm",version="1"} 0
"""


def stub(pid, model="net", instance=None):
    return Stub(pid, Path("/models", model, "1", "model.py"), instance or f"{model}_0_0")


def ready(*models):
    return [ModelStatus(model, "1", "READY", "") for model in models]


def config(count, backend="python", gpus=()):
    group = {"name": "net_0", "kind": "KIND_CPU", "count": count, "gpus": list(gpus)}
    return {"backend": backend, "instance_group": [group]}


def test_stub_belongs_to_the_model_of_its_folder_or_of_its_instance():
    assert stub(1, "net").owner(["net", "other"]) == "net"
    assert stub(1, "folderX1", "net_0_1").owner(["net"]) == "net"
    assert stub(1, "folderX1", "my_net_2_10_1").owner(["my_net_2"]) == "my_net_2"
    assert stub(1, "folderX1", "mine_0").owner(["net"]) is None


@pytest.mark.parametrize(
    ("found", "num_alive", "losses"),
    [
        (config(2), 2, []),
        (config(2), 1, [Loss("net", 1, 2)]),
        (config(1, gpus=[0, 1]), 1, [Loss("net", 1, 2)]),
        (config(1), 0, [Loss("net", 0, 1)]),
        (config(1), 3, []),
        (config(1, backend="onnxruntime"), 0, []),
        ({"backend": "", "platform": "ensemble"}, 0, []),
    ],
)
def test_find_losses_compares_stubs_with_instances(found, num_alive, losses):
    finder = LossFinder(lambda model: found)
    assert finder.find([stub(pid) for pid in range(num_alive)], ready("net")) == losses


def test_find_losses_counts_each_version_that_is_ready():
    index = [ModelStatus("net", version, "READY", "") for version in "12"]
    assert LossFinder(lambda model: config(1)).find([stub(1)], index) == [Loss("net", 1, 2)]


def test_find_losses_of_another_backend_whose_stubs_were_seen():
    finder = LossFinder(lambda model: config(1, backend="vllm"))
    assert finder.find([stub(1)], ready("net")) == []
    assert finder.find([], ready("net")) == [Loss("net", 0, 1)]


def test_find_losses_reads_a_configuration_once_and_anew_after_an_unload_or_on_request():
    asked = []
    finder = LossFinder(lambda model: asked.append(model) or config(1))
    for _ in range(2):
        finder.find([stub(1)], ready("net"))
    assert asked == ["net"]
    finder.find([stub(1)], ready("net"), anew=True)
    assert asked == ["net"] * 2
    finder.find([], [ModelStatus("net", "1", "UNLOADING", "")])
    finder.find([stub(1)], ready("net"))
    assert asked == ["net"] * 3


def test_budget_counts_within_the_window_and_by_model():
    clock = [0.0]
    budget = HealBudget(HealLimit(2, 10.0), lambda: clock[0])
    assert [budget.take("net") for _ in range(3)] == [True, True, False]
    assert budget.take("other")
    clock[0] = 10.0
    assert budget.take("net")


def test_read_progress_adds_what_grows_when_a_request_is_answered():
    assert read_progress(METRICS.replace("WAITING", "2")) == {"net": (2.0, 8.0), "calm": (0.0, 0.0)}


def test_find_hangs_of_a_silent_model_whose_requests_wait_while_none_is_answered(tmp_path):
    clock, text = [0.0], METRICS.replace("WAITING", "2")
    finder = HangFinder(5.0, tmp_path, lambda: text, lambda: clock[0])
    stubs = {"net": [stub(7), stub(8)], "calm": [stub(9, "calm")]}
    assert finder.find(stubs) == []
    clock[0] = 5.0
    assert finder.find(stubs) == []  # not longer than the limit
    clock[0] = 5.1
    [hang] = finder.find(stubs)
    assert (hang.model, hang.pids, hang.evidence) == (
        "net",
        [7, 8],
        "2 request(s) wait, and none is answered",
    )

    text = text.replace('exec_count{model="net",version="1"} 4', 'exec_count{model="net",version="1"} 5')
    assert finder.find(stubs) == []  # it is slow, and goes on
    clock[0] = 10.0
    assert finder.find(stubs) == []
    text = METRICS.replace("WAITING", "0")
    assert finder.find(stubs) == []
    text = METRICS.replace("WAITING", "1")
    clock[0] = 20.0
    assert finder.find(stubs) == []  # they have waited only now


def test_find_hangs_asks_for_no_metrics_where_all_models_write_beats(tmp_path):
    def read():
        raise AssertionError

    own, other = os.getpid(), os.getppid()
    clock = [time.monotonic()]
    beat = Beat(tmp_path, own)
    finder = HangFinder(5.0, tmp_path, read, lambda: clock[0])
    clock[0] += 100
    assert finder.find({"net": [stub(own)]}) == []
    with beat:
        clock[0] = time.monotonic() + 4.5
        assert finder.find({"net": [stub(own), stub(other)]}) == []
        clock[0] = time.monotonic() + 5.5
        [hang] = finder.find({"net": [stub(own), stub(other)]})
    assert (hang.model, hang.pids) == ("net", [own])
    assert 5.4 < hang.seconds < 6
    assert finder.find({"net": [stub(own)]}) == []


@pytest.fixture
def health():
    book = HealthBook()
    book.note_server("")
    book.note_states({"net": ("ready", ""), "it's": ("ready", "")})
    return book


def ask(path, health):
    status, media_type, text = answer(path, health)
    return status, json.loads(text) if media_type == "application/json" else text


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/healthz", "/readyz/net", "/healthz/it%27s", "/livez/"]
)
def test_health_page_of_a_healthy_server_is_ok(path, health):
    status, body = ask(path, health)
    assert (status, body["status"]) == (200, "ok")
    assert {one["state"] for one in body["models"].values()} == {"ready"}


def test_health_page_model_that_is_healed_is_not_ready_and_live(health):
    health.begin_heal("net", "its process ended by SIGKILL")
    assert [ask(path, health)[0] for path in ("/livez", "/readyz", "/healthz")] == [200, 503, 503]
    assert [ask(path, health)[0] for path in ("/readyz/net", "/readyz/it's")] == [503, 200]
    found = ask("/healthz", health)[1]["models"]["net"]
    assert (found["state"], found["reason"], found["deaths"]) == (
        "healing",
        "its process ended by SIGKILL",
        1,
    )
    health.note_states({"net": ("not ready", "unloading"), "it's": ("ready", "")})
    assert ask("/healthz/net", health)[1]["models"]["net"]["state"] == "healing"
    health.end_heal("net", 2.5)
    assert ask("/readyz", health)[0] == 200
    assert 'kindaware_model_heals_total{model="net"} 1\n' in ask("/metrics", health)[1]
    assert 'kindaware_model_heal_seconds_total{model="net"} 2.5\n' in ask("/metrics", health)[1]


def test_health_page_model_that_was_given_up_is_not_live_until_it_is_ready_again(health):
    health.give_up("net", "it died too often")
    health.note_states({"it's": ("ready", "")})
    assert [ask(path, health)[0] for path in ("/livez", "/readyz", "/livez/it's")] == [503, 503, 200]
    assert 'kindaware_model_given_up{model="net"} 1\n' in ask("/metrics", health)[1]
    health.note_states({"net": ("ready", ""), "it's": ("ready", "")})
    assert ask("/livez", health)[0] == 200


def test_health_page_server_that_does_not_answer_is_not_ready_and_knows_nothing(health, monkeypatch):
    health.note_server("connection refused")
    status, body = ask("/readyz/net", health)
    assert (status, body["server"], body["models"]["net"]["state"]) == (503, "connection refused", "unknown")
    assert ask("/livez", health)[0] == 200
    assert 'kindaware_model_ready{model="net"} 0\n' in ask("/metrics", health)[1]
    assert "kindaware_server_up 0\n" in ask("/metrics", health)[1]
    health._answered_at -= 31
    assert ask("/livez", health)[0] == 503


def test_health_page_server_that_never_answered_may_still_load():
    book = HealthBook()
    book.note_server("not live yet")
    assert [ask(path, book)[0] for path in ("/livez", "/readyz")] == [200, 503]


def test_health_page_does_not_pass_on_what_is_old(health):
    health._looked_at -= 31
    status, body = ask("/healthz", health)
    assert (status, body["server"]) == (503, "not looked at for 31 s")


def test_health_page_of_another_model_or_page_is_not_found(health):
    assert [ask(path, health)[0] for path in ("/readyz/other", "/", "/ready")] == [404, 404, 404]


def test_health_page_answers_over_http(health):
    page = HealthPage("127.0.0.1", 0, health)
    page.start()
    try:
        url = f"http://127.0.0.1:{page.port}"
        with urllib.request.urlopen(f"{url}/healthz") as response:
            assert json.load(response)["status"] == "ok"
        health.begin_heal("net", "it died")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/readyz")
        with caught.value as error:
            assert error.code == 503
        with pytest.raises(ServerError, match="expected an address and port of this machine that are free"):
            HealthPage("127.0.0.1", page.port, health)
    finally:
        page.close()


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_server_that_is_to_heal_refuses_another_model_control(tmp_path, mode):
    with pytest.raises(ServerOptionError, match=f"got --model-control-mode={mode}; leave that out"):
        TritonServer(tmp_path, heal=True, args=[f"--model-control-mode={mode}"])


@pytest.mark.parametrize("option", ["hang_seconds", "health_port"])
def test_server_option_of_healing_without_it_is_refused(tmp_path, option):
    with pytest.raises(ServerOptionError, match=f"{option}: expected heal=True with it, got heal=False"):
        TritonServer(tmp_path, **{option: 1})


LIVE = (
    'I1129 15:01:{:02} 7 server.cc:345] "Timeout 27: Found {} live models and 0 in-flight non-inference '
    'requests"\n'
)
LOADS = (
    'I1129 15:00:28 7 server.cc:321] "Timeout 2: Found 0 model versions that have in-flight inferences"\n'
    "W1129 15:00:28 7 server.cc:333] \"a related model 'net' to a load/unload request is currently loading "
    'or unloading"\n'
)


def test_read_live_is_the_last_number_that_the_ending_server_has_logged():
    assert read_live(LIVE.format(1, 3).encode() + LIVE.format(2, 12).encode()) == 12
    assert read_live(LIVE.format(1, 3).replace("and 0 in", "and 1 in").encode()) is None


@pytest.mark.parametrize(
    ("num_models", "loads", "text", "is_killed"),
    [
        (1, False, LIVE.format(1, 2), False),
        (1, False, LIVE.format(1, 2) + LIVE.format(2, 1), True),
        (0, False, LIVE.format(1, 0), False),
        (0, True, LOADS * 3, False),
        (0, True, LOADS * 4, True),
        (1, False, LOADS * 4, False),
    ],
)
def test_stuck_models_end_a_server_that_waits_for_nothing_else(tmp_path, num_models, loads, text, is_killed):
    log = tmp_path / "log"
    log.write_text(LIVE.format(0, 0))  # of an earlier time
    server = subprocess.Popen(["sleep", "60"])
    try:
        with StuckModels(num_models, loads, server.pid, log):
            time.sleep(0.15)
            assert server.poll() is None
            with log.open("a") as file:
                file.write(text)
            if is_killed:
                assert server.wait(10) == -signal.SIGKILL
            else:
                time.sleep(0.3)
                assert server.poll() is None
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("is_own", [True, False])
def test_run_outside_leaves_a_thread_of_the_servers_own(is_own):
    ran = queue.Queue()
    make = OwnThread if is_own else lambda target, name: threading.Thread(target=target, name=name)
    thread = make(lambda: run_outside(lambda: ran.put(threading.current_thread())), "some")
    thread.start()
    thread.join()
    assert (ran.get(timeout=10) is not thread) == is_own


@pytest.mark.parametrize("name", ["net", "n" * 127, "n" * 128, "grün" * 5000])
def test_load_request_is_what_protobuf_reads(name):
    from tritonclient.grpc.service_pb2 import RepositoryModelLoadRequest

    assert RepositoryModelLoadRequest.FromString(write_request(name)).model_name == name


def test_load_over_grpc_of_a_server_that_is_not_there_is_an_error():
    with pytest.raises(
        ServerError, match=r"load of model 'net': expected an answer from 127\.0\.0\.1:1, got "
    ):
        load_over_grpc("127.0.0.1:1", "net")


@pytest.mark.parametrize(
    ("args", "obstacle"),
    [
        ([], ""),
        (["--model-control-mode=explicit", "--grpc-use-ssl=false"], ""),
        (["--model-control-mode", "poll"], "--model-control-mode=poll"),
        (["--allow-grpc=false"], "--allow-grpc=false"),
        (["--grpc-use-ssl=true"], "--grpc-use-ssl"),
    ],
)
def test_obstacle_to_healing_is_the_option_that_keeps_a_server_from_loading(args, obstacle):
    assert read_obstacle(args) == obstacle
    assert [decide_to_heal(wanted, args) for wanted in (None, True, False)] == [not obstacle, True, False]
