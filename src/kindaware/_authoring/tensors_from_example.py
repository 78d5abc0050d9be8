"""The inputs and outputs of a callable, found by running it on an example."""

from __future__ import annotations

import asyncio
import inspect
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kindaware._authoring.example_results import ExampleResult, read_result
from kindaware._authoring.example_values import ExampleValue
from kindaware._config.model_spec import TensorSpec
from kindaware._errors import ConfigError, describe

_ANY_KIND = inspect.Parameter.POSITIONAL_OR_KEYWORD
_CHEAP_SECONDS = 5.0
"""A callable that takes longer than that for the example is not run on other sizes as well."""


@dataclass(frozen=True)
class ExampleTensor:
    """One input or output that was found.

    Attributes:
        spec: name, data type and dims, without the batch dimension if the callable batches.
        form: what the callable takes or returns: `tensor`, `array` (numpy), `texts` (a list of str), `text`
            (one str), `byte strings` (a list of bytes), `bytes` (one).
        is_scalar: whether a row is a single value without a dimension, which Triton doesn't have: dims are
            [1], and the callable takes or returns [B] where Triton has [B, 1].
        why: where its sizes come from, for people.
    """

    spec: TensorSpec
    form: str
    is_scalar: bool
    why: str


@dataclass(frozen=True)
class InferredTensors:
    """What a run on an example has shown; `print` it to see it with the reasons.

    Attributes:
        subject: what was run.
        inputs: in the order of the callable's parameters.
        outputs: in the order in which they are returned.
        by_keyword: whether the inputs are passed by keyword; else by position.
        batches: whether the first dimension of all inputs and outputs is the batch.
        result_form: `one` (the value itself), `sequence` (a tuple or list) or `named` (a mapping, a dataclass
            or a named tuple).
        left_out: names of what was returned and is no output.
        streams: whether results come one after the other, from a generator.
        why_batches: the reason for `batches`.
    """

    subject: str
    inputs: tuple[ExampleTensor, ...]
    outputs: tuple[ExampleTensor, ...]
    by_keyword: bool
    batches: bool
    result_form: str
    left_out: tuple[str, ...]
    streams: bool
    why_batches: str

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The inputs, as a class declares them."""
        return tuple(tensor.spec for tensor in self.inputs)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The outputs, as a class declares them."""
        return tuple(tensor.spec for tensor in self.outputs)

    def __str__(self) -> str:
        rows = [("input", tensor) for tensor in self.inputs] + [("output", tensor) for tensor in self.outputs]
        cells = [
            (kind, one.spec.name, str(one.spec.dtype), str(list(one.spec.shape)), one.why)
            for kind, one in rows
        ]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = [f"{self.subject}: found by running the example"]
        for row in cells:
            padded = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
            lines.append("  " + "  ".join([*padded, row[4]]).rstrip())
        lines.append(f"  {'batches' if self.batches else 'does not batch'}: {self.why_batches}")
        if self.left_out:
            lines.append(f"  left out: {', '.join(self.left_out)}")
        return "\n".join(lines)


def tensors_from_example(
    function: Callable[..., Any],
    example: Any,
    *,
    batches: bool | None = None,
    vary_sizes: bool | None = None,
    outputs: Sequence[str] | None = None,
    subject: str | None = None,
) -> InferredTensors:
    """Run a callable on an example, and return the inputs and outputs that a model made of it has.

    A module is run in eval mode, without gradients. It runs again on twice the rows, to see whether it
    batches, and on other sizes, to see which may be -1.

    Args:
        function: a function or module.
        example: arguments by name in a mapping, by position in a tuple, or the only one. Tensors, numpy
            arrays, `str`, `bytes`, and lists of `str` or `bytes`; with the batch dimension, if it batches.
        batches: whether the first dimension is the batch; None finds out.
        vary_sizes: which sizes may be -1, if other sizes work: None those of text and whole numbers, True
            all, False none.
        outputs: names of the outputs to serve; by default all that are not None.
        subject: what messages call it; by default its name.

    Raises:
        ConfigError: it doesn't run on the example, takes or returns something that no request can carry, or
            doesn't batch although `batches` is True.
    """
    return _Inference(function, example, outputs, subject or _name_of(function)).run(batches, vary_sizes)


