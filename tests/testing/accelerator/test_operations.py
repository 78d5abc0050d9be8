"""Operations on a simulated GPU against the CPU."""

import math
from pathlib import Path

import programs_of_modules  # noqa: F401 - adds to the programs
import pytest
import torch
from accelerator_kit import module, on, simulated
from programs import PROGRAMS
from torch.utils._pytree import tree_flatten

MODES = {"inference_mode": torch.inference_mode, "no_grad": torch.no_grad}
OWN_STRIDES = {"attention", "multihead attention"}
"""Where torch takes another way on CUDA than on the CPU, with the same values in another order."""


def read_sections():
    """Give the sections of expressions.txt: title -> (statements, expressions)."""
    text = (Path(__file__).parent / "expressions.txt").read_text()
    sections = {}
    for part in text.split("\n[")[1:]:
        title, _, rest = part.partition("]\n")
        statements, _, expressions = rest.partition("\n\n")
        sections[title] = statements, [line for line in expressions.splitlines() if line]
    return sections


SECTIONS = read_sections()


def read(found):
    """Give the values, the strides and the structure of what came out."""
    leaves, structure = tree_flatten(found)
    values = [one.detach().cpu() if isinstance(one, torch.Tensor) else one for one in leaves]
    strides = [one.stride() if isinstance(one, torch.Tensor) and one.numel() else () for one in leaves]
    return values, strides, str(structure)


def assert_same(found, wanted, *, with_strides=True):
    values, strides, structure = found
    assert structure == wanted[2]
    assert strides == wanted[1] or not with_strides
    for one, other in zip(values, wanted[0], strict=True):
        if isinstance(other, torch.Tensor):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
        else:
            assert one == other


def evaluate(title, device):
    """Give the value of each expression of a section, or what it raised."""
    statements, expressions = SECTIONS[title]
    names = {"device": device, "on": on, "module": module, "torch": torch, "math": math}
    names |= {"F": torch.nn.functional, "nn": torch.nn}
    values = []
    for expression in expressions:
        space = dict(names)
        exec(statements, space)
        try:
            values.append(read(eval(expression, space)))
        except Exception as error:
            values.append(error)
    return values


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("title", SECTIONS)
def test_expressions_on_a_simulated_gpu_equal_the_cpus(title, mode):
    failures = []
    with MODES[mode]():
        wanted = evaluate(title, torch.device("cpu"))
        with simulated():
            found = evaluate(title, torch.device("cuda", 1))
    for expression, one, other in zip(SECTIONS[title][1], found, wanted, strict=True):
        assert not isinstance(other, Exception), (expression, other)
        try:
            if isinstance(one, Exception):
                raise one
            assert_same(one, other, with_strides=title not in OWN_STRIDES)
        except Exception as error:
            failures.append(f"{expression}: {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program_on_a_simulated_gpu_equals_the_cpus(name, mode):
    with MODES[mode]():
        wanted = read(PROGRAMS[name](torch.device("cpu")))
        with simulated():
            found = read(PROGRAMS[name](torch.device("cuda", 1)))
    assert_same(found, wanted)
