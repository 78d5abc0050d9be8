"""Text in a stub that is not ASCII: files, prints and pipes work, and the rest is as the docs say."""

import json
import time

import numpy as np
import pytest
from complete_models import serve_complete

pytestmark = pytest.mark.server

SOURCE = '''
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from kindaware import KindAwareModel

TEXT = Path(__file__).with_name("text.txt")
print("grün am Anfang", TEXT.read_text())


def try_out(work):
    try:
        return work()
    except UnicodeError as error:
        return type(error).__name__


class TritonPythonModel(KindAwareModel):
    """Answers what becomes of text."""

    def load(self):
        print("grün in load")
        print("grün nach stderr", file=sys.stderr)
        print("a lone surrogate: \\udcff")

    def forward(self, X):
        print("grün in forward")
        with open(TEXT) as file:
            read = file.read()
        found = {
            "read": read,
            "pipe": subprocess.run(["cat"], input="grün", capture_output=True, text=True).stdout,
            "name": try_out(lambda: TEXT.with_name("grün").stat()),
            "argument": try_out(lambda: subprocess.run(["true", "grün"]).returncode),
        }
        return np.array([[json.dumps(found).encode()]] * len(X), dtype=object)
'''


CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "FOUND" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""


def test_text_in_a_stub_is_utf8(connect, tmp_path):
    version = tmp_path / "texts" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(SOURCE, encoding="utf-8")
    (version / "text.txt").write_text("schön", encoding="utf-8")
    (tmp_path / "texts" / "config.pbtxt").write_text(CONFIG)

    with serve_complete(tmp_path) as server:
        outputs = connect(server).infer("texts", X=np.ones((1, 1), np.float32))
        deadline = time.monotonic() + 10
        while "grün in forward" not in server.log_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        log = server.log_text()

    assert json.loads(outputs["FOUND"].item()) == {
        "read": "schön",
        "pipe": "grün",
        "name": "UnicodeEncodeError",
        "argument": "UnicodeEncodeError",
    }
    for line in ("grün am Anfang schön", "grün in load", "grün nach stderr", r"surrogate: \udcff"):
        assert line in log
    assert "grün in forward" in log  # while the model is still loaded
