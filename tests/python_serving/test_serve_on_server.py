"""`kindaware.serve` with the real server."""

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from serving_kit import Importable, count, shout
from torch import nn

import kindaware
from kindaware import ConfigError, KindAwareError, KindAwareModel, Servable, TensorSpec
from kindaware._server.failure import ServerError
from kindaware.client import ModelClient, ModelClientError

pytestmark = pytest.mark.server
TOKEN = "a-token-of-the-tests"
NETWORK = nn.Sequential(nn.Linear(2, 3), nn.Softmax(1))
ROWS = np.array([[1, 2], [3, 4]], np.float32)


class Local(KindAwareModel):
    inputs = [TensorSpec("X", "FP32", [2])]
    outputs = [TensorSpec("Y", "FP32", [2])]
    max_batch_size = 8

    def load(self):
        return nn.Identity()

    def forward(self, X):
        if bool((X < 0).any()):
            raise ValueError("negative")
        return self.model(X) + 1


@pytest.fixture(scope="module")
def server():
    # Not to be found by an import, as a notebook's: it travels by value.
    local = type("Local", (Local,), {"__module__": "__main__"})
    models = {
        "local": local,
        "network": Servable(NETWORK, torch.from_numpy(ROWS), settings={"num_threads": 1}),
        "shout": Servable(shout, ["a"], instances="cpu"),
        "count": Servable(count, torch.tensor([[2]])),
    }
    with kindaware.serve(models, token=TOKEN) as served:
        yield served


def test_all_models_answer(server):
    assert (server["local"].infer(X=ROWS)["Y"] == ROWS + 1).all()
    expected = NETWORK(torch.from_numpy(ROWS)).detach().numpy()
    np.testing.assert_allclose(server["network"].infer(input=ROWS)["OUTPUT"], expected, rtol=1e-5)
    assert server["shout"].infer(text=[["é"]])["OUTPUT0"].tolist() == [["É".encode()]]
    assert [item["OUTPUT"].item() for item in server["count"].stream(n=[[3]])] == [0, 1, 2]


def test_strangers_are_refused_and_clients_of_the_handle_have_the_token(server):
    with ModelClient(server.url, "local") as stranger, pytest.raises(ModelClientError, match="restricted"):
        stranger.infer(X=ROWS)
    with ModelClient(server.url, "local", token=TOKEN) as guest:
        assert guest.infer(X=ROWS)["Y"].shape == (2, 2)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://{server.http_url}/v2/repository/index", data=b"{}", timeout=10)
    caught.value.close()
    assert caught.value.code == 403


def test_handle_knows_its_models(server):
    assert server.is_running
    assert "local, network, shout, count" in repr(server)
    assert server.url != server.http_url
    assert "kindaware instance network_0_0 ready" in server.log
    with pytest.raises(ConfigError, match=r"write server\['local'\].infer"):
        server.infer(X=ROWS)
    with pytest.raises(ConfigError, match="expected a name out of"):
        server.client("other")
    with server.client("local", timeout_seconds=9) as client:
        assert client.infer(X=ROWS)["Y"].shape == (2, 2)


def test_error_of_a_request_has_the_users_line_in_the_log(server):
    with pytest.raises(ModelClientError, match="ValueError: negative"):
        server["local"].infer(X=-ROWS)
    line = Local.forward.__code__.co_firstlineno + 2
    _wait_until(lambda: f'test_serve_on_server.py", line {line}, in forward' in server.log)


def test_error_in_load_is_raised_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    class Broken(Local):
        def load(self):
            raise ValueError("no weights")

    line = Broken.load.__code__.co_firstlineno + 1
    with pytest.raises(KindAwareError) as caught:
        kindaware.serve(Broken)
    assert f"test_serve_on_server.py({line}): load" in str(caught.value)
    assert "ValueError: no weights" in str(caught.value)
    assert not list(tmp_path.iterdir())


