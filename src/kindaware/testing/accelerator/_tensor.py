"""A tensor that says it is on `cuda:N`, and whose elements lie in host memory."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch.utils._pytree import tree_map

from kindaware.testing.accelerator._memory import Allocation

if TYPE_CHECKING:
    from kindaware.testing.accelerator._accelerator import SimulatedAccelerator


class SimulatedTensor(torch.Tensor):
    """A tensor of a simulated device; every operation on it is queued on the current stream.

    Attributes:
        elements: a view of the block's memory; holds what was computed so far, poison before that.
        allocation: keeps the block from being given out again.
        accelerator: whose device it is on.
    """

    elements: torch.Tensor
    allocation: Allocation
    accelerator: SimulatedAccelerator

    @staticmethod
    def wrap(
        accelerator: SimulatedAccelerator,
        elements: torch.Tensor,
        allocation: Allocation,
        *,
        as_inference: bool | None = None,
        device: torch.device | None = None,
    ) -> SimulatedTensor:
        """Make the tensor of a view of a block's memory.

        Args:
            accelerator: whose device it is on.
            elements: the view.
            allocation: of the block.
            as_inference: make it an inference tensor; unless said, when inference mode is on.
            device: what torch's C++ takes it to be on; unless said, the device that it is on.
        """
        is_inference = torch.is_inference_mode_enabled() if as_inference is None else as_inference
        with torch.inference_mode(is_inference), torch._C.DisableTorchFunction():
            made: SimulatedTensor = torch.Tensor._make_wrapper_subclass(
                SimulatedTensor,
                elements.size(),
                strides=elements.stride(),
                storage_offset=elements.storage_offset(),
                dtype=elements.dtype,
                device=device or torch.device("cuda", allocation.memory.ordinal),
            )
        made.elements = elements
        made.allocation = allocation
        made.accelerator = accelerator
        return made

    def _faced_as_host(self) -> SimulatedTensor:
        """Give a tensor of the same memory whose device needs no driver to be made current in C++."""
        return SimulatedTensor.wrap(
            self.accelerator,
            self.elements,
            self.allocation,
            as_inference=self.is_inference(),
            device=torch.device("cpu"),
        )

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as torch says

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]  # torch's types lack func
        from kindaware.testing.accelerator._operations import run_operation

        return run_operation(func, args, kwargs or {})

    # `Module.to` swaps the contents of two tensors when it is told that one wraps another.
    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["elements"], (self.accelerator, self.allocation)

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, size: Any, stride: Any) -> SimulatedTensor:
        return SimulatedTensor.wrap(context[0], inner["elements"], context[1])

    @property
    def ordinal(self) -> int:
        """Number of its device."""
        return self.allocation.memory.ordinal

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]  # torch's types have a bug
        """Show the elements, after waiting for them as printing a CUDA tensor does."""
        host = self.detach().cpu()
        return f"{host!r}"[:-1] + f", device='cuda:{self.ordinal}', simulated)"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle by way of the host."""
        return torch.Tensor.to, (self.detach().cpu(), torch.device("cuda", self.ordinal))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy on the device."""
        with torch.no_grad():
            copy = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __dlpack_device__(self) -> Any:
        """Give DLPack's device: CUDA, and the ordinal."""
        return 2, self.ordinal

    def __dlpack__(self, *, stream: Any = None, **kwargs: Any) -> Any:
        """Give a capsule; `stream`, a handle, waits for the current stream. None orders nothing."""
        return self.accelerator.export(self, stream)

    def requires_grad_(self, requires_grad: bool = True) -> SimulatedTensor:
        """Change nothing: gradients are not simulated, and no tensor of the device ever asks for one."""
        return self

    requires_grad = property(lambda self: False, lambda self, value: None)

    def numpy(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse, as for every tensor of a GPU."""
        raise TypeError(
            f"can't convert cuda:{self.ordinal} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.numpy()

    def tolist(self) -> Any:
        """Give the elements, after waiting for them."""
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        """Give the address, which nothing on the host may use."""
        return self.elements.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Give the block's memory, which nothing on the host may use."""
        return self.elements.untyped_storage()

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Move or convert; see `torch.Tensor.to`."""
        from kindaware.testing.accelerator._moves import move

        return move(self, *args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Move to a device; see `torch.Tensor.cuda`."""
        from kindaware.testing.accelerator._moves import move_to_cuda

        return move_to_cuda(self, *args, **kwargs)

    def cpu(self, memory_format: torch.memory_format = torch.preserve_format) -> torch.Tensor:
        """Move to the host; see `torch.Tensor.cpu`."""
        return self.to(torch.device("cpu"), memory_format=memory_format)

    def copy_(self, source: torch.Tensor, non_blocking: bool = False) -> SimulatedTensor:
        """Copy in place; see `torch.Tensor.copy_`."""
        from kindaware.testing.accelerator._copies import copy_

        copy_(self, source, non_blocking)
        return self

    def is_pinned(self, device: Any = None) -> bool:
        """Say no: memory of a device is not page-locked."""
        return False

    def pin_memory(self, device: Any = None) -> torch.Tensor:
        """Refuse, as for every tensor of a GPU."""
        from kindaware.testing.accelerator._moves import pin_memory

        return pin_memory(self)

    def record_stream(self, stream: Any) -> None:
        """Keep the memory from being given out again before the stream has done what it has now."""
        self.allocation.block.recorded.append(stream.queue)


def _guarded(name: str) -> Any:
    """Wrap a method whose binding in C++ makes the tensor's device current, for which it needs a driver."""
    original = getattr(torch.Tensor, name)

    @functools.wraps(original)
    def method(self: SimulatedTensor, *args: Any, **kwargs: Any) -> Any:
        faces: dict[int, tuple[SimulatedTensor, SimulatedTensor]] = {}

        def face(leaf: Any) -> Any:
            if not isinstance(leaf, SimulatedTensor):
                return leaf
            twin = leaf._faced_as_host()
            faces[id(twin)] = twin, leaf
            return twin

        args, kwargs = tree_map(face, ((self, *args), kwargs))
        found = original(*args, **kwargs)
        return tree_map(lambda leaf: faces[id(leaf)][1] if id(leaf) in faces else leaf, found)

    return method


for _name in [
    "__getitem__",
    "__setitem__",
    "__invert__",
    "__bool__",
    "__int__",
    "__float__",
    "__complex__",
    "__index__",
    "contiguous",
    "nonzero",
    "new_tensor",
    "new",
]:
    setattr(SimulatedTensor, _name, _guarded(_name))
