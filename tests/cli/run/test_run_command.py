"""`kindaware run` in this process."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kindaware.cli._harness_errors import ModelFailedError, explained
from kindaware.testing import TritonContractError

CONFIG = 'backend: "python"\nmax_batch_size: 8\ninstance_group [ { kind: KIND_CPU } ]\n'
BY_HAND = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(pb_utils.get_input_tensor_by_name(one, "X").as_numpy()) for one in requests]

    def one(self, x):
        if (x < 0).any():
            raise ValueError("negative")
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x + 1)])
"""
COUNTS = """
import torch
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def stream(self, N):
        for number in range(int(N)):
            if number == 3:
                raise ValueError("three")
            yield torch.tensor([[number]], dtype=torch.int32)
"""
TENSORS = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
COUNT_CONFIG = (
    CONFIG
    + """
input [ { name: "N" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
)
SUMS = """
import torch
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X, requests):
        ids = [one.correlation_id for one in requests]
        sums = torch.stack([self.sequence_state.get(one, torch.zeros(4)) for one in ids]) + X
        self.sequence_state.update(zip(ids, sums))
        return sums
"""


def values(done):
    assert done.exit_code == 0, done.stderr
    return [json.loads(line)["outputs"]["Y"] for line in done.stdout.splitlines()]


def test_answer_has_shapes_types_values_and_stages(run, write_model):
    done = run(write_model(), "-i", "[1,2,3,4]")
    lines = done.stdout.splitlines()

    assert done.exit_code == 0, done.stderr
    assert re.fullmatch(r"m version 1 on cpu, precision 32-true, loaded in \d+\.\d\d s", lines[0])
    assert lines[2:5] == ["X  float32 [1, 4]  [1, 2, 3, 4]", "->", "Y  float32 [1, 4]  [2, 4, 6, 8]"]
    stages = dict(line.rsplit(maxsplit=1) for line in lines[6:])
    assert stages.pop("  stage") == "ms"
    assert [name.strip() for name in stages] == [
        "read",
        "collate",
        "forward",
        "postprocess",
        "respond",
        "between them",
        "execute",
    ]
    assert sum(map(float, stages.values())) == pytest.approx(2 * float(stages["  execute"]), abs=0.02)


def test_words_of_the_model_are_none_of_the_results(run, write_model):
    done = run(write_model(), "--random", "--json")

    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == "the model's own words\n"


@pytest.mark.parametrize("name", ["x.npy", "x.json"])
def test_file_is_read_as_infer_does(run, write_model, tmp_path, name):
    np.save(tmp_path / "x.npy", np.ones((2, 4)))
    (tmp_path / "x.json").write_text("[[1,1,1,1],[1,1,1,1]]")

    assert values(run(write_model(), "-i", f"X={tmp_path / name}", "--json")) == [[[2.0] * 4] * 2]


def test_picture_has_its_best_classes_named(run, write_model, tmp_path):
    source = """
    from kindaware import KindAwareModel
    class TritonPythonModel(KindAwareModel):
        def load(self): pass
        def forward(self, X): return X.mean(dim=(2, 3))
    """
    tensors = 'input { name: "X" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } '
    tensors += 'output { name: "Y" data_type: TYPE_FP32 dims: [ 3 ] }'
    Image.new("RGB", (5, 4), (0, 255, 51)).save(tmp_path / "green.png")
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")

    done = run(
        write_model(source, CONFIG + tensors),
        "-i",
        tmp_path / "green.png",
        "--labels",
        tmp_path / "labels.txt",
    )

    best = [line.split() for line in done.stdout.splitlines() if line.startswith("      ")]
    assert best == [["1.0000", "1", "green"], ["0.2000", "2", "blue"], ["0.0000", "0", "red"]]


def test_hand_written_model_runs_and_has_one_stage(run, write_model):
    done = run(write_model(BY_HAND), "-i", "[1,2,3,4]")

    assert "Y  float32 [1, 4]  [2, 3, 4, 5]" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[-2:]] == ["stage", "execute"]
    assert "not a KindAwareModel" in done.stdout


@pytest.mark.parametrize(
    ("source", "line", "function"), [(None, 9, "forward"), (BY_HAND, 9, "one")], ids=["library", "by hand"]
)
def test_error_of_the_model_shows_the_users_lines_and_no_others(run, write_model, source, line, function):
    folder = write_model(*[source] * (source is not None))

    done = run(folder, "-i", "[-1,2,3,4]")

    assert done.exit_code == 1
    place = f"{folder}/1/model.py:{line}, in {function}"
    last = done.stderr.splitlines()[-1]
    assert last == f"kindaware run: m: a request failed: ValueError: negative ({place})"
    assert done.stderr.count("ValueError: negative") == 2 + (source is None)
    assert "src/kindaware" not in done.stderr


def test_stream_is_printed_item_by_item(run, write_model):
    folder = write_model(COUNTS, COUNT_CONFIG + "model_transaction_policy { decoupled: true }\n")

    assert values(run(folder, "-i", "2", "--json")) == [[[0]], [[1]]]
    assert re.search(r"\n +0\.\d{3} s  Y  int32 \[1, 1\]  \[1\]\n", run(folder, "-i", "2").stdout)


def test_items_before_an_error_are_printed(run, write_model):
    folder = write_model(COUNTS, COUNT_CONFIG + "model_transaction_policy { decoupled: true }\n")

    done = run(folder, "-i", "9", "--json")

    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.splitlines()[-1].endswith(
        "ValueError: three (" + f"{folder}/1/model.py:11, in stream)"
    )


def test_inputs_given_again_are_one_sequence(run, write_model):
    folder = write_model(SUMS, CONFIG + TENSORS + "sequence_batching { }\n")

    found = values(run(folder, "-i", "[1,1,1,1]", "-i", "X=[2,2,2,2]", "--requests", "3", "--json"))

    assert [one[0][0] for one in found] == [1.0, 3.0, 4.0]


def test_random_requests_differ_and_come_out_the_same_each_time(run, write_model):
    folder = write_model()
    first, again = (values(run(folder, "--random", "--requests", "2", "--json")) for _ in range(2))

    assert first == again
    assert first[0] != first[1]


def test_settings_and_device_hold_for_this_run_alone(run, write_model):
    folder = write_model()
    config = (folder / "config.pbtxt").read_text()

    done = run(
        folder,
        "--random",
        "--set",
        "kindaware.precision=bf16-true",
        "--kind",
        "GPU",
        "--accelerator",
        "simulated",
    )

    assert done.stdout.startswith("m version 1 on cuda:0, precision bf16-true, loaded in "), done.stderr
    assert (folder / "config.pbtxt").read_text() == config


def test_settings_do_without_a_configuration(run, write_model):
    source = """
    from kindaware import KindAwareModel, TensorSpec
    class TritonPythonModel(KindAwareModel):
        max_batch_size = 4
        inputs = [TensorSpec("X", "FP32", [2])]
        outputs = [TensorSpec("Y", "FP32", [2])]
        def load(self): pass
        def forward(self, X): return X
    """
    done = run(write_model(source, None), "--random", "--set", "kindaware.precision=bf16-true")

    assert "precision bf16-true" in done.stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "model 'm' input 'X': expected a value for each input: X FP32 [4], got none; pass --input"),
        (["-i", "Z=[1]"], "expected NAME=VALUE with an input of the model, one of ['X'], got 'Z'"),
        (["-i", "x.npy"], "got no such file; correct the path"),
        (["-i", "[1,2]"], "unexpected shape for input 'X' for model 'm'. Expected [-1,4], got [1,2]"),
        (["--random", "--labels", "/nowhere"], "No such file or directory: '/nowhere'"),
    ],
)
def test_wrong_input_is_one_line(run, write_model, args, text):
    done = run(write_model(), *args)

    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("kindaware run: ")
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("kindaware.precison=x", "did you mean kindaware.precision?"),
        ("precision=x", "did you mean kindaware.precision?"),
        ("max_batch_size=many", "expected a whole number, got 'many'"),
        ("max_batch_size", "expected KEY=VALUE, got no =; write it like"),
    ],
)
def test_wrong_setting_is_one_line_and_a_wrong_command_line(run, write_model, setting, text):
    done = run(write_model(), "--random", "--set", setting)

    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("kindaware run: ")
    assert text in line


def test_path_that_is_no_models_directory_names_the_one_to_pass(run, write_model):
    folder = write_model()
    for path in (folder / "1", folder / "1" / "model.py", folder.parent):
        assert run(path, "--random").stderr.endswith(
            f"pass {folder}\n" if path != folder.parent else f"models: {folder}\n"
        )


def test_code_that_does_not_import_is_told_with_its_line(run, write_model, tmp_path):
    done = run(write_model("import nothing_here\n"), "--random")

    assert done.exit_code == 1
    assert done.stderr == (
        "kindaware run: model 'm' can't be loaded: ModuleNotFoundError: No module named 'nothing_here' "
        f"({tmp_path}/m/1/model.py:1, in <module>)\n"
    )


def test_what_would_hang_or_crash_a_server_is_one_line():
    harness = SimpleNamespace(logs=[])
    with pytest.raises(ModelFailedError, match=r"^the server would wait for ever$"), explained(harness):
        raise TritonContractError("the server would wait for ever\nat model.py")


def test_device_that_is_not_there_is_one_line(run, write_model):
    [*_, line] = run(write_model(), "--random", "--kind", "GPU", "--device-id", "9").stderr.splitlines()

    assert line.startswith(
        "kindaware run: model 'm' can't be loaded: ConfigError: instance 'm_0_0' of KIND_GPU"
    )


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("x.npy", b"no array", "expected a .npy file, a picture, JSON or text"),
        ("x.npy", b"", "a file that numpy can't read"),
        ("x.npy", b"PK\x03\x04 half an archive", "a file that numpy can't read"),
        ("x.txt", b"\xff\xfe", "expected a text file in UTF-8"),
        ("x.json", b"[[1, 2], [3]]", "expected lists of equal lengths"),
        ("x.json", b'{"half":\n', "got what is no JSON"),
        ("x.json", b"[1e39, 0, 0, 0]", "expected values that FP32 has"),
    ],
)
def test_file_that_can_not_be_read_is_one_line(run, write_model, tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)

    done = run(write_model(), "-i", tmp_path / name)

    assert done.exit_code == 1
    [line] = [one for one in done.stderr.splitlines() if one != "the model's own words"]
    assert line.startswith("kindaware run: ")
    assert text in line


def test_archive_of_arrays_is_no_array(run, write_model, tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, X=np.ones(4))

    assert "got an archive of arrays" in run(write_model(), "-i", tmp_path / "x.npy").stderr


def test_labels_that_are_no_text_are_one_line(run, write_model, tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xff")

    done = run(write_model(), "--random", "--labels", tmp_path / "labels.txt")

    assert done.stderr.startswith(f"kindaware run: --labels {tmp_path}/labels.txt: expected a text file in")


SUBTRACTS = """
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X, Z):
        return X - Z
