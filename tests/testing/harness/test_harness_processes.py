"""Instances and harnesses don't see one another, and the test's process gets everything back."""

import logging
import os
import sys
import threading
from types import ModuleType

import pytest
import torch
from harness_cases import model
from harness_kit import ECHO, PLAIN, floats, write_model

from kindaware.testing import ModelHarness, ModelLoadError
from kindaware.testing.harness.process.loader import PB_UTILS

COUNTER = "import beside\nTOTAL = []\n" + model(
    "TOTAL.append(1)\nbeside.TOTAL.append(1)\nimport beside as again\nassert again is beside\n"
    "return [answer([float(len(TOTAL)), float(len(beside.TOTAL))])]"
)


def write_counter(folder, name="m"):
    place = write_model(folder, name, COUNTER)
    (place / "beside.py").write_text("TOTAL = []\n")
    return place


def counts(harness, **options):
    return harness.infer(X=[1.0], **options).outputs["Y"].tolist()


def test_module_globals_are_an_instances_own(tmp_path):
    with ModelHarness(write_counter(tmp_path), instances=2) as harness:
        assert counts(harness, instance=0) == [1.0, 1.0]
        assert counts(harness, instance=0) == [2.0, 2.0]
        assert counts(harness, instance=1) == [1.0, 1.0]
        assert counts(harness, instance=0) == [3.0, 3.0]
        assert [instance.instance_name for instance in harness.served.instances] == ["m_0", "m_1"]
        assert harness.instances[0] is not harness.instances[1]


def test_nested_harnesses_of_one_model_are_apart(tmp_path):
    folder = write_counter(tmp_path)
    with ModelHarness(folder) as outer:
        assert counts(outer) == [1.0, 1.0]
        with ModelHarness(folder) as inner:
            assert counts(inner) == [1.0, 1.0]
            assert counts(outer) == [2.0, 2.0]
            assert sys.modules[PB_UTILS] is inner.pb_utils
        assert sys.modules[PB_UTILS] is outer.pb_utils
        assert counts(outer) == [3.0, 3.0]


def test_harnesses_that_end_in_the_other_order_leave_nothing(tmp_path):
    before = list(sys.path)
    first = ModelHarness(write_counter(tmp_path, "a")).start()
    second = ModelHarness(write_counter(tmp_path, "b")).start()
    first.stop()
    assert counts(second) == [1.0, 1.0]
    assert sys.modules[PB_UTILS] is second.pb_utils
    second.stop()
    assert PB_UTILS not in sys.modules
    assert sys.path == before


MESSY = """
import logging, os, sys, threading
import torch
sys.path.insert(0, "/from/the/model")
os.environ["KINDAWARE_TEST_NEW"] = "1"
os.environ["KINDAWARE_TEST_OLD"] = "changed"
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
logging.getLogger("kindaware.test.messy").addHandler(logging.NullHandler())
logging.getLogger("kindaware.test.messy").setLevel(logging.DEBUG)
logging.getLogger("kindaware.test.messy").propagate = False

class TritonPythonModel:
    def initialize(self, args):
        os.environ.pop("KINDAWARE_TEST_GONE", None)
        os.chdir("/")
        if INITIALIZE_FAILS:
            raise ValueError("no")

    async def execute(self, requests):
        return [answer([float(sys.path[0] == "/from/the/model")]) for _ in requests]
"""


