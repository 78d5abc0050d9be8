"""The examples with real weights on one real server: their READMEs' commands, and calls side by side."""

import itertools
import os
import re
import shlex
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_example_readmes import PREAMBLE, SERVE, read_blocks

from kindaware.client import ModelClient
from kindaware.testing import TritonServer

pytestmark = pytest.mark.server
NAMES = ["sentence_embedding", "voice_activity", "face_detection", "checkpoint"]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def run(commands, folder, examples):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=os.environ | {"KINDAWARE": str(examples.parent), "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(examples, tmp_path_factory):
    """The folder in which a user has typed the first block of each README."""
    folder = tmp_path_factory.mktemp("readme")
    for name in NAMES:
        _, first = read_blocks(examples / name / "README.md")[0]
        assert first.startswith(PREAMBLE)
        assert first.endswith(SERVE)
        result = run(first.removeprefix(PREAMBLE).removesuffix(SERVE), folder, examples)
        assert (result.returncode, result.stdout) == (0, ""), result.stderr
    return folder


@pytest.fixture(scope="module")
def server(folder):
    # Every config.pbtxt is complete: without the processes that complete it, the start takes half the time.
    with TritonServer(folder / "models", args=["--disable-auto-complete-config"]) as running:
        yield running


@pytest.fixture(scope="module")
def recording(folder, examples):
    """The client's own recording in a file, at another rate, for those who have one of their own."""
    code = "import recording, numpy; numpy.save('sound.npy', recording.make())"
    client = examples / "voice_activity"
    done = run(f"PYTHONPATH={shlex.quote(str(client))} python -c {shlex.quote(code)}", folder, examples)
    assert done.returncode == 0, done.stderr
    sound = np.load(folder / "sound.npy")
    with wave.open(str(folder / "call.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((sound[::2] * 32767).astype("<i2").tobytes())
    return sound


def shown_by(readme):
    """(commands, what they print, if the README says) of the client's blocks, in order."""
    text = readme.read_text().partition(f"{SERVE}```")[2]
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for (language, code), (next_language, shown) in itertools.pairwise([*blocks, ("", "")]):
        if language == "sh" and "client.py" in code:
            yield code, shown if next_language == "text" else None


def with_url(commands, url):
    lines = commands.splitlines()
    return "\n".join(f"{line} --url {url}" if "client.py" in line else line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_clients_commands_print_what_the_readme_says(examples, folder, server, recording, name):
    commands = list(shown_by(examples / name / "README.md"))
    assert commands
    for code, shown in commands:
        result = run(with_url(code, server.grpc_url), folder, examples)
        assert result.returncode == 0, result.stderr
        for picture in re.findall(r"drawn in (\S+)", result.stdout):
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        if shown is not None:
            assert NUMBER.sub("0", result.stdout).split() == NUMBER.sub("0", shown).split()
            found, wanted = ([float(one) for one in NUMBER.findall(text)] for text in (result.stdout, shown))
            assert found == pytest.approx(wanted, abs=0.04, rel=0.02)  # another processor rounds otherwise


def listen(url, chunks, call):
    with ModelClient(url, "silero_vad") as model:
        return [
            model.infer(
                SOUND=chunk, sequence_id=call, sequence_start=n == 0, sequence_end=n + 1 == len(chunks)
            )["SPEECH"].item()
            for n, chunk in enumerate(chunks)
        ]


def test_calls_at_the_same_time_hear_what_each_would_alone(server, recording):
    chunks = recording[: len(recording) // 512 * 512].reshape(-1, 512)
    sounds = [chunks, chunks[::-1], chunks[40:], chunks[60:160]]
    alone = [listen(server.grpc_url, sound, f"alone-{n}") for n, sound in enumerate(sounds)]
    with ThreadPoolExecutor(len(sounds)) as pool:
        together = list(
            pool.map(lambda n: listen(server.grpc_url, sounds[n], f"call-{n}"), range(len(sounds)))
        )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert max(map(max, alone)) > 0.9


@pytest.mark.parametrize(("name", "file"), [("sentence_embedding", ""), ("face_detection", "none.jpg")])
def test_client_without_a_server_or_a_file_says_so_in_a_line(examples, folder, name, file):
    client = f"python $KINDAWARE/examples/{name}/client.py {file} --url 127.0.0.1:9"
    result = run(client, folder, examples)
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1, result.stderr
