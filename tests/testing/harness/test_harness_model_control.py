"""Models that load and unload models."""

import json
import os

import pytest
from harness_kit import ECHO, PLAIN, write_model

from kindaware.testing import ModelHarness, TritonContractError

WORD = """
class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.is_over = False
    def execute(self, requests):
        return [answer([float(json.loads(self.args["model_config"])["parameters"]["n"]["string_value"])])]
    def finalize(self):
        self.is_over = True
"""
NUMBERED = PLAIN + 'parameters { key: "n" value { string_value: "1" } }'


def configured(number):
    tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
    return json.dumps(
        {
            "backend": "python",
            "input": [{"name": "X", **tensor}],
            "output": [{"name": "Y", **tensor}],
            "parameters": {"n": {"string_value": str(number)}},
        }
    )


@pytest.fixture
def harness(tmp_path):
    """A model beside which another lies, which is loaded."""
    write_model(tmp_path, "other", WORD, NUMBERED)
    with ModelHarness(write_model(tmp_path, "main", ECHO)) as harness:
        harness.pb_utils.load_model("other")
        yield harness


def number(harness):
    return harness.model("other").infer(X=[0.0]).outputs["Y"].tolist()


def touch(path):
    """Change a file some time later, whatever the clock's resolution."""
    later = path.stat().st_mtime_ns + 10**10
    os.utime(path, ns=(later, later))


def test_initialize_of_the_first_model_loads_the_model_beside_it(tmp_path):
    write_model(tmp_path, "other", WORD, NUMBERED)
    source = ECHO + (
        "\n    def initialize(self, args):\n"
        "        self.ready = [pb_utils.is_model_ready('other')]\n"
        "        pb_utils.load_model('other')\n"
        "        self.ready.append(pb_utils.is_model_ready('other'))\n"
    )
    with ModelHarness(write_model(tmp_path, "main", source)) as harness:
        assert harness.instance.ready == [False, True]
        assert number(harness) == [1.0]
    assert "a server that is starting answers 'Server not ready'" in harness.log_text()


def test_initialize_that_loads_its_own_model_waits_for_ever(tmp_path):
    source = ECHO + "\n    def initialize(self, args):\n        pb_utils.load_model('main')\n"
    with pytest.raises(TritonContractError, match=r"wait for ever: load_model\('main'\) waits for a load"):
        ModelHarness(write_model(tmp_path, "main", source)).start()


def test_load_model_unload_model_and_is_model_ready_agree(harness):
    pb_utils = harness.pb_utils
    before = harness.model("other").instance
    pb_utils.unload_model("other")
    assert not pb_utils.is_model_ready("other")
    assert before.is_over
    pb_utils.load_model("other")
    assert pb_utils.is_model_ready("other")
    assert not harness.model("other").instance.is_over


def test_load_model_of_a_model_that_was_not_changed_leaves_it(harness):
    before = harness.model("other").instance
    harness.pb_utils.load_model("other")
    assert harness.model("other").instance is before


def test_load_model_of_a_model_whose_files_were_changed_replaces_it(harness, tmp_path):
    before = harness.model("other").instance
    touch(tmp_path / "other" / "1" / "model.py")
    harness.pb_utils.load_model("other")
    assert harness.model("other").instance is not before
    assert before.is_over


def test_load_model_with_another_configuration_replaces_the_model_once(harness):
    load = harness.pb_utils.load_model
    load("other", configured(2))
    before = harness.model("other").instance
    assert number(harness) == [2.0]
    load("other", configured(2))
    load("other")
    assert harness.model("other").instance is before


def test_load_model_after_a_change_reads_the_configuration_in_the_repository(harness, tmp_path):
    harness.pb_utils.load_model("other", configured(2))
    touch(tmp_path / "other" / "config.pbtxt")
    harness.pb_utils.load_model("other")
    assert number(harness) == [1.0]


def test_load_model_with_files_replaces_the_model_until_it_is_loaded_without(harness, tmp_path):
    source = (tmp_path / "other" / "1" / "model.py").read_bytes()
    files = {"file:1/model.py": source.replace(b"[float(", b"[10 + float(")}
    harness.pb_utils.load_model("other", configured(3), files)
    assert number(harness) == [13.0]
    harness.pb_utils.load_model("other", configured(3), {"file:1/model.py": source})
    assert number(harness) == [13.0]  # with the same configuration no file is looked at
    harness.pb_utils.load_model("other")
    assert number(harness) == [1.0]


def test_load_model_of_a_class_that_was_unloaded_starts_it_again(tmp_path):
    class Given:
        def initialize(self, args):
            self.kind = args["model_instance_kind"]

    with ModelHarness(write_model(tmp_path, "main", ECHO)) as harness:
        harness.add_model(Given, PLAIN, name="given", kind="MODEL")
        before = harness.model("given").instance
        harness.pb_utils.unload_model("given")
        harness.pb_utils.load_model("given")
        assert harness.model("given").instance is not before
        assert harness.model("given").instance.kind == "MODEL"


@pytest.mark.parametrize(
    ("name", "config", "files", "logged"),
    [
        ("nobody", "", None, "model not found in any repository"),
        ("other", "{", None, "Expecting property name"),
        ("other", '{"nonsense": 1}', None, 'no field named "nonsense"'),
        ("other", '{"name": "q"}', None, "expected a configuration with the directory's name 'other'"),
        ("other", '{"max_batch_size": -1}', None, "'max_batch_size' must be non-negative"),
        ("other", "", {"file:1/model.py": b""}, "files without config"),
    ],
)
def test_load_model_of_what_is_wrong_in_the_repository_says_so_in_the_log(
    harness, name, config, files, logged
):
    before = harness.model("other").instance
    with pytest.raises(Exception, match=f"failed to load '{name}', failed to poll from model repository$"):
        harness.pb_utils.load_model(name, config, files)
    assert logged in harness.log_text()
    assert harness.model("other").instance is before


def test_load_model_of_a_broken_model_says_why_and_leaves_the_old_one(harness, tmp_path):
    before = harness.model("other").instance
    write_model(tmp_path, "other", "raise ValueError('broken')\n", NUMBERED)
    touch(tmp_path / "other" / "1" / "model.py")
    with pytest.raises(
        Exception, match=r"load failed for model 'other': version 1 is at .*ValueError: broken"
    ):
        harness.pb_utils.load_model("other")
    assert harness.model("other").instance is before