def state():
    logger = logging.getLogger("kindaware.test.messy")
    return {
        "path": list(sys.path),
        "modules": {name for name in sys.modules if name in (PB_UTILS, "1", "1.model")},
        "environment": {key: value for key, value in os.environ.items() if "KINDAWARE_TEST" in key},
        "directory": os.getcwd(),
        "torch": (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
        "logger": (list(logger.handlers), logger.level, logger.propagate),
        "bytecode": sys.dont_write_bytecode,
        "threads": set(threading.enumerate()),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_model_changes_is_put_back(tmp_path, monkeypatch, fails):
    monkeypatch.setenv("KINDAWARE_TEST_OLD", "old")
    monkeypatch.setenv("KINDAWARE_TEST_GONE", "there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    torch.set_num_threads(2)
    before = state()
    folder = write_model(tmp_path, "m", MESSY.replace("INITIALIZE_FAILS", str(fails)))
    if fails:
        with pytest.raises(ModelLoadError, match="ValueError: no"):
            ModelHarness(folder).start()
    else:
        with ModelHarness(folder) as harness:
            assert harness.infer(X=[1.0]).outputs["Y"].tolist() == [1.0]
            assert os.environ["KINDAWARE_TEST_OLD"] == "changed"
    assert state() == before


def test_argv_is_the_stubs_while_the_model_runs(tmp_path):
    before = sys.argv
    source = "import sys\nassert sys.argv == [''], sys.argv\n" + model(
        "assert sys.argv == [''], sys.argv\nreturn [answer([1.0]) for _ in requests]"
    )
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        assert sys.argv is before
        assert harness.infer(X=[1.0]).error is None
    assert sys.argv is before


def test_what_the_test_changes_meanwhile_stays(tmp_path, monkeypatch):
    with ModelHarness(write_model(tmp_path, "m", ECHO)) as harness:
        monkeypatch.setenv("KINDAWARE_TEST_OLD", "of the test")
        harness.infer(X=[1.0])
    assert os.environ["KINDAWARE_TEST_OLD"] == "of the test"


def test_a_module_that_was_there_before_comes_back(tmp_path, monkeypatch):
    mine = ModuleType("beside")
    mine.__file__ = str(tmp_path / "beside.py")
    monkeypatch.setitem(sys.modules, "beside", mine)
    with ModelHarness(write_counter(tmp_path)) as harness:
        assert counts(harness) == [1.0, 1.0]
    assert sys.modules["beside"] is mine


def test_a_thread_that_is_left_running_is_in_the_log(tmp_path):
    body = (
        "self.stop = threading.Event()\n"
        "threading.Thread(target=self.stop.wait, args=(30,), name='left').start()\n"
        "return [answer([1.0])]"
    )
    with ModelHarness(write_model(tmp_path, "m", model(body))) as harness:
        harness.infer(X=[1.0])
        stop = harness.instance.stop
    stop.set()
    assert [line.text for line in harness.logs][-1] == "thread 'left' was left running"


def test_finalize_that_raises_is_only_logged(tmp_path):
    source = ECHO + "\n    def finalize(self):\n        raise ValueError('at the end')\n"
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        harness.infer(X=[1.0])
    assert [line.level for line in harness.logs if "ValueError: at the end" in line.text] == ["INFO"]


def test_the_log_has_place_and_level(tmp_path):
    source = model("pb_utils.Logger.log_warn('careful\\nhere')\nreturn [answer([1.0])]")
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        harness.infer(X=[1.0])
    line = next(line for line in harness.logs if line.level == "WARNING")
    assert (line.text, line.filename, line.model) == ("careful\nhere", "model.py", "m")
    assert f'W model.py:{line.line}] "careful\\nhere"' in harness.log_text()


def test_metrics_can_be_read(tmp_path):
    source = """
    class TritonPythonModel:
        def initialize(self, args):
            self.family = pb_utils.MetricFamily("requests", "how many", pb_utils.MetricFamily.COUNTER)
            self.metric = self.family.Metric(labels={"model": args["model_name"]})

        def execute(self, requests):
            self.metric.increment(len(requests))
            return [answer([1.0]) for _ in requests]
    """
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        harness.infer(X=[1.0])
        harness.infer(X=[1.0])
        assert harness.metric("requests", model="m") == 2.0
        assert harness.metrics_text() == (
            '# HELP requests how many\n# TYPE requests counter\nrequests{model="m"} 2\n'
        )


def test_async_execute_runs_off_the_tests_thread(tmp_path):
    source = (
        "class TritonPythonModel:\n    async def execute(self, requests):\n"
        "        here = threading.current_thread() is threading.main_thread()\n"
        "        return [answer([float(here)]) for _ in requests]\n"
    )
    with ModelHarness(write_model(tmp_path, "m", source, PLAIN)) as harness:
        assert harness.infer(X=floats(1)).outputs["Y"].tolist() == [0.0]
