"""Rules about the machine, and those that need the completed configuration."""

import pytest
from check_kit import BY_HAND, CONFIG, OURS, find, only, subject, write_model

from kindaware._server.interpreter import Interpreter
from kindaware._server.location import Location
from kindaware.cli._machine import SharedMemory
from kindaware.cli.check._subject import Trial

GPUS = CONFIG.replace("KIND_CPU", "KIND_GPU gpus: [ 0, 1 ]")


@pytest.mark.parametrize(
    ("gpus", "text"), [(0, "torch sees no GPU here"), (1, "asks for GPU 1, and torch sees 1")]
)
def test_gpus_that_are_not_there(tmp_path, gpus, text):
    found = only(subject(write_model(tmp_path / "m", OURS, GPUS), gpus=gpus), "KA501", "machine")
    assert text in found.text
    assert (found.level, found.line) == ("error", 5)


@pytest.mark.parametrize("options", [{"gpus": 2}, {"kind": "CPU"}])
def test_gpus_that_are_there_or_not_wanted(tmp_path, options):
    rules = [one[0] for one in find(subject(write_model(tmp_path / "m", OURS, GPUS), **options), "machine")]
    assert "KA501" not in rules


def with_request(folder, **host):
    checked = subject(folder, **host)
    request = {"inputs": {"X": ["float32", [1, 1024]]}, "outputs": {"Y": ["bfloat16", [1, 512]]}}
    checked.trial = Trial(request=request)
    return checked


@pytest.mark.parametrize(
    ("total", "level"),
    # 8 rows of 4096 + 1024 bytes, in each of two instances
    [(8 * 5120 * 2 - 1, "error"), (8 * 5120 * 2, "warning"), (8 * 5120 * 4, None)],
)
def test_shared_memory_for_full_batches_of_all_instances(tmp_path, total, level):
    config = CONFIG.replace("KIND_CPU", "KIND_CPU count: 2")
    checked = with_request(write_model(tmp_path / "m", OURS, config), shared=SharedMemory(total, total))
    found = [one for one in find(checked, "machine") if one[0] == "KA502"]
    assert [one[1] for one in found] == ([level] if level else [])


def interpreter(tmp_path, **changed):
    usual = {
        "executable": tmp_path / "python",
        "version": "3.11",
        "prefix": tmp_path,
        "base_prefix": tmp_path,
        "library": tmp_path / "libpython3.11.so.1.0",
        "numpy": "1.26.4",
    }
    return Interpreter(**{**usual, **changed})


def wheel(tmp_path):
    stub = tmp_path / "python_backend_stubs" / "3.11" / "triton_python_backend_stub"
    stub.parent.mkdir(parents=True)
    stub.touch()
    return Location(tmp_path / "bin" / "tritonserver", "in a test", tmp_path, is_wheel=True)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"numpy": "2.1.0"}, "with numpy 2 this server's stub reads and sends wrong data"),
        ({"version": "3.14"}, "a Python that this server has a stub for"),
        ({"library": None}, "its shared library"),
        ({"shadow": "/x/triton_python_backend_utils.py"}, "no triton_python_backend_utils"),
        ({}, None),
    ],
)
def test_interpreter_that_the_stub_can_not_use(tmp_path, changed, text):
    checked = subject(write_model(tmp_path / "m"), server=wheel(tmp_path))
    vars(checked.machine)["interpreter"] = interpreter(tmp_path, **changed)
    if text is None:
        assert find(checked, "machine") == []
    else:
        assert text in only(checked, "KA503", "machine").text


def test_batching_that_is_off(tmp_path):
    config = CONFIG.replace("dynamic_batching { }\n", "")
    found = only(subject(write_model(tmp_path / "m", BY_HAND, config)), "KA206", "machine")
    assert (found.level, found.line, found.remedy) == ("warning", 2, "add dynamic_batching { }")


@pytest.mark.parametrize(
    "config",
    [
        CONFIG.replace("dynamic_batching", "sequence_batching"),
        CONFIG.replace("dynamic_batching { }", "model_transaction_policy { decoupled: true }"),
        CONFIG.replace("dynamic_batching { }", "").replace("max_batch_size: 8", "max_batch_size: 1"),
    ],
)
def test_batching_that_is_off_on_purpose(tmp_path, config):
    rules = [one[0] for one in find(subject(write_model(tmp_path / "m", BY_HAND, config)), "machine")]
    assert rules == ["KA504"]


def test_batching_that_the_class_has_declared_counts(tmp_path):
    checked = subject(write_model(tmp_path / "m", OURS, CONFIG.replace("dynamic_batching { }\n", "")))
    checked.trial = Trial(config={"max_batch_size": 8, "dynamic_batching": {}})
    assert [one[0] for one in find(checked, "machine")] == ["KA504"]


def test_nothing_to_batch(tmp_path):
    config = CONFIG.replace("max_batch_size: 8", "max_batch_size: 0")
    assert only(subject(write_model(tmp_path / "m", BY_HAND, config)), "KA207", "machine").line == 6
