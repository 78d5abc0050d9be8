"""The forms: what they answer, without a server."""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from benchmarks.machine import UNKNOWN, describe_run
from benchmarks.networks import INPUT, NETWORKS, OUTPUT
from benchmarks.parts import padding
from benchmarks.parts.memory import descendants, read_memory
from benchmarks.parts.overhead import SIZES, times_in_process
from benchmarks.parts.scenarios import SCENARIOS
from benchmarks.parts.turns import turns_model
from benchmarks.run import Run
from benchmarks.servers.repository import Served, write_model

from benchmarks import machine
from kindaware.testing import ModelHarness, instance_args


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("form", ["official", "hand_written", "kindaware"])
@pytest.mark.parametrize("network", ["mlp", "transformer"])
def test_form_gives_each_request_its_rows(form, network, tmp_path):
    rows = NETWORKS[network].sample(6)
    with torch.inference_mode():
        expected = NETWORKS[network].build()(rows).numpy()

    with ModelHarness(write_model(tmp_path, Served(form, network))) as model:
        parts = [rows[:1], rows[1:3], rows[3:]]
        results = model.infer_batch([{INPUT: part.numpy()} for part in parts])

    assert [len(result.outputs[OUTPUT]) for result in results] == [1, 2, 3]
    np.testing.assert_allclose(
        np.concatenate([result.outputs[OUTPUT] for result in results]), expected, rtol=1e-3, atol=1e-5
    )


def test_hand_written_form_uses_the_settings_of_the_kindaware_one(tmp_path):
    settings = {"kindaware.precision": "bf16-true", "kindaware.memory_format": "channels_last"}
    row = NETWORKS["resnet50"].sample(1)

    answers = {}
    for form in ("hand_written", "kindaware"):
        with ModelHarness(write_model(tmp_path, Served(form, "resnet50", parameters=settings))) as model:
            answers[form] = model.infer({INPUT: row.numpy()}).outputs[OUTPUT]

    np.testing.assert_array_equal(answers["hand_written"], answers["kindaware"])


def test_padded_form_gives_each_text_the_answer_that_it_has_alone(tmp_path):
    network = NETWORKS["texts"]
    texts = padding.make_texts([3, 9, 1, 9])
    with torch.inference_mode():
        expected = [network.build()(text).numpy() for text in texts]

    with ModelHarness(write_model(tmp_path, padding.MODELS[padding.AUTO])) as model:
        results = model.infer_batch([{INPUT: text.numpy()} for text in texts])

    for result, answer in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.outputs[OUTPUT], answer, rtol=1e-4, atol=1e-5)


def test_lengths_of_texts_are_many_and_between_8_and_512():
    lengths = padding.log_normal_lengths()
    assert len(lengths) == padding.NUM_TEXTS
    assert (min(lengths), max(lengths)) == (8, 512)
    assert 55 < np.median(lengths) < 75


def test_floor_answers_in_the_shape_of_the_network(tmp_path):
    with ModelHarness(write_model(tmp_path, Served("floor", "mlp"))) as model:
        answer = model.infer({INPUT: NETWORKS["mlp"].sample(1).numpy()}).outputs[OUTPUT]

    assert answer.shape == (1, 1000)


def test_models_of_a_network_have_the_same_configuration_but_for_names_and_parameters(tmp_path):
    for scenario in SCENARIOS:
        configs = []
        for served in scenario.served().values():
            model = tmp_path / served.name
            folder = model if model.exists() else write_model(tmp_path, served)
            args = instance_args(config=folder / "config.pbtxt")
            assert args["model_name"] == served.name
            text = (folder / "config.pbtxt").read_text()
            configs.append(
                [line for line in text.splitlines() if not line.startswith(("name", "parameters"))]
            )
        assert all(config == configs[0] for config in configs)


def test_networks_have_the_same_weights_in_every_process():
    first, second = NETWORKS["mlp"].build(), NETWORKS["mlp"].build()

    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not first.training


def test_times_in_process_has_both_for_every_size():
    times = times_in_process(Run(argparse.Namespace(name=None, quick=True, rounds=1), {}))

    assert times.shape == (1, 2, len(SIZES))
    assert (times > 0).all()


def test_description_of_a_run_names_neither_host_nor_paths(root):
    import getpass
    import socket

    run = describe_run(["python", "-m", "benchmarks", "serving", "--quick"], ["torch", "no-such-package"])
    text = json.dumps(run)

    assert run["command"] == "python -m benchmarks serving --quick"
    assert len(run["commit"]) == 40 or run["commit"] == UNKNOWN
    assert run["versions"]["torch"] == importlib.metadata.version("torch")
    assert run["versions"]["no-such-package"] == "not installed"
    assert str(root) not in text
    assert "/" not in text.replace("GNU/Linux", "")
    assert socket.gethostname() not in text.replace("kindaware", "")
    assert getpass.getuser() != "root" or '"root"' not in text


def test_description_of_a_run_without_a_repository_has_the_packed_commit(tmp_path, monkeypatch):
    packed = tmp_path / "commit"
    packed.write_text(f"{'0' * 40} with changes\n")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "PACKED_COMMIT", packed)

    run = describe_run([], [])

    assert run["commit"] == "0" * 40
    assert run["uncommitted_changes"]


def test_memory_of_this_process_is_read():
    memory = read_memory(os.getpid())

    assert memory["resident_mib"] > memory["anonymous_mib"] > 10


def test_descendants_are_children_and_their_children():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as child:
        while not (grandchildren := list(descendants(child.pid))) and child.poll() is None:
            time.sleep(0.01)
        found = list(descendants(os.getpid()))
        child.stdin.close()

    assert len(grandchildren) == 1
    assert {child.pid, *grandchildren} <= set(found)


def test_crops_are_enough_and_differ():
    from benchmarks.parts.pictures import make_crops

    crops = make_crops()

    assert len(crops) >= 200
    assert len({crop.numpy().tobytes() for crop in crops}) == len(crops)
    assert {(crop.shape, crop.dtype) for crop in crops} == {((1, 3, 224, 224), torch.float32)}


def test_forms_in_turns_all_answer_and_are_timed(tmp_path):
    rows = NETWORKS["mlp"].sample(1)
    expected = NETWORKS["mlp"].build()(rows).detach().numpy()
    times = tmp_path / "times.json"

    with ModelHarness(write_model(tmp_path, turns_model("mlp", times))) as model:
        answers = [model.infer(**{INPUT: rows.numpy()}).outputs[OUTPUT] for _ in range(7)]

    for answer in answers:
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-5)
    rounds = json.loads(times.read_text())
    assert [sorted(one) for one in rounds] == [["hand_written", "kindaware", "official"]] * 2
    assert all(time > 0 for one in rounds for time in one.values())
