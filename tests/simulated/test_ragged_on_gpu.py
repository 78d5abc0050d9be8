"""Rows and outputs of different size per request on a GPU: tokens of each row, a tensor per request back."""

import numpy as np
import pytest
import torch
from simulated_kit import Doubler, assert_clean, make_config, serve, tensor

from kindaware.testing import Latest, SimulatedAccelerator

CONFIG = make_config(
    input=[tensor("TEXT", [1], "TYPE_STRING")],
    output=[
        tensor("SAME", [-1], "TYPE_INT64"),
        tensor("LARGE", [-1], "TYPE_INT64"),
        tensor("WORDS", [-1], "TYPE_STRING"),
        tensor("LENGTH", [1], "TYPE_INT64"),
    ],
)
TEXTS = [[b"abc"], [b"a", b"bcdef"], [b""], [b"xy"]]


class Tokenised(Doubler):
    """Gives tokens back: padded, those above 98 apart, as words, and how many they are."""

    pad = {"ids": 0}
    unpad = {"SAME": "ids", "LARGE": None, "WORDS": None}

    def load(self):
        self.batches = []

    def preprocess(self, inputs):
        made = [torch.tensor([*text], dtype=torch.int64, device=self.device) for text in inputs["TEXT"][:, 0]]
        return {"ids": [self.sent(one) for one in made]}

    def sent(self, tokens):
        return tokens

    def forward(self, ids, lengths, requests):
        self.batches.append(len(ids))
        parts = torch.split(ids, [one.rows for one in requests])
        return {
            "SAME": ids * 1,
            "LARGE": [self.sent(torch.cat([one, one], dim=1).double()) for one in parts],
            "WORDS": [[[b"w"] * len(one)] * len(one) for one in parts],
            "LENGTH": lengths[:, None] * 1,
        }


class ByHost(Tokenised):
    """The same by copies to the host that are only queued."""

    def sent(self, tokens):
        return tokens.to("cpu", non_blocking=True)


class InMemoryOfItsOwn(Tokenised):
    """Leaves all of them where its next forward writes, and takes no more than two requests."""

    def forward(self, ids, lengths, requests):
        if len(requests) > 2:
            raise torch.OutOfMemoryError("full")
        if not hasattr(self, "memory"):
            self.memory = torch.zeros(3, 256, dtype=torch.int64, device=self.device)
        made = super().forward(ids, lengths, requests)
        made["SAME"] = self.kept(0, 0, made["SAME"])[0]
        start = 0
        for place, part in enumerate(made["LARGE"]):
            made["LARGE"][place], start = self.kept(1, start, part)
        made["LENGTH"] = self.kept(2, 0, made["LENGTH"])[0]
        return made

    def kept(self, row, start, values):
        stop = start + values.numel()
        return self.memory[row, start:stop].view(values.shape).copy_(values), stop


@pytest.mark.parametrize("pinned_limit_bytes", [2**20, 0])
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("model", [Tokenised, ByHost, InMemoryOfItsOwn])
def test_rows_and_outputs_of_different_size_keep_their_requests(model, output_device, pinned_limit_bytes):
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    options = {"output_device": output_device, "pinned_limit_bytes": pinned_limit_bytes}
    sent = [{"inputs": {"TEXT": np.array([[one] for one in texts], dtype=object)}} for texts in TEXTS]
    with serve(model, config=CONFIG, accelerator=accelerator, cast_outputs="true", **options) as harness:
        for _ in range(2):
            harness.instance.batches.clear()
            results = harness.infer_batch(sent)
            assert [one.error and one.error.message() for one in results] == [None] * len(TEXTS)
            for texts, result in zip(TEXTS, results, strict=True):
                width = max(map(len, texts))
                padded = np.array([[*text, *[0] * (width - len(text))] for text in texts], np.int64)
                np.testing.assert_array_equal(result.outputs["SAME"], padded.reshape(len(texts), width))
                twice = result.outputs["LARGE"]
                half = twice.shape[1] // 2
                np.testing.assert_array_equal(twice[:, :width], padded.reshape(len(texts), width))
                np.testing.assert_array_equal(twice[:, :half], twice[:, half:])
                assert result.outputs["WORDS"].tolist() == [[b"w"] * len(texts)] * len(texts)
                assert result.outputs["LENGTH"].tolist() == [[len(text)] for text in texts]
            assert_clean(harness)
            assert len(harness.instance.batches) == (2 if model is InMemoryOfItsOwn else 1)


class Positive(Doubler):
    """What is above 0 of each row, which no graph can record."""

    def forward(self, X):
        return [row[row > 0] for row in X]


class PositiveLater(Doubler):
    """The same by postprocess, beside a graph of its forward."""

    def forward(self, X):
        return X * 1

    def postprocess(self, outputs):
        return [row[row > 0] for row in outputs["Y"]]


class Rows(Doubler):
    """A list with one tensor of a graph's memory per row."""

    def forward(self, X):
        return list(X * 1)


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize(("model", "num_graphs"), [(Positive, 0), (Rows, 0), (PositiveLater, 2)])
def test_outputs_of_different_size_beside_cuda_graphs(model, num_graphs, output_device):
    config = make_config(output=[tensor("Y", [-1])])
    rows = [[1, -1, -2, -3], [2, 3, -1, -1], [4, 5, 6, 7]]
    sent = [{"inputs": {"X": np.array([row], np.float32)}} for row in rows]
    with serve(model, config=config, cuda_graphs="1,4", output_device=output_device) as harness:
        for _ in range(2):
            for row, result in zip(rows, harness.infer_batch(sent), strict=True):
                expected = row if model is Rows else [one for one in row if one > 0]
                assert result.outputs["Y"].tolist() == [expected]
            assert_clean(harness)
        graphs = harness.instance._kindaware_instance._pipeline.runner._graphs._by_shape
    assert sum(graph is not None for sizes in graphs.values() for graph in sizes.values()) == num_graphs
