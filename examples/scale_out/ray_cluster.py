"""Rehearses an outage, a rollout and a scale-up on a Ray cluster of two nodes on this machine, under load.

    python ray_cluster.py --output cluster            # about four minutes
    python ray_cluster.py --quick --output cluster    # two minutes, for a first look

Requests come over HTTP all the while, and every answer is checked against its own request. It writes the
figures to cluster/ray_cluster.json, and the latency through each of the three to cluster/ray_cluster.svg.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe_run, free_port
from ray_load import DONE, EVENT, Load, summarize
from ray_plot import plot_phases

HERE = Path(__file__).resolve().parent
ADDRESSES = ("127.0.0.2", "127.0.0.3")
"""Of the nodes: for 127.0.0.1 Ray would take the machine's own address."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # else Ray kills its processes when others leave little memory
    "RAY_agent_register_timeout_ms": "120000",  # a node of a busy machine takes longer than by default
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",  # likewise its proxy, which Serve ends after 5 s
    "RAY_worker_niceness": "0",  # by default 15: replicas would wait for whatever else the machine does
    "RAY_prestart_worker_first_driver": "0",  # a process per CPU, each as slow to start as the rest
    "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",  # the only proxy here would leave the other node idle
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",  # by default the number follows after 10 s
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
}
PER_SECOND, OVERLOAD_PER_SECOND = 12, 26
"""Rates of requests: what one replica answers, and more than that, for its model takes 50 ms for each."""
FEW = 5
"""Requests in flight when nothing waits."""
NUM_IN_FLIGHT = 40
"""Requests that both nodes have when one is killed; a replica needs a second for its half of them."""


@contextlib.contextmanager
def run_cluster():
    """Run two nodes on this machine, and Serve on them; yields the cluster and Serve's HTTP port."""
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        nodes.add_node(num_cpus=4, include_dashboard=False, node_ip_address=ADDRESSES[0], **choose_ports())
        nodes.add_node(num_cpus=1, node_ip_address=ADDRESSES[1], **choose_ports())
        ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
        port = free_port()
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        yield nodes, port
    finally:
        if ray.is_initialized():  # else Serve would start a cluster to shut down
            serve.shutdown()
            ray.shutdown()
        nodes.shutdown()


def choose_ports():
    """Return ports for a node's agents, for which it would wait 15 s: too short on a busy machine."""
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    return {f"{name}_port": free_port() for name in names}


def deploy(models, digest, **options):
    """Deploy the models, or a change of them; waits until all replicas are of it.

    Raises:
        RuntimeError: a replica doesn't start or doesn't stay healthy, with what it said.
    """
    from ray import serve

    from kindaware.ray import triton_app

    try:
        serve.run(triton_app(models, digest=digest, **options), name="models", route_prefix="/")
    except RuntimeError as error:
        found = serve.status().applications["models"].deployments["TritonReplica"]
        raise RuntimeError(f"{found.status.value}: {found.message}") from error


def read_digest(models):
    """Return what tells these models from a change of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "kindaware.cli",
            "deploy",
            "ray",
            str(models),
            "-o",
            folder,
            "--force",
        ]
        done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["digest"]


def wait_for(condition, seconds, pause_seconds=0.1):
    """Wait until something is so.

    Raises:
        TimeoutError: it is not within that time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(pause_seconds)


def count_replicas():
    """Return how many replicas run."""
    from ray import serve

    deployment = serve.status().applications["models"].deployments["TritonReplica"]
    return deployment.replica_states.get("RUNNING", 0)


def list_processes(node):
    """Return the processes of a node, whose end is that of its machine.

    Without those of the server: they end when they find that their replica has gone.
    """
    raylet = node.all_processes["raylet"][0].process.pid
    return [raylet, *list_children(raylet)]


