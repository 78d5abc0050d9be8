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
FIRST_VALUES = {"poison": 1e30, "memory": 2e30, "large": 3e30}
"""What the models in `stress/models` take a value for."""

BATCHED = ("batched", "victim", "pipeline")
STREAMING = ("streaming", "step")

GROUP = 8
"""How many items of a stream come together; then there is a pause of 0.3 s."""

_INTO_PAUSE_SECONDS = 0.05

_OF_ANOTHER = ("a poisoned", "max_isolation")
"""Words of errors that a right request may get because of faulty ones in its batch."""

_OF_ANOTHER_IN_CALL = (*_OF_ANOTHER, "DefaultCPUAllocator")
"""The same where the batch is one request of `self.call`, which can't be halved for lack of memory."""


class Client:
    """Keeps a number of requests going.

    Args:
        url: host and port of gRPC.
        number: of the client; its keys are no other client's.
        is_disturbed: whether a model, or one that it calls, has been gone at any time since then.
        counts: gets the outcomes.
        cancels: whether some requests are cancelled.
    """

    def __init__(
        self,
        url: str,
        number: int,
        is_disturbed: Callable[[str, float], bool],
        counts: Tally,
        *,
        cancels: bool = True,
    ) -> None:
        self._url = url
        self._dice = random.Random(number)
        self._next_key = number * 2**40
        self._is_disturbed = is_disturbed
        self._counts = counts
        self._cancels = cancels

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
        fault = self._dice.choices(
            ["", "large", "shape", "poison", "memory", "cancel"], weights=[80, 10, 4, 4, 1, self._cancels]
        )[0]
        if fault == "large" and model == "pipeline":
            fault = ""  # its batch is one request of `batched`, and may be too large for that
        width = self._dice.randrange(1, 9)
        values = [float((key * 31 + n) % 100_003) for n in range(width)]
        values[0] = FIRST_VALUES.get(fault, values[0])
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
        """Ask for the sums of a sequence, one request after the other; faulty ones must not change them.

        Some sequences are left without an end.
        """
        sequence, began = self._key(), time.time()
        total = number = num_sent = 0
        length = self._dice.randrange(3, 15)
        is_left = self._dice.random() < 0.05
        while number < length:
            is_start, is_end = number == 0, number == length - 1 and not is_left
            fault = "" if is_start or is_end else self._dice.choices(["", "shape", "poison"], [94, 3, 3])[0]
            key, value = self._key(), self._dice.randrange(1000)
            tensors = (
                make_tensor("KEY", "INT64", (1, 1), (key,)),
                make_tensor(
                    "VALUE",
                    "INT64",
                    (1, 1, 1) if fault == "shape" else (1, 1),
                    (-1 - value if fault == "poison" else value,),
                ),
            )
            wanted = {"KEY": [key], "TOTAL": [total + value], "NUMBER": [number + 1]}
            parameters = {"sequence_id": sequence, "sequence_start": is_start, "sequence_end": is_end}
            outcome = await self._ask("sequence", tensors, wanted, fault, parameters, since=began)
            num_sent += 1
            if outcome == tally.RIGHT:
                total, number = total + value, number + 1
            elif outcome not in (tally.REFUSED, tally.UNLUCKY) or is_start or is_end:
                break
        return num_sent

    async def _ask(
        self,
        model: str,
        tensors: tuple[Tensor, ...],
        wanted: Values,
        fault: str,
        parameters: dict[str, Any] | None = None,
        since: float | None = None,
    ) -> str:
        """Send one request, and count what becomes of it; `since` is when its sequence has begun."""
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
            return self._note_error(model, error.code().name, str(error.details()), fault, began, since)
        if fault in ("shape", "poison", "memory"):
            return self._note(model, tally.UNEXPECTED, began, f"{fault} was answered: {found}")
        return self._note(model, _compare(found, wanted), began, f"{found}, and not {wanted}")

    def _note_error(
        self, model: str, code: str, text: str, fault: str, began: float, since: float | None = None
    ) -> str:
        if code == "DEADLINE_EXCEEDED":
            is_orphaned = model in STREAMING and self._is_disturbed(model, began)
            return self._note(model, tally.ORPHANED if is_orphaned else tally.HUNG, began, text)
        if fault == "cancel":
            return self._note(model, tally.CANCELLED, began)
        # Asked after it: the fault may have come meanwhile.
        if self._is_disturbed(model, began if since is None else since):
            return self._note(model, tally.UNAVAILABLE, began)
        if fault not in ("", "large"):
            return self._note(model, tally.REFUSED, began)
        words = _OF_ANOTHER_IN_CALL if model == "pipeline" else _OF_ANOTHER
        if any(one in text for one in words):
            return self._note(model, tally.UNLUCKY, began)
        return self._note(model, tally.UNEXPECTED, began, f"{code}: {text}")

    async def _ask_stream(self) -> int:
        """Ask for a stream; each item has the request's key, and its own place.

        One that is cancelled is so in a pause between its items: server 2.51 crashes, or never gives the
        request back, if a client cancels while a response is sent. See "Soak" in docs/contributing/stress.md.
        """
        model, key = self._dice.choice(STREAMING), self._key()
        fault = self._dice.choices(["", "poison", "cancel"], weights=[90, 5, 5 * self._cancels])[0]
        count = self._dice.randrange(GROUP + 1, 30) if fault == "cancel" else self._dice.randrange(1, 30)
        tensors = (
            make_tensor("KEY", "INT64", (1, 1), (key,)),
            make_tensor("COUNT", "INT32", (1, 1), (-count if fault == "poison" else count,)),
        )
        began = time.time()
        call = self._stub.ModelStreamInfer(_requests(_to_message(model, tensors)), timeout=HANG_SECONDS)
        index, first = 0, None
        try:
            async for response in call:
                first = first or time.time()
                if response.error_message:
                    self._note_error(model, "", response.error_message, fault, began)
                    return 1 + index // 4
                item = outputs_of(response.infer_response)
                outcome = _compare(item, {"KEY": [key], "INDEX": [index]})
                if outcome != tally.RIGHT:
                    self._note(model, outcome, began, f"{item}, and not key {key}, item {index}")
                    return 1 + index // 4
                index += 1
                if fault == "cancel" and index == GROUP:
                    await asyncio.sleep(_INTO_PAUSE_SECONDS)
                    call.cancel()
        except asyncio.CancelledError:
            self._note(model, tally.CANCELLED, began)
            return 1 + index // 4
        except grpc.aio.AioRpcError as raised:
            self._note_error(model, raised.code().name, str(raised.details()), fault, began)
            return 1 + index // 4
        is_right = index == count and fault != "poison"
        detail = f"{index} items of {count}, fault {fault!r}, and no error"
        self._note(model, tally.RIGHT if is_right else tally.UNEXPECTED, began, detail, first)
        return 1 + index // 4

    def _note(
        self, model: str, outcome: str, began: float, detail: str = "", answered: float | None = None
    ) -> str:
        self._counts.note(model, outcome, began, detail, answered)
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
