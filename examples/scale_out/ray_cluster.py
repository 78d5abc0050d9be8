"""Rehearse an outage, a rollout and a scale-up on a Ray cluster of two nodes on this machine.

A load of requests over HTTP goes on all the while; every answer is checked against its own request. Writes
the figures as JSON, and a plot of latency over time.

    python examples/scale_out/ray_cluster.py --output rehearsal
    python examples/scale_out/ray_cluster.py --output rehearsal --quick
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

MODELS = Path(__file__).parent / "ray_models"
TRIES, PAUSE_SECONDS, TIMEOUT_SECONDS = 20, 0.25, 120
EVENT, DONE = "event", "done"
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",  # a node of a busy machine takes longer than by default
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",  # by default the number follows after 10 s
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}


@dataclass
class Sent:
    """One request: when it was sent, how long its answer took, and what went wrong before.

    Attributes:
        at: seconds since the load began.
        seconds: from the first try to the answer.
        factor: by which the model has multiplied; None without an answer.
        errors: of tries that failed.
    """

    at: float
    seconds: float = 0.0
    factor: float | None = None
    errors: list[str] = field(default_factory=list)


class Load:
    """Sends requests at a constant rate from a thread, however long the answers take.

    Args:
        url: of the model.
        per_second: the rate.
    """

    def __init__(self, url: str, per_second: float) -> None:
        self._url = url
        self._per_second = per_second
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.sent: list[Sent] = []
        self.marks: dict[str, float] = {}

    def __enter__(self) -> "Load":
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self._began

    def mark(self, name: str) -> None:
        """Remember when something happened."""
        self.marks[name] = self.now()

    async def _run(self) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            tasks = []
            while not self._ends.is_set():
                tasks.append(asyncio.create_task(self._ask(session, len(tasks) + 1.0)))
                await asyncio.sleep(max(0.0, len(tasks) / self._per_second - self.now()))
            await asyncio.gather(*tasks)

    async def _ask(self, session, number: float) -> None:
        """Send a request with a number of its own, again where it fails in a way that may pass."""
        import aiohttp

        sent = Sent(self.now())
        self.sent.append(sent)
        tensor = {"name": "X", "datatype": "FP64", "shape": [1, 1], "data": [number]}
        for _ in range(TRIES):
            try:
                async with session.post(self._url, json={"inputs": [tensor]}) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        sent.factor = json.loads(text)["outputs"][0]["data"][0] / number
                        break
                    sent.errors.append(f"{answer.status} {text}"[:300])
                    if answer.status < 500:
                        break
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                sent.errors.append(f"{type(error).__name__} {error}"[:300])
            await asyncio.sleep(PAUSE_SECONDS)
        sent.seconds = self.now() - sent.at


def summarize(load: Load, factors: set[float]) -> dict:
    """Return the figures of a phase; answers must be of these factors."""
    answered = [one for one in load.sent if one.factor is not None]
    event, done = load.marks[EVENT], load.marks[DONE]
    during = [one.seconds for one in answered if event <= one.at < done]
    calm = [one.seconds for one in answered if one.at < event or one.at >= done]
    return {
        "requests": len(load.sent),
        "lost": len(load.sent) - len(answered),
        "wrong": sum(one.factor not in factors for one in answered),
        "failed_tries": sum(len(one.errors) for one in load.sent),
        "requests_tried_again": sum(bool(one.errors) for one in answered),
        "errors": sorted({error[:100] for one in load.sent for error in one.errors})[:5],
        "seconds_from_event_to_done": round(done - event, 2),
        "calm_ms": quantiles(calm),
        "during_ms": quantiles(during),
        "marks": {name: round(at, 2) for name, at in load.marks.items()},
    }


def quantiles(seconds: list[float]) -> dict:
    """Return p50, p99 and the maximum in milliseconds."""
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "p50": round(cuts[49] * 1e3, 1),
        "p99": round(cuts[98] * 1e3, 1),
        "max": round(max(seconds) * 1e3, 1),
    }


@contextlib.contextmanager
def cluster():
    """Run two nodes on this machine, and Serve on them; yields the cluster and Serve's HTTP port."""
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        nodes.add_node(num_cpus=4, include_dashboard=False, node_ip_address="127.0.0.1")
        nodes.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
        port = free_port()
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        yield nodes, port
    finally:
        if ray.is_initialized():  # else Serve would start a cluster to shut down
            serve.shutdown()
            ray.shutdown()
        nodes.shutdown()


def say(text: str) -> None:
    """Print what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def deploy(models: Path, **options) -> None:
    """Deploy the models, or a change of them; waits until all replicas are of it."""
    from ray import serve

    from kindaware._server.repository_digest import digest_repositories
    from kindaware.ray import triton_app

    digest = digest_repositories([str(models)])
    serve.run(triton_app(models, digest=digest, **options), name="models", route_prefix="/")


def wait_for(load: Load, condition, seconds: float) -> None:
    """Wait until something is so, while the load goes on.

    Raises:
        TimeoutError: it is not within that time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s, {load.now():.1f} s after the load began")
        time.sleep(0.1)


