"""Stubs and models that have not gone on for too long."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kindaware._execute.beat import read_beat
from kindaware._server.healing.stubs import Stub

_SAMPLE = re.compile(
    r"^nv_inference_(?P<what>exec_count|request_success|request_failure|pending_request_count)"
    r'\{[^}\n]*?model="(?P<model>[^"]*)"[^}\n]*\} (?P<value>\S+)',
    re.MULTILINE,
)


@dataclass(frozen=True)
class Hang:
    """A model that hangs.

    Attributes:
        model: its name.
        pids: the stubs that don't go on.
        seconds: for how long.
        evidence: how that was found out.
    """

    model: str
    pids: Sequence[int]
    seconds: float
    evidence: str


class HangFinder:
    """Tells stubs that hang from slow ones, by a limit of the user's.

    An instance of a kindaware model writes a beat. Of another model only this is known: that requests wait,
    and that none is answered meanwhile.

    Args:
        limit_seconds: how long a call of a model's code may take.
        beats: the folder of the beats.
        read_metrics: returns the server's metrics.
        now: seconds as `time.monotonic` counts them.
    """

    def __init__(
        self,
        limit_seconds: float,
        beats: Path,
        read_metrics: Callable[[], str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_seconds = limit_seconds
        self._beats = beats
        self._read_metrics = read_metrics
        self._now = now
        self._stalled: dict[str, tuple[float, float]] = {}

    def find(self, stubs: Mapping[str, Iterable[Stub]]) -> list[Hang]:
        """Return the models that hang.

        Args:
            stubs: of each ready model.

        Raises:
            ServerError: the metrics can't be read.
        """
        hangs, silent = [], []
        for model, its in stubs.items():
            since = {stub.pid: read_beat(self._beats, stub.pid) for stub in its}
            beating = {pid: begun for pid, begun in since.items() if begun is not None}
            if not beating:
                silent.append(model)
                continue
            seconds = {pid: self._now() - begun for pid, begun in beating.items() if begun}
            stuck = {pid: each for pid, each in seconds.items() if each > self._limit_seconds}
            if stuck:
                evidence = "a call of its code has not returned"
                hangs.append(Hang(model, sorted(stuck), max(stuck.values()), evidence))
        return hangs + (self._find_stalled({one: list(stubs[one]) for one in silent}) if silent else [])

    def _find_stalled(self, stubs: Mapping[str, Sequence[Stub]]) -> list[Hang]:
        """Return the models whose requests wait while none is answered."""
        progress = read_progress(self._read_metrics())
        before, self._stalled = self._stalled, {}
        hangs = []
        for model, its in stubs.items():
            num_waiting, num_done = progress.get(model, (0.0, 0.0))
            if not num_waiting or not its:
                continue
            done, since = before.get(model, (num_done, self._now()))
            if done != num_done:
                since = self._now()
            self._stalled[model] = num_done, since
            seconds = self._now() - since
            if seconds > self._limit_seconds:
                evidence = f"{num_waiting:.0f} request(s) wait, and none is answered"
                hangs.append(Hang(model, [stub.pid for stub in its], seconds, evidence))
        return hangs


def read_progress(metrics: str) -> dict[str, tuple[float, float]]:
    """Return of each model how many requests wait, and a number that grows when one is answered."""
    waiting: dict[str, float] = {}
    done: dict[str, float] = {}
    for sample in _SAMPLE.finditer(metrics):
        counts = waiting if sample["what"] == "pending_request_count" else done
        counts[sample["model"]] = counts.get(sample["model"], 0.0) + float(sample["value"])
    return {model: (count, done.get(model, 0.0)) for model, count in waiting.items()}