def bind_example(function: Callable[..., Any], example: Any, subject: str) -> tuple[dict[str, Any], bool]:
    """Return the arguments of an example by parameter, and whether they are passed by keyword.

    Raises:
        ConfigError: they are not the callable's.
    """
    args, kwargs = (), {}
    if isinstance(example, Mapping):
        kwargs = {str(name): value for name, value in example.items()}
    else:
        args = example if type(example) is tuple else (example,)
    signature = _signature_of(function, subject)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigError.of(
            f"{subject} example",
            expected=f"arguments for {signature}",
            got=str(error),
            remedy="pass a mapping by parameter name, or a tuple by position",
        ) from None
    if not bound.arguments:
        raise ConfigError.of(
            f"{subject} example",
            expected="at least one input",
            got="none",
            remedy="pass an example of each input",
        )
    values: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            values |= value
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            values |= {f"INPUT{n}": one for n, one in enumerate(value)}
        else:
            values[name] = value
    # As in the example: a module out of torch.export takes its arguments in one way only.
    return values, not args


def _signature_of(function: Callable[..., Any], subject: str) -> inspect.Signature:
    if isinstance(function, torch.jit.ScriptModule):
        forward: Any = function.forward
        names = [argument.name for argument in forward.schema.arguments[1:]]
        return inspect.Signature([inspect.Parameter(name, _ANY_KIND) for name in names])
    try:
        return inspect.signature(function.forward if isinstance(function, nn.Module) else function)
    except ValueError:
        raise ConfigError.of(
            subject,
            expected="a callable whose parameters can be read",
            got=f"{type(function).__name__} without a signature",
            remedy="call it in a function that is written with def, and pass that",
        ) from None


