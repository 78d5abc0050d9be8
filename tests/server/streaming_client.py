"""Streams over gRPC and over the generate endpoint, as clients of Triton's ask for them."""

import asyncio
import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import numpy as np
import tritonclient.grpc as blocking_client
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import np_to_triton_dtype


@dataclass
class Answer:
    """What came back on a stream until its end: items in order, and errors."""

    items: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    is_cancelled: bool = False

    def take(self, result, error):
        if error is not None:
            self.errors.append(error.message())
        elif outputs := result.get_response().outputs:
            self.items.append({one.name: result.as_numpy(one.name) for one in outputs})


async def stream(client, model, *, cancel_after=None, request_id="", **inputs):
    """Send one request on a stream of its own; cancel it once that many items have come."""
    answer = Answer()

    async def requests():
        yield {
            "model_name": model,
            "request_id": request_id,
            "inputs": pack(inputs),
        }

    responses = client.stream_infer(requests())
    try:
        async for result, error in responses:
            answer.take(result, error)
            if len(answer.items) == cancel_after:
                responses.cancel()
    except asyncio.CancelledError:
        answer.is_cancelled = True
    return answer


def stream_with_finals(server, model, *, request_id="", **inputs):
    """Send one request; give the answer, and how many responses said that they are the last."""
    responses = []
    with blocking_client.InferenceServerClient(server.grpc_url) as client:
        client.start_stream(lambda result, error: responses.append((result, error)))
        client.async_stream_infer(
            model, pack(inputs), request_id=request_id, enable_empty_final_response=True
        )
        client.stop_stream()
    answer, num_finals = Answer(), 0
    for result, error in responses:
        answer.take(result, error)
        if result is not None:
            num_finals += result.get_response().parameters["triton_final_response"].bool_param
    return answer, num_finals


def pack(inputs):
    """Make named arrays into inputs of a request."""
    packed = []
    for name, array in inputs.items():
        one = grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        packed.append(one.set_data_from_numpy(array))
    return packed


def run(server, work):
    """Run a function of an open client to its end."""

    async def main():
        async with grpcclient.InferenceServerClient(server.grpc_url) as client:
            return await work(client)

    return asyncio.run(main())


def count_to(num_items, delay=0.0):
    """Inputs of the models that count."""
    return {
        "N": np.array([[num_items]], np.int32),
        "DELAY": np.array([[delay]], np.float32),
    }


def generate(server, model, verb="generate_stream", **inputs):
    """Give the HTTP status and the events of the generate endpoint."""
    url = f"http://{server.http_url}/v2/models/{model}/{verb}"
    request = urllib.request.Request(url, json.dumps(inputs).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            status, text = response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    return status, [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
