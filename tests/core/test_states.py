"""Helpers for states: ragged caches padded together, and a cache with slots."""

import pytest
import torch
from core_kit import make_args
from step_kit import CONFIG, Values, number, open_harness, seen, together

from kindaware import Done, KindAwareError, KindAwareModel, Next
from kindaware.states import SlotCache, cut_apart, pad_together


@pytest.mark.parametrize("dim", [1, -2])
def test_pad_together_pads_behind_the_end_and_cut_apart_gives_the_rows_back(dim):
    tensors = [torch.randn(2, length, 3) for length in (4, 1, 5)]
    padded, lengths = pad_together(tensors, dim)
    assert padded.shape == (3, 2, 5, 3)
    assert lengths.tolist() == [4, 1, 5]
    assert lengths.dtype is torch.int64
    assert padded[1, :, 1:].abs().sum() == 0
    for given in (lengths, lengths.tolist()):
        for one, row in zip(tensors, cut_apart(padded, given, dim), strict=True):
            assert torch.equal(one, row)


def test_pad_together_keeps_the_dtype_and_a_tensor_without_elements():
    padded, lengths = pad_together(
        [torch.zeros(0, 2, dtype=torch.int32), torch.ones(1, 2, dtype=torch.int32)]
    )
    assert padded.tolist() == [[[0, 0]], [[1, 1]]]
    assert padded.dtype is torch.int32
    assert lengths.tolist() == [0, 1]


def test_slot_cache_takes_the_lowest_free_slot_and_counts_the_rows():
    cache = SlotCache(4, keys=(2, 3))
    assert cache.keys.shape == (4, 2, 3)
    assert cache.num_rows == 0
    assert [cache.take() for _ in range(3)] == [0, 1, 2]
    cache.release(1)
    assert cache.num_rows == 3
    cache.release(2)
    assert cache.num_rows == 1
    assert [cache.take() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(KindAwareError, match="expected at most 4 streams with a slot, got one more"):
        cache.take()


def test_slot_cache_releases_a_slot_once():
    cache = SlotCache(2)
    slot = cache.take()
    cache.release(slot)
    with pytest.raises(KindAwareError, match="slot 0: expected a slot that is taken, got a free one"):
        cache.release(slot)


def test_slot_cache_without_slots_is_refused():
    with pytest.raises(ValueError, match="SlotCache num_slots: expected a whole number, 1 or more, got 0"):
        SlotCache(0)
    assert SlotCache(1).take() == 0


def test_slot_cache_is_prepared_like_a_module_and_not_saved():
    class Cached(KindAwareModel):
        precision = "bf16-true"
        warmup = "off"

        def load(self):
            self.cache = SlotCache(2, keys=(3,))

        def begin(self, N):
            return self.cache.take()

        def step(self, states):
            return [Done()] * len(states)

    model = Cached()
    model.initialize(make_args(CONFIG))
    assert model.cache.keys.dtype is torch.bfloat16
    assert model.cache.state_dict() == {}
    model.finalize()


def test_slot_cache_streams_keep_apart_in_slots_that_others_have_used():
    class Cached(Values):
        """Sums what it has counted, in its slot."""

        max_streams = 3

        def load(self):
            super().load()
            self.cache = SlotCache(self.settings.max_streams, totals=())
            self.cache.totals[:] = 1000

        def begin(self, N):
            state = super().begin(N)
            slot = self.cache.take()
            self.cache.totals[slot] = 0
            return (slot, state)

        def step(self, states):
            if len(self.begun) < 3:
                return [None] * len(states)
            return super().step(states)

        def result(self, state):
            slot, counter = state
            if counter.next >= counter.last:
                return Done(number(int(self.cache.totals[slot])))
            self.cache.totals[slot] += 1
            return Next((slot, counter._replace(next=counter.next + 1)))

        def end(self, state):
            super().end(state)
            self.cache.release(state[0])

    with open_harness(together(Cached, 3)) as model:
        numbers = [5, 20, 9, 14, 3, 30, 8]
        streams = [model.stream(N=[[n]]) for n in numbers]
        assert [seen(stream) for stream in streams] == [[n] for n in numbers]
        assert model.instance.cache.num_rows == 0