"""
CALLS = """
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        return self.call("{name}", {{"X": X + 1}})["Y"]
"""


def test_models_beside_it_that_it_calls_are_loaded_too_and_those_that_they_call(run, write_model):
    write_model(name="doubles")
    write_model(CALLS.format(name="doubles"), name="between")
    caller = write_model(CALLS.format(name="between"), name="caller")

    done = run(caller, "-i", "[1,2,3,4]")

    assert done.exit_code == 0, done.stderr
    assert "Y  float32 [1, 4]  [6, 8, 10, 12]" in done.stdout


def test_called_model_that_is_not_beside_it_is_one_line_that_says_what_to_do(run, write_model):
    done = run(write_model(CALLS.format(name="nobody")), "-i", "[1,2,3,4]")

    assert done.exit_code == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("kindaware run: model 'nobody', which the model calls: expected its directory")
    assert line.endswith("use kindaware serve with both of them")


@pytest.mark.parametrize("options", [(), ("--top", "2")], ids=["not asked for", "top"])
def test_classes_have_the_names_of_the_configurations_file(run, write_model, options):
    config = (CONFIG + TENSORS).replace('"Y" ', '"Y" label_filename: "names.txt" ')
    folder = write_model(config=config)
    (folder / "names.txt").write_text("red\ngreen\nblue\ngrey\n")

    done = run(folder, "-i", "[1,2,4,3]", *options)

    words = [line.split() for line in done.stdout.splitlines()]
    expected = [["8.0000", "2", "blue"], ["6.0000", "3", "grey"]]
    named = [one for one in words if one[-1:] in (["blue"], ["grey"])]
    assert named == (expected if options else [])


def test_file_of_class_names_that_is_not_there_is_one_line(run, write_model):
    done = run(
        write_model(config=(CONFIG + TENSORS).replace('"Y" ', '"Y" label_filename: "names.txt" ')),
        *("--random", "--top", "1"),
    )

    assert done.exit_code == 1
    assert "label_filename 'names.txt': expected a text file in UTF-8, got" in done.stderr.splitlines()[-1]


def test_random_inputs_of_one_shape_differ(run, write_model):
    two = TENSORS.replace("input [", 'input [ { name: "Z" data_type: TYPE_FP32 dims: [ 4 ] },')

    done = run(write_model(SUBTRACTS, CONFIG + two), "--random", "--json")

    assert done.exit_code == 0, done.stderr
    assert any(json.loads(done.stdout)["outputs"]["Y"][0])
