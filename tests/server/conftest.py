"""One real server with all models of tests/server/models, and one with those of classes alone."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from complete_models import serve_complete

from kindaware.testing import TritonServer

MODELS = Path(__file__).parent / "models"
DECLARING_MODELS = Path(__file__).parent / "declaring_models"


class Client:
    """A gRPC client that sends named arrays and gives named arrays back."""

    def __init__(self, url: str) -> None:
        self.grpc = grpcclient.InferenceServerClient(url)

    @staticmethod
    def pack(inputs: dict[str, np.ndarray]) -> list[grpcclient.InferInput]:
        packed = []
        for name, array in inputs.items():
            datatype = "BYTES" if array.dtype == object else httpclient.np_to_triton_dtype(array.dtype)
            packed.append(grpcclient.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array))
        return packed

    def infer(self, model: str, outputs: list[str] | None = None, **inputs: np.ndarray):
        wanted = None if outputs is None else [grpcclient.InferRequestedOutput(name) for name in outputs]
        result = self.grpc.infer(model, self.pack(inputs), outputs=wanted, client_timeout=60)
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}

    def statistics(self, model: str):
        return self.grpc.get_inference_statistics(model).model_stats[0]


@pytest.fixture(scope="session")
def server():
    with serve_complete(MODELS) as running:
        yield running


@pytest.fixture(scope="session")
def declaring_server():
    """A server with models without config.pbtxt."""
    with TritonServer(DECLARING_MODELS) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    return Client(server.grpc_url)


@pytest.fixture(scope="session")
def connect():
    """Makes a client of another server."""
    return lambda server: Client(server.grpc_url)
