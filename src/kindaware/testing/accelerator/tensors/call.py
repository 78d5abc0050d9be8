"""An operation with its arguments, run on torch's `meta` device for shapes, or on the host for elements."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import torch

from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.races import Span
from kindaware.testing.accelerator.tensors.tensor import SimulatedTensor

_META, _CPU = torch.device("meta"), torch.device("cpu")
_TAKES_HOST_TENSORS = {
    *("aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"),
    *("aten::_pack_padded_sequence", "aten::_pad_packed_sequence", "aten::tensor_split"),
    *("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"),
}
"""Operations on a device that may take indices or lengths from the host."""

_Storage: Any = torch.UntypedStorage
_SCALARS = (int, float, bool, complex, str, type(None))


class Call:
    """A call of an operation.

    Args:
        func: the overload.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Attributes:
        name: such as `aten::add.Tensor`.
        tensors: the simulated tensors among the arguments.
        hosts: the tensors of the host among them.
        devices: the CUDA devices among them.
    """

    def __init__(self, func: Any, args: Any, kwargs: Any) -> None:
        self.func = func
        self.name: str = func.name()
        self._args = args
        self._kwargs = kwargs
        self.tensors: list[SimulatedTensor] = []
        self.hosts: list[torch.Tensor] = []
        self.devices: list[torch.device] = []
        for value in (*args, *kwargs.values()):
            self._sort(value)

    def _sort(self, value: Any) -> None:
        if isinstance(value, SimulatedTensor):
            self.tensors.append(value)
        elif isinstance(value, torch.Tensor):
            self.hosts.append(value)
        elif isinstance(value, (list, tuple)):
            for one in value:
                self._sort(one)
        elif is_cuda(value):
            self.devices.append(value)

    def find_ordinal(self, machine: Machine) -> int:
        """Return the number of the device that carries it out.

        Raises:
            RuntimeError: its tensors are on several devices; in torch's words.
        """
        places = list(dict.fromkeys(f"cuda:{tensor.ordinal}" for tensor in self.tensors))
        if self.name.split(".")[0] not in _TAKES_HOST_TENSORS:
            places += [str(host.device) for host in self.hosts if host.dim()]
        if self.tensors and len(places) > 1:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{places[0]} and {places[1]}! ({self.name})"
            )
        return self.tensors[0].ordinal if self.tensors else machine.ordinal_of(self.devices[0])

    def map(self, change: Callable[[Any], Any], device: torch.device) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments with each tensor changed, and with another device where CUDA is named."""
        args = [_changed(value, change, device) for value in self._args]
        kwargs = {
            name: _changed(value, change, device)
            for name, value in self._kwargs.items()
            if name != "pin_memory"
        }
        return args, kwargs

    def on_meta(self) -> tuple[Any, dict[int, int], dict[int, int]]:
        """Run on torch's `meta` device, which knows shapes and aliases and no elements.

        Returns:
            The results; the places in `tensors` of the arguments, by the id of the tensor that stands for
            each; and the same by the id of its storage.
        """
        storages: dict[int, torch.UntypedStorage] = {}
        twins: list[torch.Tensor] = []

        def twin(tensor: torch.Tensor) -> torch.Tensor:
            # torch mixes numbers in tensors of the host with tensors of any device.
            if not isinstance(tensor, SimulatedTensor) and not tensor.dim():
                return tensor
            elements = tensor.elements if isinstance(tensor, SimulatedTensor) else tensor
            store = elements.untyped_storage()
            # Arguments that share memory share it on `meta` too, so that results can be traced to them.
            if store._cdata not in storages:
                storages[store._cdata] = _Storage(store.nbytes(), device="meta")
            made = torch.empty(0, dtype=elements.dtype, device="meta").set_(
                storages[store._cdata], elements.storage_offset(), elements.size(), elements.stride()
            )
            copy_flags(made, elements)
            if isinstance(tensor, SimulatedTensor):
                twins.append(made)
            return made

        args, kwargs = self.map(twin, _META)
        by_tensor = {id(one): index for index, one in enumerate(twins)}
        by_storage = {one.untyped_storage()._cdata: index for index, one in enumerate(twins)}
        self._kept = twins  # an id is only good as long as its object lives
        return self.func(*args, **kwargs), by_tensor, by_storage

    def on_host(self, outputs: dict[int, torch.Tensor]) -> Any:
        """Run on the elements as they are now.

        Args:
            outputs: tensors to use in place of arguments, by the id of the argument.
        """
        args, kwargs = self.map(lambda tensor: outputs.get(id(tensor), _elements_of(tensor)), _CPU)
        return self.func(*args, **kwargs)

    def later(self) -> Callable[[], Any]:
        """Return what runs on the elements later; it keeps their memory alive, but not its allocation.

        Tensors of the host among the arguments are copied now, like numbers that a kernel is launched with.
        """
        args, kwargs = self.map(lambda tensor: _elements_of(tensor, copy=True), _CPU)
        return functools.partial(self.func, *args, **kwargs)

    @property
    def spans(self) -> tuple[list[Span], list[Span]]:
        """The memory that it reads, and the memory that it writes, according to its schema."""
        written: list[Any] = []
        for place, name in _written_arguments(self.func):
            value = self._args[place] if place < len(self._args) else self._kwargs.get(name)
            written += value if isinstance(value, (list, tuple)) else [value]
        ids = {id(one) for one in written}
        reads = [tensor.span for tensor in self.tensors if id(tensor) not in ids]
        return reads, [one.span for one in written if isinstance(one, SimulatedTensor)]

    @property
    def writes(self) -> bool:
        """Whether it writes to arguments."""
        return bool(_written_arguments(self.func))

    @property
    def outputs(self) -> list[SimulatedTensor]:
        """The arguments that only take results, as `out` does."""
        names = [argument.name for argument in self.func._schema.arguments if argument.is_out]
        given = [self._kwargs.get(name) for name in names]
        return [one for one in given if isinstance(one, SimulatedTensor)]

    @property
    def signature(self) -> Hashable | None:
        """All that its results on `meta` depend on; None if that is not hashable."""
        places: dict[int, int] = {}
        parts: list[Any] = [self.func, torch.get_default_dtype()]
        for value in (*self._args, *self._kwargs.items()):
            if not _append(parts, value, places):
                return None
        return tuple(parts)


