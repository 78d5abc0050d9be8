"""A tensor that reports `cuda:N` as its device, and whose elements lie in host memory."""

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

    Further methods, which make tensors themselves, are bound by `bind_methods`.

    Attributes:
        elements: a view of the block's memory; holds what was computed so far, and poison before that.
        allocation: keeps the block from being reused.
        machine: the machine that has its device.
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
        """Return a tensor of a view of a block's memory.

        Args:
            machine: the machine that has its device.
            elements: the view.
            allocation: of the block.
            as_inference: whether it is an inference tensor; by default, if inference mode is on.
            device: the device that torch's C++ takes it to be on; by default, its own.
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
        """Return a tensor of the same memory that torch's C++ takes to be on the CPU; it asks no driver."""
        return SimulatedTensor.wrap(
            self.machine,
            self.elements,
            self.allocation,
            as_inference=self.is_inference(),
            device=torch.device("cpu"),
        )

    def become(self, elements: torch.Tensor, allocation: Allocation) -> None:
        """Be another view, or a view of other memory, as after `resize_`, `transpose_` and `set_`."""
        # In C++ the wrapper has no memory, so the kernel for `meta` changes its shape and strides alone.
        with plain_torch(), torch._C._IncludeDispatchKeyGuard(torch._C.DispatchKey.Meta):
            torch.ops.aten.set_.source_Storage_storage_offset(
                self,
                torch._C.TensorBase.untyped_storage(self),
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
        """The number of its device."""
        return self.allocation.memory.ordinal

    @property
    def span(self) -> Span:
        """The memory that its elements lie in."""
        block = self.allocation.block
        start = self.elements.data_ptr() - block.address if self.elements.numel() else 0
        return Span(block, start, start + num_bytes_spanned(self.elements))

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]  # torch's types have a bug
        """Return the elements as text, after waiting for them as for those of a CUDA tensor."""
        host = repr(self.detach().cpu())
        return f"{host[:-1]}, device='cuda:{self.ordinal}', simulated)"

    def __format__(self, specification: str) -> str:
        """Format a tensor of one number, after waiting for it; any other as `str` does."""
        if self.dim() == 0:
            return format(self.item(), specification)
        return object.__format__(self, specification)

    def __copy__(self) -> Any:
        """Return another tensor of the same memory."""
        return self._like_self(self.detach())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return a copy, made on the device."""
        with torch.no_grad():
            memo[id(self)] = self._like_self(self.detach().clone())
        return memo[id(self)]

    def _like_self(self, copy: torch.Tensor) -> torch.Tensor:
        is_parameter = isinstance(self, torch.nn.Parameter)
        return torch.nn.Parameter(copy, requires_grad=False) if is_parameter else copy

    def __dlpack_device__(self) -> Any:
        """Return DLPack's number for CUDA, and the ordinal."""
        return 2, self.ordinal

    def requires_grad_(self, requires_grad: bool = True) -> SimulatedTensor:
        """Do nothing: no tensor of a simulated device requires a gradient; see `backward`."""
        return self

    requires_grad = property(lambda self: False, lambda self, value: None)

    def backward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise `NotImplementedError`: there are no gradients."""
        raise not_simulated(expected="inference", got="backward()", remedy="test gradients on the CPU")

    def numpy(self, *, force: bool = False) -> Any:
        """Raise `TypeError`, as for every tensor of a GPU, unless it is forced."""
        if force:
            return self.detach().cpu().numpy(force=True)
        raise TypeError(
            f"can't convert cuda:{self.ordinal} device type tensor to numpy. Use Tensor.cpu() to copy the "
            "tensor to host memory first."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        """Return the elements, after waiting for them."""
        return self.detach().cpu().tolist()

    def data_ptr(self) -> int:
        """Return the address, which nothing on the host may use."""
        return self.elements.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Return the block's memory, which nothing on the host may use."""
        return self.elements.untyped_storage()

    def record_stream(self, stream: Any) -> None:
        """Keep the memory from being reused before the stream has done what is queued when it is freed."""
        self.allocation.block.recorded.append(stream.queue)


def elements_of(block: DeviceBlock, like: torch.Tensor) -> torch.Tensor:
    """Return a view of a block's memory with the dtype, shape and strides of another tensor."""
    with plain_torch():
        return torch.empty(0, dtype=like.dtype, device="cpu").set_(
            block.store.untyped_storage(), 0, like.size(), like.stride()
        )
