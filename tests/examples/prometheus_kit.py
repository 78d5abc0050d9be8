"""Prometheus for tests: its programs, where they are installed, and one that scrapes a server."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import pytest


def find(program):
    """The path of `prometheus` or `promtool`, or the test is skipped: they come with Debian's package."""
    path = shutil.which(program, path=os.pathsep.join([os.environ["PATH"], os.environ.get("PROMETHEUS", "")]))
    if path is None:
        pytest.skip(f"no {program}: apt-get install prometheus, or name its folder in PROMETHEUS")
    return path


class Prometheus:
    """A Prometheus that runs, asked over HTTP."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **arguments):
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """(labels, number) of each series that an expression has now."""
        return [
            (one["metric"], float(one["value"][1])) for one in self.get("query", query=expression)["result"]
        ]

    def wait_for(self, expression, seconds=60):
        """What it has as soon as it has anything."""
        latest = time.monotonic() + seconds
        while not (found := self.query(expression)):
            assert time.monotonic() < latest, f"no series of {expression} within {seconds} s"
            time.sleep(0.2)
        return found


@contextlib.contextmanager
def run_prometheus(folder, config):
    """Run one on a configuration, with its data in a folder, until the block ends."""
    path = folder / "prometheus.yml"
    path.write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
    command = [find("prometheus"), *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{port}")
            latest = time.monotonic() + 30
            while True:
                with contextlib.suppress(OSError):
                    prometheus.get("status/buildinfo")
                    break
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < latest
                time.sleep(0.1)
            yield prometheus
        finally:
            process.terminate()