def _changed(value: Any, change: Callable[[Any], Any], device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return [_changed(one, change, device) for one in value]
    return device if is_cuda(value) else value


def is_cuda(value: Any) -> bool:
    """Return whether a value is a CUDA device."""
    return isinstance(value, torch.device) and value.type == "cuda"


def _elements_of(tensor: torch.Tensor, *, copy: bool = False) -> torch.Tensor:
    if isinstance(tensor, SimulatedTensor):
        return tensor.elements
    return tensor.detach().clone() if copy else tensor


def copy_flags(target: torch.Tensor, source: torch.Tensor) -> None:
    """Mark a view as conjugated or negated, as another view is."""
    if source.is_complex() and source.is_conj():
        torch._C._set_conj(target, True)
    if source.is_neg():
        torch._C._set_neg(target, True)


@functools.cache
def _written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def _append(parts: list[Any], value: Any, places: dict[int, int]) -> bool:
    """Append what matters of an argument; return whether that is all hashable."""
    if isinstance(value, torch.Tensor):
        elements = value.elements if isinstance(value, SimulatedTensor) else value
        store = elements.untyped_storage()._cdata
        place = places.setdefault(store, len(places))
        is_conj = elements.is_complex() and elements.is_conj()
        parts += [type(value), place, elements.dtype, elements.size(), elements.stride()]
        parts += [elements.storage_offset(), is_conj, elements.is_neg()]
        return True
    if isinstance(value, (list, tuple)):
        parts += [type(value), len(value)]
        return all(_append(parts, one, places) for one in value)
    parts += [type(value), value]
    return isinstance(value, (*_SCALARS, torch.dtype, torch.device, torch.layout, torch.memory_format))
