"""The command: what is printed, compared and written, and what is refused."""

import json

import pytest
from typer.testing import CliRunner

from kindaware.cli._app import app
from kindaware.cli.config._declared import declare

DECLARED = """\
from kindaware import KindAwareModel, TensorSpec


class TritonPythonModel(KindAwareModel):
    inputs = [TensorSpec("X", "FP32", [4]), TensorSpec("MASK", "BOOL", [4], optional=True)]
    outputs = [TensorSpec("Y", "FP32", [4])]
    max_batch_size = 8

    def load(self):
        pass

    def forward(self, X, MASK=None):
        return 2 * X
"""

BY_HAND = """\
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "Y", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(0)
        return config
"""

WRITTEN = """\
# What the team has chosen.
max_batch_size: 4
input [ { name: "X" data_type: TYPE_FP64 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]  # one waits
"""

EXPECTED = WRITTEN.replace(
    'input [ { name: "X" data_type: TYPE_FP64 dims: [ 4 ] } ]',
    'input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] },\n'
    '  { name: "MASK" data_type: TYPE_BOOL dims: [ 4 ] optional: true } ]',
)


def write_model(folder, code, config=None):
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.py").write_text(code)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    return folder


def config(*args):
    return CliRunner().invoke(app, ["config", *map(str, args)])


def test_declarations_of_both_kinds_of_models(tmp_path):
    ours = declare(str(write_model(tmp_path / "ours", DECLARED)), "model.py")["declared"]
    assert (ours["max_batch_size"], ours["dynamic_batching"]) == (8, {})
    assert [one["name"] for one in ours["input"]] == ["X", "MASK"]
    by_hand = declare(str(write_model(tmp_path / "hand", BY_HAND)), "model.py")["declared"]
    assert sorted(by_hand) == ["input", "output"]


def test_missing_file_is_printed_whole_and_written_on_request(tmp_path):
    folder = write_model(tmp_path / "m", DECLARED)
    printed = config(folder)
    assert printed.exit_code == 0
    assert printed.stdout.startswith('name: "m"\nbackend: "python"\nmax_batch_size: 8\ninput [\n')
    assert not (folder / "config.pbtxt").exists()
    assert config(folder, "--write").stdout == printed.stdout
    assert (folder / "config.pbtxt").read_text() == printed.stdout
    again = config(folder, "--check")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "says what the class declares" in again.stderr


def test_difference_is_shown_and_written_with_all_else_kept(tmp_path):
    folder = write_model(tmp_path / "m", DECLARED, WRITTEN)
    shown = config(folder, "--check")
    assert shown.exit_code == 1
    assert '-input [ { name: "X" data_type: TYPE_FP64 dims: [ 4 ] } ]\n' in shown.stdout
    assert "\x1b[" not in shown.stdout
    assert (folder / "config.pbtxt").read_text() == WRITTEN
    assert config(folder, "--check", "--write").exit_code == 0
    assert (folder / "config.pbtxt").read_text() == EXPECTED


def test_class_that_declares_nothing_is_in_step_with_a_configuration_that_names_tensors(tmp_path):
    folder = write_model(tmp_path / "m", "class TritonPythonModel:\n    pass\n", WRITTEN)
    done = config(folder, "--check")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "the class declares nothing" in done.stderr
    assert json.loads(config(folder, "--json").stdout)["same"] is True
    assert (folder / "config.pbtxt").read_text() == WRITTEN


def test_json_and_full_have_the_whole_text(tmp_path):
    folder = write_model(tmp_path / "m", DECLARED, WRITTEN)
    document = json.loads(config(folder, "--json").stdout)
    assert (document["same"], document["written"], document["config"]) == (False, False, EXPECTED)
    assert config(folder, "--full").stdout == EXPECTED


BAD = {
    "no declarations": ("class TritonPythonModel:\n    pass\n", None, "got none of them; write inputs"),
    "an import that fails": ("import nowhere_to_be_found\n", None, "at 1/model.py:1; correct it"),
    "a syntax error": ("def f(:\n", None, "SyntaxError"),
    "an exit": ("raise SystemExit(3)\n", None, "SystemExit: 3"),
    "the end of the process": ("import os\nos._exit(3)\n", None, "a process that ended with exit code 3"),
    "a broken config.pbtxt": (
        DECLARED,
        "input {",
        "a model configuration in protobuf's text format",
    ),
    "wrong declarations": (DECLARED.replace("= 8", "= -8"), None, "max_batch_size: expected a whole number"),
}


@pytest.mark.parametrize(("code", "written", "text"), BAD.values(), ids=BAD.keys())
def test_bad_model_is_one_line(tmp_path, code, written, text):
    done = config(write_model(tmp_path / "m", code, written))
    assert (done.exit_code, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert text in line


def test_import_that_does_not_return_is_ended(tmp_path):
    folder = write_model(tmp_path / "m", "import time\ntime.sleep(1000)\n")
    done = config(folder, "--timeout", "6")
    assert "whose import returns within 6 s" in done.stderr


def test_bad_directories_name_the_one_to_pass(tmp_path):
    folder = write_model(tmp_path / "m", DECLARED)
    for path, text in [
        (tmp_path / "nowhere", "no such directory"),
        (folder / "1", f"a version of a model; pass {folder}"),
        (tmp_path, f"a repository; pass one of its models: {folder}"),
        (folder / "1" / "model.py", "got a file"),
    ]:
        assert text in config(path).stderr
