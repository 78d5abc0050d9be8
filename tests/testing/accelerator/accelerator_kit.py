"""Simulated GPUs for tests that need no model."""

from contextlib import contextmanager

import torch

from kindaware.testing.accelerator import SimulatedAccelerator


@contextmanager
def simulated(num_devices=2, *, expects_violations=False, **options):
    """Let torch's CUDA be simulated inside; unless said, a violation of CUDA's rules fails the test."""
    accelerator = SimulatedAccelerator(num_devices, **options)
    with accelerator.installed(lambda *_: None), accelerator.entered(object()):
        yield accelerator
    assert bool(accelerator.violations) is expects_violations, accelerator.violations


def numbers(*shape, dtype=torch.float32, seed=0):
    """Give random numbers, the same for the same arguments."""
    generator = torch.Generator("cpu").manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 5, shape, generator=generator).to(dtype)


def on(device, *shape, dtype=torch.float32, seed=0):
    """Give random numbers on a device."""
    return numbers(*shape, dtype=dtype, seed=seed).to(device)


def module(device, made):
    """Give random weights to a module, the same each time, and move it."""
    generator = torch.Generator("cpu").manual_seed(1)
    with torch.no_grad():
        for one in [*made.parameters(), *made.buffers()]:
            if one.is_floating_point():
                one.copy_(torch.rand(one.shape, generator=generator) * 0.1 + 0.01)
    return made.eval().to(device)


def pinned(*values):
    """Give page-locked memory with values; only inside `simulated`."""
    return torch.tensor(values, dtype=torch.float32).pin_memory()


def outcomes(accelerator):
    """Give the texts of all violations, joined."""
    return "\n".join(outcome for outcome, _ in accelerator.violations)
