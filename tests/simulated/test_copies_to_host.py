"""Copies to the host that a hook has only queued: nothing reads them before the device has written them."""

import numpy as np
import pytest
import torch
from simulated_kit import Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor

from kindaware import RequestError
from kindaware.testing import Latest, SimulatedAccelerator


def queued(values):
    return values.to("cpu", non_blocking=True)


class InForward(Doubler):
    def forward(self, X):
        return queued(2 * X)


class Cast(Doubler):
    def forward(self, X):
        return queued(2 * X.double())


class Strided(Doubler):
    def forward(self, X):
        return queued((2 * X).t().contiguous()).t()


class Negated(Doubler):
    def forward(self, X):
        return torch._neg_view(queued(-2 * X))


class InPostprocess(Doubler):
    def postprocess(self, outputs):
        return queued(outputs["Y"].double())


class ReadInPostprocess(Doubler):
    """Computes on the host with what forward has sent there."""

    def forward(self, X):
        return queued(X)

    def postprocess(self, outputs):
        return 2 * outputs["Y"]


class InPreprocess(Doubler):
    def preprocess(self, inputs):
        return {"X": queued(inputs["X"].to(self.device) * 1)}


class ReadInCollate(InPreprocess):
    def collate(self, name, tensors):
        return torch.cat(tensors)


class InCollate(Doubler):
    def collate(self, name, tensors):
        return queued(torch.cat(tensors).to(self.device) * 1)


class OnTheOther(Doubler):
    """Computes on the second GPU of its two."""

    def forward(self, X):
        return queued(2 * X.to(self.devices[1]))


MODELS = [
    InForward,
    Cast,
    Strided,
    Negated,
    InPostprocess,
    ReadInPostprocess,
    InPreprocess,
    ReadInCollate,
    InCollate,
]


@pytest.mark.parametrize("output_device", ["cpu", "instance"])
@pytest.mark.parametrize("rows", [(3,), (1, 3, 2)])
@pytest.mark.parametrize("model", MODELS)
def test_execute_output_on_the_host_is_read_after_the_wait(model, rows, output_device):
    sent = entries(*rows)
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    options = {"accelerator": accelerator, "output_device": output_device, "cast_outputs": "true"}
    with serve(model, **options) as harness:
        for _ in range(2):
            assert_answers(harness.infer_batch(sent), sent)
            assert_clean(harness)


def test_execute_output_on_the_host_is_read_after_the_wait_for_its_own_gpu():
    sent = entries(1, 2)
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve(OnTheOther, kind="MODEL", model_devices="all", accelerator=accelerator) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert accelerator.violations == []


def test_execute_padded_inputs_that_preprocess_has_sent_to_the_host_are_read_after_the_wait():
    sent = [one for width in (2, 4) for one in entries(1, width=width, first=width)]
    config = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve(InPreprocess, config=config, pad="X=0", unpad="Y=X", accelerator=accelerator) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert_clean(harness)


class ReadInRowCost(InPreprocess):
    """The cost is the first number of a row."""

    def load(self):
        self.costs = []

    def row_cost(self, inputs):
        self.costs.append(float(inputs["X"][0, 0]))
        return self.costs[-1]


class CostsWithoutPreprocess(Doubler):
    def row_cost(self, inputs):
        return float(inputs["X"][0, 0])


def serve_padded(model, **options):
    config = make_config(input=[tensor("X", [-1])], output=[tensor("Y", [-1])])
    return serve(model, config=config, pad="X=0", unpad="Y=X", **options)


def test_execute_row_cost_reads_what_preprocess_has_sent_to_the_host_after_the_wait():
    sent = [one for width in (2, 4) for one in entries(1, width=width, first=width)]
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve_padded(ReadInRowCost, accelerator=accelerator) as harness:
        assert_answers(harness.infer_batch(sent), sent)
        assert harness.instance.costs == [2.0, 4.0]
        assert_clean(harness)


def test_execute_row_cost_of_inputs_as_they_came_costs_no_wait():
    names = []
    with serve_padded(CostsWithoutPreprocess) as harness:
        harness.accelerator.fault = lambda number, name: names.append(name)
        harness.infer_batch(entries(1, 2))
    assert names.count("wait for an event") == 1


class PassesOn(Doubler):
    def preprocess(self, inputs):
        return inputs


@pytest.mark.parametrize(("model", "num_waits"), [(PassesOn, 1), (InPreprocess, 2)])
def test_execute_preprocess_that_passes_inputs_on_costs_no_wait_of_its_own(model, num_waits):
    names = []
    with serve(model) as harness:
        harness.accelerator.fault = lambda number, name: names.append(name)
        harness.infer_batch(entries(1, 2))
    assert names.count("wait for an event") == num_waits


