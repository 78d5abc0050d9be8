"""What `kindaware serve` prints to be pasted works on a real server."""

import json
import shlex
import subprocess
import sys

import pytest
from client_models import MODELS
from typer.testing import CliRunner

from kindaware.cli._app import app
from kindaware.cli.serve._block import write_block
from kindaware.cli.serve._examples import write_examples

pytestmark = pytest.mark.server
NOT_IN_JSON = ("echo", "halves", "counts_on")


@pytest.fixture(params=MODELS)
def model(request):
    return request.param


@pytest.fixture
def examples(server, model):
    return write_examples(server.model_config(model), server.http_url, server.grpc_url)


def test_command_works(examples, model):
    words = shlex.split(examples.infer)

    done = CliRunner().invoke(app, words[1:])

    assert words[0] == "kindaware"
    assert done.exit_code == 0, done.stderr
    assert done.stdout or model == "counts"  # which counts to a random number


def test_curl_works(examples, model):
    if model in NOT_IN_JSON:
        assert examples.curl == ""
        return
    done = subprocess.run(
        ["bash", "-c", examples.curl], capture_output=True, text=True, check=True, timeout=60
    )

    answer = json.loads(done.stdout.strip().removeprefix("data: ").partition("\n")[0])
    assert answer["model_name"] == model
    assert "error" not in answer


def test_python_works(examples, model, capsys):
    exec(compile(examples.python, model, "exec"), {})

    assert capsys.readouterr().out.startswith("{'")


def test_block_of_several_models_has_a_line_for_each_and_all_of_them_on_request(server):
    short, full = write_block(server), write_block(server, has_all_examples=True)

    for model in MODELS[:8]:
        assert f"\n  kindaware infer {model} --random" in short
    assert "curl -" not in short
    for model in MODELS:
        assert write_examples(server.model_config(model), server.http_url, server.grpc_url).python in full
    assert "\n# curl: Triton takes no JSON for this model's types, or for a sequence that streams\n" in full


def test_python_is_for_a_script_as_well(server):
    code = write_examples(server.model_config("adds"), server.http_url, server.grpc_url).python

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert "2.," in done.stdout
