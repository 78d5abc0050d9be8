"""A call of a model's code that never returns ends, and the error says which and where."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from harness_cases import model
from harness_kit import DECOUPLED, ECHO, PLAIN, floats, write_model

from kindaware.testing import ModelHarness, TritonContractError
from kindaware.testing.harness.process import hang_guard

WAITS = {
    "event": "threading.Event().wait()",
    "sleep": "time.sleep(3600)",
    "queue": "import queue; queue.Queue().get()",
    "join": "threading.Thread(target=time.sleep, args=(3600,), daemon=True).run()",
    "caught": (
        "for _ in range(3):\n            try:\n                threading.Event().wait()\n"
        "            except BaseException:\n                pass"
    ),
}

HOOKS = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        COMPLETE
        return config

    def __init__(self):
        CONSTRUCT

    def initialize(self, args):
        INITIALIZE

    def execute(self, requests):
        EXECUTE
        return [answer(get(request)) for request in requests]

    def finalize(self):
        FINALIZE
"""
PLACES = ("COMPLETE", "CONSTRUCT", "INITIALIZE", "EXECUTE", "FINALIZE")


def hooks(**waits):
    source = HOOKS
    for place in PLACES:
        source = source.replace(place, waits.get(place, "pass"))
    return source


def left():
    return signal.getsignal(hang_guard._SIGNAL), {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("COMPLETE", "auto_complete_config has not returned.*, in auto_complete_config"),
        ("CONSTRUCT", "its constructor has not returned.*, in __init__"),
        ("INITIALIZE", "initialize has not returned.*, in initialize"),
        ("EXECUTE", "execute has not returned.*, in execute"),
    ],
)
def test_a_hook_that_waits_for_ever_is_interrupted(tmp_path, place, text, how):
    folder = write_model(tmp_path, "m", hooks(**{place: WAITS[how]}))
    before = left()
    with (
        pytest.raises(TritonContractError, match=rf"wait for ever: {text}"),
        ModelHarness(folder, hang_timeout_seconds=0.3) as harness,
    ):
        harness.infer(X=floats(2))
    assert left() == before


def test_what_the_guard_itself_works_is_no_work_of_the_model():
    children = frozenset(hang_guard._children(os.getpid()))
    before = hang_guard._work_seconds(children)
    until = time.thread_time() + 0.3
    while time.thread_time() < until:
        """Look at many threads."""
    assert hang_guard._work_seconds(children) - before < 0.15


@pytest.mark.parametrize("how", WAITS)
def test_finalize_that_never_returns_is_interrupted(tmp_path, how):
    folder = write_model(tmp_path, "m", hooks(FINALIZE=WAITS[how]))
    harness = ModelHarness(folder, finalize_timeout_seconds=0.3).start()
    harness.infer(X=floats(2))
    with pytest.raises(
        TritonContractError, match=r"finalize.* has not returned in 0.3 s; it is at .*finalize"
    ):
        harness.stop()


def test_finalize_that_works_for_ever_is_interrupted_too(tmp_path):
    folder = write_model(tmp_path, "m", hooks(FINALIZE="while True: pass"))
    with (
        pytest.raises(TritonContractError, match=r"has not returned in 0.3 s"),
        ModelHarness(folder, finalize_timeout_seconds=0.3),
    ):
        pass


def test_finalize_of_an_unloaded_model_is_interrupted(tmp_path):
    write_model(tmp_path, "m", hooks(FINALIZE="threading.Event().wait()"))
    body = "pb_utils.unload_model('m')\nreturn [answer(get(one)) for one in requests]"
    folder = write_model(tmp_path, "unloads", model(body))
    with (
        pytest.raises(TritonContractError, match=r"has not returned in 0.3 s"),
        ModelHarness(folder, models=[tmp_path / "m"], finalize_timeout_seconds=0.3) as harness,
    ):
        harness.infer(X=floats(2))


@pytest.mark.parametrize("config", [PLAIN, DECOUPLED], ids=["plain", "decoupled"])
def test_a_coroutine_that_waits_for_ever_is_a_hang(tmp_path, config):
    source = hooks(EXECUTE="await asyncio.Event().wait()").replace("def execute", "async def execute")
    folder = write_model(tmp_path, "m", source, config)
    with (
        pytest.raises(TritonContractError, match="for ever"),
        ModelHarness(folder, hang_timeout_seconds=0.3) as harness,
    ):
        list(harness.stream(X=floats(2)))


