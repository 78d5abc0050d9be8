"""Rounds of cases, each sent at once, beside clients that do nothing wrong."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from kindaware._server.keeper import list_children
from kindaware.testing import TritonServer
from stress.fuzz.cases import Case, cases, right_request
from stress.fuzz.judge import judge
from stress.fuzz.wire import Outcome, Wire

MODELS = Path(__file__).resolve().parents[1] / "models"
AT_ONCE = 16
NUM_RIGHT = 2
MOST_FINDINGS = 50
_ROUNDS = 10
"""Rounds per run of hypothesis, whose memory of what it has drawn grows."""


@dataclass
class Report:
    """What a run has found.

    Attributes:
        seed: of the run.
        num_sent: requests that were drawn.
        num_right: requests of the clients that do nothing wrong.
        num_refused: those of them that shared a batch with a faulty one, and were told so.
        seconds: that it took.
        outcomes: how often which answer came, by protocol.
        findings: what must not be, with the case.
    """

    seed: int
    num_sent: int = 0
    num_right: int = 0
    num_refused: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Return the report as text."""
        lines = [
            f"{self.num_sent} requests in {self.seconds:.0f} s, seed {self.seed}",
            f"beside them {self.num_right} of clients that do nothing wrong; {self.num_refused} were refused "
            "because of a faulty one in the same batch",
            *(f"  {number:7d} {what}" for what, number in self.outcomes.most_common()),
            f"{len(self.findings)} findings",
            *self.findings,
        ]
        return "\n".join(lines)


def fuzz(num_inputs: int, seed_number: int, say: Callable[[str], None]) -> Report:
    """Send so many requests to a server of its own.

    Args:
        num_inputs: at least so many, in rounds of 16.
        seed_number: decides which.
        say: gets a line from time to time.
    """
    report = Report(seed_number)
    started = time.monotonic()
    args = ["--disable-auto-complete-config"]
    with TritonServer(MODELS, stop_timeout_seconds=60, args=args) as server:
        say(f"the server is ready after {time.monotonic() - started:.0f} s")
        stubs = list_children(server.pid)
        wire = Wire(server.http_url, server.grpc_url)
        stop = threading.Event()
        clients = [
            threading.Thread(target=_do_right, args=(wire, report, number, stop))
            for number in range(NUM_RIGHT)
        ]
        for one in clients:
            one.start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                number = seed_number
                while report.num_sent < num_inputs and len(report.findings) < MOST_FINDINGS:
                    num_rounds = min(_ROUNDS, -(-(num_inputs - report.num_sent) // AT_ONCE))
                    _run(wire, pool, report, number, num_rounds, server)
                    number += 1_000_003
                    seconds = time.monotonic() - started
                    say(f"{report.num_sent} sent, {len(report.findings)} findings, {seconds:.0f} s")
        finally:
            stop.set()
            for one in clients:
                one.join()
            wire.close()
        if list_children(server.pid).keys() != stubs.keys() or server.poll() is not None:
            report.findings.append(f"a process has ended: {stubs} before, {list_children(server.pid)} after")
        _read_log(server.log_text(), report)
    report.seconds = time.monotonic() - started
    return report


def _run(
    wire: Wire,
    pool: ThreadPoolExecutor,
    report: Report,
    number: int,
    num_rounds: int,
    server: TritonServer,
) -> None:
    @seed(number)
    @settings(
        max_examples=num_rounds,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(cases, min_size=AT_ONCE, max_size=AT_ONCE))
    def send_all(drawn: list[Case]) -> None:
        if len(report.findings) >= MOST_FINDINGS:
            return
        for case, outcome in zip(drawn, pool.map(wire.send, drawn), strict=True):
            _note(report, case, outcome)
        if server.poll() is not None:
            report.findings += [f"the server has ended after {drawn}"] * MOST_FINDINGS

    send_all()


def _note(report: Report, case: Case, outcome: Outcome) -> None:
    report.num_sent += 1
    report.outcomes[f"{case.protocol} {outcome.kind} {outcome.code}"] += 1
    wrong = judge(case, outcome)
    if wrong is not None and len(report.findings) < MOST_FINDINGS:
        report.findings.append(f"{wrong}\n    {case!r}")


def _do_right(wire: Wire, report: Report, client: int, stop: threading.Event) -> None:
    """Send requests that are right, one after another, and compare each answer with its own."""
    dice = random.Random(client)
    number = 0
    while not stop.is_set():
        number += 1
        case = right_request(dice.randrange(2**40), number)
        outcome = wire.send(case)
        report.num_right += 1
        wrong = judge(case, outcome)
        if wrong is None and outcome.kind == "error":
            # It shared a batch with more faulty ones than the search finds, or there was no time for one.
            if "a poisoned row" in outcome.text or "max_isolation" in outcome.text:
                report.num_refused += 1
            else:
                wrong = f"right request refused: {outcome.code} {outcome.text}"
        if wrong is not None and len(report.findings) < MOST_FINDINGS:
            report.findings.append(f"{wrong}\n    {case!r}")
        time.sleep(0.005)


def _read_log(log: str, report: Report) -> None:
    """Look for what the library itself has raised: only hooks of the models may."""
    for line in log.splitlines():
        if "expected execute to return" in line or "FINAL not sent" in line or "Stub process" in line:
            report.findings.append(f"log: {line[:400]}")
