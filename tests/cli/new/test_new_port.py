"""Ports of hand-written models: they answer as the originals do, and say what is left to decide."""

import re
import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from kindaware.cli._reporting import FAILED
from kindaware.cli.new._port import rename_config
from kindaware.testing import ModelHarness

OLD = Path(__file__).parent / "old_models"
HEAD = """
import json
import os
import threading

import numpy as np
import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
"""
NUMBERS = np.array([4, 1, 3, 2], np.float32)


def config(inputs=(("X", "FP32", 4),), outputs=(("Y", "FP32", 4),), more=""):
    def entries(tensors):
        return ", ".join(f'{{ name: "{n}" data_type: TYPE_{t} dims: [ {d} ] }}' for n, t, d in tensors)

    return (
        f'backend: "python"\ninput [ {entries(inputs)} ]\noutput [ {entries(outputs)} ]\n'
        f"instance_group [ {{ kind: KIND_CPU }} ]\n{more}\n"
    )


CLASS = "class TritonPythonModel:\n    "
DECOUPLED = "model_transaction_policy { decoupled: true }"


@pytest.fixture
def port(made, tmp_path):
    """Writes an old model, ports it, and gives the new code, the questions and a comparison."""

    def run(body, pbtxt=None):
        version = tmp_path / "old" / "1"
        version.mkdir(parents=True, exist_ok=True)
        (version / "model.py").write_text(HEAD + textwrap.indent(textwrap.dedent(body), "    "))
        if pbtxt is not None:
            (version.parent / "config.pbtxt").write_text(pbtxt)
        found = made("net", "--from", "old/1/model.py")
        return (tmp_path / "net" / "1" / "model.py").read_text(), found["questions"]

    return run


def answers(directory, *, streams=False, **inputs):
    """All outputs of a model, or the text of its error."""
    with ModelHarness(directory, raise_errors=False) as model:
        found = list(model.stream(inputs)) if streams else [model.infer(inputs)]
    return [
        str(one.error.message())
        if one.error
        else {name: array.tolist() for name, array in one.outputs.items()}
        for one in found
    ]


@pytest.fixture
def same(tmp_path):
    """Asks the old model and the new one the same."""

    def ask(**inputs):
        streams = inputs.pop("streams", False)
        expected = answers(tmp_path / "old", streams=streams, **inputs)
        assert answers(tmp_path / "net", streams=streams, **inputs) == expected
        return expected

    return ask


@pytest.mark.parametrize(
    ("name", "inputs", "streams", "before", "after"),
    [
        ("add_sub", {"INPUT0": NUMBERS, "INPUT1": NUMBERS + 1}, False, 52, 13),
        ("scores", {"FEATURES": np.array([NUMBERS, NUMBERS[::-1]])}, False, 59, 36),
        (
            "repeat",
            {
                "IN": np.array([4, 2, 0, 1], np.int32),
                "DELAY": np.array([1, 2, 3, 4], np.uint32),
                "WAIT": np.array([5], np.uint32),
            },
            True,
            75,
            34,
        ),
    ],
)
def test_official_style_answers_as_before_without_work_by_hand(
    name, inputs, streams, before, after, made, same, tmp_path
):
    shutil.copytree(OLD / name, tmp_path / "old", ignore=shutil.ignore_patterns("__pycache__"))
    pbtxt = tmp_path / "old" / "config.pbtxt"
    pbtxt.write_text(rename_config(pbtxt.read_text(), "old"))
    found = made("net", "--from", "old/1/model.py")
    assert same(**inputs, streams=streams)
    assert f"ported  old/1/model.py: {before} lines, now {after}" in found["findings"]
    code = (tmp_path / "net" / "1" / "model.py").read_text()
    assert "pb_utils" not in re.sub("#.*", "", code)
    assert "requests" not in code
    assert 'name: "net"' in (tmp_path / "net" / "config.pbtxt").read_text()


def test_arithmetic_is_left_to_tensors(made, tmp_path):
    made("net", "--from", OLD / "add_sub" / "1" / "model.py")
    code = (tmp_path / "net" / "1" / "model.py").read_text()
    assert "(INPUT0 + INPUT1, INPUT0 - INPUT1)" in code
    assert "numpy" not in code


def test_comments_of_what_stays_stay(made, tmp_path):
    made("net", "--from", OLD / "scores")
    code = (tmp_path / "net" / "1" / "model.py").read_text()
    assert "        # Probabilities\n        scores = " in code
    assert "return self.layers(x)  # [rows, 3]" in code
    assert "# The instance's device" not in code


