"""The example of sequences: its model, its client, and the commands of its README."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from kindaware.testing import ModelHarness, TritonServer

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sequence"
README = (EXAMPLE / "README.md").read_text()


def expected(readings):
    """(mean with this reading, standard deviations from those before it), of each reading."""
    answers = []
    for number, reading in enumerate(readings):
        before = np.array(readings[:number])
        spread = before.std(ddof=1) if number > 1 else 0
        answers.append((np.mean(readings[: number + 1]), (reading - before.mean()) / spread if spread else 0))
    return answers


@pytest.fixture
def model():
    with ModelHarness(EXAMPLE / "models" / "watch_sensor", raise_errors=False) as harness:
        yield harness


def send(model, *readings):
    """One call: (sensor, reading, flags) each; gives (mean, deviations), or the code of an error."""
    results = model.infer_batch(
        [
            {"inputs": {"READING": [[reading]]}, "correlation_id": sensor, "flags": flags}
            for sensor, reading, flags in readings
        ]
    )
    return [
        one.error.code().name if one.error else [one.outputs[name].item() for name in ("MEAN", "DEVIATIONS")]
        for one in results
    ]


def test_model_compares_each_reading_with_those_of_its_sensor(model):
    readings = {"a": [1.0, 2.0, 4.0, 3.0, 50.0], 7: [-10.0, -10.5, -9.0, -11.0, -10.0]}
    for number, pair in enumerate(zip(*readings.values(), strict=True)):
        flags = 1 if number == 0 else 0
        found = send(model, *[(sensor, one, flags) for sensor, one in zip(readings, pair, strict=True)])
        wanted = [expected(numbers)[number] for numbers in readings.values()]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_model_refuses_what_is_no_number_and_forgets_it(model):
    send(model, ("a", 1.0, 1), ("b", 5.0, 1))
    send(model, ("a", 3.0, 0), ("b", 7.0, 0))
    assert send(model, ("a", float("nan"), 0), ("b", 6.0, 0))[0] == "INVALID_ARG"
    np.testing.assert_allclose(send(model, ("a", 2.0, 0), ("b", 6.0, 0)), [[2.0, 0.0], [6.0, 0.0]])


def run_client(*arguments):
    return subprocess.run(
        [sys.executable, str(EXAMPLE / "client.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("argument", ["boiler", "=1,2", "boiler=hot"])
def test_client_refuses_what_are_no_readings(argument):
    result = run_client(argument)
    assert result.returncode == 2
    assert f"expected NAME=NUMBER,NUMBER, got '{argument}'" in result.stderr


def test_client_says_that_nobody_listens():
    result = run_client("a=1", "--url", "127.0.0.1:9")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("a: ")


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)", README)
    assert len(links) == 4
    for link in links:
        assert (EXAMPLE / link).is_file()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Started as the README says, but for the command that starts it."""
    folder = tmp_path_factory.mktemp("readme")
    block = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[0]
    *_, copy, serve = block.splitlines()
    assert serve == "kindaware serve models"
    environment = os.environ | {"KINDAWARE": str(EXAMPLE.parents[1])}
    subprocess.run(["bash", "-euc", copy], cwd=folder, env=environment, check=True, timeout=60)
    with TritonServer(folder / "models", args=["--disable-auto-complete-config"]) as running:
        yield running


@pytest.mark.server
def test_clients_commands_of_the_readme_print_what_it_says(server):
    first, second = re.findall(r"```sh\n(python .*?)```", README, re.DOTALL)
    commands = [shlex.split(one)[2:] for one in (first, second)]
    shown = re.findall(r"```text\n(.*?)```", README, re.DOTALL)[0]
    result = run_client(*commands[0], "--url", server.http_url)
    assert (result.returncode, result.stdout, result.stderr) == (0, shown, "")
    result = run_client(*commands[1], "--url", server.http_url)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["kettle", "lamp"] * 2 + ["kettle"] * 2
    assert [line for line in lines if "stands out" in line] == lines[-1:]


@pytest.mark.server
def test_sensor_that_goes_on_after_its_end_is_told_to_begin_again(server):
    with triton.InferenceServerClient(server.http_url) as client:
        reading = triton.InferInput("READING", [1, 1], "FP32")
        reading.set_data_from_numpy(np.ones((1, 1), np.float32))
        client.infer("watch_sensor", [reading], sequence_id="s", sequence_start=True, sequence_end=True)
        with pytest.raises(triton.InferenceServerException, match="must specify the START flag"):
            client.infer("watch_sensor", [reading], sequence_id="s")


@pytest.mark.server
def test_reading_that_is_no_number_changes_nothing_on_the_server(server):
    result = run_client("a=1,nan,3,2", "b=1,1,1,1", "--url", server.http_url)
    assert result.returncode == 1
    assert result.stderr == "a: [400] READING is no number\n"
    assert len(result.stdout.splitlines()) == 7
    assert "mean     2.00  deviations    0.00" in result.stdout.splitlines()[-2]
