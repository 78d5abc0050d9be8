"""Operations on simulated tensors: shapes are known at once, elements when the stream gets to them.

What an operation returns is planned on torch's `meta` device. A view is made at once, and any other work is
queued on the device's current stream. What depends on elements (`item`, `nonzero`, a mask as index) waits for
the stream, as on a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import Allocation
from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.machine.races import Span
from kindaware.testing.accelerator.machine.random import is_random
from kindaware.testing.accelerator.tensors import copies as _copies
from kindaware.testing.accelerator.tensors import moves as _moves
from kindaware.testing.accelerator.tensors.allocation import allocate, empty_like, poison
from kindaware.testing.accelerator.tensors.call import Call, copy_flags, is_cuda
from kindaware.testing.accelerator.tensors.only_cuda import replacement_of
from kindaware.testing.accelerator.tensors.plan import Kind, Plan, Result, leaves, plan_of
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor, elements_of

_aten = torch.ops.aten


def _pack_padded_sequence(*args: Any) -> Any:
    """Do as the operation does, whose batch sizes are always on the host."""
    data, batch_sizes = _Operation(Call(_aten._pack_padded_sequence.default, args, {})).carry_out()
    return data, batch_sizes.cpu()


_SPECIAL: dict[Any, Callable[..., Any]] = {
    _aten.copy_.default: _copies.copy_,
    _aten._to_copy.default: _copies.to_copy,
    _aten.to.device: _moves.to_device,
    _aten.to.dtype: _moves.to_dtype,
    _aten.to.dtype_layout: _moves.to_layout,
    _aten.to.other: _moves.to_other,
    _aten._pack_padded_sequence.default: _pack_padded_sequence,
    # If this is False, `Module.to` swaps tensors in place of assigning to their data.
    _aten._has_compatible_shallow_copy_type.default: lambda one, other: False,
    _aten._fused_sdp_choice.default: lambda *_, **__: 0,  # attention made of plain operations
}
_EMPTY = {
    "aten::empty",
    "aten::empty_strided",
    "aten::empty_like",
    "aten::new_empty",
    "aten::new_empty_strided",
}


def names_cuda(args: Any, kwargs: Any) -> bool:
    """Return whether an operation is told to make something on a CUDA device."""
    return is_cuda(kwargs.get("device")) or any(map(is_cuda, args))


def run_operation(func: Any, args: Any, kwargs: Any) -> Any:
    """Run or queue an operation that involves a simulated device."""
    if func in _SPECIAL:
        return _SPECIAL[func](*args, **kwargs)
    return _Operation(Call(replacement_of(func), args, kwargs)).carry_out()


class _Operation:
    """An operation on its way to a device.

    Args:
        call: the call of the operation.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._machine = _machine_of(call)
        self._ordinal = call.find_ordinal(self._machine)
        self._made: dict[int, Allocation] = {}
        self._targets: list[torch.Tensor | None] = []

    def carry_out(self) -> Any:
        """Return its results, and queue the work that computes them."""
        call, machine = self._call, self._machine
        plan = plan_of(call)
        if plan is None:
            machine.call(call.name, self._ordinal)
            return self._at_once()
        kinds = {one.kind for one in leaves(plan)}
        is_work = Kind.NEW in kinds or call.writes
        if Kind.CHANGED in kinds and not call.outputs:
            is_work = False  # it changes shapes, not elements
        if is_work:
            machine.call(call.name, self._ordinal)
        results = self._build(plan)
        if is_work:
            self._queue()
        return results

    def _build(self, plan: Plan) -> Any:
        if isinstance(plan, (tuple, list)):
            return type(plan)(self._build(one) for one in plan)
        result: Result = plan
        self._targets.append(None)
        if result.kind is Kind.NOTHING:
            return None
        if result.kind is Kind.SAME:
            return self._call.tensors[result.source]
        if result.kind is Kind.CHANGED:
            return self._change(result)
        if result.kind is Kind.VIEW:
            return self._view(result)
        if result.source not in self._made:
            self._made[result.source] = allocate(self._machine, self._ordinal, result.num_bytes)
        allocation = self._made[result.source]
        self._targets[-1] = elements = elements_of(allocation.block, result.shown)
        return SimulatedTensor.wrap(self._machine, elements, allocation)

    def _view(self, result: Result) -> SimulatedTensor:
        source = self._call.tensors[result.source]
        elements = _view_of(source.elements, result.shown)
        is_inference = source.is_inference()
        return SimulatedTensor.wrap(self._machine, elements, source.allocation, as_inference=is_inference)

    def _change(self, result: Result) -> SimulatedTensor:
        """Change an argument's shape, or give it larger memory, or another tensor's."""
        tensor = self._call.tensors[result.argument]
        if result.source >= 0:
            source = self._call.tensors[result.source]
            if result.num_bytes <= source.elements.untyped_storage().nbytes():
                tensor.become(_view_of(source.elements, result.shown), source.allocation)
                return tensor
        allocation = allocate(self._machine, self._ordinal, result.num_bytes)
        grown = elements_of(allocation.block, result.shown)
        if not self._call.outputs:
            before, after = tensor.allocation.block, allocation.block
            size = min(before.num_bytes, after.num_bytes)
            self._machine.submit(
                self._ordinal,
                self._call.name,
                lambda: after.store[:size].copy_(before.store[:size]),
                [Span(before, 0, size)],
                [Span(after, 0, size)],
            )
        tensor.become(grown, allocation)
        return tensor

    def _queue(self) -> None:
        call, machine = self._call, self._machine
        if call.name.split(".")[0] in _EMPTY:
            for allocation in self._made.values():
                poison(machine, self._ordinal, allocation)
            return
        reads, writes = call.spans
        writes += [Span(one.block, 0, one.block.num_bytes) for one in self._made.values()]
        compute = call.later()
        if is_random(call.func):
            compute = machine.devices[self._ordinal].random.seeded(compute)
        machine.submit(
            self._ordinal, call.name, functools.partial(_store, compute, self._targets), reads, writes
        )

    def _at_once(self) -> Any:
        """Wait for the stream, compute, and return the results in memory of the device."""
        call, machine = self._call, self._machine
        reads, writes = call.spans
        machine.submit(self._ordinal, call.name, None, reads, writes)
        machine.synchronize_stream(self._ordinal)
        outputs = {id(one): torch.empty(0, dtype=one.dtype, device="cpu") for one in call.outputs}
        with plain_torch():
            results = call.on_host(outputs)
        known = {id(tensor.elements): tensor for tensor in call.tensors}
        for tensor in call.outputs:
            self._fill(tensor, outputs[id(tensor)])
            known[id(outputs[id(tensor)])] = tensor
        return self._keep(results, known)

    def _fill(self, tensor: SimulatedTensor, value: torch.Tensor) -> None:
        """Write a value to an argument that only takes results, and takes on its shape."""
        if tensor.size() != value.size():
            made = empty_like(self._machine, value, self._ordinal)
            tensor.become(made.elements, made.allocation)
        _copies.fill(self._machine, tensor, value, self._call.name)

    def _keep(self, value: Any, known: dict[int, SimulatedTensor]) -> Any:
        """Return results in memory of the device; results that are arguments, as they are."""
        if isinstance(value, (tuple, list)):
            return type(value)(self._keep(one, known) for one in value)
        if not isinstance(value, torch.Tensor) or id(value) in known:
            return known.get(id(value), value)
        made = empty_like(self._machine, value, self._ordinal)
        _copies.fill(self._machine, made, value, self._call.name)
        return made


def _store(compute: Callable[[], Any], targets: list[torch.Tensor | None]) -> None:
    """Compute, and write the results to their targets."""
    for number, (target, value) in enumerate(zip(targets, leaves(compute()), strict=True)):
        # What an operation saves for a backward pass has a shape that depends on the backend.
        if target is not None and (number == 0 or target.shape == value.shape):
            target.copy_(value)


def _view_of(elements: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a view of the memory of elements that is laid out as a tensor on `meta`."""
    with plain_torch():
        view = torch.empty(0, dtype=like.dtype, device="cpu").set_(
            elements.untyped_storage(), like.storage_offset(), like.size(), like.stride()
        )
        copy_flags(view, like)
    return view


def _machine_of(call: Call) -> Machine:
    return call.tensors[0].machine if call.tensors else Machine.active()