def test_work_beside_a_thread_is_a_question_with_its_line(made):
    found = made("net", "--from", OLD / "repeat")
    lines = (OLD / "repeat" / "1" / "model.py").read_text().splitlines()
    number = lines.index("        time.sleep(wait_input[0] / 1000)") + 1
    side_by_side, question = found["questions"]
    assert "streams ran side by side, each in a thread" in side_by_side
    assert f"model.py:{number}: it ran beside the thread that answers" in question


def test_helper_that_answers_is_folded_in(port, same):
    code, questions = port(
        """
        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            if x.max() > 5:
                error = pb_utils.TritonError("too large", pb_utils.TritonError.INVALID_ARG)
                return pb_utils.InferenceResponse(error=error)
            return pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.sort(x))])
        """,
        config(),
    )
    assert questions == []
    assert "def answer" not in code
    assert same(X=NUMBERS) == [{"Y": [1, 2, 3, 4]}]
    assert same(X=NUMBERS + 4) == ["too large"]


def test_hooks_names_are_given_up_and_devices_left_to_the_library(port, same):
    code, questions = port(
        """
        def initialize(self, args):
            self.path = os.path.join(args["model_repository"], args["model_version"])
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
            torch.manual_seed(0)
            self.net = torch.nn.Linear(4, 4).to(self.device).eval()

        def preprocess(self, x):
            return x / 4

        def execute(self, requests):
            responses = []
            for request in requests:
                x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
                x = torch.from_numpy(x).to(self.device)
                with torch.no_grad():
                    y = self.net(self.preprocess(x))
                y = y.cpu().numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", y.astype(np.float32))]))
            return responses
        """,
        config(),
    )
    assert questions == []
    assert "self._preprocess(x)" in code
    assert "os.path.join(self.args.repository, self.args.model_version)" in code
    assert "is_available" not in code
    same(X=NUMBERS)


def test_response_of_several_branches_keeps_its_variable(port, same):
    _, questions = port(
        """
        def execute(self, requests):
            responses = []
            for request in requests:
                try:
                    x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
                    outputs = []
                    outputs.append(pb_utils.Tensor("Y", x * (1 / int(x[0]))))
                    response = pb_utils.InferenceResponse(output_tensors=outputs)
                except ZeroDivisionError as error:
                    pb_utils.Logger.log_warn(f"bad {error}")
                    response = pb_utils.InferenceResponse([], pb_utils.TritonError(str(error)))
                responses.append(response)
            return responses
        """,
        config(),
    )
    assert questions == []
    assert same(X=NUMBERS) == [{"Y": [1.0, 0.25, 0.75, 0.5]}]
    assert same(X=NUMBERS * 0) == ["division by zero"]


def test_input_that_is_written_to_is_copied_and_values_are_those_of_their_time(port, same):
    _, questions = port(
        """
        def execute(self, requests):
            responses = []
            for request in requests:
                x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy().copy()
                x[0] = 1
                y = x + 1
                output = pb_utils.Tensor("Y", y)
                y = y * 2
                responses.append(pb_utils.InferenceResponse([output]))
                assert y.shape == x.shape
            return responses
        """,
        config(),
    )
    assert questions == []
    assert same(X=NUMBERS) == [{"Y": [2, 2, 4, 3]}]


def test_text_stays_bytes(port, same):
    _, questions = port(
        """
        def execute(self, requests):
            responses = []
            for request in requests:
                texts = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
                loud = np.array([text.decode().upper().encode() for text in texts], dtype=object)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("LOUD", loud)]))
            return responses
        """,
        config((("TEXT", "STRING", 1),), (("LOUD", "STRING", 1),)),
    )
    assert questions == []
    assert same(TEXT=np.array(["grün"], dtype=object)) == [{"LOUD": ["GRÜN".encode()]}]


def test_sender_becomes_a_generator(port, same):
    code, questions = port(
        """
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
                if x[0] < 0:
                    error = pb_utils.TritonError("negative")
                    sender.send(
                        pb_utils.InferenceResponse(error=error),
                        flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
                    )
                    continue
                for one in x:
                    if request.is_cancelled():
                        break
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.array([one] * 4))]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        """,
        config(more=DECOUPLED),
    )
    assert questions == []
    assert "def stream(self, X):" in code
    assert same(X=NUMBERS, streams=True)[1] == {"Y": [1, 1, 1, 1]}
    assert same(X=-NUMBERS, streams=True) == ["negative"]


def test_id_of_the_request_comes_with_requests(port, tmp_path):
    code, questions = port(
        """
        def execute(self, requests):
            responses = []
            for request in requests:
                name = request.request_id()
                output = pb_utils.Tensor("Y", np.array([name], dtype=object))
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
        """,
        config(outputs=(("Y", "STRING", 1),)),
    )
    assert questions == []
    assert "def forward(self, X, requests):" in code
    with ModelHarness(tmp_path / "net") as model:
        assert model.infer(X=NUMBERS, request_id="seven").outputs["Y"].tolist() == [b"seven"]


