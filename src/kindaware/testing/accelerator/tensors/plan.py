"""What an operation returns, found from shapes alone: new tensors, views, or the arguments themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from kindaware.testing.accelerator.machine.plain import plain_torch
from kindaware.testing.accelerator.tensors.call import Call

_MOST_PLANS = 20_000
_CONVOLUTIONS = {
    *("aten::convolution", "aten::_convolution", "aten::conv2d", "aten::conv3d"),
    *("aten::conv_transpose2d", "aten::conv_transpose3d"),
}


class Kind(Enum):
    """What a result is."""

    NOTHING = "nothing"
    SAME = "one of the arguments"
    CHANGED = "one of the arguments, with another shape or other memory"
    VIEW = "a view of an argument"
    NEW = "a tensor of its own"


@dataclass(frozen=True, slots=True)
class Result:
    """One result of an operation.

    Attributes:
        kind: what it is.
        source: place of the argument, or of the new memory, whose memory it has; -1 for memory not yet made.
        like: a tensor of its shape, strides, offset and dtype, on `meta`.
        num_bytes: size of the memory that it needs.
        argument: place of the argument that is changed.
    """

    kind: Kind
    source: int = 0
    like: torch.Tensor | None = None
    num_bytes: int = 0
    argument: int = 0

    @property
    def shown(self) -> torch.Tensor:
        """`like`, for a result that is a tensor."""
        assert self.like is not None
        return self.like


Plan = Any
"""A `Result`, or tuples and lists of them, as the operation returns it."""

_plans: OrderedDict[Hashable, Plan | None] = OrderedDict()


def plan_of(call: Call) -> Plan | None:
    """Return what an operation will return, or None if that depends on its elements.

    It does where there is no kernel for `meta`, and counts as such where the arguments are wrong.
    """
    signature = call.signature
    if signature is not None and signature in _plans:
        return _plans[signature]
    try:
        with plain_torch():
            found, by_tensor, by_storage = call.on_meta()
            plan = _read(found, call, by_tensor, by_storage, {})
    except Exception:  # torch raises many kinds; wrong arguments raise again when the elements are computed
        plan = None
    # What a changed argument needs depends on the size of its storage, which is not in the signature.
    if signature is not None and not any(one.kind is Kind.CHANGED for one in leaves(plan) if one):
        _plans[signature] = plan
        if len(_plans) > _MOST_PLANS:
            _plans.popitem(last=False)
    return plan


def leaves(value: Any) -> Iterator[Any]:
    """Yield what is in nested tuples and lists, in order."""
    if isinstance(value, (tuple, list)):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def _read(
    found: Any, call: Call, by_tensor: dict[int, int], by_storage: dict[int, int], new: dict[int, int]
) -> Plan:
    if isinstance(found, (tuple, list)):
        return type(found)(_read(one, call, by_tensor, by_storage, new) for one in found)
    if found is None:
        return Result(Kind.NOTHING)
    if not isinstance(found, torch.Tensor):
        raise TypeError(f"{call.name} gives a {type(found).__name__}")
    storage = found.untyped_storage()
    source = by_storage.get(storage._cdata, -1)
    if id(found) in by_tensor:
        argument = by_tensor[id(found)]
        elements = call.tensors[argument].elements
        is_same = found.size() == elements.size() and found.stride() == elements.stride()
        if is_same and found.storage_offset() == elements.storage_offset() and source >= 0:
            return Result(Kind.SAME, argument)
        return Result(Kind.CHANGED, source, found, storage.nbytes(), argument)
    if source >= 0:
        return Result(Kind.VIEW, source, found)
    like = _laid_out(found, call)
    return Result(Kind.NEW, new.setdefault(storage._cdata, len(new)), like, storage.nbytes())


def _laid_out(found: torch.Tensor, call: Call) -> torch.Tensor:
    """Return a convolution's result with the memory format that it has on CUDA, which `meta` doesn't know.

    Source: torch `aten/src/ATen/native/ConvUtils.h`, cudnn_conv_suggest_memory_format.
    """
    if call.name.split(".")[0] in _CONVOLUTIONS:
        for dimensions, wanted in ((4, torch.channels_last), (5, torch.channels_last_3d)):
            for tensor in call.tensors[:2]:
                elements = tensor.elements
                is_wanted = elements.is_contiguous(memory_format=wanted) and not elements.is_contiguous()
                if is_wanted and found.dim() == elements.dim() == dimensions:
                    return torch.empty_like(found, memory_format=wanted)
    return found