def test_a_hook_that_works_longer_than_the_timeout_is_no_hang(tmp_path):
    works = "end = time.monotonic() + 1.0\n        while time.monotonic() < end: sum(range(1000))"
    folder = write_model(tmp_path, "m", hooks(INITIALIZE=works, EXECUTE=works))
    with ModelHarness(folder, hang_timeout_seconds=0.3) as harness:
        assert harness.infer(X=floats(2)).error is None


def test_a_hook_that_waits_for_a_child_that_works_is_no_hang(tmp_path):
    waits = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'for _ in range(30_000_000): pass'])"
    )
    folder = write_model(tmp_path, "m", hooks(INITIALIZE=waits))
    with ModelHarness(folder, hang_timeout_seconds=0.3):
        pass


def test_a_hang_shows_while_a_child_of_the_tests_own_works(tmp_path):
    """As a tritonserver of the same session does."""
    folder = write_model(tmp_path, "m", hooks(EXECUTE=WAITS["event"]))
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with subprocess.Popen([sys.executable, "-c", busy], start_new_session=True) as child:
        try:
            with (
                pytest.raises(TritonContractError, match="execute has not returned"),
                ModelHarness(folder, hang_timeout_seconds=0.3) as harness,
            ):
                harness.infer(X=floats(2))
        finally:
            os.killpg(child.pid, signal.SIGKILL)


def test_a_call_of_another_model_that_hangs_names_that_model(tmp_path):
    write_model(tmp_path, "m", hooks(EXECUTE="threading.Event().wait()"))
    body = (
        "inputs = requests[0].inputs()\n"
        "call = pb_utils.InferenceRequest(model_name='m', requested_output_names=[], inputs=inputs)\n"
        "call.exec()\nreturn [answer(get(one)) for one in requests]"
    )
    folder = write_model(tmp_path, "calls", model(body))
    with (
        pytest.raises(TritonContractError, match=r"model 'm': .*execute has not returned"),
        ModelHarness(folder, models=[tmp_path / "m"], hang_timeout_seconds=0.3) as harness,
    ):
        harness.infer(X=floats(2))


WARM = """
model_warmup [ {
  name: "ones" batch_size: 1
  inputs { key: "X" value { data_type: TYPE_FP32 dims: 2 zero_data: true } }
} ]
"""


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            hooks(EXECUTE="threading.Event().wait()"),
            "execute has not returned, for the warm-up sample 'ones'",
        ),
        (model("return None"), "the warm-up sample 'ones' of model_warmup got no answer"),
        (
            model("threading.Thread(target=time.sleep, args=(0.6,)).start()\nreturn None"),
            "the warm-up sample 'ones' of model_warmup got no answer",
        ),
    ],
)
def test_a_hang_in_the_warm_up_says_so(tmp_path, source, text):
    folder = write_model(tmp_path, "m", source, PLAIN + WARM)
    with pytest.raises(TritonContractError, match=text):
        ModelHarness(folder, hang_timeout_seconds=0.3).start()


STREAMS = """
import queue
import torch
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        self.answers = queue.Queue()
        self.questions = queue.Queue()
        threading.Thread(target=self.work, daemon=True).start()
        return torch.nn.Identity()

    def work(self):
        while True:
            self.answers.put(1.0 / self.questions.get())

    def stream(self, X):
        self.questions.put(int(X.sum()))
        yield torch.full((2,), self.answers.get())
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stream_that_waits_for_a_dead_thread_in_the_warm_up_of_kindaware_says_so(tmp_path):
    config = 'backend: "python"' + PLAIN.partition('"python"')[2].replace("dims: -1", "dims: 2")
    decoupled = config + "model_transaction_policy { decoupled: true }"
    folder = write_model(tmp_path, "m", STREAMS, decoupled)
    with pytest.raises(
        TritonContractError, match=r"initialize has not returned.*, in stream, in the warm-up"
    ):
        ModelHarness(folder, hang_timeout_seconds=1.0).start()


def test_two_threads_and_one_watch_each(tmp_path):
    folder = write_model(tmp_path, "m", ECHO)
    with ModelHarness(folder, instances=2) as harness:
        results = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(harness.infer(X=floats(2), instance=n)))
            for n in range(2)
        ]
        [one.start() for one in threads]
        [one.join() for one in threads]
        assert [one.error for one in results] == [None, None]
