"""Text beside tensors, and padded requests, on a GPU: text stays on the host, the rest is in order."""

import numpy as np
import pytest
import torch
from simulated_kit import ON_GPU, Doubler, assert_clean, make_config, serve, tensor

CONFIG = make_config(
    input=[tensor("TEXT", [1], "TYPE_STRING"), tensor("IDS", [-1], "TYPE_INT64", allow_ragged_batch=True)],
    output=[tensor("LOUD", [1], "TYPE_STRING"), tensor("SAME", [-1], "TYPE_INT64")],
)


class Mixed(Doubler):
    """Text in upper case, and numbers times ten, in memory that every forward writes again."""

    pad = {"IDS": -1}
    unpad = {"SAME": "IDS"}

    def load(self):
        self.seen = []
        self.kept = torch.zeros(8, 8, dtype=torch.int64, device=self.device)

    def forward(self, TEXT, IDS, lengths):
        self.seen.append((type(TEXT), TEXT.dtype, IDS.device, lengths.device, tuple(IDS.shape)))
        if len(TEXT) > 2:
            raise ValueError("two at most")
        kept = self.kept[: len(IDS), : IDS.shape[1]]
        kept.copy_(IDS * 10 * (IDS >= 0).sum(dim=1, keepdim=True) // lengths.unsqueeze(1))
        return {"LOUD": [[text.upper() for text in row] for row in TEXT], "SAME": kept}


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("input_device", ["cpu", ON_GPU])
def test_text_and_padded_numbers_keep_their_rows_over_several_forwards(input_device, output_device):
    lengths = [1, 3, 2]
    sent = [
        {
            "inputs": {
                "TEXT": np.array([[b"a" * length]], dtype=object),
                "IDS": np.arange(1, length + 1, dtype=np.int64)[None],
            },
            "input_device": input_device,
        }
        for length in lengths
    ]
    with serve(Mixed, config=CONFIG, output_device=output_device, takes_gpu_inputs=True) as harness:
        results = harness.infer_batch(sent)
        assert_clean(harness)
        seen = harness.instance.seen

    assert [one.error and one.error.message() for one in results] == [None] * 3
    for length, result in zip(lengths, results, strict=True):
        assert result.outputs["LOUD"].tolist() == [[b"A" * length]]
        assert result.outputs["SAME"].tolist() == [list(range(10, 10 * length + 1, 10))]
    device = torch.device(ON_GPU)
    assert {one[:4] for one in seen} == {(np.ndarray, np.dtype(object), device, device)}
    assert [one[4] for one in seen] == [(3, 3), (2, 3), (1, 2)]
