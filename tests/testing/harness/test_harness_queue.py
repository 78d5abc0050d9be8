"""Requests that wait for a busy model, from threads: refused by the queue policy as on a server."""

import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from harness_kit import ECHO, PLAIN, write_model
from tritonclient.utils import InferenceServerException

from kindaware.testing import InferenceError, ModelHarness, TritonServer

SLOW = """
class TritonPythonModel:
    def execute(self, requests):
        time.sleep(max(float(get(one).max()) for one in requests))
        return [answer(get(one)) for one in requests]
"""
EXPIRED = "Request timeout expired"
FULL = "Exceeds maximum queue size"
OVERRIDE = "default_timeout_microseconds: 5000000 allow_timeout_override: true"
CASES = {
    "expired": ("default_timeout_microseconds: 100000", {}, EXPIRED),
    "in time": ("default_timeout_microseconds: 5000000", {}, ""),
    "put off": ("default_timeout_microseconds: 100000 timeout_action: DELAY", {}, ""),
    "its own": (OVERRIDE, {"timeout": 100_000}, EXPIRED),
    "not allowed": ("default_timeout_microseconds: 5000000", {"timeout": 100_000}, ""),
    "no default": ("allow_timeout_override: true", {"timeout": 100_000}, ""),
    "longer": (OVERRIDE, {"timeout": 50_000_000}, ""),
    "full": ("max_queue_size: 1", {}, FULL),
    "room": ("max_queue_size: 2", {}, ""),
}


def config_of(policy):
    return PLAIN + (
        f"max_batch_size: 1 dynamic_batching {{ default_queue_policy {{ {policy} }} }} "
        "instance_group { kind: KIND_CPU }"
    )


def outcomes(infer, options):
    """What becomes of two requests that come while the model is busy with one."""
    answers = queue.Queue()

    def ask(number, seconds, **given):
        try:
            infer(np.full((1, 1), seconds, np.float32), **given)
        except (InferenceError, InferenceServerException) as error:
            text = error.message
            answers.put((number, text() if callable(text) else text))
        else:
            answers.put((number, ""))

    threads = []
    for number, (seconds, given) in enumerate([(1.0, {}), (0.0, options), (0.0, options)]):
        threads.append(threading.Thread(target=ask, args=(number, seconds), kwargs=given))
        threads[-1].start()
        time.sleep(0.2)
    for one in threads:
        one.join()
    return [text for _, text in sorted(answers.get() for _ in threads)]


def expected(text):
    if text == FULL:
        return ["", "", f"[request id: <id_unknown>] {FULL}"]
    return ["", text, text]


@pytest.mark.parametrize("case", CASES)
def test_requests_that_wait_are_refused_by_the_policy(tmp_path, case):
    policy, options, text = CASES[case]
    with ModelHarness(write_model(tmp_path, "m", SLOW, config_of(policy))) as model:
        assert outcomes(lambda x, **given: model.infer(X=x, **given), options) == expected(text)


@pytest.mark.server
def test_requests_that_wait_on_the_server_get_the_same(tmp_path):
    for case, (policy, _, _) in CASES.items():
        write_model(tmp_path, case.replace(" ", "_"), SLOW, config_of(policy))
    with (
        TritonServer(tmp_path) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
        ThreadPoolExecutor(len(CASES)) as pool,
    ):

        def ask(case):
            def infer(x, **given):
                tensor = grpcclient.InferInput("X", list(x.shape), "FP32").set_data_from_numpy(x)
                client.infer(case.replace(" ", "_"), [tensor], **given)

            return outcomes(infer, CASES[case][1])

        found = dict(zip(CASES, pool.map(ask, CASES), strict=True))
    assert found == {case: expected(text) for case, (_, _, text) in CASES.items()}


def test_a_request_to_a_model_that_is_free_never_expires(tmp_path):
    config = config_of("default_timeout_microseconds: 1 max_queue_size: 1")
    with ModelHarness(write_model(tmp_path, "m", ECHO, config)) as model:
        for _ in range(20):
            model.infer(X=[[1.0]])


@pytest.mark.parametrize(
    ("group", "options", "expected"),
    [
        ("", {}, 1),
        ("instance_group { kind: KIND_CPU count: 3 }", {}, 3),
        ("instance_group { kind: KIND_CPU count: 3 }", {"instances": 1}, 1),
        ("instance_group { kind: KIND_CPU } instance_group { kind: KIND_CPU count: 2 }", {}, 1),
        (
            "instance_group { kind: KIND_CPU } instance_group { kind: KIND_CPU count: 2 }",
            {"group_index": 1},
            2,
        ),
    ],
)
def test_as_many_instances_start_as_the_configuration_says(tmp_path, group, options, expected):
    with ModelHarness(write_model(tmp_path, "m", ECHO, PLAIN + group), **options) as model:
        assert len(model.instances) == expected
