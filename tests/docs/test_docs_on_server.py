"""What the documentation shows of a server, on the real one."""

import concurrent.futures
import json
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from docs_pages import ROOT, blocks_of, table_with
from plain_pytest import PlainPytest
from test_docs_blocks import write_files

from kindaware.testing import TritonServer

pytestmark = pytest.mark.server
DOCS = ROOT / "docs"
CODES_CONFIG = """\
name: "codes"
backend: "python"
max_batch_size: 8
input [ { name: "CODE" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
CODES_MODEL = """\
from kindaware import KindAwareModel, RequestError
from kindaware._errors import ERROR_CODES


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    def preprocess(self, inputs):
        raise RequestError("the text", code=ERROR_CODES[int(inputs["CODE"])])

    def forward(self, CODE):
        return CODE
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The models of three tutorials, of hooks.md (one without config.pbtxt), and one that refuses."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("first-model", "first-stream", "first-pipeline"):
        write_files(DOCS / f"tutorials/{name}.md", folder)
    write_files(DOCS / "reference/hooks.md", folder)
    codes = folder / "models" / "codes"
    (codes / "1").mkdir(parents=True)
    (codes / "config.pbtxt").write_text(CODES_CONFIG)
    (codes / "1" / "model.py").write_text(CODES_MODEL)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    assert not (folder / "models" / "doubled" / "config.pbtxt").exists()
    with TritonServer(folder / "models") as server:
        yield server


