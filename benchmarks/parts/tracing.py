"""The part `tracing`: `execute` for one request with spans and without, in turns within one stub.

The spans are exported as they are in production: in the background, to a collector on this machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.parts.scenarios import CANDIDATE
from benchmarks.parts.turns import SECONDS, summarise, turns_model
from benchmarks.run import Run
from benchmarks.servers.load import measure
from benchmarks.servers.triton import target_of, tritonserver

TRACED, UNTRACED = "traced", "untraced"
FORMS = (CANDIDATE, UNTRACED, TRACED)
"""Without spans twice: what the two differ by is the noise."""


def run_tracing(run: Run) -> dict[str, Any]:
    """Time `execute` for one request, with spans and twice without, in the real stub.

    Returns:
        By network: microseconds of `execute` per form, and those with spans over and less the others.
    """
    found: dict[str, Any] = {}
    for network in [one for one in ("mlp", "transformer") if one in run.args.networks]:
        run.say(f"tracing: {network}")
        with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder, _collector():
            times = Path(folder) / "times.json"
            served = turns_model(network, times, FORMS)
            with tritonserver([served], run.say) as server:
                measure(target_of(server, served, "http"), 1, run.seconds(SECONDS))
            rounds = json.loads(times.read_text())
            found[network] = {
                **summarise(rounds, FORMS, TRACED),
                "noise": summarise(rounds, FORMS, UNTRACED)["ratios"][CANDIDATE],
            }
    return {"networks": found}


@contextlib.contextmanager
def _collector() -> Iterator[None]:
    """Run a collector that drops what it gets, and name it in the environment of the servers."""
    variable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Dropping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ[variable] = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield
    finally:
        del os.environ[variable]
        server.shutdown()
        server.server_close()


class _Dropping(BaseHTTPRequestHandler):
    """Takes spans and forgets them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # of http.server
        """Read the spans."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""
