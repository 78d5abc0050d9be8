"""The example of text generation: its network, its model without a server, and its README on a real one."""

import json
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_example_readmes import PREAMBLE, SERVE, read_blocks, run_commands, run_well  # noqa: F401

from kindaware.testing import ModelHarness, ModelLoadError, TritonServer

RANDOM = {"weights": "random"}


@pytest.fixture(scope="module")
def folder(examples):
    return examples / "generation"


@pytest.fixture(scope="module")
def modules(folder):
    """Names of the files beside model.py, by file."""
    sys.path.insert(0, str(folder / "models/gpt/1"))
    yield {
        name: runpy.run_path(str(folder / f"models/gpt/1/{name}.py")) for name in ("network", "vocabulary")
    }
    sys.path.remove(str(folder / "models/gpt/1"))


@pytest.fixture
def network(modules):
    torch.manual_seed(0)
    network = modules["network"]["GPT"](50, depth=2, width=32, heads=2, context=32, slots=8).eval()
    network.cache.fill_(9.0)  # as if other texts had been there
    return network


@pytest.fixture
def model(folder):
    with ModelHarness(folder / "models/gpt", parameters=RANDOM) as harness:
        yield harness


@pytest.mark.parametrize(
    "slots", [[0, 1, 2], [3, 4, 5], [1, 5, 7], [6, 2, 0]], ids=["first", "side by side", "gaps", "any order"]
)
def test_network_goes_on_with_texts_as_if_it_read_them_whole(network, slots):
    texts = torch.randint(50, (3, 12))
    with torch.inference_mode():
        whole = network(texts)
        lengths = [5, 8, 1]
        for text, slot, length in zip(texts, slots, lengths, strict=True):
            network(text[None, :length], [slot], [0])
        for _ in range(4):
            tokens = torch.stack([text[[length]] for text, length in zip(texts, lengths, strict=True)])
            scores = network(tokens, slots, lengths)
            expected = [row[[length]] for row, length in zip(whole, lengths, strict=True)]
            torch.testing.assert_close(scores, torch.stack(expected))
            lengths = [length + 1 for length in lengths]


def test_vocabulary_gives_back_any_text(modules):
    vocabulary = modules["vocabulary"]["Vocabulary"].of(b"a cat, a dog")
    for text in (b"a cat", b"The cat\nwaited \xff\x00", "caté \N{CAT FACE}".encode()):
        tokens = vocabulary.encode(text)
        assert b"".join(map(vocabulary.decode, tokens)) == text
        assert modules["vocabulary"]["END"] not in tokens
    assert len(vocabulary.encode(b" cat, dog")) == 4 - 1


def test_model_writes_beside_others_what_it_writes_alone(model):
    likeliest = {"TEMPERATURE": np.zeros(1, np.float32), "MAX_TOKENS": [40]}
    prompts = ["Once", "It watched the rain", "", "\N{CAT FACE}"]
    alone = [pieces_of(model.stream(PROMPT=[prompt], **likeliest)) for prompt in prompts]
    streams = model.stream_batch([{"PROMPT": [prompt], **likeliest} for prompt in prompts])
    assert [pieces_of(stream) for stream in streams] == alone
    assert all(1 <= len(pieces) <= 40 for pieces in alone)


def test_model_serves_more_texts_than_it_has_slots(folder):
    with ModelHarness(folder / "models/gpt", parameters=RANDOM | {"kindaware.max_streams": "2"}) as model:
        requests = [{"PROMPT": [str(number)], "MAX_TOKENS": [3 + number % 4]} for number in range(9)]
        assert all(pieces_of(stream) for stream in model.stream_batch(requests))


def pieces_of(stream):
    return [item.outputs["PIECE"].item() for item in stream]


def test_model_refuses_a_text_of_no_tokens(folder):
    with ModelHarness(folder / "models/gpt", parameters=RANDOM, raise_errors=False) as model:
        [result] = model.stream(PROMPT=["Once"], MAX_TOKENS=[0])
    assert "MAX_TOKENS: expected 1 or more, got 0; ask for a token at least" in result.error.message()


def test_model_without_weights_says_how_to_get_them(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        ModelLoadError, match=r"generation.pt': expected a file that train.py has written, got none"
    ):
        ModelHarness(folder / "models/gpt").__enter__()


@pytest.mark.server
def test_readme_of_the_generation_works_as_written(folder, run_commands, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (_, make), (_, ask), (_, ask_own), (_, curl) = read_blocks(folder / "README.md")
    assert make.startswith(PREAMBLE)
    assert make.endswith(SERVE)
    make = make.removeprefix(PREAMBLE).removesuffix(SERVE).replace("train.py", "train.py --seconds 3")
    assert "wrote " in run_well(run_commands, make)
    with TritonServer(tmp_path / "models", args=["--disable-auto-complete-config"]) as server:
        at = f" --url {server.grpc_url}"
        shown = run_well(run_commands, ask.rstrip() + at)
        own = run_well(run_commands, ask_own.rstrip() + at)
        events = run_well(run_commands, curl.replace("localhost:8000", server.http_url))
    assert all(text in shown for text in ('The "for" statement', 'The "import" statement'))
    assert re.search(r"^\d+ tokens in [\d.]+ s$", shown, re.MULTILINE)
    assert "A loop" in own
    assert "A coroutine" in own
    assert 1 <= len([json.loads(line[6:]) for line in events.splitlines() if line]) <= 2


def test_client_of_the_generation_passes_errors_on(folder):
    command = [sys.executable, folder / "client.py", "--url", "localhost:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "localhost:1" in done.stderr
