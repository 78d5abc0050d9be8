"""The memory that a tensor exports and sends."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kindaware.testing.stand_in.wire import dlpack as _dlpack


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """C-ordered memory, or the serialised elements of a BYTES tensor.

    Attributes:
        address: of the first byte.
        num_bytes: how long it is.
        device: DLPack's device type and number.
        owner: keeps the memory alive.
    """

    address: int
    num_bytes: int
    device: tuple[int, int] = (_dlpack.CPU, 0)
    owner: Any = field(default=None, repr=False)

    @classmethod
    def of_bytes(cls, data: bytes) -> Buffer:
        """Copy bytes into writable memory of its own, aligned to 64 bytes like the server's."""
        store = np.empty(len(data) + 64, np.uint8)
        start = -store.ctypes.data % 64
        store[start : start + len(data)] = np.frombuffer(data, np.uint8)
        return cls(store.ctypes.data + start, len(data), owner=store)

    @classmethod
    def of_array(cls, array: np.ndarray[Any, Any]) -> Buffer:
        """Borrow the memory of a C-contiguous array."""
        return cls(array.ctypes.data, array.nbytes, owner=array)

    @classmethod
    def of_bytes_on_gpu(cls, data: bytes, ordinal: int) -> Buffer:
        """Copy bytes into memory of a GPU.

        Sync:
            Waits for the copy, as the server has before it calls the model.
        """
        import torch

        host = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        tensor = host.to(torch.device("cuda", ordinal))
        # `to` has waited already; but torch's sanitizer takes no notice of a wait inside a copy.
        torch.cuda.current_stream(ordinal).synchronize()
        return cls(tensor.data_ptr(), len(data), (_dlpack.CUDA, ordinal), tensor)

    def overwrite(self) -> None:
        """Overwrite GPU memory that the server has freed with bits that can't pass for an answer."""
        if self.is_on_gpu and self.num_bytes:
            self.owner.fill_(0xFF).cpu()

    @property
    def is_on_gpu(self) -> bool:
        """Whether only a GPU can read it."""
        return self.device[0] == _dlpack.CUDA

    def read(self) -> bytes:
        """Copy the bytes as they are now.

        Sync:
            For memory of a GPU, waits for the copy.
        """
        if not self.num_bytes:
            return b""
        if not self.is_on_gpu:
            return ctypes.string_at(self.address, self.num_bytes)
        import torch

        capsule = _dlpack.export_capsule(self.address, (self.num_bytes,), (1, 8), self.device, self.owner)
        return bytes(torch.utils.dlpack.from_dlpack(capsule).cpu().numpy().tobytes())

    def default_stream(self) -> Any:
        """Return the default stream of its GPU, in the process that asks; None for memory of the host."""
        if not self.is_on_gpu:
            return None
        import torch

        return torch.cuda.default_stream(self.device[1])

    def frozen(self, stream: Any = None) -> Buffer:
        """Copy into memory that nobody else writes to; a GPU's stays where it is.

        Args:
            stream: the default stream of the model's process: a GPU's memory is copied after the work that is
                queued there. Source: python_backend `pb_memory.cc`, PbMemory::CopyBuffer (commit f9088ff).
        """
        if not self.is_on_gpu:
            return Buffer.of_bytes(self.read())
        import torch

        if stream is not None:
            torch.cuda.current_stream(self.device[1]).wait_stream(stream)
        capsule = _dlpack.export_capsule(self.address, (self.num_bytes,), (1, 8), self.device, self.owner)
        copy = torch.utils.dlpack.from_dlpack(capsule).clone()
        return Buffer(copy.data_ptr(), self.num_bytes, self.device, copy)