class _Inference:
    """One search: the example, and what its runs have shown."""

    def __init__(
        self, function: Callable[..., Any], example: Any, outputs: Sequence[str] | None, subject: str
    ) -> None:
        self._function = function
        self._subject = subject
        self._wanted = outputs
        self._streams = False
        arguments, self._by_keyword = bind_example(function, example, subject)
        self._inputs = {
            name: ExampleValue.of(_placed(value, function), f"{subject} input {name!r}")
            for name, value in arguments.items()
        }

    def run(self, batches: bool | None, vary_sizes: bool | None) -> InferredTensors:
        started = time.monotonic()
        try:
            first = self._call({name: value.data for name, value in self._inputs.items()})
        except ConfigError:
            raise
        except Exception as error:
            raise self._failed(error) from error
        is_cheap = time.monotonic() - started < _CHEAP_SECONDS
        does_batch, why = self._find_batching(first) if batches is not False else (False, "batches is False")
        if batches and not does_batch:
            raise ConfigError.of(
                self._subject,
                expected="a first dimension that is the batch",
                got=why,
                remedy="pass batches=False",
            )
        varied = self._find_varied(first, int(does_batch), vary_sizes) if is_cheap else {}
        return InferredTensors(
            subject=self._subject,
            inputs=self._describe_inputs(int(does_batch), varied, is_cheap),
            outputs=self._describe_outputs(first, int(does_batch), varied),
            by_keyword=self._by_keyword,
            batches=does_batch,
            result_form=first.form,
            left_out=first.left_out,
            streams=self._streams,
            why_batches=why,
        )

    def _call(self, arguments: Mapping[str, Any]) -> ExampleResult:
        with _as_served(self._function):
            if self._by_keyword:
                returned = self._function(**arguments)
            else:
                returned = self._function(*arguments.values())
            if inspect.iscoroutine(returned):
                returned = _run_coroutine(returned)
            if isinstance(returned, Iterator):
                self._streams, returned = True, self._first_item(returned)
        return read_result(returned, self._subject, self._wanted)

    def _first_item(self, items: Iterator[Any]) -> Any:
        try:
            return next(items)
        except StopIteration:
            raise ConfigError.of(
                self._subject,
                expected="at least one item",
                got="none",
                remedy="give an example that has an answer",
            ) from None
        finally:
            if inspect.isgenerator(items):
                items.close()

    def _try(self, arguments: Mapping[str, Any]) -> ExampleResult | Exception:
        """Run once more; what it raises or warns of is an answer to our question, and nothing else."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self._call(arguments)
            except Exception as error:
                return error

    def _find_batching(self, first: ExampleResult) -> tuple[bool, str]:
        """Return whether the first dimension is the batch, and why."""
        obstacle = self._obstacle_to_batches()
        if obstacle:
            return False, obstacle
        num_rows = next(iter(self._inputs.values())).shape[0]
        doubled = self._try({name: value.joined_with_other_rows() for name, value in self._inputs.items()})
        if isinstance(doubled, Exception):
            return False, f"with {2 * num_rows} rows it raised {_first_line(doubled)}"
        for name, output in first.outputs.items():
            other = doubled.outputs.get(name)
            if other is None or output.shape[:1] != (num_rows,) or other.shape[:1] != (2 * num_rows,):
                shape = "nothing" if other is None else str(list(other.shape))
                given = "1 row gives" if num_rows == 1 else f"{num_rows} rows give"
                return False, f"{given} {name} {list(output.shape)}, {2 * num_rows} give {shape}"
        return self._judge_rows(
            first, doubled, f"{num_rows} and {2 * num_rows} rows give as many of each output"
        )

    def _obstacle_to_batches(self) -> str:
        """Return why the inputs have no common first dimension; empty if they have."""
        without = [name for name, value in self._inputs.items() if not value.shape]
        if without:
            return f"{', '.join(without)} has no dimension"
        rows = {name: value.shape[0] for name, value in self._inputs.items()}
        if len(set(rows.values())) > 1:
            sizes = ", ".join(f"{name} {size}" for name, size in rows.items())
            return f"the first dimensions of the inputs differ ({sizes})"
        if 0 in rows.values():
            raise ConfigError.of(
                f"{self._subject} example", expected="at least one row", got="none", remedy="pass one or more"
            )
        return ""

    def _judge_rows(self, first: ExampleResult, doubled: ExampleResult, grown: str) -> tuple[bool, str]:
        """Return whether rows are independent, as those of different requests have to be, and why."""
        if self._are_alike(first, doubled):
            return True, f"{grown}, and a row's does not depend on the others"
        again = self._try({name: value.data for name, value in self._inputs.items()})
        if isinstance(again, ExampleResult) and self._are_alike(first, again):
            return False, f"{grown}, but what a row gets depends on the others"
        return True, f"{grown}; the callable is random, so whether rows influence each other can't be seen"

    def _are_alike(self, first: ExampleResult, longer: ExampleResult) -> bool:
        return all(longer.outputs[name].begins_like(value) for name, value in first.outputs.items())

    def _find_varied(
        self, first: ExampleResult, start: int, vary_sizes: bool | None
    ) -> dict[tuple[str, int], tuple[int, ExampleResult]]:
        """Return the dimensions of inputs for which another size works: that size, and what it has given.

        Dimensions of the same size are likely to be the same one, as those of ids and mask, and are changed
        together.
        """
        if vary_sizes is False or _is_on_gpu(self._function):
            return {}
        found: dict[tuple[str, int], tuple[int, ExampleResult]] = {}
        may_vary = {name: v for name, v in self._inputs.items() if vary_sizes or v.may_vary}
        sizes = {size for value in may_vary.values() for size in value.shape[start:] if size > 1}
        for size in sorted(sizes):
            new = size - 1 if size > 2 else size + 1
            for group in (self._inputs, may_vary):
                result = self._try(self._resized(group, size, new, start))
                if isinstance(result, ExampleResult) and self._keeps_ranks(first, result):
                    for name, value in group.items():
                        dims = enumerate(value.shape[start:], start)
                        found |= {(name, dim): (new, result) for dim, one in dims if one == size}
                    break
        return found

    def _resized(self, group: Mapping[str, ExampleValue], old: int, new: int, start: int) -> dict[str, Any]:
        return {
            name: value.with_size(old, new, first=start) if name in group else value.data
            for name, value in self._inputs.items()
        }

    def _keeps_ranks(self, first: ExampleResult, other: ExampleResult) -> bool:
        ranks = {name: len(value.shape) for name, value in first.outputs.items()}
        return ranks == {name: len(value.shape) for name, value in other.outputs.items()}

    def _describe_inputs(
        self, start: int, varied: Mapping[tuple[str, int], tuple[int, ExampleResult]], is_cheap: bool
    ) -> tuple[ExampleTensor, ...]:
        described = []
        for name, value in self._inputs.items():
            dims = list(value.shape)
            reasons = []
            for dim in range(start, len(dims)):
                if (name, dim) in varied:
                    reasons.append(f"-1 since {varied[name, dim][0]} works as well as {dims[dim]}")
                    dims[dim] = -1
            if not is_cheap and value.may_vary:
                reasons.append(f"other sizes not tried: a run takes more than {_CHEAP_SECONDS:g} s")
            described.append(_tensor(name, value, dims[start:], reasons))
        return tuple(described)

    def _describe_outputs(
        self,
        first: ExampleResult,
        start: int,
        varied: Mapping[tuple[str, int], tuple[int, ExampleResult]],
    ) -> tuple[ExampleTensor, ...]:
        described = []
        for name, value in first.outputs.items():
            dims = list(value.shape)
            reasons = []
            for _, result in varied.values():
                for dim in range(start, len(dims)):
                    if dims[dim] != -1 and result.outputs[name].shape[dim] != value.shape[dim]:
                        dims[dim] = -1
                        reasons.append("-1 since it changes with the size of an input")
            described.append(_tensor(name, value, dims[start:], reasons))
        return tuple(described)

    def _failed(self, error: Exception) -> ConfigError:
        shapes = ", ".join(
            f"{name} {value.dtype} {list(value.shape)}" for name, value in self._inputs.items()
        )
        return ConfigError.of(
            f"{self._subject} on the example {shapes}",
            expected="a run without an error",
            got=_first_line(error),
            remedy="pass values like those of a request, with the batch dimension if the callable has one",
        )


def _tensor(name: str, value: ExampleValue, dims: Sequence[int], reasons: Sequence[str]) -> ExampleTensor:
    if 0 in dims:
        raise ConfigError.of(
            f"{name!r} of the example",
            expected="sizes above 0",
            got=str(list(value.shape)),
            remedy="pass a fuller one",
        )
    is_scalar = not dims
    if is_scalar:
        reasons = [*reasons, "[1] for the one value of a row"]
    spec = TensorSpec(name, str(value.dtype), list(dims) or [1])
    return ExampleTensor(spec, value.form, is_scalar, "; ".join(dict.fromkeys(reasons)))


@contextmanager
def _as_served(function: Callable[..., Any]) -> Iterator[None]:
    """Run as a model is served: a module in eval mode, without gradients. Puts the modes back."""
    modules = list(function.modules()) if isinstance(function, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        with torch.inference_mode():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, in a thread: a notebook's has a running event loop."""

    def run() -> Any:
        with torch.inference_mode():
            return asyncio.run(coroutine)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def _first_parameter(function: Callable[..., Any]) -> torch.Tensor | None:
    return next(function.parameters(), None) if isinstance(function, nn.Module) else None


def _placed(value: Any, function: Callable[..., Any]) -> Any:
    """Return a tensor on the device of a module's parameters."""
    parameter = _first_parameter(function)
    return value.to(parameter.device) if isinstance(value, torch.Tensor) and parameter is not None else value


def _is_on_gpu(function: Callable[..., Any]) -> bool:
    # An index that is out of range there would end the process's use of the GPU.
    parameter = _first_parameter(function)
    return parameter is not None and parameter.is_cuda


def _first_line(error: Exception) -> str:
    return describe(error).strip().splitlines()[0]


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)
