"""What the soak takes an error for: only a fault that has met the request, or its batch, excuses it."""

import asyncio
import os
import subprocess
import time

import pytest
from stress.soak import processes, run, tally
from stress.soak.client import Client
from stress.soak.faults import QUIET_SECONDS, Faults
from stress.soak.tally import Tally

from kindaware.testing import ServerError

BEGAN, LATER = 100.0, 200.0
ALLOCATOR = "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory"


def outcome_of(model, code="INTERNAL", text="ValueError: no", fault="", disturbed_until=0.0, since=None):
    counts = Tally(time.time())
    client = Client("", 1, lambda name, since: disturbed_until >= since, counts)
    client._note_error(model, code, text, fault, BEGAN, since)
    ((outcome, number),) = counts.outcomes[model].items()
    assert number == 1
    return outcome


def test_error_for_no_reason_must_not_be():
    assert outcome_of("batched") == outcome_of("batched", fault="large") == tally.UNEXPECTED
    assert outcome_of("step", disturbed_until=BEGAN - 1) == tally.UNEXPECTED


@pytest.mark.parametrize("fault", ["shape", "poison", "memory"])
def test_error_of_a_faulty_request_is_its_answer(fault):
    assert outcome_of("batched", fault=fault) == tally.REFUSED


def test_model_that_was_away_since_the_request_began_excuses_its_error():
    assert outcome_of("batched", "NOT_FOUND", disturbed_until=LATER) == tally.UNAVAILABLE
    assert outcome_of("sequence", disturbed_until=BEGAN - 5, since=BEGAN - 9) == tally.UNAVAILABLE
    assert outcome_of("sequence", disturbed_until=BEGAN - 5) == tally.UNEXPECTED


def test_request_without_an_answer_hangs_unless_its_stream_lost_its_process():
    late = "DEADLINE_EXCEEDED"
    assert outcome_of("streaming", late, disturbed_until=LATER) == tally.ORPHANED
    assert outcome_of("streaming", late) == tally.HUNG
    assert outcome_of("batched", late, disturbed_until=LATER) == tally.HUNG


def test_batch_with_faulty_requests_excuses_what_could_not_be_searched_or_halved():
    assert outcome_of("batched", text="got more than 0.5 of it (max_isolation)") == tally.UNLUCKY
    assert outcome_of("pipeline", text=ALLOCATOR) == tally.UNLUCKY
    assert outcome_of("batched", text=ALLOCATOR) == tally.UNEXPECTED


def test_cancelled_request_may_end_as_it_likes():
    assert outcome_of("step", "CANCELLED", fault="cancel") == tally.CANCELLED


def test_newest_process_is_the_one_that_was_started_last_whatever_its_id(monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as later:
        pids = [os.getpid(), later.pid]
        for order in (pids, pids[::-1]):
            stubs = {**dict.fromkeys(order, "step"), 2**22: "step", 1: "other"}
            monkeypatch.setattr(processes, "list_stubs", lambda *_, stubs=stubs: stubs)
            assert processes.newest_stub(0, ["step", "other"], "step") == later.pid
        # As if ids had come round: the later one has the smaller id.
        monkeypatch.setattr(processes, "_started", lambda pid: -pid)
        assert processes.newest_stub(0, ["step", "other"], "step") == min(pids)
        later.kill()


@pytest.mark.parametrize(("words", "num_starts"), [("lock_exception", 2), ("no memory", 1)])
def test_server_that_aborts_while_stubs_start_is_started_once_more(words, num_starts):
    started = []

    class Server:
        def start(self):
            started.append(1)
            if len(started) == 1:
                raise ServerError(f"tritonserver: got its end; the log ends: {words}")

    if num_starts == 1:
        with pytest.raises(ServerError, match=words):
            run._start(Server(), print)
    else:
        run._start(Server(), print)
    assert len(started) == num_starts


@pytest.mark.parametrize("cancels", [True, False])
def test_client_cancels_unless_it_is_told_not_to(monkeypatch, cancels):
    faults = set()

    async def ask(self, model, tensors, wanted, fault):
        faults.add(fault)

    async def send():
        client = Client("", 1, lambda model, since: False, Tally(time.time()), cancels=cancels)
        for _ in range(2000):
            await client._ask_batch()

    monkeypatch.setattr(Client, "_ask", ask)
    asyncio.run(send())
    assert faults == {"", "large", "shape", "poison", "memory", *(["cancel"] if cancels else [])}


@pytest.mark.parametrize(("returncode", "kinds"), [(None, ["kill", "reload"] * 2), (-11, [])])
def test_faults_of_the_wanted_kinds_come_in_turn_until_the_server_has_ended(
    monkeypatch, tmp_path, returncode, kinds
):
    class Server:
        def poll(self):
            return returncode

    made = Faults(Server(), tmp_path, ["m"], [], QUIET_SECONDS + 0.8, 0.1, 0, ["kill", "reload"])
    for name in ("_kill", "_reload"):
        monkeypatch.setattr(made, name, lambda model: None)
    made.run()
    assert [one.kind for one in made.made][:4] == kinds
