"""What goes wrong on purpose: stubs are killed, models reloaded, and clients killed with requests open."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass

from kindaware.testing import TritonServer
from stress.soak.processes import list_stubs

VICTIM = "victim"
"""The model that goes on being killed and reloaded to the end; the others must stay as they are by then."""

CALLERS = {"batched": ("pipeline",)}
"""Models that call another one."""

GRACE_SECONDS = 6.0
"""How long after a fault requests may still fail that it has met: a sequence goes on for a while."""

_HEAL_SECONDS = 120.0


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        second: since the start of the run.
        kind: `kill`, `reload` or `client`.
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
        server: the server, with explicit model control.
        models: of the server.
        disturbed_until: per model, until when its requests may fail, in seconds of `time.time`.
        seconds: how long the run lasts.
        every_seconds: between two faults.
        seed: decides which.
    """

    def __init__(
        self,
        server: TritonServer,
        models: Sequence[str],
        disturbed_until: MutableSequence[float],
        seconds: float,
        every_seconds: float,
        seed: int,
    ) -> None:
        super().__init__(name="faults")
        self.made: list[Fault] = []
        self.errors: list[str] = []
        self._server = server
        self._models = list(models)
        self._disturbed_until = disturbed_until
        self._seconds = seconds
        self._every_seconds = every_seconds
        self._dice = random.Random(seed)
        self._started = time.time()

    def run(self) -> None:
        """Make faults until shortly before the end of the run."""
        kinds = [self._kill, self._reload, self._kill_client]
        while (second := time.time() - self._started) < self._seconds - 2 * GRACE_SECONDS:
            model = self._dice.choice(self._models) if second < 0.4 * self._seconds else VICTIM
            make = kinds[len(self.made) % len(kinds)]
            began = time.time()
            try:
                make(model)
            except Exception as error:  # each is a finding, and the run goes on
                self.errors.append(f"{second:.0f} s, {make.__name__} {model}: {error!r}")
            took = time.time() - began
            kind = make.__name__.removeprefix("_").replace("_", " ")
            self.made.append(Fault(second, kind, "" if make == self._kill_client else model, took))
            time.sleep(max(0.0, self._every_seconds - took))

    def _kill(self, model: str) -> None:
        self._disturb(model, _HEAL_SECONDS)
        (pid, *_) = [one for one, name in list_stubs(self._server.pid, self._models).items() if name == model]
        os.kill(pid, signal.SIGKILL)
        # Triton doesn't start another: whoever watches it unloads the model, and loads it again.
        self._server.unload(model)
        self._server.load(model)
        self._disturb(model, GRACE_SECONDS)

    def _reload(self, model: str) -> None:
        self._disturb(model, _HEAL_SECONDS)
        self._server.load(model)
        self._disturb(model, GRACE_SECONDS)

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

    def _disturb(self, model: str, seconds: float) -> None:
        for one in (model, *CALLERS.get(model, ())):
            self._disturbed_until[self._models.index(one)] = time.time() + seconds
