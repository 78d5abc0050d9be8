"""`TritonAdapter`: what stands between one instance and Triton's requests and responses."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from kindaware._batch.results import Reporter
from kindaware._config.model_spec import ModelSpec
from kindaware._device.runtime import Runtime
from kindaware._triton.bls_adapter import CallAdapter
from kindaware._triton.request_reader import RequestReader
from kindaware._triton.response import ResponseBuilder


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TritonAdapter:
    """Converts between Triton's requests and responses and the library's, for one instance.

    Attributes:
        requests: reads the requests of clients.
        responses: builds the responses to them.
        calls: builds requests to other models, and reads the responses to these.
    """

    requests: RequestReader
    responses: ResponseBuilder
    calls: CallAdapter

    @classmethod
    def open(
        cls,
        pb_utils: ModuleType,
        spec: ModelSpec,
        runtime: Runtime,
        reporter: Reporter,
        *,
        reads_info: bool = False,
    ) -> TritonAdapter:
        """Return the adapter of an instance.

        Args:
            pb_utils: Triton's module, or a stand-in.
            spec: spec of the model.
            runtime: the runtime of the device.
            reporter: reports errors that are not of the client's making.
            reads_info: whether a `RequestInfo` is read from each request.
        """
        return cls(
            RequestReader(spec, runtime, reporter, reads_info=reads_info),
            ResponseBuilder(pb_utils, spec, runtime, reporter),
            CallAdapter(pb_utils, runtime),
        )
