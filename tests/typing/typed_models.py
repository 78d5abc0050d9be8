"""Models as a user of a strict type checker writes them; test_types.py expects no error here."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from kindaware import (
    ConfigError,
    DevicePlacement,
    Done,
    KindAwareModel,
    Next,
    Placement,
    RequestError,
    RequestInfo,
    Servable,
    ServedModels,
    TensorSpec,
    place_module,
    serve,
)
from kindaware.states import SlotCache

if TYPE_CHECKING:
    import triton_python_backend_utils as pb_utils


@dataclass
class Scores:
    SCORES: Tensor


class ScoringModel(KindAwareModel):
    """Every hook of a model that answers in batches."""

    inputs = [TensorSpec("IDS", "TYPE_INT64", [16])]
    outputs = [TensorSpec("SCORES", "TYPE_FP32", [2])]
    max_batch_size = 8
    num_threads = 1
    warmup = (1, 8)
    cast_outputs = True

    def load(self) -> nn.Module:
        if self.parameters.get("weights") == "lost":
            raise ConfigError("parameter weights: expected a file, got 'lost'; name one")
        self.embedding = nn.Embedding(1000, 16)
        self.logger.info("on %s, one of %d", self.device, len(self.devices))
        return nn.Linear(16, 2)

    def preprocess(
        self, inputs: Mapping[str, Tensor], requests: Sequence[RequestInfo]
    ) -> Mapping[str, Tensor]:
        if int(inputs["IDS"].max()) > 999:
            raise RequestError(f"request {requests[0].id}: IDS above 999", code="INVALID_ARG")
        return inputs

    def collate(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(tensors))

    def forward(self, IDS: Tensor, requests: Sequence[RequestInfo]) -> Scores:
        blank = (IDS == 0).all(dim=1) & (IDS.shape[0] > 8)
        if blank.any():
            raise RequestError("IDS is blank", rows=blank)
        rows = sum(request.rows or 0 for request in requests)
        self.logger.debug("%d rows on %s", rows, self.cuda_stream)
        return Scores(self.model(self.embedding(IDS).mean(dim=1)))

    def postprocess(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"SCORES": outputs["SCORES"].softmax(dim=1)}

    def warmup_inputs(self, rows: int) -> dict[str, Tensor]:
        return {"IDS": torch.zeros(rows, 16, dtype=torch.int64)}

    def is_ready(self) -> bool:
        return super().is_ready() and self.embedding.weight.device == self.device

    def unload(self) -> None:
        super().unload()
        del self.embedding


class SettingsModel(KindAwareModel):
    """Settings that take more than one type, and `forward` by position."""

    num_threads = "auto"
    model_devices = "all"
    warmup = "off"
    cuda_graphs = [1, 8]
    pad = {"FIRST": 0.5}
    unpad = {"SCORES": "FIRST", "TOP": None, "PAIRS": ("FIRST", None)}
    precision = "bf16-mixed"
    pinned_limit_bytes = 2**20
    overlap_calls = True

    def load(self) -> nn.Module:
        first, last = self.devices[0], self.devices[-1]
        return place_module(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), {"0": first, "1": last})

    def forward(self, first: Tensor, second: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.model(first), first if second is None else second.to(self.device)


class CallingModel(KindAwareModel):
    """Calls of other models; `load` sets its module itself."""

    def load(self) -> None:
        self.model = nn.Identity()

    async def forward(self, TEXT: Tensor) -> list[Tensor]:
        answer = await self.call_async("tokens", TEXT=TEXT, timeout_microseconds=1000)
        tokens = answer["TOKENS"]
        if not isinstance(tokens, Tensor):
            raise RequestError("TOKENS is no tensor", code="INTERNAL")
        names = self.call("names", {"TOKENS": tokens}, requested_outputs=["NAME"], parameters={"top": 5})
        self.logger.info("%d outputs", len(names))
        return [self.model(tokens)]


class StreamingModel(KindAwareModel):
    """A generator per request."""

    inputs = [TensorSpec("X", "FP32", [1])]
    outputs = [TensorSpec("Y", "FP32", [1])]
    max_streams = 4

    def load(self) -> nn.Module:
        return nn.Identity()

    def stream(self, X: Tensor) -> Iterator[dict[str, Tensor]]:
        for step in range(3):
            yield {"Y": self.model(X) + step}


class Text(NamedTuple):
    slot: int
    length: int


class SteppedModel(KindAwareModel):
    """A step for all streams together."""

    inputs = [TensorSpec("X", "FP32", [1])]
    outputs = [TensorSpec("Y", "FP32", [1])]
    max_begins_per_step = 2
    items_per_response = 2
    drain_seconds = 0

    def load(self) -> nn.Module:
        self.cache = SlotCache(self.settings.max_streams, keys=(4, 16))
        return nn.Identity()

    def begin(self, X: Tensor) -> Next[Text] | Done:
        return Next(Text(self.cache.take(), 1), X) if X.any() else Done()

    def step(
        self, states: list[Text], requests: Sequence[RequestInfo]
    ) -> list[Next[Text] | Done | RequestError]:
        return [
            RequestError("too long") if one.length > 9 else Next(Text(one.slot, one.length + 1))
            for one in states
        ]

    def end(self, state: Text) -> None:
        self.cache.release(state.slot)


class RelayingModel(KindAwareModel):
    """An asynchronous generator, which passes another model's stream on."""

    def load(self) -> nn.Module:
        return nn.Identity()

    async def stream(self, X: Tensor, requests: Sequence[RequestInfo]) -> AsyncIterator[Tensor]:
        with self.call_stream("writer", X=X, request_id=requests[0].id) as answers:
            async for answer in answers:
                piece = answer["Y"]
                if isinstance(piece, Tensor):
                    yield piece