def running_replicas() -> int:
    """Return how many replicas run."""
    from ray import serve

    deployment = serve.status().applications["models"].deployments["TritonReplica"]
    return deployment.replica_states.get("RUNNING", 0)


def rehearse_outage(nodes, url: str, per_second: float, calm_seconds: float) -> Load:
    """Kill the second node with its replica under load; done when a replacement runs."""
    with Load(url, per_second) as load:
        time.sleep(calm_seconds)
        (second,) = nodes.worker_nodes
        load.mark(EVENT)
        nodes.remove_node(second, allow_graceful=False)
        wait_for(load, lambda: running_replicas() < 2, 60)
        load.mark("Ray has noticed")
        wait_for(load, lambda: running_replicas() == 2, 120)
        load.mark(DONE)
        time.sleep(calm_seconds)
    return load


def rehearse_rollout(models: Path, url: str, per_second: float, calm_seconds: float, **options) -> Load:
    """Change the repository and deploy it under load; done when every replica is of the change."""
    with Load(url, per_second) as load:
        time.sleep(calm_seconds)
        code = models / "double" / "1" / "model.py"
        code.write_text(code.read_text().replace("FACTOR = 2", "FACTOR = 3"))
        load.mark(EVENT)
        deploy(models, **options)
        load.mark(DONE)
        time.sleep(calm_seconds)
    return load


def rehearse_scale_up(url: str, per_second: float, calm_seconds: float) -> Load:
    """Send more than one replica answers; done when a second one runs."""
    with Load(url, per_second) as load:
        load.mark(EVENT)
        wait_for(load, lambda: running_replicas() == 2, 180)
        load.mark(DONE)
        time.sleep(2 * calm_seconds)
    return load


def rehearse(*, is_quick: bool) -> tuple[dict, dict[str, Load]]:
    """Run all three; returns the figures, and the loads for the plot."""
    per_second, calm_seconds = (20, 3) if is_quick else (40, 15)
    say("starting the cluster")
    loads, figures = {}, {}
    with tempfile.TemporaryDirectory() as folder, cluster() as (nodes, port):
        models = Path(folder) / "models"
        shutil.copytree(MODELS, models, ignore=shutil.ignore_patterns("__pycache__"))
        url = f"http://127.0.0.1:{port}/v2/models/double/infer"

        say("deploying two replicas")
        deploy(models, replicas=2)
        say("killing a node")
        loads["outage"] = rehearse_outage(nodes, url, per_second, calm_seconds)
        figures["outage"] = summarize(loads["outage"], {2.0})

        say(f"{figures['outage']}\nrolling a change out")
        loads["rollout"] = rehearse_rollout(models, url, per_second, calm_seconds, replicas=2)
        figures["rollout"] = summarize(loads["rollout"], {2.0, 3.0})

        say(f"{figures['rollout']}\ndeploying one replica that may become two")
        deploy(models, replicas=1, max_replicas=2, target_pending=4)
        wait_for(loads["rollout"], lambda: running_replicas() == 1, 120)
        say("sending more than it answers")
        loads["scale-up"] = rehearse_scale_up(url, 70, calm_seconds)
        figures["scale-up"] = summarize(loads["scale-up"], {3.0})
        say(f"{figures['scale-up']}\nending")
    return figures, loads


def describe() -> dict:
    """Return what the figures are of."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    packages = ("ray", "torch", "nvidia-pytriton", "kindaware")
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python", "examples/scale_out/ray_cluster.py", *sys.argv[1:]]),
        "machine": {"processor": processor, "cores": len(os.sched_getaffinity(0))},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def plot(loads: dict[str, Load], path: Path) -> None:
    """Draw the latency of each request over time, a row per phase."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "kindaware"
    figure = Figure(figsize=(9, 3 * len(loads)), layout="constrained")
    for axis, (phase, load) in zip(figure.subplots(len(loads), 1), loads.items(), strict=True):
        plain = [one for one in load.sent if not one.errors]
        retried = [one for one in load.sent if one.errors]
        for requests, label, colour in ((plain, "answered at once", "C0"), (retried, "tried again", "C3")):
            at, latency = [one.at for one in requests], [one.seconds * 1e3 for one in requests]
            axis.scatter(at, latency, s=4, color=colour, label=label, rasterized=True)
        for name, at in load.marks.items():
            axis.axvline(at, color="grey", linewidth=1)
            axis.text(at, 0.97, f" {name}", transform=axis.get_xaxis_transform(), va="top", fontsize=8)
        axis.set_yscale("log")
        axis.set_title(phase)
        axis.set_ylabel("latency, ms")
        axis.set_xlabel("seconds")
    figure.axes[0].legend(loc="upper right", fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="a few seconds of load per phase")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    about = describe()
    figures, loads = rehearse(is_quick=options.quick)
    options.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, **figures}, indent=2)
    (options.output / "ray_cluster.json").write_text(text + "\n")
    plot(loads, options.output / "ray_cluster.png")
    print(text)
    is_right = all(one["lost"] == 0 and one["wrong"] == 0 for one in figures.values())
    sys.exit(0 if is_right and figures["rollout"]["failed_tries"] == 0 else 1)


if __name__ == "__main__":
    main()
