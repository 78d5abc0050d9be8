"""Kill a model's process on a real server under load, and measure what clients see until it serves again.

    python kill_a_stub.py --rounds 5 --output kill
    python kill_a_stub.py --quick --output kill    # one round, in half a minute

`kindaware serve` starts the server with two models. Each gets requests at a fixed rate, whether or not the
ones before are answered. Then the process of one of them is killed with SIGKILL. Each round has a server of
its own. It writes kill/kill.json, and kill/kill.svg with the latency through the round of median length.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from machine import describe_run

VICTIM, OTHER = "victim", "other"
MODEL = """
import torch

from kindaware import KindAwareModel, TensorSpec


class TritonPythonModel(KindAwareModel):
    inputs = (TensorSpec("X", "FP32", [64]),)
    outputs = (TensorSpec("Y", "FP32", [64]),)
    max_batch_size = 32

    def load(self):
        return torch.nn.Linear(64, 64)

    def forward(self, X):
        return self.model(X)
"""
CONFIG = """
backend: "python"
max_batch_size: 32
input [ { name: "X", data_type: TYPE_FP32, dims: [ 64 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ 64 ] } ]
instance_group [ { kind: KIND_CPU } ]
dynamic_batching { }
"""
BODY = json.dumps(
    {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}]}
).encode()
NUM_CLIENTS = 64
POLL_SECONDS = 0.02
LOGGED = re.compile(r"^[IWE](\d{4} [\d:.]+) .*(loading: |successfully loaded ')(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What came of one request.

    Attributes:
        sent: when it was due, in seconds.
        seconds: from then until the answer.
        error: the server's words; empty for an answer.
    """

    sent: float
    seconds: float
    error: str


class Server:
    """`kindaware serve` with its events."""

    def __init__(self, models, log):
        self.log = log
        self.events = []
        self.changed = threading.Condition()
        ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics", "health")]
        command = [
            sys.executable,
            "-m",
            "kindaware.cli",
            "serve",
            str(models),
            "--json",
            "--log-file",
            str(log),
        ]
        args = ["--", "--disable-auto-complete-config"]
        self.process = subprocess.Popen([*command, *ports, *args], stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.http = self.wait_for("ready")["http"]

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                self.events.append({"seen": time.monotonic(), **json.loads(line)})
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "end"})
            self.changed.notify_all()

    def wait_for(self, name, seconds=300):
        """Return the first event of this name."""

        def find():
            return [one for one in self.events if one["event"] in (name, "end")]

        with self.changed:
            if not self.changed.wait_for(find, seconds) or find()[0]["event"] == "end":
                raise SystemExit(f"no event {name!r} from kindaware serve, only {self.events}")
            return find()[0]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.reader.join()
        self.process.stdout.close()


