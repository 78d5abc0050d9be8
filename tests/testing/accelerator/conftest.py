"""State of torch that other tests of the process must not have set."""

import torch

# torch caches which functions a default device holds for when it is first entered: for a model of
# transformers, that is while a function of transformers stands in for torch.linspace.
with torch.device("cpu"):
    torch.empty(0)
