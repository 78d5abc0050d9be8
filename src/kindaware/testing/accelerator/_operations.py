"""Every operation on simulated tensors: shapes at once, elements when the stream gets there.

An operation runs on torch's `meta` device first, which gives the shapes, strides and aliases of what it
returns. A view is made at once. Anything else is queued on the device's current stream. What can't be known
without the elements (`item`, `nonzero`, a mask as index) waits for the stream, as it does on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from kindaware.testing.accelerator._accelerator import SimulatedAccelerator
from kindaware.testing.accelerator._copies import copy_, to_copy
from kindaware.testing.accelerator._memory import Allocation, Block
from kindaware.testing.accelerator._plain import plain_torch
from kindaware.testing.accelerator._tensor import SimulatedTensor

_aten = torch.ops.aten
_Storage: Any = torch.UntypedStorage
_SPECIAL: dict[Any, Callable[..., Any]] = {
    _aten.copy_.default: copy_,
    _aten._to_copy.default: to_copy,
    _aten._has_compatible_shallow_copy_type.default: lambda one, other: False,  # `Module.to` swaps then
}
_TAKES_HOST_INDEX = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}
_EMPTY = {
    "aten::empty",
    "aten::empty_strided",
    "aten::empty_like",
    "aten::new_empty",
    "aten::new_empty_strided",
}


class _Call:
    """One operation with its arguments.

    Args:
        func: the overload.
        args: as called.
        kwargs: as called.
    """

    def __init__(self, func: Any, args: Any, kwargs: Any) -> None:
        self.func = func
        self.name = func.name()
        self._leaves, self._structure = tree_flatten((args, kwargs))
        self.tensors = [leaf for leaf in self._leaves if isinstance(leaf, SimulatedTensor)]
        self.ordinal = self._find_ordinal()
        self._snapshots: dict[int, torch.Tensor] = {}

    def _find_ordinal(self) -> int:
        found = list(dict.fromkeys(tensor.ordinal for tensor in self.tensors))
        named = [leaf.index for leaf in self._leaves if is_cuda(leaf)]
        bare = self.name.split(".")[0]
        hosts = [
            leaf
            for leaf in self._leaves
            if isinstance(leaf, torch.Tensor) and not isinstance(leaf, SimulatedTensor) and leaf.dim()
        ]
        places = [f"cuda:{ordinal}" for ordinal in found]
        if hosts and bare not in _TAKES_HOST_INDEX:
            places.append(str(hosts[0].device))
        if len(places) > 1:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{places[0]} and {places[1]}! ({self.name})"
            )
        if found:
            return found[0]
        return int(named[0] or 0)

    def on_meta(self) -> Any:
        """Run on torch's `meta` device: gives what comes out and the meta twin of every argument."""
        storages: dict[int, torch.UntypedStorage] = {}
        twins: dict[int, Any] = {}

        def twin(leaf: Any) -> Any:
            if isinstance(leaf, torch.device):
                return torch.device("meta")
            if not isinstance(leaf, torch.Tensor) or (not _is_simulated(leaf) and not leaf.dim()):
                return leaf
            elements = leaf.elements if isinstance(leaf, SimulatedTensor) else leaf
            store = elements.untyped_storage()
            if store._cdata not in storages:
                storages[store._cdata] = _Storage(store.nbytes(), device="meta")
            made = torch.empty(0, dtype=elements.dtype, device="meta").set_(
                storages[store._cdata], elements.storage_offset(), elements.size(), elements.stride()
            )
            twins[id(made)] = (leaf, made)
            return made

        args, kwargs = self._rebuilt(twin)
        return self.func(*args, **kwargs), twins, storages

    def on_host(self) -> Any:
        """Run on the elements as they are now."""

        def plain(leaf: Any) -> Any:
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            if isinstance(leaf, SimulatedTensor):
                return leaf.elements
            return self._snapshots.get(id(leaf), leaf) if isinstance(leaf, torch.Tensor) else leaf

        args, kwargs = self._rebuilt(plain)
        return self.func(*args, **kwargs)

    def later(self) -> Callable[[], Any]:
        """Give what runs on the elements later; it holds memory, and no allocation."""

        def plain(leaf: Any) -> Any:
            if isinstance(leaf, torch.device):
                return torch.device("cpu")
            if isinstance(leaf, SimulatedTensor):
                return leaf.elements
            return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf  # scalars go with the kernel

        args, kwargs = self._rebuilt(plain)
        func = self.func
        return lambda: func(*args, **kwargs)

    def _rebuilt(self, change: Callable[[Any], Any]) -> Any:
        args, kwargs = tree_unflatten([change(leaf) for leaf in self._leaves], self._structure)
        if kwargs.get("pin_memory"):
            kwargs = {**kwargs, "pin_memory": False}
        return args, kwargs

    @property
    def written(self) -> list[Block]:
        """The memory that it changes, as its schema says."""
        args, kwargs = tree_unflatten(self._leaves, self._structure)
        found: list[Block] = []
        for index, argument in enumerate(self.func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = kwargs.get(argument.name) if argument.kwarg_only else None
            value = args[index] if value is None and index < len(args) else value
            flat = tree_flatten(value)[0]
            found += [one.allocation.block for one in flat if isinstance(one, SimulatedTensor)]
        return found


def is_cuda(value: Any) -> bool:
    """Say whether a value names a CUDA device."""
    return isinstance(value, torch.device) and value.type == "cuda"


def _is_simulated(leaf: Any) -> bool:
    return isinstance(leaf, SimulatedTensor)


def run_operation(func: Any, args: Any, kwargs: Any) -> Any:
    """Do or queue one operation of which a simulated device is part."""
    if func in _SPECIAL:
        return _SPECIAL[func](*args, **kwargs)
    if func.name().startswith("aten::to."):  # in inference mode it comes whole
        return func.decompose(*args, **kwargs)
    call = _Call(func, args, kwargs)
    accelerator = call.tensors[0].accelerator if call.tensors else SimulatedAccelerator.active()
    accelerator.call(call.name, call.ordinal)
    try:
        with plain_torch():
            planned, twins, storages = call.on_meta()
    except Exception:  # no kernel for meta, or the shape depends on the elements, or the arguments are wrong
        return _run_at_once(accelerator, call)
    if any(not isinstance(leaf, torch.Tensor) and leaf is not None for leaf in tree_flatten(planned)[0]):
        return _run_at_once(accelerator, call)
    return _Plan(accelerator, call, planned, twins, storages).carry_out()


def _run_at_once(accelerator: SimulatedAccelerator, call: _Call) -> Any:
    """Wait for the stream, compute, and put what comes out into memory of the device."""
    reads = [tensor.allocation.block for tensor in call.tensors]
    accelerator.submit(call.ordinal, call.name, None, reads, call.written)
    accelerator.synchronize_stream(call.ordinal)
    with plain_torch():
        results = call.on_host()
    known = {id(tensor.elements): tensor for tensor in call.tensors}
    return tree_map(
        lambda leaf: (
            _keep(accelerator, call.ordinal, leaf, known) if isinstance(leaf, torch.Tensor) else leaf
        ),
        results,
    )


def _keep(
    accelerator: SimulatedAccelerator, ordinal: int, value: torch.Tensor, known: dict[int, SimulatedTensor]
) -> SimulatedTensor:
    if id(value) in known:
        return known[id(value)]
    made = accelerator.empty_like(value, ordinal)
    with plain_torch():
        made.elements.copy_(value)
    return made


class _Plan:
    """What becomes of an operation whose shapes are known."""

    def __init__(
        self, accelerator: SimulatedAccelerator, call: _Call, planned: Any, twins: Any, storages: Any
    ) -> None:
        self._accelerator = accelerator
        self._call = call
        self._leaves, self._structure = tree_flatten(planned)
        self._twins = twins
        self._by_storage = {
            storages[tensor.elements.untyped_storage()._cdata]._cdata: tensor for tensor in call.tensors
        }
        self._made: dict[int, Allocation] = {}
        self._new: list[tuple[int, torch.Tensor]] = []

    def carry_out(self) -> Any:
        # A comprehension's frame would hold tensors for as long as an error's traceback lives.
        results = list(map(self._result, range(len(self._leaves)), self._leaves))
        written = self._call.written
        if self._new or written:
            self._queue(written)
        return tree_unflatten(results, self._structure)

    def _result(self, index: int, leaf: Any) -> Any:
        if leaf is None:
            return None
        if id(leaf) in self._twins:
            return self._same(leaf)
        storage = leaf.untyped_storage()._cdata
        source = self._by_storage.get(storage)
        if source is not None:
            return self._view(source, leaf)
        if storage not in self._made:
            num_bytes = leaf.untyped_storage().nbytes()
            self._made[storage] = self._accelerator.allocate(self._call.ordinal, num_bytes)
        allocation = self._made[storage]
        elements = elements_of(allocation.block, leaf)
        self._new.append((index, elements))
        return SimulatedTensor.wrap(self._accelerator, elements, allocation)

    def _same(self, leaf: Any) -> Any:
        tensor = self._twins[id(leaf)][0]
        if leaf.size() != tensor.size() or leaf.stride() != tensor.stride():
            raise NotImplementedError(
                f"simulated accelerator: expected an operation that keeps the shape of what it changes, got "
                f"{self._call.name}; use the one that returns a new tensor"
            )
        return tensor

    def _view(self, source: SimulatedTensor, leaf: Any) -> SimulatedTensor:
        store = source.elements
        with plain_torch():
            raw = torch.empty(0, dtype=leaf.dtype).set_(
                store.untyped_storage(), leaf.storage_offset(), leaf.size(), leaf.stride()
            )
        return SimulatedTensor.wrap(
            self._accelerator, raw, source.allocation, as_inference=source.is_inference()
        )

    def _queue(self, written: list[Block]) -> None:
        reads = [tensor.allocation.block for tensor in self._call.tensors]
        writes = [*written, *(allocation.block for allocation in self._made.values())]
        if self._call.name.split(".")[0] in _EMPTY:
            return
        compute = self._call.later()
        new = list(self._new)

        def run() -> None:
            results = tree_flatten(compute())[0]
            for index, elements in new:
                # What an operation saves for a backward pass has a shape that depends on the backend.
                if index == 0 or results[index].shape == elements.shape:
                    elements.copy_(results[index])

        self._accelerator.submit(self._call.ordinal, self._call.name, run, reads, writes)


def elements_of(block: Block, like: torch.Tensor) -> torch.Tensor:
    """Look at a block's memory as a tensor of the dtype, shape and strides of another."""
    with plain_torch():
        return torch.empty(0, dtype=like.dtype).set_(
            block.store.untyped_storage(), 0, like.size(), like.stride()
        )