def post(server, path, body):
    request = urllib.request.Request(f"http://{server.http_url}{path}", body.encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def infer(server, model, **inputs):
    tensors = [
        {"name": name, "datatype": datatype, "shape": shape, "data": data}
        for name, (datatype, shape, data) in inputs.items()
    ]
    return post(server, f"/v2/models/{model}/infer", json.dumps({"id": "42", "inputs": tensors}))


def test_quickstart_curl_is_answered(server):
    lines = [
        line
        for block in blocks_of(DOCS / "tutorials/first-model.md", "console")
        for line in block.code.splitlines()
    ]
    words = shlex.split(next(line for line in lines if line.startswith("$ curl")))
    path = words[words.index("-s") + 1].removeprefix("localhost:8000")
    (output,) = post(server, path, words[words.index("-d") + 1])["outputs"]
    assert output["shape"] == [2, 3]
    assert sum(output["data"][:3]) == pytest.approx(1)


def test_classifier_gives_a_text_the_same_scores_alone_and_beside_others(server):
    texts = ["x", "a longer one", "", "grün", "xyz" * 13]

    def scores(*rows):
        answer = infer(server, "classifier", TEXT=("BYTES", [len(rows), 1], list(rows)))
        (output,) = answer["outputs"]
        assert output["shape"] == [len(rows), 2]
        return [output["data"][n : n + 2] for n in range(0, len(output["data"]), 2)]

    alone = [scores(text)[0] for text in texts]
    with concurrent.futures.ThreadPoolExecutor(len(texts)) as pool:
        beside = [one for [one] in pool.map(scores, texts)]
    for found in (scores(*texts), beside):
        for pair, expected in zip(found, alone, strict=True):
            assert pair == pytest.approx(expected, rel=1e-5)
    assert len({round(first, 4) for first, _ in alone}) == len(texts)


def test_quickstart_client_prints_scores(server, folder):
    client = (folder / "client.py").read_text()
    assert client.count('"localhost:8000"') == 1
    done = subprocess.run(
        [sys.executable, "-c", client.replace("localhost:8000", server.http_url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert len(re.findall(r"0\.\d+", done.stdout)) == 6


def test_client_of_the_first_stream_prints_word_by_word(server, folder):
    client = (folder / "read_along.py").read_text()
    assert client.count('"localhost:8001"') == 1
    done = subprocess.run(
        [sys.executable, "-c", client.replace("localhost:8001", server.grpc_url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "to be or not \n"


def test_events_of_the_first_stream_are_those_of_its_page(server):
    page = DOCS / "tutorials/first-stream.md"
    lines = [line for block in blocks_of(page, "console") for line in block.code.splitlines()]
    words = shlex.split(next(line for line in lines if line.startswith("$ curl")))
    path = words[words.index("-s") + 1].removeprefix("localhost:8000")
    request = urllib.request.Request(f"http://{server.http_url}{path}", words[-1].encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        events = response.read().decode()
    (quoted,) = blocks_of(page, "text")

    def read(text):
        return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]

    assert read(events)[:2] == read(quoted.code)
    assert len(read(events)) == 4


def test_first_pipeline_calls_its_other_model(server):
    text = {"A": ("BYTES", [1, 1], ["listen"]), "B": ("BYTES", [1, 1], ["silent"])}
    (output,) = infer(server, "anagram", **text)["outputs"]
    assert output["data"] == pytest.approx([1])


def test_one_file_model_of_the_readme_prints_what_it_says(tmp_path):
    write_files(ROOT / "README.md", tmp_path)
    done = subprocess.run(
        [sys.executable, "iris.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    quoted = next(block.code for block in blocks_of(ROOT / "README.md", "text") if "[[" in block.code)
    number = r"\d\.\d+"
    printed = [float(one) for one in re.findall(number, done.stdout)]
    assert printed == pytest.approx([float(one) for one in re.findall(number, quoted)], rel=1e-4)
    assert re.sub(number, "", done.stdout).split() == re.sub(number, "", quoted).split()


def test_log_line_of_the_quickstart_has_the_words_of_the_real_one(server):
    (quoted,) = (
        line
        for block in blocks_of(DOCS / "tutorials/first-model.md", "text")
        for line in block.code.splitlines()
        if line.startswith("kindaware instance")
    )

    def words(line):
        return re.sub(r"[\d.]+ s|threads .*\),", "", line)

    (real,) = re.findall(r'kindaware instance iris_0_0 ready[^"]*', server.log_text())
    assert words(real) == words(quoted)


def test_model_without_a_configuration_is_completed_from_its_class(server):
    config = server.model_config("doubled")
    assert config["max_batch_size"] == 16
    assert "dynamic_batching" in config
    x = ("FP32", [1, 4], [1, 2, 3, 4])
    assert infer(server, "doubled", X=x)["outputs"][0]["data"] == [2, 4, 6, 8]
    factor = ("FP32", [1, 1], [3])
    assert infer(server, "doubled", X=x, FACTOR=factor)["outputs"][0]["data"] == [3, 6, 9, 12]


def test_statuses_in_the_errors_page_are_those_of_triton(server):
    for number, (_, status) in enumerate(table_with(DOCS / "reference/errors.md", "Code")):
        with pytest.raises(urllib.error.HTTPError) as raised:
            infer(server, "codes", CODE=("INT32", [1, 1], [number]))
        with raised.value as error:
            assert (error.code, json.load(error)) == (int(status), {"error": "the text"})


def test_hook_model_answers_requests_of_different_length(server):
    for length in (1, 5):
        ids = ("INT64", [1, length], [7] * length)
        mask = ("INT64", [1, length], [1] * length)
        (output,) = infer(server, "sentiment", IDS=ids, MASK=mask)["outputs"]
        assert output["shape"] == [1, 2]


def test_traceback_is_on_several_lines_in_the_log_as_the_errors_page_says(server):
    with pytest.raises(urllib.error.HTTPError) as raised:
        infer(server, "sentiment", IDS=("INT64", [1, 1], [5000]), MASK=("INT64", [1, 1], [1]))
    with raised.value as error:
        assert error.code == 500
        assert "in the server's log" in json.load(error)["error"]
    deadline = time.monotonic() + 20  # the log is written by a process of its own
    while "\n    Traceback (most recent call last):" not in (log := server.log_text()):
        assert time.monotonic() < deadline, log[-2000:]
        time.sleep(0.1)
    lines = log.splitlines()
    (start,) = (number for number, one in enumerate(lines) if "failed 1 request(s), ids ['42']" in one)
    assert lines[start + 1] == "    Traceback (most recent call last):"


def test_server_test_of_the_testing_page_passes(tmp_path):
    write_files(DOCS / "reference/testing.md", tmp_path)
    with PlainPytest() as plain_pytest:
        assert " passed" in plain_pytest.run(tmp_path, "test_scale_on_server.py")
