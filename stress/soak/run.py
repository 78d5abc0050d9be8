"""The run: a server, clients in processes of their own, faults, and samples of the processes."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kindaware.testing import ServerError, TritonServer
from stress.soak.client import Client
from stress.soak.faults import KILL, KILL_CLIENT, KINDS, VICTIM, Fault, Faults
from stress.soak.processes import Sample, sample
from stress.soak.tally import Tally

MODELS = Path(__file__).resolve().parents[1] / "models"
NAMES = ("batched", "pipeline", "sequence", "step", "streaming", VICTIM)
NUM_CLIENTS = 2
AT_ONCE = 24
DRAIN_SECONDS = 20.0
_ABORT = "lock_exception"
_MAX_HEALS = 1_000
"""That none is given up: each is killed on purpose."""

_END_SECONDS = 90.0
"""How long a client may take to end after the last request has begun: longer than one counts as hung."""


@dataclass
class Run:
    """What a run has seen.

    Attributes:
        seconds: that it lasted.
        tally: the outcomes of all requests.
        faults: those that were made.
        samples: of the processes.
        problems: what went wrong with the run itself, such as a model that was not healed.
        returncode: the server's exit status.
        stop_seconds: how long its end took.
    """

    seconds: float
    tally: Tally
    faults: list[Fault] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    returncode: int | None = None
    stop_seconds: float = 0.0


def soak(
    seconds: float,
    per_second: float,
    fault_every_seconds: float,
    seed: int,
    cancels: bool,
    log_path: Path,
    say: Callable[[str], None],
) -> Run:
    """Load a server of its own for some time.

    Args:
        seconds: how long.
        per_second: most requests a second; an item of a stream counts as a quarter of one.
        fault_every_seconds: time between two faults.
        seed: decides about requests and faults.
        cancels: whether requests are cancelled, and clients killed with requests open.
        log_path: where the server's log goes.
        say: gets a line from time to time.
    """
    # Processes that don't share the threads of gRPC.
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        _write_models(Path(folder))
        server = TritonServer(folder, models=NAMES, heal=True, max_heals=_MAX_HEALS, log_path=log_path)
        _start(server, say)
        with contextlib.ExitStack() as stack:
            stack.callback(server.stop)
            started = time.time()
            run = Run(seconds, Tally(started))
            disturbed_until = context.Array("d", len(NAMES), lock=False)
            results: Any = context.SimpleQueue()
            clients = [
                context.Process(
                    target=_send,
                    daemon=True,
                    args=(
                        server.grpc_url,
                        seed * 100 + n + 1,
                        started,
                        started + seconds,
                        per_second / NUM_CLIENTS,
                        cancels,
                        disturbed_until,
                        results,
                    ),
                )
                for n in range(NUM_CLIENTS)
            ]
            kinds = [one for one in KINDS if cancels or one != KILL_CLIENT]
            faults = Faults(
                server, Path(folder), NAMES, disturbed_until, seconds, fault_every_seconds, seed, kinds
            )
            for one in (*clients, faults):
                one.start()
            _watch(run, server, started, say)
            faults.join()
            _collect(run, clients, results)
            run.faults, run.problems = faults.made, [*run.problems, *faults.errors]
            run.problems += _list_deaths(server, run.faults)
            if server.poll() is not None:
                run.problems.append("the server has ended")
            stopped = time.time()
            # As `kindaware serve` ends: what 2.51 never gives back doesn't hold it.
            server.stop(drain_seconds=DRAIN_SECONDS)
        run.returncode, run.stop_seconds = server.returncode, time.time() - stopped
    return run


def _start(server: TritonServer, say: Callable[[str], None]) -> None:
    """Start the server; once more if it aborts, as 2.51 does now and then while many stubs start."""
    try:
        server.start()
    except ServerError as error:
        if _ABORT not in str(error):
            raise
        say(f"the server is started once more, after {_ABORT}")
        server.start()


def _write_models(folder: Path) -> None:
    """Copy the models; the victim is one that batches, under a name of its own."""
    for name in NAMES:
        source = MODELS / ("batched" if name == VICTIM else name)
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        config = folder / name / "config.pbtxt"
        # One process per model, so that each has one line in the plots.
        text = config.read_text().replace("count: 2", "count: 1")
        config.write_text(text.replace('name: "batched"', f'name: "{name}"'))


def _watch(run: Run, server: TritonServer, started: float, say: Callable[[str], None]) -> None:
    interval = max(1.0, run.seconds / 600)
    said = 0.0
    while (second := time.time() - started) < run.seconds and server.poll() is None:
        run.samples += sample(server.pid, NAMES, second)
        if second - said >= 60:
            said = second
            say(f"{second:.0f} s of {run.seconds:.0f}")
        time.sleep(interval)


def _list_deaths(server: TritonServer, faults: Sequence[Fault]) -> Iterator[str]:
    """Yield which models have died more often than they were killed."""
    kills = Counter(one.model for one in faults if one.kind == KILL)
    for model, health in server.health().items():
        if health.num_deaths > kills[model]:
            yield f"{model} has died {health.num_deaths} times, and was killed {kills[model]} times"


def _collect(run: Run, clients: Sequence[Any], results: Any) -> None:
    deadline = time.time() + _END_SECONDS
    for _ in clients:
        while results.empty():
            if time.time() > deadline:
                run.problems.append("a client waits for an answer that doesn't come")
                break
            time.sleep(0.1)
        else:
            run.tally.merge(results.get())
    for one in clients:
        if one.is_alive():
            one.join(5)
        if one.is_alive():
            one.kill()


def _send(
    url: str,
    number: int,
    started: float,
    until: float,
    per_second: float,
    cancels: bool,
    disturbed_until: Sequence[float],
    results: Any,
) -> None:
    """Be a client, in a process of its own."""
    counts = Tally(started)

    def is_disturbed(model: str, since: float) -> bool:
        return disturbed_until[NAMES.index(model)] >= since

    client = Client(url, number, is_disturbed, counts, cancels=cancels)
    asyncio.run(client.run(until, AT_ONCE, per_second))
    results.put(counts)