class Items(Doubler):
    forward = None

    def preprocess(self, inputs):
        return {"X": queued(inputs["X"].to(self.device) * 1)}

    def stream(self, X):
        yield queued(2 * X)
        yield queued(2 * X.double())


def test_stream_items_on_the_host_are_read_after_the_wait():
    (sent,) = entries(2)
    config = make_config(model_transaction_policy={"decoupled": True})
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve(Items, config=config, cast_outputs="true", accelerator=accelerator) as harness:
        items = list(harness.stream(**sent["inputs"]))
        assert_clean(harness)
    assert [item.error and item.error.message() for item in items] == [None, None]
    for item in items:
        np.testing.assert_array_equal(item.outputs["Y"], 2 * sent["inputs"]["X"])


MASKS = {
    "mask": lambda mask: mask,
    "array": lambda mask: mask.numpy(),
    "list": list,
    "generator": iter,
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("hook", ["forward", "postprocess"])
@pytest.mark.parametrize("form", MASKS)
def test_rows_that_a_request_error_names_are_read_after_the_wait(form, hook, is_async):
    def refuse(values):
        mask = values[:, 0] >= 3
        if mask.any():
            # The memory that the copy goes to says that all are guilty.
            copied = torch.ones(len(values), dtype=torch.bool)
            raise RequestError("too large", rows=MASKS[form](copied.copy_(mask, non_blocking=True)))
        return values

    class Refusing(Doubler):
        def postprocess(self, outputs):
            return {"Y": refuse(outputs["Y"] / 2) * 2} if hook == "postprocess" else outputs

        if is_async:

            async def forward(self, X):
                return 2 * (refuse(X) if hook == "forward" else X)
        else:

            def forward(self, X):
                return 2 * (refuse(X) if hook == "forward" else X)

    sent = entries(1, 1, 1)
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve(Refusing, accelerator=accelerator) as harness:
        results = harness.infer_batch(sent)
        assert_clean(harness)
    assert [one.error and one.error.message() for one in results] == [None, None, "too large"]
    assert_answers(results[:2], sent[:2])


@pytest.mark.parametrize("is_decoupled", [False, True])
def test_warmup_inputs_on_the_host_are_read_after_the_wait(is_decoupled):
    seen, devices = [], []

    class WarmedUp(Items if is_decoupled else Doubler):
        preprocess = None

        def warmup_inputs(self, rows):
            devices.append(torch.cuda.current_device())
            return {"X": queued(torch.full((rows, 4), 3.0).to(self.device) * 2)}

        if is_decoupled:

            def stream(self, X):
                seen.append(X.tolist())
                yield X
        else:

            def forward(self, X):
                seen.append(X.tolist())
                return X

    config = make_config(model_transaction_policy={"decoupled": is_decoupled})
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve(WarmedUp, config=config, accelerator=accelerator) as harness:
        assert_clean(harness)
    assert seen == [[[6.0] * 4]]
    assert devices == [1]


class Summed(Doubler):
    """Twice the sum of a sequence's rows, which is kept on the host."""

    def forward(self, X, requests):
        ids = [one.correlation_id for one in requests]
        before = torch.stack([self.sequence_state.get(one, torch.zeros(4)) for one in ids])
        sums = X + before.to(self.device)
        self.sequence_state.update({one: queued(row) for one, row in zip(ids, sums, strict=True)})
        return 2 * sums


def test_sequence_state_on_the_host_is_kept_after_the_wait():
    config = make_config(sequence_batching={"oldest": {"max_candidate_sequences": 4}})
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    with serve(Summed, config=config, accelerator=accelerator) as harness:
        for number, flags in ((1, 1), (2, 0), (3, 2)):
            values = np.full((1, 4), number, np.float32)
            result = harness.infer(X=values, correlation_id=7, flags=flags)
        np.testing.assert_array_equal(result.outputs["Y"], np.full((1, 4), 12.0))
        assert_clean(harness)


class Caller(Doubler):
    def forward(self, X):
        return self.call("add_one", X=queued(2 * X - 1))["Y"]


class AddOne(Doubler):
    def forward(self, X):
        return X + 1


def test_call_sends_what_lies_on_the_host_after_the_wait():
    sent = entries(2, 1)
    accelerator = SimulatedAccelerator(num_devices=2, schedule=Latest())
    callee = make_config(name="add_one")
    with serve(Caller, accelerator=accelerator, models=[(AddOne, callee)]) as harness:
        assert_answers(harness.infer_batch(sent), sent)
