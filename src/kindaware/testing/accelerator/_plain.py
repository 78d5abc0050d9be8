"""Torch as it is without an accelerator, for what the simulation itself computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def plain_torch() -> Iterator[None]:
    """Work on host memory as torch does without an accelerator, and without gradients."""
    with torch._C.DisableTorchFunction(), _disable_current_modes(), torch.inference_mode():
        yield
