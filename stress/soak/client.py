"""A client that sends right and faulty requests to all models at once, and knows the answer to each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from stress.fuzz.cases import Tensor, make_tensor
from stress.messages import Values, outputs_of
from stress.soak import tally
from stress.soak.tally import Tally

HANG_SECONDS = 60.0
POISON, TOO_MUCH = 1e30, 2e30
BATCHED = ("batched", "victim", "pipeline")
STREAMING = ("streaming", "step")

_OF_ANOTHER = ("a poisoned", "out of memory", "max_isolation")
"""Words of errors that a right request may get because of a faulty one in its batch."""


class Client:
    """Keeps a number of requests going.

    Args:
        url: host and port of gRPC.
        number: of the client; its keys are no other client's.
        is_disturbed: whether a model, or one that it calls, may be gone at present.
        counts: gets the outcomes.
    """

    def __init__(self, url: str, number: int, is_disturbed: Callable[[str], bool], counts: Tally) -> None:
        self._url = url
        self._dice = random.Random(number)
        self._next_key = number * 2**40
        self._is_disturbed = is_disturbed
        self._counts = counts

    async def run(self, until: float, at_once: int, per_second: float) -> None:
        """Send requests until a time, of `time.time`, so many at once, at most so many a second."""
        async with grpc.aio.insecure_channel(self._url) as channel:
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            pause = at_once / per_second
            await asyncio.gather(*[self._work(until, pause) for _ in range(at_once)])

    async def _work(self, until: float, pause: float) -> None:
        while time.time() < until:
            began = time.time()
            (kind,) = self._dice.choices(
                [self._ask_batch, self._ask_stream, self._ask_sequence], weights=[12, 4, 1]
            )
            num_requests = await kind()
            await asyncio.sleep(max(0.0, pause * num_requests - (time.time() - began)))

    def _key(self) -> int:
        self._next_key += 1
        return self._next_key

    async def _ask_batch(self) -> int:
        model, key = self._dice.choice(BATCHED), self._key()
        fault = self._dice.choices(["", "shape", "poison", "memory", "cancel"], weights=[85, 4, 4, 1, 6])[0]
        width = self._dice.randrange(1, 9)
        values = [float((key * 31 + n) % 100_003) for n in range(width)]
        if fault in ("poison", "memory"):
            values[0] = POISON if fault == "poison" else TOO_MUCH
        shape = (1, width, 1) if fault == "shape" else (1, width)
        text = f"text of {key}".encode()
        tensors = (
            make_tensor("KEY", "INT64", (1, 1), (key,)),
            make_tensor("VALUES", "FP32", shape, tuple(values)),
            make_tensor("TEXT", "BYTES", (1, 1), (text,)),
        )
        wanted = {"KEY": [key], "DOUBLED": (2 * np.array(values, np.float32)).tolist(), "TEXT": [text]}
        await self._ask(model, tensors, wanted, fault)
        return 1

    async def _ask_sequence(self) -> int:
        """Ask for the sums of a sequence, one request after the other."""
        sequence, total = self._key() % 2**62, 0
        length = self._dice.randrange(3, 15)
        for number in range(1, length + 1):
            key, value = self._key(), self._dice.randrange(1000)
            fault = self._dice.choices(["", "shape"], weights=[97, 3])[0]
            shape = (1, 1, 1) if fault == "shape" else (1, 1)
            tensors = (
                make_tensor("KEY", "INT64", (1, 1), (key,)),
                make_tensor("VALUE", "INT64", shape, (value,)),
            )
            wanted = {"KEY": [key], "TOTAL": [total + value], "NUMBER": [number]}
            parameters = {
                "sequence_id": sequence,
                "sequence_start": number == 1,
                "sequence_end": number == length,
            }
            outcome = await self._ask("sequence", tensors, wanted, fault, parameters)
            if outcome != tally.RIGHT:
                return number
            total += value
        return length

    async def _ask(
        self,
        model: str,
        tensors: tuple[Tensor, ...],
        wanted: Values,
        fault: str,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Send one request, and count what becomes of it."""
        began = time.time()
        call = self._stub.ModelInfer(_to_message(model, tensors, parameters), timeout=HANG_SECONDS)
        if fault == "cancel":
            asyncio.get_running_loop().call_later(0.005 * self._dice.random(), call.cancel)
        try:
            found: Values | None = outputs_of(await call)
            error = None
        except asyncio.CancelledError:
            # Of the call, and not of this task, which nobody cancels.
            return self._note(model, tally.CANCELLED, began)
        except grpc.aio.AioRpcError as raised:
            found, error = None, raised
        if error is not None:
            return self._note_error(model, error.code().name, str(error.details()), fault, began)
        if fault in ("shape", "poison", "memory"):
            return self._note(model, tally.UNEXPECTED, began, f"{fault} was answered: {found}")
        return self._note(model, _compare(found, wanted), began, f"{found}, and not {wanted}")

    def _note_error(self, model: str, code: str, text: str, fault: str, began: float) -> str:
        if code == "DEADLINE_EXCEEDED":
            return self._note(model, tally.HUNG, began, text)
        # Asked after it: the fault may have come meanwhile.
        if self._is_disturbed(model):
            return self._note(model, tally.UNAVAILABLE, began)
        if fault == "cancel":
            return self._note(model, tally.CANCELLED, began)
        if fault:
            return self._note(model, tally.REFUSED, began)
        if any(words in text for words in _OF_ANOTHER):
            return self._note(model, tally.UNLUCKY, began)
        return self._note(model, tally.UNEXPECTED, began, f"{code}: {text}")

    async def _ask_stream(self) -> int:
        """Ask for a stream; each item has the request's key, and its own place."""
        model, key = self._dice.choice(STREAMING), self._key()
        count = self._dice.randrange(1, 30)
        fault = self._dice.choices(["", "poison", "cancel"], weights=[85, 5, 10])[0]
        tensors = (
            make_tensor("KEY", "INT64", (1, 1), (key,)),
            make_tensor("COUNT", "INT32", (1, 1), (-count if fault == "poison" else count,)),
        )
        began, most = time.time(), self._dice.randrange(1, count + 1)
        call = self._stub.ModelStreamInfer(_requests(_to_message(model, tensors)), timeout=HANG_SECONDS)
        index = 0
        try:
            async for response in call:
                if response.error_message:
                    self._note_error(model, "", response.error_message, fault, began)
                    return 1 + index // 4
                item = outputs_of(response.infer_response)
                outcome = _compare(item, {"KEY": [key], "INDEX": [index]})
                if outcome != tally.RIGHT:
                    self._note(model, outcome, began, f"{item}, and not key {key}, item {index}")
                    return 1 + index // 4
                index += 1
                if fault == "cancel" and index >= most:
                    call.cancel()
        except asyncio.CancelledError:
            self._note(model, tally.CANCELLED, began)
            return 1 + index // 4
        except grpc.aio.AioRpcError as raised:
            self._note_error(model, raised.code().name, str(raised.details()), fault, began)
            return 1 + index // 4
        is_right = index == count and fault != "poison"
        detail = f"{index} items of {count}, fault {fault!r}, and no error"
        self._note(model, tally.RIGHT if is_right else tally.UNEXPECTED, began, detail)
        return 1 + index // 4

    def _note(self, model: str, outcome: str, began: float, detail: str = "") -> str:
        self._counts.note(model, outcome, began, detail)
        return outcome


def _compare(found: Values | None, wanted: Values) -> str:
    if found == wanted:
        return tally.RIGHT
    return tally.SWAPPED if found and found.get("KEY") != wanted["KEY"] else tally.WRONG


def _to_message(model: str, tensors: tuple[Tensor, ...], parameters: dict[str, Any] | None = None) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id=str(tensors[0].values))
    for one in tensors:
        request.inputs.add(name=one.name, datatype=one.datatype, shape=list(one.shape))
        request.raw_input_contents.append(one.data)
    for name, value in (parameters or {}).items():
        if isinstance(value, bool):
            request.parameters[name].bool_param = value
        else:
            request.parameters[name].int64_param = value
    return request


async def _requests(message: Any) -> AsyncIterator[Any]:
    yield message