@pytest.mark.parametrize(
    ("body", "question"),
    [
        (
            """
            def execute(self, requests):
                batch = np.stack([pb_utils.get_input_tensor_by_name(one, "X").as_numpy() for one in requests])
                return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", row)]) for row in batch]
            """,
            "old/1/model.py:14: execute does more than go through the requests one by one",
        ),
        (
            """
            def execute(self, requests):
                responses = []
                for request in requests:
                    x = pb_utils.get_input_tensor_by_name(request, "X")
                    call = pb_utils.InferenceRequest(model_name="m", requested_output_names=["Y"], inputs=[x])
                    y = pb_utils.get_output_tensor_by_name(call.exec(), "Y")
                    responses.append(pb_utils.InferenceResponse([y]))
                return responses
            """,
            "old/1/model.py:17: it uses Triton's module: self.call asks other models",
        ),
        (
            """
            def initialize(self, args):
                os.environ["CUDA_VISIBLE_DEVICES"] = "0"

            def execute(self, requests):
                responses = []
                for request in requests:
                    def read(name):
                        return pb_utils.get_input_tensor_by_name(request, name)

                    break
                return responses
            """,
            "old/1/model.py:14: it chooses the device",
        ),
    ],
)
def test_what_is_not_plain_is_a_marked_question_and_the_model_still_loads(body, question, port, tmp_path):
    code, questions = port(body, config())
    assert [one for one in questions if one.startswith(question)], questions
    assert "# PORT: line " in code
    with ModelHarness(tmp_path / "net", parameters={"kindaware.warmup": "off"}, raise_errors=False) as model:
        assert "see what is marked with PORT" in str(model.infer(X=NUMBERS).error.message())


def test_without_a_configuration_the_names_are_the_codes_and_the_rest_is_a_question(port, tmp_path):
    _, questions = port(
        """
        def execute(self, requests):
            responses = []
            for request in requests:
                x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x * 2)]))
            return responses
        """
    )
    assert [one.partition(":")[0] for one in questions] == ["config.pbtxt"]
    text = (tmp_path / "net" / "config.pbtxt").read_text()
    assert text.startswith("# PORT: ")
    assert answers(tmp_path / "net", X=NUMBERS) == [{"Y": [8, 2, 6, 4]}]


def test_files_beside_it_come_along(port, tmp_path):
    (tmp_path / "old" / "2").mkdir(parents=True)
    (tmp_path / "old" / "2" / "other.pt").write_text("another version's")
    (tmp_path / "old" / "labels.txt").write_text("cat")
    (tmp_path / "old" / "1").mkdir()
    (tmp_path / "old" / "1" / "weights.pt").write_text("numbers")
    (tmp_path / "old" / "README.md").write_text("ours")
    port("def execute(self, requests):\n    return [None for request in requests]", config())
    assert (tmp_path / "net" / "labels.txt").read_text() == "cat"
    assert (tmp_path / "net" / "1" / "weights.pt").read_text() == "numbers"
    assert (tmp_path / "net" / "original_README.md").read_text() == "ours"
    assert not (tmp_path / "net" / "2").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class TritonPythonModel", "expected a model.py in Python, got "),
        ("class Other: pass", "expected a class TritonPythonModel"),
        (
            f"{CLASS}def load(self): pass",
            "it needs no port if it derives from KindAwareModel",
        ),
        (f"{CLASS}async def execute(self, requests): pass", "port it by hand"),
        (
            f"{CLASS}def execute(self, requests): pass",
            "expected a config.pbtxt beside it",
        ),
    ],
)
def test_file_that_is_no_such_model_is_one_line(text, message, new, tmp_path):
    (tmp_path / "old.py").write_text(text)
    done = new("net", "--from", "old.py")
    assert done.exit_code == FAILED
    [line] = done.stderr.splitlines()
    assert message in line
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_file_that_can_not_be_read_is_one_line(content, new, tmp_path):
    if content is not None:
        (tmp_path / "old.py").write_bytes(content)
    done = new("net", "--from", "old.py")
    assert done.exit_code == FAILED
    assert len(done.stderr.splitlines()) == 1


def test_old_code_is_read_and_not_run(port):
    port(
        """
        def execute(self, requests):
            responses = []
            for request in requests:
                x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
            return responses
        """,
        config(),
    )
    assert "triton_python_backend_utils" not in sys.modules
