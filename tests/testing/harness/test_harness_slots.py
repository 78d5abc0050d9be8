"""Sequences of strategy direct: each has a slot, which is its place in the batch."""

import pytest
from harness_kit import ECHO, PLAIN, floats, write_model

from kindaware.testing import HarnessError, ModelHarness

CONTROLS = """control_input [
  { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
  { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] } ] }
"""
DIRECT = PLAIN + "max_batch_size: 2 sequence_batching { direct { } " + CONTROLS
OLDEST = PLAIN + "max_batch_size: 2 sequence_batching { oldest { max_candidate_sequences: 4 } " + CONTROLS
ALONE = PLAIN + "sequence_batching { " + CONTROLS

SUMS = """
class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.add(slot, request) for slot, request in enumerate(requests)]

    def add(self, slot, request):
        if get(request, "READY").all():
            if get(request, "START").all():
                self.sums[slot] = 0.0
            self.sums[slot] += get(request).sum()
        return answer(np.full(get(request).shape, self.sums.get(slot, -1.0)))
"""


def add(model, identity, value, flags=0, **options):
    shape = (1, 1) if model.config["max_batch_size"] else (1,)
    result = model.infer(X=floats(*shape, start=value), correlation_id=identity, flags=flags, **options)
    return result.outputs["Y"].item()


@pytest.mark.parametrize("options", [{}, {"instances": 2}])
@pytest.mark.parametrize("identities", [(1, 2), ("one", "two")])
def test_two_sequences_at_once_have_sums_of_their_own(tmp_path, identities, options):
    first, second = identities
    with ModelHarness(write_model(tmp_path, "m", SUMS, DIRECT), **options) as model:
        assert [add(model, first, 1.0, 1), add(model, second, 10.0, 1)] == [1.0, 10.0]
        assert [add(model, first, 2.0), add(model, second, 20.0)] == [3.0, 30.0]
        assert [add(model, first, 3.0, 2), add(model, second, 30.0, 2)] == [6.0, 60.0]
        assert add(model, first, 5.0, 1) == 5.0


def test_sequences_without_batches_have_an_instance_each(tmp_path):
    with ModelHarness(write_model(tmp_path, "m", SUMS, ALONE), instances=2) as model:
        assert [add(model, 1, 1.0, 1), add(model, 2, 10.0, 1)] == [1.0, 10.0]
        assert [add(model, 1, 2.0, 2), add(model, 2, 20.0, 2)] == [3.0, 30.0]
        assert [one.num_calls for one in model.served.instances] == [2, 2]


def test_a_sequence_without_a_slot_is_refused(tmp_path):
    with ModelHarness(write_model(tmp_path, "m", SUMS, DIRECT)) as model:
        add(model, 1, 1.0, 1)
        add(model, 2, 1.0, 1)
        with pytest.raises(HarnessError, match=r"sequence 3 .*expected a free slot, got 2 sequences"):
            add(model, 3, 1.0, 1)
        add(model, 1, 1.0, 2)
        assert add(model, 3, 1.0, 1) == 1.0


def test_sequences_in_one_call_are_in_their_slots(tmp_path):
    with ModelHarness(write_model(tmp_path, "m", SUMS, DIRECT)) as model:
        for first, second in ((2, 1), (1, 2)):
            requests = [
                {"inputs": {"X": floats(1, 1, start=one)}, "correlation_id": one, "flags": 1}
                for one in (first, second)
            ]
            found = [one.outputs["Y"].item() for one in model.infer_batch(requests)]
            assert found == [first, second]
        assert [add(model, one, 1.0, 2) for one in (1, 2)] == [2.0, 3.0]


def test_the_oldest_strategy_has_no_slots(tmp_path):
    with ModelHarness(write_model(tmp_path, "m", ECHO, OLDEST)) as model:
        for identity in range(1, 6):
            assert add(model, identity, 7.0, 1) == 7.0
