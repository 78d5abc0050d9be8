"""How long a replica's check waits for a server that a busy machine leaves without a core."""

import os

import pytest

from kindaware._server.endpoint import ModelStatus
from kindaware.ray import _health
from kindaware.ray._health import Health
from kindaware.testing import ServerError


class SlowServer:
    """Says of each of its models after some seconds that it is ready, to who waits so long."""

    pid = os.getpid()

    def __init__(self, monkeypatch, *seconds):
        self.seconds = {f"m{number}": one for number, one in enumerate(seconds)}
        self.now = 0.0
        monkeypatch.setattr(_health.time, "monotonic", lambda: self.now)

    def models(self):
        return [ModelStatus(name, "1", "READY", "") for name in self.seconds]

    def poll(self):
        return None

    def is_model_ready(self, name, version, timeout_seconds):
        self.now += min(self.seconds[name], timeout_seconds)
        return self.seconds[name] <= timeout_seconds


def test_check_waits_for_a_slow_server(monkeypatch):
    server = SlowServer(monkeypatch, 3.0, 4.0)
    Health(server).check()
    assert server.now == 7.0


def test_check_waits_no_longer_than_its_time_for_all_models(monkeypatch):
    server = SlowServer(monkeypatch, 5.0, 5.0, 1.0)
    with pytest.raises(ServerError, match="model 'm1' version 1: expected a model that is ready"):
        Health(server).check()
    assert server.now == pytest.approx(8.0)
