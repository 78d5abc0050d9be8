"""Write one network, made from a seed, into the three models of a repository, each in its own format."""

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn


def make_network():
    """Stands for the end of a training."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))


def main(repository):
    network = make_network().eval()
    torch.save(network.state_dict(), repository / "from_state_dict" / "1" / "weights.pt")
    save_file(network.state_dict(), repository / "from_safetensors" / "1" / "weights.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export takes TorchScript's place
        torch.jit.script(network).save(repository / "from_torchscript" / "1" / "network.ts")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models"))