class SequenceModel(KindAwareModel):
    """State by sequence."""

    inputs = [TensorSpec("X", "FP32", [1])]
    outputs = [TensorSpec("TOTAL", "FP32", [1])]

    def load(self) -> nn.Module:
        return nn.Identity()

    def forward(self, X: Tensor, requests: Sequence[RequestInfo]) -> Tensor:
        (request,) = requests
        if request.parameters.get("again"):
            self.reschedule(request)
        total: Tensor = X + self.sequence_state.get(request.correlation_id, 0)
        self.sequence_state[request.correlation_id] = total
        return total


class PlacedModel(DevicePlacement):
    """A model with its own `execute`."""

    num_threads = 1

    def initialize(self, args: Mapping[str, str]) -> None:
        super().initialize(args)
        self.scale = nn.Linear(1, 1).to(self.device)

    def execute(self, requests: "list[pb_utils.InferenceRequest]") -> "list[pb_utils.InferenceResponse]":
        import triton_python_backend_utils as pb_utils

        responses: list[pb_utils.InferenceResponse] = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "X")
            assert tensor is not None
            output = pb_utils.Tensor("Y", 2 * tensor.as_numpy())
            responses.append(pb_utils.InferenceResponse([output]))
        return responses


def describe_placement(args: Mapping[str, str]) -> str:
    placement = Placement.from_args(args, num_devices=torch.cuda.device_count())
    return f"{placement.device}: {placement.reason}"


def serve_from_a_program(network: nn.Module) -> dict[str, object]:
    """A class, a module with an example, and several with options of their own."""
    typed: type[ScoringModel] = ScoringModel.from_example(IDS=torch.zeros(1, 16, dtype=torch.int64))
    with serve(typed, instances="cpu*2", settings={"num_threads": 1}) as server:
        address: str = server.url
    served: ServedModels = serve(network, torch.rand(1, 4), name="network", max_batch_size=8)
    served.stop()
    with serve({"scores": typed, "network": Servable(network, example={"input": torch.rand(1, 4)})}) as both:
        scores = both["scores"].infer(IDS=[[0] * 16])["SCORES"]
        items = [item["OUTPUT"] for item in both.stream(input=[[0.0] * 4])]
    return {"address": address, "scores": scores, "items": items}
