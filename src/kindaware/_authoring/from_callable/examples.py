"""Example inputs for a callable: as the command line describes them, or as its first layer wants them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kindaware._authoring.from_callable.source import Source
from kindaware._errors import ConfigError, OptionError
from kindaware._tensors.dtypes import DTYPES

_OPTION = re.compile(r"(?:(?P<name>\w+)=)?(?:(?P<dtype>[A-Za-z]\w*):)?(?P<shape>(?:\d+(?:x\d+)*)?)", re.ASCII)
_SQUARES = (28, 32, 64, 96, 128, 224, 256, 299, 384, 512)
_ANY_SIZE = {1: (64,), 2: (64, 96), 3: (16, 64, 96)}
_LARGE = {1: (224,), 2: (224, 224), 3: (16, 112, 112)}


@dataclass(frozen=True)
class Example:
    """Inputs that a callable runs on.

    Attributes:
        values: by parameter, with the batch dimension if it batches.
        vary_sizes: which sizes may be -1, as for `tensors_from_example`.
        why: where the sizes come from, for people.
    """

    values: dict[str, torch.Tensor]
    vary_sizes: bool | None
    why: str


def read_examples(options: Sequence[str], source: Source) -> Example:
    """Return the example that options such as `IDS=int64:16` describe.

    Args:
        options: `[NAME=][TYPE:]SHAPE` each, the batch dimension left out; with it they are understood too.
        source: the callable.

    Raises:
        ConfigError: one has another form, or the callable doesn't run on them.
    """
    names = list_parameters(source.function)
    values = {}
    for position, option in enumerate(options):
        name, dtype, shape = _read_option(option)
        if not name and position >= len(names):
            raise _wrong_option(option, f"one for each of {names}")
        values[name or names[position]] = (dtype, shape)
    errors = []
    for rows in ((1,), ()):
        example = {
            name: make_example((*rows, *shape), dtype, source.function)
            for name, (dtype, shape) in values.items()
        }
        error = run_error(source.function, example)
        if error is None:
            return Example(example, None, "as --example says")
        errors.append(error)
    shapes = ", ".join(f"{name} {list(shape)}" for name, (_, shape) in values.items())
    raise ConfigError.of(
        f"--example {' '.join(options)}",
        expected=f"inputs that {source.name} runs on",
        got=f"{errors[0]} for {shapes} with one row",
        remedy="correct the shapes",
    )


def _read_option(option: str) -> tuple[str, torch.dtype, tuple[int, ...]]:
    match = _OPTION.fullmatch(option)
    if match is None:
        raise _wrong_option(option, "[NAME=][TYPE:]SHAPE")
    dtype: torch.dtype | None = torch.float32
    if match["dtype"]:
        by_triton = DTYPES.get(match["dtype"].removeprefix("TYPE_"))
        dtype = by_triton.torch if by_triton else getattr(torch, match["dtype"], None)
    if not isinstance(dtype, torch.dtype):
        raise _wrong_option(option, "a TYPE such as float32, int64 or FP16")
    return match["name"] or "", dtype, tuple(int(size) for size in match["shape"].split("x") if size)


def _wrong_option(option: str, expected: str) -> OptionError:
    return OptionError.of(
        f"--example {option}",
        expected=expected,
        got=repr(option),
        remedy="write it like --example 3x224x224 or --example IDS=int64:16",
    )


def find_example(source: Source) -> Example:
    """Return an example that the first layer of a module wants.

    Raises:
        ConfigError: it can't be told; the message names the option that says it.
    """
    names = list_parameters(source.function)
    layer = (
        _first_layer(source.function) if isinstance(source.function, nn.Module) and len(names) == 1 else None
    )
    for shape, vary_sizes, why in _guesses(layer, source.function) if layer is not None else ():
        values = {names[0]: make_example((1, *shape), _dtype_of(layer), source.function)}
        if run_error(source.function, values) is None:
            return Example(values, vary_sizes, why)
    options = " ".join(f"--example {name}=3x224x224" for name in names)
    raise ConfigError.of(
        f"--from {source.text}",
        expected=f"a first layer that tells the shape of {' and '.join(names)}",
        got="none that does" if len(names) == 1 else f"{len(names)} inputs",
        remedy=f"give each, as in {options}",
    )


def _guesses(
    layer: nn.Module | None, function: Callable[..., Any]
) -> Iterator[tuple[tuple[int, ...], bool | None, str]]:
    """Yield shapes of one row that a layer may want, with what may vary, and the reason."""
    kind = type(layer).__name__
    if isinstance(layer, nn.Linear):
        yield (layer.in_features,), None, f"the first layer, {kind}, takes {layer.in_features}"
    elif isinstance(layer, nn.Embedding):
        yield (16,), None, f"the first layer is an {kind} of {layer.num_embeddings}"
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        rank = len(layer.kernel_size)
        why = f"the first layer, {kind}, takes {layer.in_channels} channels"
        sizes = [(layer.in_channels, *one[rank]) for one in (_ANY_SIZE, _LARGE)]
        if all(_runs(function, shape) for shape in sizes):
            yield sizes[0], True, f"{why}, and sizes may be any"
            return
        squares = [(layer.in_channels, *(size,) * rank) for size in _SQUARES if rank < 3]
        fitting = [shape for shape in squares if _runs(function, shape)]
        if len(fitting) == 1:
            yield fitting[0], False, f"{why}, and of the usual sizes only {fitting[0][-1]} works"


def _runs(function: Callable[..., Any], shape: tuple[int, ...]) -> bool:
    (name,) = list_parameters(function)
    return run_error(function, {name: torch.rand((1, *shape))}) is None


def _first_layer(function: Callable[..., Any]) -> nn.Module | None:
    """Return the first layer with weights; None where it lies in one that shapes its inputs itself."""
    for one in function.modules() if isinstance(function, nn.Module) else ():
        if isinstance(one, (nn.MultiheadAttention, nn.Transformer, nn.RNNBase)):
            return None
        if isinstance(one, (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return one
    return None


def _dtype_of(layer: nn.Module | None) -> torch.dtype:
    return torch.int64 if isinstance(layer, nn.Embedding) else torch.float32


def list_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the parameters that a callable needs; the first if it needs none."""
    target = function.forward if isinstance(function, nn.Module) else function
    parameters = [
        one
        for one in inspect.signature(target).parameters.values()
        if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    required = [one.name for one in parameters if one.default is one.empty]
    return required or [one.name for one in parameters[:1]]


def make_example(
    shape: Sequence[int], dtype: torch.dtype, function: Callable[..., Any], seed: int = 0
) -> torch.Tensor:
    """Return random values: 0 to 1 for floating point, whole numbers that every embedding has."""
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.rand(tuple(shape), generator=generator).to(dtype)
    modules = function.modules() if isinstance(function, nn.Module) else ()
    limits = [one.num_embeddings for one in modules if isinstance(one, nn.Embedding)]
    high = 2 if dtype is torch.bool else min(*limits, 10) if limits else 10
    return torch.randint(0, high, tuple(shape), generator=generator).to(dtype)


def run_error(function: Callable[..., Any], values: dict[str, torch.Tensor]) -> str | None:
    """Return what a callable raises on an example; None if it runs."""
    modules = [one for one in function.modules() if one.training] if isinstance(function, nn.Module) else []
    for one in modules:
        one.training = False
    try:
        with torch.no_grad():
            function(**values)
    except Exception as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    finally:
        for one in modules:
            one.training = True
    return None
