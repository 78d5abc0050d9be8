"""A tensor that says it is on `cuda:N`, and whose elements lie in host memory."""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from kindaware.testing.accelerator.machine.errors import not_simulated
from kindaware.testing.accelerator.machine.machine import Machine
from kindaware.testing.accelerator.machine.memory import Allocation, DeviceBlock, num_bytes_spanned
from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.machine.races import Span


class SimulatedTensor(torch.Tensor):
    """A tensor of a simulated device; every operation on it is queued on the current stream.

    Attributes:
        elements: a view of the block's memory; holds what was computed so far, poison before that.
        allocation: keeps the block from being given out again.
        machine: whose device it is on.
    """

    elements: torch.Tensor
    allocation: Allocation
    machine: Machine

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as torch says

    @staticmethod
    def wrap(
        machine: Machine,
        elements: torch.Tensor,
        allocation: Allocation,
        *,
        as_inference: bool | None = None,
        device: torch.device | None = None,
    ) -> SimulatedTensor:
        """Make the tensor of a view of a block's memory.

        Args:
            machine: whose device it is on.
            elements: the view.
            allocation: of the block.
            as_inference: make it an inference tensor; unless said, when inference mode is on.
            device: what torch's C++ takes it to be on; unless said, the device that it is on.
        """
        is_inference = torch.is_inference_mode_enabled() if as_inference is None else as_inference
        with torch._C.DisableTorchFunction(), torch._C._InferenceMode(is_inference):
            made: SimulatedTensor = torch.Tensor._make_wrapper_subclass(
                SimulatedTensor,
                elements.size(),
                strides=elements.stride(),
                storage_offset=elements.storage_offset(),
                dtype=elements.dtype,
                device=device or torch.device("cuda", allocation.memory.ordinal),
            )
            if elements.is_complex() and elements.is_conj():
                torch._C._set_conj(made, True)
            if elements.is_neg():
                torch._C._set_neg(made, True)
        made.elements = elements
        made.allocation = allocation
        made.machine = machine
        return made

    def faced_as_host(self) -> SimulatedTensor:
        """Give a tensor of the same memory whose device needs no driver to be made current in C++."""
        return SimulatedTensor.wrap(
            self.machine,
            self.elements,
            self.allocation,
            as_inference=self.is_inference(),
            device=torch.device("cpu"),
        )

    def become(self, elements: torch.Tensor, allocation: Allocation) -> None:
        """Be another view, or a view of other memory, as `resize_`, `transpose_` and `set_` want it."""
        with plain_torch(), torch._C._IncludeDispatchKeyGuard(torch._C.DispatchKey.Meta):
            torch.ops.aten.set_.source_Storage_storage_offset(
                self,
                torch._C.TensorBase.untyped_storage(self),  # has no memory
                elements.storage_offset(),
                elements.size(),
                elements.stride(),
            )
        self.elements, self.allocation = elements, allocation

    # `Module.to` swaps the contents of two tensors when it is told that one wraps another.
    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        return ["elements"], (self.machine, self.allocation)

    @staticmethod
    def __tensor_unflatten__(inner: Any, context: Any, size: Any, stride: Any) -> SimulatedTensor:
        return SimulatedTensor.wrap(context[0], inner["elements"], context[1])

    @property
    def ordinal(self) -> int:
        """Number of its device."""
        return self.allocation.memory.ordinal

    @property
    def span(self) -> Span:
        """The memory that its elements lie in."""
        block = self.allocation.block
        start = self.elements.data_ptr() - block.address if self.elements.numel() else 0
        return Span(block, start, start + num_bytes_spanned(self.elements))

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]  # torch's types have a bug
        """Show the elements, after waiting for them as printing a CUDA tensor does."""
        host = repr(self.detach().cpu())
        return f"{host[:-1]}, device='cuda:{self.ordinal}', simulated)"

    def __format__(self, specification: str) -> str:
        """Format a single number, after waiting for it; anything else as it is printed."""
        if self.dim() == 0:
            return format(self.item(), specification)
        return object.__format__(self, specification)

    def __copy__(self) -> Any:
        """Give another tensor of the same memory."""
        return self._like_self(self.detach())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy on the device."""
        with torch.no_grad():
            memo[id(self)] = self._like_self(self.detach().clone())
        return memo[id(self)]

    def _like_self(self, copy: torch.Tensor) -> torch.Tensor:
        is_parameter = isinstance(self, torch.nn.Parameter)
        return torch.nn.Parameter(copy, requires_grad=False) if is_parameter else copy

    def __dlpack_device__(self) -> Any:
        """Give DLPack's device: CUDA, and the ordinal."""
        return 2, self.ordinal

    def requires_grad_(self, requires_grad: bool = True) -> SimulatedTensor:
        """Change nothing: no tensor of the device ever asks for a gradient; see `backward`."""
        return self

    requires_grad = property(lambda self: False, lambda self, value: None)

    def backward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: there are no gradients."""
        raise not_simulated(expected="inference", got="backward()", remedy="test gradients on the CPU")

    def numpy(self, *, force: bool = False) -> Any:
        """Refuse, as for every tensor of a GPU, unless it is forced."""
        if force:
            return self.detach().cpu().numpy(force=True)
        raise TypeError(
            f"can't convert cuda:{self.ordinal} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        """Give the elements, after waiting for them."""
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        """Give the address, which nothing on the host may use."""
        return self.elements.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Give the block's memory, which nothing on the host may use."""
        return self.elements.untyped_storage()

    def record_stream(self, stream: Any) -> None:
        """Keep the memory from being given out again before the stream has done what it has then."""
        self.allocation.block.recorded.append(stream.queue)


def elements_of(block: DeviceBlock, like: torch.Tensor) -> torch.Tensor:
    """Look at a block's memory as a tensor of the dtype, shape and strides of another."""
    with plain_torch():
        return torch.empty(0, dtype=like.dtype, device="cpu").set_(
            block.store.untyped_storage(), 0, like.size(), like.stride()
        )
