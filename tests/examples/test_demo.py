"""The demo: what it does without a network, and that it fails when something is wrong."""

import functools
import hashlib
import http.server
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torchvision.models import resnet50 as make_resnet50


@pytest.fixture(scope="module")
def demo(examples):
    import demo

    return demo


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache, and a proxy that nobody runs."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))


@pytest.fixture
def file_server(tmp_path, monkeypatch):
    """Serves a folder; yields the folder and its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield folder, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_fetch_weights_offline_says_why(demo, offline):
    assert "Connection refused" in demo.fetch_weights()


def test_fetch_weights_cached_asks_nobody(demo, offline, tmp_path):
    cache = tmp_path / "cache" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet50-11ad3fa6.pth").touch()
    assert demo.fetch_weights() is None


def test_fetch_weights_downloads_into_torchs_cache(demo, file_server, tmp_path, capsys):
    folder, address = file_server
    torch.save({"a": torch.zeros(1)}, folder / "weights.pth")
    content = (folder / "weights.pth").read_bytes()
    name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / "weights.pth").rename(folder / name)
    assert demo.fetch_weights(f"{address}/{name}") is None
    assert (tmp_path / "cache" / "hub" / "checkpoints" / name).read_bytes() == content
    assert "Downloading ResNet50's weights" in capsys.readouterr().out


def test_fetch_weights_damaged_says_why_and_keeps_nothing(demo, file_server, tmp_path):
    folder, address = file_server
    (folder / "net-00000000.pth").write_bytes(b"other bytes")
    assert "invalid hash value" in demo.fetch_weights(f"{address}/net-00000000.pth")
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_fetch_weights_hanging_gives_up_in_time(demo, offline, monkeypatch):
    monkeypatch.setattr(demo, "PROBE", "import time; time.sleep(60)")
    monkeypatch.setattr(demo, "PROBE_SECONDS", 0.2)
    assert "TimeoutExpired" in demo.fetch_weights()


def test_copy_with_random_weights_leaves_the_original(demo, examples, tmp_path):
    original = examples / "resnet50" / "models" / "resnet50" / "config.pbtxt"
    before = original.read_text()
    copy = (demo.copy_with_random_weights(tmp_path) / "resnet50" / "config.pbtxt").read_text()
    assert original.read_text() == before
    assert copy == before.replace('string_value: "IMAGENET1K_V2"', 'string_value: "random"') != before


def test_compare_tells_bits_from_rounding_from_wrong(demo):
    scores = np.linspace(-5, 10, 1000, dtype=np.float32)
    assert demo.compare(scores, scores.copy()).startswith("equal to the bit (max abs difference 0 over 1000")
    assert demo.compare(np.nextafter(scores, np.float32(99)), scores).startswith("equal but for rounding")
    for wrong in (scores[::-1], scores + np.float32(0.01), np.full_like(scores, np.nan)):
        with pytest.raises(demo.DemoError, match="the server's scores differ by"):
            demo.compare(wrong, scores)


@pytest.mark.parametrize("class_id", range(275, 295))
def test_check_cat_accepts_cats_only(demo, class_id):
    scores = np.zeros(1000, np.float32)
    scores[class_id] = 1
    labels = [f"CLASS {i}" for i in range(1000)]
    if class_id in (281, 282, 285):
        demo.check_cat("net", scores, labels)
    else:
        with pytest.raises(demo.DemoError, match=f"net takes the cat for CLASS {class_id}"):
            demo.check_cat("net", scores, labels)


def run_demo(examples, folder):
    command = [sys.executable, str(examples / "demo.py")]
    return subprocess.run(
        command, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=400, check=False
    )


@pytest.mark.server
def test_demo_offline_passes_on_equal_numbers_and_a_cat(examples, offline, tmp_path):
    result = run_demo(examples, tmp_path)
    lines = result.stdout.splitlines()
    assert (result.returncode, result.stderr) == (0, ""), result
    assert lines[-1] == "PASS: ResNet50 instance kind"
    assert lines[0].startswith("ResNet50's weights can't be downloaded (")
    assert result.stdout.count("runs on cpu") == 2
    assert result.stdout.count("compared with the same model run without a server: equal") == 2
    assert result.stdout.count("instance_group KIND_CPU x 1") == 2
    cats = [line.split("%  ")[1] for line in lines if "%  " in line][5:]
    assert cats[0] in ("TABBY", "TIGER CAT", "EGYPTIAN CAT")
    assert len(cats) == 5


@pytest.mark.server
def test_demo_with_weights_that_know_no_cat_fails(examples, offline, tmp_path):
    # Random weights in the place of the downloaded ones: what the demo says of wrong names, it says aloud.
    cache = tmp_path / "cache" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.manual_seed(1)
    torch.save(make_resnet50().state_dict(), cache / "resnet50-11ad3fa6.pth")
    result = run_demo(examples, tmp_path)
    assert result.returncode == 1
    assert "can't be downloaded" not in result.stdout
    assert "PASS" not in result.stdout
    assert "FAIL: resnet50 takes the cat for " in result.stderr
