"""`kindaware infer` against a real server."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kindaware.cli._app import app

pytestmark = pytest.mark.server


@pytest.fixture
def infer(url):
    return lambda *args: CliRunner().invoke(app, ["infer", *map(str, args), "--url", url])


@pytest.mark.parametrize("value", ["[1, 2]", "X=[1,2]", "X=[[1, 2]]"])
def test_json_is_sent_and_the_answer_has_shape_and_values(infer, value):
    done = infer("adds", "-i", value)
    shape = "[1, 2]" if "[[" in value else "[2]"
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"Y  float32 {shape}  [2, 3]"


def test_json_comes_out_for_machines(infer):
    done = infer("adds", "-i", "[1,2]", "--output", "Y", "--json")
    assert json.loads(done.stdout) == {"outputs": {"Y": [2.0, 3.0]}}


def test_array_in_a_file_is_sent(infer, tmp_path):
    np.save(tmp_path / "x.npy", np.full((3, 2), 7.0))
    assert infer("adds", "-i", f"X={tmp_path / 'x.npy'}", "-o", "Y").stdout.startswith(
        "Y  float32 [3, 2]  [8, 8"
    )


@pytest.mark.parametrize("name", ["x.json", "x.txt"])
def test_json_in_a_file_is_sent(infer, tmp_path, name):
    (tmp_path / name).write_text("[1, 2]")
    assert "Y  float32 [2]  [2, 3]" in infer("adds", "-i", tmp_path / name).stdout


def test_picture_is_sent_and_the_best_classes_are_named(infer, tmp_path):
    Image.new("RGB", (5, 4), (0, 255, 51)).save(tmp_path / "green.png")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    done = infer("resnet50", "-i", tmp_path / "green.png", "--top", 2, "--labels", tmp_path / "labels.txt")
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert lines == [["1.0000", "1", "green"], ["0.2000", "2", "blue"]]


def test_text_is_sent_to_inputs_of_text(infer):
    done = infer("echo", "-i", "IN_STRING=grün und = rot")
    assert done.stdout == 'OUT_STRING  BYTES [1]  ["grün und = rot"]\n'


def test_random_values_fill_the_other_inputs(infer):
    done = infer("echo", "--random", "-i", "IN_INT8=[5]", "--json")
    found = json.loads(done.stdout)["outputs"]
    assert len(found) == 13
    assert found["OUT_INT8"] == [5]
    assert 0 <= found["OUT_FP32"][0] <= 1


def test_stream_is_printed_item_by_item(server):
    done = CliRunner().invoke(app, ["infer", "counts", "-i", "[3,0]", "--json", "--url", server.grpc_url])
    found = [json.loads(line)["outputs"] for line in done.stdout.splitlines()]
    assert found == [{"Y": [n, n]} for n in range(3)]


def test_text_is_one_row_of_an_input_of_one_text(infer):
    done = infer("speaks", "-i", "IN_TEXT=a word", "-i", "IN_IS_LOUD=true", "-i", "IN_IDS=[7,8]")
    assert done.stdout.splitlines() == [
        'OUT_TEXT  BYTES [1]  ["a word"]',
        "OUT_IS_LOUD  bool [1]  [true]",
        "OUT_IDS  int64 [2]  [7, 8]",
    ]


def test_sequence_has_its_id_and_flags(infer):
    done = infer("follows", "-i", "[1,2]", "--sequence-id", 3, "--sequence-start", "-o", "T")
    assert '" 3 1 ' in done.stdout, done.stderr


def test_sequence_that_streams_has_its_id_and_flags(server):
    args = ["counts_on", "-i", "[3,4]", "--sequence-id", "5", "--sequence-start", "--sequence-end"]
    done = CliRunner().invoke(app, ["infer", *args, "--url", server.grpc_url])
    assert done.stdout == "Y  float32 [2]  [5, 3]\n", done.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["adds", "-i", "Z=[1]"], "expected NAME=VALUE with an input of the model, one of ['X'], got 'Z'"),
        (["adds", "-i", "X=nowhere.npy"], "got no such file; correct the path"),
        (["adds", "-i", "X=one two"], "got what is no JSON"),
        (["adds", "-i", "[-1,0]"], "kindaware infer: negative"),
        (["add", "-i", "[1]"], "expected a model that is ready, got none of that name; it has adds, "),
        (
            ["adds"],
            "model 'adds' input 'X': expected a value for each input: X FP32 [2], got none; "
            "pass --input X=VALUE, or --random",
        ),
        (
            ["follows", "-i", "[1,2]"],
            "model 'follows': expected a request of a sequence, got no --sequence-id; pass --sequence",
        ),
        (["adds", "--random", "--labels", "/nowhere"], "No such file or directory: '/nowhere'"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_failure(infer, args, text):
    done = infer(*args)
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("kindaware infer: ")
    assert text in line


def test_an_option_without_the_one_that_it_needs_is_a_wrong_command_line(infer):
    done = infer("follows", "-i", "[1,2]", "--sequence-start")
    assert done.exit_code == 2
    assert "--sequence-start: expected --sequence-id N" in done.stderr


def test_host_without_an_address_is_told_with_what_to_do():
    done = CliRunner().invoke(app, ["infer", "m", "--random", "--url", "no-such-host.invalid:8001"])
    assert done.stderr.startswith("kindaware infer: grpc://no-such-host.invalid:8001: expected a server that")
    assert "; start it, as with kindaware serve" in done.stderr


def test_server_that_is_not_there_is_told_in_a_process_of_its_own():
    command = [sys.executable, "-m", "kindaware.cli", "infer", "m", "--random", "--url", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "kindaware infer: grpc://127.0.0.1:1: expected a server that ans"
    )