def list_children(parent):
    """Return the processes that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                found += [int(entry.name)] if int(fields[1]) == parent else []
    return found


def rehearse_outage(nodes, url, calm_seconds):
    """Kill the second node with its replica; done when a replacement runs."""
    with Load(url, PER_SECOND) as load:
        time.sleep(calm_seconds)
        (second,) = nodes.worker_nodes
        processes = list_processes(second)  # before, since on a busy machine that takes a while
        load.send_at_once(NUM_IN_FLIGHT)
        wait_for(lambda: load.count_open() >= NUM_IN_FLIGHT, 10, pause_seconds=0.01)
        # With the first answers, the others are at the replicas.
        wait_for(lambda: load.count_open() < NUM_IN_FLIGHT, 10, pause_seconds=0.01)
        load.mark(EVENT)
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):  # idle ones end by themselves
                os.kill(pid, signal.SIGKILL)
        nodes.remove_node(second, allow_graceful=False)
        wait_for(lambda: count_replicas() < 2, 60)
        load.mark("Ray has noticed")
        wait_for(lambda: count_replicas() == 2, 120)
        load.mark(DONE)
        time.sleep(calm_seconds)
    return load


def rehearse_rollout(models, url, calm_seconds, **options):
    """Change the repository and deploy it; done when every replica is of the change."""
    with Load(url, PER_SECOND) as load:
        time.sleep(calm_seconds)
        code = models / "double" / "1" / "model.py"
        code.write_text(code.read_text().replace("FACTOR = 2", "FACTOR = 3"))
        digest = read_digest(models)
        load.mark(EVENT)
        deploy(models, digest, **options)
        load.mark(DONE)
        time.sleep(calm_seconds)
    return load


def rehearse_scale_up(url, calm_seconds):
    """Send more than one replica answers; done when a second one runs, and later has caught up."""
    with Load(url, OVERLOAD_PER_SECOND) as load:
        load.mark(EVENT)
        wait_for(lambda: count_replicas() == 2, 180)
        load.mark(DONE)
        wait_for(lambda: load.count_open() < FEW, 120)
        load.mark("caught up")
        time.sleep(calm_seconds)
    return load


def rehearse(*, is_quick):
    """Run all three; returns the loads, and the figures of each."""
    calm_seconds = 3 if is_quick else 10
    loads, figures = {}, {}

    def add(phase, load, factors):
        loads[phase], figures[phase] = load, summarize(load, factors)
        say(f"{phase}: {figures[phase]}")

    say("starting the cluster")
    with tempfile.TemporaryDirectory() as folder, run_cluster() as (nodes, port):
        models = Path(folder) / "models"
        shutil.copytree(HERE / "ray_models", models, ignore=shutil.ignore_patterns("__pycache__"))
        url = f"http://127.0.0.1:{port}/v2/models/double/infer"
        say("deploying two replicas")
        deploy(models, read_digest(models), replicas=2)
        say("killing a node")
        add("outage", rehearse_outage(nodes, url, calm_seconds), {2.0})
        say("rolling a change out")
        add("rollout", rehearse_rollout(models, url, calm_seconds, replicas=2), {2.0, 3.0})
        say("deploying one replica that may become two")
        deploy(models, read_digest(models), replicas=1)
        wait_for(lambda: count_replicas() == 1, 120)
        deploy(models, read_digest(models), replicas=1, max_replicas=2, target_pending=4)
        say("sending more than it answers")
        add("scale-up", rehearse_scale_up(url, calm_seconds), {3.0})
        say("ending")
    return loads, {"requests_per_second": PER_SECOND, "overload_per_second": OVERLOAD_PER_SECOND, **figures}


def say(text):
    """Print what happens, with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def find_faults(figures):
    """Return which promises were not kept.

    What was in flight on the node that was killed may have failed, and was sent again. Nothing else may.
    """
    faults = [
        f"{phase}: {count} requests {what}"
        for phase in ("outage", "rollout", "scale-up")
        for what in ("lost", "wrong")
        if (count := figures[phase][what])
    ]
    faults += [
        f"{phase}: {sum(figures[phase]['failed_tries'].values())} tries failed"
        for phase in ("rollout", "scale-up")
        if figures[phase]["failed_tries"]
    ]
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("cluster"), help="a folder for what is found")
    parser.add_argument("--quick", action="store_true", help="a few seconds of load around each event")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no node outlives the rehearsal
    os.environ.update(ENVIRONMENT)
    facts = describe_run()
    facts["versions"] |= {name: importlib.metadata.version(name) for name in ("ray", "nvidia-pytriton")}
    loads, figures = rehearse(is_quick=args.quick)
    args.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, **figures}, indent=1)
    (args.output / "ray_cluster.json").write_text(text + "\n")
    plot_phases(loads, args.output / "ray_cluster.svg")
    print(text)
    faults = find_faults(figures)
    print("\n".join(faults), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
