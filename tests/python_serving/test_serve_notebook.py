"""`kindaware.serve` from the cells of a notebook, with the real server."""

import subprocess
import sys

import pytest

# What runs the cells of Jupyter, without the page in front of it.
NOTEBOOK = '''
from IPython.core.interactiveshell import InteractiveShell

CELLS = [
    """
import numpy as np
import kindaware
from kindaware import KindAwareModel, TensorSpec

FACTOR = 3
""",
    """
class Times(KindAwareModel):
    inputs = [TensorSpec("X", "FP32", [2])]
    outputs = [TensorSpec("Y", "FP32", [2])]

    def load(self):
        pass

    def forward(self, X):
        return X * FACTOR
""",
    "server = kindaware.serve(Times)",
    "print('answer', server.infer(X=np.array([1, 2], np.float32))['Y'].tolist())",
    # The cell is run again after an edit, as one does: the class has the same name.
    """
class Times(Times):
    def forward(self, X):
        return X * FACTOR + 1

server.stop()
with kindaware.serve(Times) as server:
    print('edited', server.infer(X=np.array([1, 2], np.float32))['Y'].tolist())
""",
]

shell = InteractiveShell.instance()
for cell in CELLS:
    shell.run_cell(cell, store_history=True).raise_error()
'''


@pytest.mark.server
def test_serve_in_a_notebook_serves_a_class_of_one_cell_with_names_of_another(tmp_path):
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    ran = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "answer [3.0, 6.0]" in ran.stdout
    assert "edited [4.0, 7.0]" in ran.stdout
