"""The storyteller on a real server: pieces as they come, side by side, and cancelled."""

import asyncio
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as aioclient
from test_example_readmes import PREAMBLE, SERVE, read_blocks, run_commands, run_well  # noqa: F401

from kindaware.testing import ModelHarness, TritonServer

pytestmark = pytest.mark.server
STORY = (
    "Once there was a cat that sat by the door near the sea. It watched the rain, and waited for the sun. "
)


@pytest.fixture(scope="module")
def server(examples):
    with TritonServer(examples / "streaming" / "models", args=["--disable-auto-complete-config"]) as server:
        yield server
    assert server.returncode == 0
    assert "Exit timeout expired" not in server.log_text()


def make_request(prompt, max_tokens):
    text = grpcclient.InferInput("PROMPT", [1], "BYTES")
    limit = grpcclient.InferInput("MAX_TOKENS", [1], "INT32")
    text.set_data_from_numpy(np.array([prompt], dtype=object))
    limit.set_data_from_numpy(np.array([max_tokens], dtype=np.int32))
    return {"model_name": "storyteller", "inputs": [text, limit]}


async def tell(client, prompt, max_tokens):
    """The pieces, when each came, and the errors."""
    pieces, times, errors = [], [], []

    async def requests():
        yield make_request(prompt, max_tokens)

    async for answer, error in client.stream_infer(requests()):
        if error is not None:
            errors.append(error.message())
        else:
            pieces.append(answer.as_numpy("PIECE")[0].decode())
            times.append(time.monotonic())
    return pieces, times, errors


def tell_all(server, *requests):
    async def main():
        async with aioclient.InferenceServerClient(server.grpc_url) as client:
            return await asyncio.gather(*[tell(client, *one) for one in requests])

    return asyncio.run(main())


def test_storyteller_goes_on_with_the_prompt_byte_by_byte(server):
    [(pieces, _, errors)] = tell_all(server, (b"It watched", 26))
    assert "".join(pieces) == " the rain, and waited for "
    assert (len(pieces), errors) == (26, [])


def test_storyteller_writes_several_texts_side_by_side(server):
    prompts = ["Once", "It watched", "near the"]
    answers = tell_all(server, *[(prompt.encode(), 400) for prompt in prompts])
    for prompt, (pieces, _, errors) in zip(prompts, answers, strict=True):
        assert prompt + "".join(pieces) == (STORY * 6)[STORY.index(prompt) :][: len(prompt) + 400]
        assert errors == []
    assert max(times[0] for _, times, _ in answers) < min(times[-1] for _, times, _ in answers)


@pytest.mark.parametrize("prompt", [b"", "\N{CAT FACE}".encode(), b"x" * 5000])
def test_storyteller_takes_any_text(server, prompt):
    [(pieces, _, errors)] = tell_all(server, (prompt, 10))
    assert (len(pieces), errors) == (10, [])


def test_storyteller_refuses_a_prompt_that_is_not_utf8_and_no_other(server):
    bad, good = tell_all(server, (b"Once \xff", 50), (b"Once", 50))
    assert bad[0] == []
    assert "input 'PROMPT': expected UTF-8, got 'utf-8' codec can't decode byte 0xff" in bad[2][0]
    assert "Once" + "".join(good[0]) == STORY[:54]


def test_storyteller_refuses_a_prompt_that_is_not_utf8_with_invalid_arg(examples):
    """Over gRPC streams the server passes the text on and not the code."""
    prompt = np.array([b"Once \xff"], dtype=object)
    with ModelHarness(examples / "streaming/models/storyteller", raise_errors=False) as model:
        [result] = model.stream(PROMPT=prompt)
        assert result.error.code().name == "INVALID_ARG"


def test_client_of_the_storyteller_passes_errors_on(examples):
    command = [sys.executable, examples / "streaming" / "client.py", "--url", "localhost:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "failed to connect" in done.stderr
    assert "Traceback" not in done.stderr


def at(server, commands):
    """The same commands for a server on other ports."""
    lines = [
        f"{line} --url {server.grpc_url}" if "client.py" in line else line for line in commands.splitlines()
    ]
    return "\n".join(lines).replace("localhost:8000", server.http_url)


def test_readme_of_the_storyteller_works_as_written(examples, run_commands, tmp_path):  # noqa: F811
    readme = examples / "streaming" / "README.md"
    (_, make), (_, ask), (_, curl), (_, cancel) = read_blocks(readme)
    shown = re.findall(r"^```text\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    assert make.startswith(PREAMBLE)
    assert make.endswith(SERVE)
    run_well(run_commands, make.removeprefix(PREAMBLE).removesuffix(SERVE))
    with TritonServer(tmp_path / "models", args=["--disable-auto-complete-config"]) as server:
        outputs = [run_well(run_commands, at(server, commands)) for commands in (ask, curl, cancel)]
        deadline = time.monotonic() + 30
        while len(found := re.findall(r"wrote (\d+) pieces", server.log_text())) < 5:  # one of the warm-up
            assert time.monotonic() < deadline
            time.sleep(0.05)
    outputs[1] = outputs[1].rstrip() + "\n"
    assert outputs == shown[:3]
    assert [int(number) for number in found[1:4]] == [100, 41, 2]
    assert 32 <= int(found[4]) < 1_000_000
    assert shown[3].startswith("wrote ")
