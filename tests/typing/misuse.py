"""What a type checker has to refuse; never run.

A comment names the error of its line, first as mypy calls it and then as pyright does. test_types.py expects
these and no others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kindaware import KindAwareModel, Placement, RequestError, RequestInfo, TensorSpec, place_module, serve
from kindaware.testing import ModelHarness, TritonServer, instance_args


class Declarations(KindAwareModel):
    inputs = ["IDS"]  # error: list-item, reportAssignmentType
    outputs = [TensorSpec("SCORES", torch.float32, [2])]  # error: arg-type, reportArgumentType
    max_batch_size = "8"  # error: assignment, reportAssignmentType
    precision = torch.bfloat16  # error: assignment, reportAssignmentType
    cast_outputs = "yes"  # error: assignment, reportAssignmentType
    num_threads = None  # error: assignment, reportAssignmentType
    warmup = 8  # error: assignment, reportAssignmentType
    cuda_graphs = [1.5]  # error: list-item, reportAssignmentType
    pad = 0  # error: assignment, reportAssignmentType


class Hooks(KindAwareModel):
    forward = None  # error: assignment, reportAssignmentType

    def load(self) -> str:  # error: override, reportIncompatibleMethodOverride
        return "model.pt"

    def unload(self) -> int:  # error: override, reportIncompatibleMethodOverride
        return 0

    def is_ready(self, now: bool) -> bool:  # error: override, reportIncompatibleMethodOverride
        return now


class LifeCycle(KindAwareModel):
    def execute(self, requests: list[object]) -> None:  # error: misc, reportIncompatibleMethodOverride
        """Triton calls the library's."""

    def stream(self, X: Tensor) -> None:  # error: override, reportIncompatibleMethodOverride
        """Yields nothing."""


class Attributes(KindAwareModel):
    def load(self) -> nn.Module:
        self.device = torch.device("cpu")  # error: misc, reportAttributeAccessIssue
        self.devices = ()  # error: misc, reportAttributeAccessIssue
        self.cuda_stream = None  # error: misc, reportAttributeAccessIssue
        self.model = "model.pt"  # error: assignment, reportAttributeAccessIssue
        self.args = self.args  # error: misc, reportAttributeAccessIssue
        self.parameters["weights"] = "random"  # error: index, reportIndexIssue
        return place_module(nn.Identity(), {"": 1.5})  # error: dict-item, reportArgumentType


class Requests(KindAwareModel):
    def load(self) -> nn.Module:
        return nn.Identity()

    def forward(self, X: Tensor, requests: Sequence[RequestInfo]) -> Tensor:
        requests[0].id = "other"  # error: misc, reportAttributeAccessIssue
        requests[0].response_parameters["scale"] = 1.5  # error: assignment, reportArgumentType
        self.reschedule(requests[0].id)  # error: arg-type, reportArgumentType
        self.sequence_state[1.5] = X  # error: index, reportArgumentType
        if X.any():
            raise RequestError("X is not zero", rows="all")  # error: arg-type, reportArgumentType
        if X.all():
            raise RequestError("X is not zero", rows=0)  # error: arg-type, reportArgumentType
        return X


class Calls(KindAwareModel):
    def load(self) -> nn.Module:
        return nn.Identity()

    async def forward(self, X: Tensor) -> Tensor:
        self.call("other", X)  # error: arg-type, reportArgumentType
        self.call(model="other")  # error: call-arg, reportCallIssue
        self.call("other", parameters={"scale": 1.5})  # error: dict-item, reportArgumentType
        self.call("other", requested_outputs=1)  # error: arg-type, reportArgumentType
        for piece in await self.call_stream("other"):  # error: misc, reportGeneralTypeIssues
            del piece
        answer = self.call_async("other")["Y"]  # error: index, reportIndexIssue
        del answer
        return X


def misuse_harness() -> None:
    ModelHarness(3)  # error: arg-type, reportArgumentType
    ModelHarness(Calls(), config={})  # error: arg-type, reportArgumentType
    ModelHarness(Calls, gpu=1)  # error: call-arg, reportCallIssue
    ModelHarness(Calls, instances="2")  # error: arg-type, reportArgumentType
    ModelHarness(Calls, parameters={"a": 1})  # error: dict-item, reportArgumentType
    ModelHarness(Calls, server_version=24.10)  # error: arg-type, reportArgumentType
    with ModelHarness(Calls, config={}) as model:
        model.infer([1.0])  # error: arg-type, reportArgumentType
        model.infer(X=[1.0], request_id=1)  # error: arg-type, reportArgumentType
        model.infer_batch({"X": [1.0]})  # error: arg-type, reportArgumentType
        result = model.infer(X=[1.0])
        result.outputs["Y"] = 1  # error: index, reportIndexIssue
        result.is_final = False  # error: misc, reportAttributeAccessIssue
        result.error.message()  # error: union-attr, reportOptionalMemberAccess
        for piece in model.stream(X=[1.0]):
            piece["Y"].sum()  # error: index, reportIndexIssue
        model.model("other").close()  # error: attr-defined, reportAttributeAccessIssue


def misuse_arguments() -> None:
    instance_args(device_id="0")  # error: arg-type, reportArgumentType
    instance_args("CPU", 0, None, "name")  # error: call-arg, reportCallIssue
    Placement.from_args({})  # error: call-arg, reportCallIssue
    Placement.from_args({"model_version": 1}, num_devices=1)  # error: dict-item, reportArgumentType
    TritonServer(3)  # error: arg-type, reportArgumentType
    TritonServer("models", http_port="0")  # error: arg-type, reportArgumentType


def serves() -> None:
    serve("models")  # error: arg-type, reportArgumentType
    serve(Declarations, instances=2)  # error: arg-type, reportArgumentType
    serve(Declarations).infer([1.0])  # error: arg-type, reportArgumentType
