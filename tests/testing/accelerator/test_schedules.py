"""How far devices run ahead, and that it comes out the same each time."""

import pytest
import torch
from accelerator_kit import simulated
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindaware.testing.accelerator import Drawn, Latest, Seeded
from searches import examples

DEVICE = "cuda:1"


def run(schedule):
    """Run a program on three streams; gives what was done after each step, and the result."""
    done = []
    with simulated(schedule=schedule) as gpu:
        streams = [torch.cuda.Stream(DEVICE) for _ in range(3)]
        total = torch.zeros(4, device=DEVICE)
        for number in range(12):
            with torch.cuda.stream(streams[number % 3]):
                torch.cuda.current_stream().wait_stream(streams[(number - 1) % 3])
                if not number:
                    torch.cuda.current_stream().wait_stream(torch.cuda.default_stream(DEVICE))
                total += number
            done.append((gpu.timeline.num_done, *(one.queue.done for one in streams)))
        torch.cuda.synchronize(DEVICE)
        found = total.cpu().tolist()
        assert gpu.num_pending == 0
    return done, found, gpu.timeline.num_early


def test_latest_does_nothing_before_the_wait():
    done, found, num_early = run(Latest())
    assert found == [66] * 4
    assert {one[0] for one in done} == {0}
    assert num_early == 0


class Eager:
    """Does everything as soon as it is queued."""

    def advance(self, busy):
        return busy[0]


def test_schedule_may_do_everything_as_soon_as_it_is_queued():
    done, found, num_early = run(Eager())
    assert found == [66] * 4
    assert num_early == done[-1][0] + 1
    with simulated(schedule=Eager()) as gpu:
        late = torch.ones(2, device=DEVICE).to("cpu", non_blocking=True)
        assert late.tolist() == [1, 1]
        assert gpu.num_pending == 0


@pytest.mark.parametrize("seed", range(8))
def test_seeded_gives_the_same_interleaving_for_the_same_seed(seed):
    first, found, _ = run(Seeded(seed))
    again, _, _ = run(Seeded(seed))
    assert first == again
    assert found == [66] * 4


def test_seeded_gives_others_for_other_seeds():
    runs = [run(Seeded(seed)) for seed in range(20)]
    assert len({str(done) for done, _, _ in runs}) > 15
    assert any(num_early > 20 for _, _, num_early in runs)
    assert any(num_early < 10 for _, _, num_early in runs)
    assert repr(Seeded(3)) == "Seeded(3)"


@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_drawn_interleavings_give_the_same_result(data):
    done, found, num_early = run(Drawn(data))
    assert found == [66] * 4
    assert num_early or {one[0] for one in done} == {0}


def test_drawn_finds_a_program_that_reads_too_early_and_shows_the_earliest_failure():
    seen = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def reads_early(data):
        with simulated(schedule=Drawn(data)):
            late = torch.ones(1, device=DEVICE).to("cpu", non_blocking=True)
            seen.append(late.item())
            assert late.item() == 1

    with pytest.raises(AssertionError):
        reads_early()
    assert seen[-1] != 1


def test_drawn_program_of_many_operations_stays_within_what_may_be_drawn():
    sizes = []

    @settings(max_examples=5, deadline=None, database=None)
    @given(st.data())
    def long(data):
        with simulated(schedule=Drawn(data)):
            x = torch.ones(2, device=DEVICE)
            for _ in range(400):
                x = x + 1
            sizes.append(x.cpu()[0].item())

    long()
    assert set(sizes) == {401}


@pytest.mark.parametrize("schedule", [Latest(), Seeded(1), Seeded(4)])
def test_a_race_is_reported_whatever_the_schedule(schedule):
    with simulated(schedule=schedule, expects_violations=True):
        tensor = torch.zeros(2, device=DEVICE)
        with torch.cuda.stream(torch.cuda.Stream(DEVICE)):
            tensor += 1


def test_random_numbers_do_not_depend_on_the_schedule_nor_on_the_hosts():
    def draw(schedule, *, draws_on_host):
        with simulated(schedule=schedule):
            torch.manual_seed(5)
            one = torch.randn(3, device=DEVICE)
            if draws_on_host:
                torch.rand(7)
            other = torch.rand(3, device=DEVICE)
            return one.cpu().tolist(), other.cpu().tolist()

    assert draw(Latest(), draws_on_host=False) == draw(Seeded(2), draws_on_host=True)
    one, other = draw(Latest(), draws_on_host=False)
    assert one != other


def test_random_numbers_of_a_device_leave_the_hosts_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3).tolist()
    with simulated():
        torch.manual_seed(5)
        torch.rand(9, device=DEVICE).cpu()
        assert torch.rand(3).tolist() == wanted
        torch.cuda.manual_seed_all(1)
        first = torch.rand(3, device=DEVICE).cpu().tolist()
        with torch.cuda.device(1):
            torch.cuda.manual_seed(1)
        assert torch.rand(3, device=DEVICE).cpu().tolist() == first
