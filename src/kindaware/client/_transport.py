"""gRPC and HTTP behind one interface: tritonclient's clients, with arrays in and out."""

from __future__ import annotations

import importlib
import queue
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from kindaware._errors import message
from kindaware._server.access import bearer_headers
from kindaware._tensors.dtypes import DTYPES
from kindaware.client._errors import ModelClientError, UrlError
from kindaware.client._metadata import Arrays, Metadata

_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED"}
_CODES |= {409: "ALREADY_EXISTS", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

# ml_dtypes, which tritonclient may use, names its types as torch does.
_NO_NUMPY = {one.torch_name for one in DTYPES.values() if one.numpy is None}

_NO_CONNECTION = ("failed to connect", "resolution", "resolving")
"""In what gRPC says where it has not reached a server."""


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        arrays: inputs by name, with their batch dimension.
        datatypes: Triton's wire names of the inputs.
        outputs: names of the outputs to ask for; None for all.
        request_id: empty for none.
        parameters: bool, int and str by name.
        sequence_id: 0 for none.
        sequence_start: whether it begins the sequence.
        sequence_end: whether it ends the sequence.
        timeout_seconds: how long to wait for the answer.
    """

    arrays: Arrays
    datatypes: Mapping[str, str]
    outputs: tuple[str, ...] | None
    request_id: str
    parameters: Mapping[str, Any] | None
    sequence_id: int | str
    sequence_start: bool
    sequence_end: bool
    timeout_seconds: float

    @classmethod
    def of(
        cls,
        metadata: Metadata,
        inputs: Mapping[str, Any],
        *,
        timeout_seconds: float,
        outputs: Sequence[str] | None = None,
        request_id: str = "",
        parameters: Mapping[str, Any] | None = None,
        sequence_id: int | str = 0,
        sequence_start: bool = False,
        sequence_end: bool = False,
    ) -> tuple[Call, bool]:
        """Return a request, and whether its inputs are single rows, without a batch dimension.

        Raises:
            ModelClientError: the inputs are not the model's.
        """
        arrays, is_row = metadata.prepare(inputs)
        call = cls(
            arrays=arrays,
            datatypes={name: metadata.find(name).datatype for name in arrays},
            outputs=None if outputs is None else tuple(outputs),
            request_id=request_id,
            parameters=parameters,
            sequence_id=sequence_id,
            sequence_start=sequence_start,
            sequence_end=sequence_end,
            timeout_seconds=timeout_seconds,
        )
        return call, is_row


def split_url(url: str) -> tuple[str, str]:
    """Return the scheme, `grpc` or `http`, and the address; gRPC unless the URL says otherwise.

    Raises:
        UrlError: it is another scheme.
    """
    scheme, found, address = url.rpartition("://")
    if scheme not in ("", "grpc", "http"):
        raise UrlError.of(
            f"url {url!r}",
            expected="grpc://HOST:PORT or http://HOST:PORT",
            got=scheme,
            remedy="8001 is Triton's usual port of gRPC, 8000 that of HTTP",
        )
    return scheme if found else "grpc", address.rstrip("/")


class Peer(Protocol):
    """Whom a client talks to, for errors.

    Attributes:
        scheme: `grpc` or `http`.
        address: host and port.
    """

    scheme: str
    address: str


class Transport:
    """A connection to one server.

    Args:
        url: `grpc://HOST:PORT`, `http://HOST:PORT`, or `HOST:PORT` for gRPC.
        timeout_seconds: of connecting, and of an answer over HTTP.
        token: that the server wants, or None.

    Attributes:
        scheme: `grpc` or `http`.
        address: host and port.
        headers: of every request, over gRPC its metadata.

    Raises:
        ModelClientError: the URL is wrong, or tritonclient is missing.
    """

    def __init__(self, url: str, timeout_seconds: float, token: str | None = None) -> None:
        self.scheme, self.address = split_url(url)
        self.headers = bearer_headers(token, self.scheme)
        self._module = import_client(self.scheme)
        if self.scheme == "grpc":
            self._client = self._module.InferenceServerClient(self.address)
        else:
            self._client = self._module.InferenceServerClient(
                self.address, network_timeout=timeout_seconds, connection_timeout=timeout_seconds
            )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def metadata(self, model: str, version: str, timeout_seconds: float) -> Metadata:
        """Ask for a model's tensors.

        Raises:
            ModelClientError: the server can't be reached, or has no such model.
        """
        metadata = self._ask("get_model_metadata", model, timeout_seconds, model, version)
        return Metadata.of(metadata, self.config(model, version, timeout_seconds))

    def config(self, model: str, version: str, timeout_seconds: float) -> dict[str, Any]:
        """Ask for a model's configuration, as the server has completed it.

        Raises:
            ModelClientError: the server can't be reached, or has no such model.
        """
        config = self._ask("get_model_config", model, timeout_seconds, model, version)
        found: dict[str, Any] = config.get("config", config)
        return found

    def statistics(self, model: str, version: str, timeout_seconds: float) -> list[dict[str, Any]]:
        """Ask for what the server has counted, by version of the model.

        Raises:
            ModelClientError: the server can't be reached, or has no such model.
        """
        answer = self._ask("get_inference_statistics", model, timeout_seconds, model, version)
        return list(answer.get("model_stats", ()))

    def ready_models(self, timeout_seconds: float) -> list[str]:
        """Ask for the names of the models that are ready.

        Raises:
            ModelClientError: the server can't be reached.
        """
        # The index of the repository would say it too, but belongs to model control, which may be restricted.
        return sorted({one["name"] for one in self.statistics("", "", timeout_seconds)})

    def _ask(self, method: str, model: str, timeout_seconds: float, *args: Any) -> Any:
        """Ask the server about itself or a model; JSON as it is parsed."""
        options: dict[str, Any] = {"headers": self.headers}
        if self.scheme == "grpc":
            options |= {"as_json": True, "client_timeout": timeout_seconds}
        with told(self, model):
            return getattr(self._client, method)(*args, **options)

    def infer(self, model: str, version: str, call: Call) -> Arrays:
        """Send a request, and wait for its answer.

        Raises:
            ModelClientError: the server has refused it, or can't be reached, or took too long.
        """
        options = request_options(self._module, call)
        if self.scheme == "grpc":
            options["client_timeout"] = call.timeout_seconds
        with told(self, model):
            result = self._client.infer(model, model_version=version, headers=self.headers, **options)
            return read_arrays(result)

    def stream(self, model: str, version: str, call: Call) -> Iterator[Arrays]:
        """Send a request to a decoupled model, and yield its answers as they come.

        Raises:
            ModelClientError: an answer is an error, or none comes in time.
        """
        answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client = self._module.InferenceServerClient(self.address)
        try:
            client.start_stream(
                callback=lambda result, error: answers.put((result, error)), headers=self.headers
            )
            try:
                client.async_stream_infer(
                    model,
                    model_version=version,
                    enable_empty_final_response=True,
                    **request_options(self._module, call),
                )
            except self._module.InferenceServerException as refused:
                # Where the server has refused the stream meanwhile, the callback learns why.
                answers.put((None, _next_error(answers) or refused))
            finally:
                _end_requests(client)
            while True:
                try:
                    result, error = answers.get(timeout=call.timeout_seconds)
                except queue.Empty:
                    raise late(model, call.timeout_seconds) from None
                if error is not None:
                    raise ModelClientError(error.message(), error_code(error) or "UNKNOWN")
                response = result.get_response()
                if response.outputs:
                    yield read_arrays(result)
                if response.parameters["triton_final_response"].bool_param:
                    return
        finally:
            # Also where the caller has stopped iterating: the server learns that nobody waits.
            client.stop_stream(cancel_requests=True)
            client.close()


def request_options(module: ModuleType, call: Call) -> dict[str, Any]:
    """Return the arguments of a request, for a client out of `tritonclient.grpc` or `tritonclient.http`."""
    inputs = []
    for name, array in call.arrays.items():
        tensor = module.InferInput(name, list(array.shape), call.datatypes[name])
        inputs.append(tensor.set_data_from_numpy(array))
    outputs = call.outputs and [module.InferRequestedOutput(name) for name in call.outputs]
    return {
        "inputs": inputs,
        "outputs": outputs or None,
        "request_id": call.request_id,
        "parameters": dict(call.parameters) if call.parameters else None,
        "sequence_id": call.sequence_id,
        "sequence_start": call.sequence_start,
        "sequence_end": call.sequence_end,
    }


def _end_requests(client: Any) -> None:
    """Say that the stream has no further request: the server ends it after the last answer.

    A stream that is cancelled would else leave the thread that sends its requests waiting for one more, for
    the life of the process. tritonclient's public way also waits for all answers.
    """
    client._stream._request_queue.put(None)


def _next_error(answers: queue.Queue[tuple[Any, Any]]) -> Any:
    """Return the error that a stream has ended with, or None where none comes within a second."""
    try:
        return answers.get(timeout=1)[1]
    except queue.Empty:
        return None


def import_client(scheme: str) -> ModuleType:
    try:
        return importlib.import_module(f"tritonclient.{scheme}")
    except (ImportError, RuntimeError) as error:  # it raises RuntimeError for what it lacks itself
        raise ModelClientError.of(
            "kindaware.client",
            expected=f"tritonclient[{scheme}]",
            got=str(error).splitlines()[0],
            remedy=f"pip install 'tritonclient[{scheme}]'",
        ) from error


def read_arrays(result: Any) -> Arrays:
    """Return the outputs of an answer as arrays."""
    response = result.get_response()
    outputs = response["outputs"] if isinstance(response, dict) else response.outputs
    names = [one["name"] if isinstance(one, dict) else one.name for one in outputs]
    return {name: _plain(result.as_numpy(name)) for name in names}


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that can be written, of a data type that numpy has: others become float32."""
    return array.astype(np.float32) if array.dtype.name in _NO_NUMPY else np.array(array)


@contextmanager
def told(transport: Peer, model: str) -> Iterator[None]:
    """Turn what tritonclient, and the libraries below it, raise into an error of this library."""
    try:
        yield
    except ModelClientError:
        raise
    except Exception as error:
        raise _translate(error, transport, model) from error


def _translate(error: Exception, transport: Peer, model: str) -> ModelClientError:
    code = error_code(error)
    text = str(error.message() if hasattr(error, "message") else error) or type(error).__name__
    if _is_refused(error, text):
        return _unreachable(transport, text)
    if code == "DEADLINE_EXCEEDED" or isinstance(error, TimeoutError):
        return late(model, None)
    return ModelClientError(text, code) if code else _no_answer(transport, f"{type(error).__name__}: {text}")


def _is_refused(error: Exception, text: str) -> bool:
    """Whether there was no connection, so that no server has seen the request."""
    return isinstance(error, (ConnectionRefusedError, socket.gaierror)) or (
        error_code(error) == "UNAVAILABLE" and any(one in text for one in _NO_CONNECTION)
    )


def _unreachable(transport: Peer, text: str) -> ModelClientError:
    words = message(
        f"{transport.scheme}://{transport.address}",
        expected="a server that answers",
        got=text,
        remedy="start it, as with kindaware serve, or correct the url; gRPC has usually port 8001, HTTP 8000",
    )
    return ModelClientError(words, "UNAVAILABLE", was_sent=False)


def _no_answer(transport: Peer, text: str) -> ModelClientError:
    words = message(
        f"{transport.scheme}://{transport.address}",
        expected=f"an answer over {transport.scheme}",
        got=text,
        remedy="check that the server runs, and the port; gRPC has usually 8001, HTTP 8000",
    )
    return ModelClientError(words, "UNAVAILABLE")


def late(model: str, timeout_seconds: float | None) -> ModelClientError:
    within = "" if timeout_seconds is None else f" within {timeout_seconds:g} s"
    return ModelClientError.of(
        f"model {model!r}",
        expected=f"an answer{within}",
        got="none",
        remedy="raise timeout_seconds, or look at the server's queue",
        code="DEADLINE_EXCEEDED",
    )


def error_code(error: Any) -> str | None:
    """Return gRPC's name of a server's status; None for an error that is none of a server."""
    status = error.status() if hasattr(error, "status") else None
    if status is None:
        return None
    text = str(status)
    return _CODES.get(int(text), "UNKNOWN") if text.isdigit() else text.removeprefix("StatusCode.")