SCRIPT = """
    import kindaware
    from kindaware import KindAwareModel, TensorSpec

    class Doubler(KindAwareModel):
        inputs = [TensorSpec("X", "FP32", [2])]
        outputs = [TensorSpec("Y", "FP32", [2])]

        def load(self):
            pass

        def forward(self, X):
            return X * FACTOR

    FACTOR = 2
    kindaware.serve(Doubler, block=True)
    print("ended")
"""


@pytest.mark.parametrize(
    ("number", "ended", "status"), [(signal.SIGINT, True, 0), (signal.SIGKILL, False, -signal.SIGKILL)]
)
def test_script_that_blocks_ends_cleanly(tmp_path, number, ended, status):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as script:
        lines = iter(script.stdout.readline, "")
        assert any("Ctrl-C stops it" in line for line in lines)
        script.send_signal(number)
        rest = "".join(lines)
    assert ("ended" in rest) == ended
    assert script.returncode == status
    _wait_until(lambda: not list((tmp_path / "tmp").iterdir()))


def _wait_until(condition, limit_seconds=30):
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Mortal(Local):
    def forward(self, X):
        if bool((X < 0).any()):
            os._exit(3)
        return X + 1


def test_model_that_dies_is_loaded_again_until_it_has_died_too_often(caplog):
    with kindaware.serve(Mortal, max_heals=1) as served:
        for num_deaths in (1, 2):
            with pytest.raises(ModelClientError, match="not healthy"):
                served.infer(X=-ROWS)
            _wait_until(lambda n=num_deaths: len(caplog.messages) == 2 * n)
            if num_deaths == 1:
                assert (served.infer(X=ROWS)["Y"] == ROWS + 1).all()
        assert caplog.messages[0] == "Mortal: its process ended with status 3"
        assert caplog.messages[1].startswith("Mortal: ready again after ")
        reason = r"model 'Mortal': expected at most 1 death\(s\) within 600 s, got one more death"
        assert re.match(reason, served.given_up["Mortal"])
        for use in (lambda: served.infer(X=ROWS), served.client, served.wait):
            with pytest.raises(ServerError, match=reason):
                use()
        assert not served.is_running


def test_stopped_server_says_so_and_keeps_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with kindaware.serve(Importable) as served:
        assert (served.infer(X=ROWS)["Y"] == ROWS * 2).all()
        pid = served._server.pid
    served.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(KindAwareError, match=r"got its end; call kindaware\.serve again"):
        served.infer(X=ROWS)
    assert "kindaware instance Importable_0_0 ready" in served.log
    assert repr(served) == "<ServedModels Importable: stopped>"


def test_server_ends_with_its_handle(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    served = kindaware.serve(Importable)
    assert (served.infer(X=ROWS)["Y"] == ROWS * 2).all()
    pid = served._server.pid
    os.kill(pid, signal.SIGKILL)
    while served.is_running:
        time.sleep(0.05)
    with pytest.raises(KindAwareError, match="got its end by itself with status -9; look at the end of log"):
        served.infer(X=ROWS)
    del served
    gc.collect()
    assert not list(tmp_path.iterdir())


PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "serve-from-python.md"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for name, code in re.findall(
        r"^```python\n# (\S+\.py)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        (folder / name).write_text(code)
    return folder


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["doubler.py"], "[[2. 4.]]"),
        (["scores.py"], "(5, 3)"),
        (["network.py"], "[[b'HELLO']\n [b'YOU']]"),
        (["-m", "pytest", "-q", "-W", "error", "test_doubler_on_server.py"], "1 passed"),
    ],
)
def test_programs_of_the_page_print_what_they_should(page, command, text):
    done = subprocess.run(
        [sys.executable, *command], cwd=page, capture_output=True, text=True, timeout=200, check=False
    )
    assert text in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
    if command == ["scores.py"]:
        (shown,) = re.findall(r"^class Scores: found.*?others\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        assert shown in done.stderr
