"""How instances load on the real server: where they run, with how many threads, and what they log."""

import os
import re

import numpy as np
import pytest

pytestmark = pytest.mark.server


def test_initialize_logs_one_line_per_instance(server):
    lines = re.findall(r"kindaware instance (mixer_0_\d) ready: (.*)", server.log_text())
    assert sorted(name for name, _ in lines) == ["mixer_0_0", "mixer_0_1"]
    cores = len(os.sched_getaffinity(0))
    threads = rf"threads {max(1, cores // 2)} \({cores} cores? / 2 CPU instances\)"
    for _, text in lines:
        seconds = r"load \d+\.\d\d s, warm-up \d+\.\d\d s \(batch sizes 1\)"
        assert re.match(rf"kind CPU, device cpu, {threads}, precision 32-true, {seconds}", text), text


def test_initialize_gives_torch_its_share_of_the_cores(client):
    answer = client.infer("mixer", INPUT=np.zeros((1, 16), np.float32))
    assert answer["THREADS"].item() == max(1, len(os.sched_getaffinity(0)) // 2)


def test_auto_complete_config_without_config_pbtxt_serves_what_the_class_declares(declaring_server, connect):
    client = connect(declaring_server)
    config = client.grpc.get_model_config("declared", as_json=True)["config"]
    assert config["max_batch_size"] == 16
    assert [entry["name"] for entry in config["input"]] == ["X", "Y"]
    assert "dynamic_batching" in config
    x, y = np.ones((3, 4), np.float32), np.full((3, 4), 2, np.float32)
    np.testing.assert_array_equal(client.infer("declared", X=x, Y=y)["SUM"], x + y)


def test_device_placement_keeps_the_users_execute(client):
    answer = client.infer("own_execute", TEXT=np.array([b"?"], dtype=object))
    assert answer["SAID"].tolist() == [b"cpu CPU 3"]


def test_initialize_with_several_groups_gives_each_its_own_kind(client, server):
    seen = set()
    for _ in range(200):
        seen.add(int(client.infer("two_groups", INPUT=np.zeros((1, 1), np.int64))["KIND"].item()))
        if seen == {0, 2}:
            break
    assert seen == {0, 2}
    log = server.log_text()
    assert "kindaware instance on_cpu_0 ready: kind CPU, device cpu" in log
    assert "kindaware instance on_model_0 ready: kind MODEL, device cpu" in log