class Load:
    """Requests to one model at a fixed rate."""

    def __init__(self, address, model, rate):
        self.address, self.path, self.rate = address, f"/v2/models/{model}/infer", rate
        self.answers = []
        self.ended = threading.Event()
        self.local = threading.local()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        begun = time.monotonic()
        with ThreadPoolExecutor(NUM_CLIENTS) as pool:
            for number in range(10**9):
                due = begun + number / self.rate
                if self.ended.wait(max(due - time.monotonic(), 0)):
                    return
                pool.submit(self.send, due)

    def send(self, due):
        error = ""
        try:
            connection = self.local.connection
        except AttributeError:
            connection = self.local.connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request("POST", self.path, BODY, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                text = response.read().decode()
                if response.status != 200:
                    error = json.loads(text)["error"]
        except (OSError, http.client.HTTPException) as raised:
            connection.close()
            error = f"{type(raised).__name__}: {raised}"
        self.answers.append(Answer(due, time.monotonic() - due, error))

    def end(self):
        self.ended.set()
        self.thread.join()
        self.answers.sort(key=lambda one: one.sent)


class Readiness:
    """When the server said of the victim that it is ready, and when not."""

    def __init__(self, address):
        self.address = address
        self.changes = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.wait(POLL_SECONDS):
            with contextlib.closing(http.client.HTTPConnection(self.address, timeout=10)) as connection:
                connection.request("GET", f"/v2/models/{VICTIM}/ready")
                is_ready = connection.getresponse().status == 200
            if not self.changes or self.changes[-1][1] != is_ready:
                self.changes.append((time.monotonic(), is_ready))

    def end(self):
        self.ended.set()
        self.thread.join()


def find_process(model):
    """Return the process of a model: its command line names the model's file."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"triton_python_backend_stub") and f"/{model}/1/".encode() in words[1]:
                    return int(entry.name)
    raise SystemExit(f"no process of model {model!r}")


def read_load_seconds(log, model):
    """Return how long the last load of a model took, by the server's own log."""
    times = {}
    for stamp, what, name in LOGGED.findall(log.read_text(errors="replace")):
        if name == model:
            times[what] = datetime.strptime(f"2000{stamp}", "%Y%m%d %H:%M:%S.%f")
    return (times["successfully loaded '"] - times["loading: "]).total_seconds()


def describe(answers):
    """Return count, errors and latencies of some answers."""
    served = sorted(one.seconds * 1000 for one in answers if not one.error)
    summary = {"requests": len(answers), "failed": len(answers) - len(served)}
    if len(served) > 1:
        cuts = statistics.quantiles(served, n=100, method="inclusive")
        summary |= {"p50_ms": cuts[49], "p99_ms": cuts[98], "max_ms": served[-1]}
    return {name: round(value, 2) for name, value in summary.items()}


def rehearse(rate, calm_seconds, folder):
    """Return what was measured, and the answers of both models with the moment of the kill."""
    models = folder / "models"
    for model in (VICTIM, OTHER):
        (models / model / "1").mkdir(parents=True)
        (models / model / "1" / "model.py").write_text(MODEL)
        (models / model / "config.pbtxt").write_text(CONFIG)
    server = Server(models, folder / "server.log")
    loads = [Load(server.http, model, rate) for model in (VICTIM, OTHER)]
    readiness = Readiness(server.http)
    try:
        time.sleep(calm_seconds)
        os.kill(find_process(VICTIM), signal.SIGKILL)
        killed = time.monotonic()
        healed = server.wait_for("healed")["seen"]
        time.sleep(calm_seconds)
    finally:
        for one in (*loads, readiness):
            one.end()
        server.close()
    load_seconds = read_load_seconds(server.log, VICTIM)
    victim, other = (one.answers for one in loads)
    first = next(one for one in victim if one.sent > killed and not one.error)
    phases = {
        "before": [one for one in other if one.sent < killed],
        "while it was away": [one for one in other if killed <= one.sent < healed],
        "after": [one for one in other if one.sent >= healed],
    }
    failed = [one for one in victim if one.error]
    found = {
        "rate_per_second": rate,
        "not_ready_after_seconds": next(at for at, is_ready in readiness.changes if not is_ready) - killed,
        "served_again_after_seconds": first.sent + first.seconds - killed,
        "load_seconds": load_seconds,
        "victim": {**describe(victim), "longest_error_seconds": max(one.seconds for one in failed)},
        "victim_errors": sorted({re.sub(r"\d+", "N", one.error) for one in failed}),
        "other": {name: describe(answers) for name, answers in phases.items()},
    }
    found = {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}
    return found, victim, other, killed


def check(found):
    """Return which bars were missed."""
    other = found["other"]
    served, allowed = found["served_again_after_seconds"], found["load_seconds"] + 2
    return [
        text
        for is_missed, text in (
            (found["not_ready_after_seconds"] > 1, "not ready within 1 s"),
            (served > allowed, f"served again within {allowed:.2f} s"),
            (any(one["failed"] for one in other.values()), "no request of the other model fails"),
        )
        if is_missed
    ]


def plot(victim, other, killed, path):
    """Draw the latency of each request over time."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axis = figure.subplots()
    shown = (
        ("other model", [one for one in other if not one.error], "#7f7f7f", "."),
        ("killed model", [one for one in victim if not one.error], "#1f77b4", "."),
        ("killed model, an error", [one for one in victim if one.error], "#d62728", "x"),
    )
    for label, answers, color, marker in shown:
        axis.plot(
            [one.sent - killed for one in answers],
            [one.seconds * 1000 for one in answers],
            marker,
            color=color,
            markersize=4,
            label=label,
        )
    axis.axvline(0, color="black", linewidth=1)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.set_xlabel("seconds after the process was killed")
    axis.set_ylabel("time until the answer, ms")
    axis.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(path, metadata={"Date": None})


def summarize(rounds):
    """Return median, least and most of each figure over the rounds."""
    other = [one["other"] for one in rounds]
    figures = {
        "not ready after, s": [one["not_ready_after_seconds"] for one in rounds],
        "served again after, s": [one["served_again_after_seconds"] for one in rounds],
        "loading took, s": [one["load_seconds"] for one in rounds],
        "longest wait for an error, s": [one["victim"]["longest_error_seconds"] for one in rounds],
        "requests to the killed model that failed": [one["victim"]["failed"] for one in rounds],
        "requests to the other model that failed": [
            sum(phase["failed"] for phase in one.values()) for one in other
        ],
        **{
            f"p99 of the other model {phase}, ms": [one[phase]["p99_ms"] for one in other]
            for phase in other[0]
        },
    }
    spread = {"median": statistics.median, "least": min, "most": max}
    return {
        name: {word: round(of(values), 2) for word, of in spread.items()} for name, values in figures.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("kill"), help="a folder for what is found")
    parser.add_argument("--rate", type=float, default=50, help="requests per second to each model")
    parser.add_argument(
        "--seconds", type=float, default=10, help="of load before the kill and after the heal"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round, with 2 s before and after")
    options = parser.parse_args()
    num_rounds, seconds = (1, 2.0) if options.quick else (options.rounds, options.seconds)
    facts = describe_run()
    options.output.mkdir(parents=True, exist_ok=True)
    rounds, drawn, missed = [], [], []
    for _ in range(num_rounds):
        with tempfile.TemporaryDirectory(prefix="kindaware-kill-") as folder:
            found, *answers = rehearse(options.rate, seconds, Path(folder))
        rounds.append(found)
        drawn.append(answers)
        missed += check(found)
        print(json.dumps(found, indent=2), flush=True)
    figures = {**facts, "summary": summarize(rounds), "rounds": rounds}
    (options.output / "kill.json").write_text(json.dumps(figures, indent=1) + "\n")
    by_length = sorted(range(num_rounds), key=lambda n: rounds[n]["served_again_after_seconds"])
    plot(*drawn[by_length[num_rounds // 2]], options.output / "kill.svg")
    for name, one in figures["summary"].items():
        print(f"{name}: {one['median']:g} ({one['least']:g} to {one['most']:g})")
    for text in missed:
        print(f"MISSED: {text}")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
