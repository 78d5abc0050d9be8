"""What goes wrong on purpose: stubs are killed, models reloaded, and clients killed with requests open."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kindaware.testing import TritonServer
from stress.soak.processes import newest_stub

VICTIM = "victim"
"""The model that goes on being killed and reloaded to the end; the others must stay as they are by then."""

KINDS = KILL, RELOAD, KILL_CLIENT = "kill", "reload", "kill client"

CALLERS = {"batched": ("pipeline",)}
"""Models that call another one."""

SEQUENCES = ("sequence",)
"""Models that a reload takes something from: their sequences end with it. To others it must not matter."""

QUIET_SECONDS = 12.0
"""How long before the end of a run the faults end."""

_HEAL_SECONDS = 120.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        second: since the start of the run.
        kind: `KILL`, `RELOAD` or `KILL_CLIENT`.
        model: that it has met; empty for a client.
        seconds: until the model served again.
    """

    second: float
    kind: str
    model: str
    seconds: float


class Faults(threading.Thread):
    """Makes a fault from time to time.

    Args:
        server: the server, which heals its models.
        folder: its model repository.
        models: of the server.
        disturbed_until: per model, until when its requests may fail, in seconds of `time.time`; infinite
            while that can't be told.
        seconds: how long the run lasts.
        every_seconds: between two faults.
        seed: decides which.
        kinds: of faults, in turn.
    """

    def __init__(
        self,
        server: TritonServer,
        folder: Path,
        models: Sequence[str],
        disturbed_until: MutableSequence[float],
        seconds: float,
        every_seconds: float,
        seed: int,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        super().__init__(name="faults")
        self.made: list[Fault] = []
        self.errors: list[str] = []
        self._server = server
        self._folder = folder
        self._models = list(models)
        self._disturbed_until = disturbed_until
        self._seconds = seconds
        self._every_seconds = every_seconds
        self._dice = random.Random(seed)
        self._kinds = kinds
        self._begun = time.time()

    def run(self) -> None:
        """Make faults until shortly before the end of the run, or until the server has ended."""
        makers = {KILL: self._kill, RELOAD: self._reload, KILL_CLIENT: self._kill_client}
        # By then the clients are at work.
        time.sleep(self._every_seconds)
        last = self._seconds - QUIET_SECONDS
        while (second := time.time() - self._begun) < last and self._server.poll() is None:
            model = self._dice.choice(self._models) if second < 0.4 * self._seconds else VICTIM
            kind = self._kinds[len(self.made) % len(self._kinds)]
            began = time.time()
            try:
                makers[kind](model)
            except Exception as error:  # each is a finding, and the run goes on
                self.errors.append(f"{second:.0f} s, {kind} {model}: {error!r}")
            took = time.time() - began
            self.made.append(Fault(second, kind, "" if kind == KILL_CLIENT else model, took))
            time.sleep(max(0.0, self._every_seconds - took))

    def _kill(self, model: str) -> None:
        """Kill a model's process, and wait until the server's guard has loaded the model again."""
        with self._disturbing(model, *CALLERS.get(model, ())):
            num_heals = self._server.health()[model].num_heals
            os.kill(self._newest_stub(model), signal.SIGKILL)
            deadline = time.time() + _HEAL_SECONDS
            while (health := self._server.health()[model]).num_heals == num_heals:
                if time.time() > deadline:
                    raise TimeoutError(f"not healed in {_HEAL_SECONDS:.0f} s: {health}")
                time.sleep(_POLL_SECONDS)

    def _reload(self, model: str) -> None:
        """Load a model again that serves; the server does so only if a file has changed."""
        with self._disturbing(*({model} & set(SEQUENCES))):
            before = self._newest_stub(model)
            os.utime(self._folder / model / "1" / "model.py")
            self._server.load(model)
            if self._newest_stub(model) == before:
                raise RuntimeError("it was not loaded again")

    def _kill_client(self, _: str) -> None:
        """Kill a client that has streams and batches open."""
        command = [sys.executable, "-m", "stress.soak.doomed", self._server.grpc_url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5 * self._dice.random())
        process.kill()
        process.wait()
        process.stdout.close()

    def _newest_stub(self, model: str) -> int:
        return newest_stub(self._server.pid, self._models, model)

    @contextmanager
    def _disturbing(self, *models: str) -> Iterator[None]:
        """Tell the clients that requests to these models may fail meanwhile."""
        places = [self._models.index(one) for one in models]
        for place in places:
            self._disturbed_until[place] = math.inf
        try:
            yield
        finally:
            for place in places:
                self._disturbed_until[place] = time.time()
