"""The library's types from a user's side: mypy and pyright on code that uses it, rightly and wrongly."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kindaware.testing.stand_in import TYPINGS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TYPED = ("typed_models.py", "test_typed_models.py")
MISUSE = "misuse.py"
REQUIRE_PYRIGHT = "KINDAWARE_REQUIRE_PYRIGHT"
EXPECTED = re.compile(r"# error: (\S+), (\S+)$")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's project, outside of the checkout, where the checkout's own settings do not reach."""
    folder = tmp_path_factory.mktemp("project")
    for name in (*TYPED, MISUSE):
        shutil.copy(HERE / name, folder)
    settings = {"typeCheckingMode": "standard", "strict": list(TYPED), "stubPath": str(TYPINGS)}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def mypy_errors(project):
    """What mypy finds: file, line and code."""
    pytest.importorskip("mypy", reason="no mypy: pip install 'kindaware[dev]'")
    # torch takes mypy half a minute; what it has read stays for the next run.
    options = ["--strict", "--config-file=", f"--cache-dir={ROOT / '.mypy_cache' / 'consumer'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *TYPED, MISUSE],
        cwd=project,
        env={**os.environ, "MYPYPATH": str(TYPINGS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = re.findall(r"^([^:\n]+):(\d+): error: .*  \[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert f"Found {len(found)} errors" in done.stdout, done.stdout
    return [(name, int(line), code) for name, line, code in found]


def pyright(*arguments, cwd, timeout=None):
    return subprocess.run(
        [sys.executable, "-m", "pyright", *arguments],
        cwd=cwd,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def why_pyright_cannot_run(cwd):
    """Say what is missing; pyright brings no node of its own, and tries to download one."""
    if importlib.util.find_spec("pyright") is None:
        return "it is not installed"
    try:
        done = pyright("--version", cwd=cwd, timeout=120)
    except subprocess.TimeoutExpired:
        return "it does not start within 120 s"
    said = (done.stdout + done.stderr).strip().splitlines()
    return None if done.returncode == 0 else said[-1] if said else f"it ends with status {done.returncode}"


@pytest.fixture(scope="module")
def pyright_errors(project):
    """What pyright finds: file, line and rule."""
    reason = why_pyright_cannot_run(project)
    if reason is not None:
        reason = f"pyright can't run: {reason}; pip install 'pyright[nodejs]'"
        if os.environ.get(REQUIRE_PYRIGHT) == "1":
            pytest.fail(f"{reason} ({REQUIRE_PYRIGHT}=1 forbids to skip)", pytrace=False)
        pytest.skip(reason)
    done = pyright("--outputjson", "--pythonpath", sys.executable, cwd=project)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(TYPED) + 1
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one.get("rule", ""))
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    ]


def expected_misuse(checker):
    lines = (HERE / MISUSE).read_text().splitlines()
    found = ((number, EXPECTED.search(line)) for number, line in enumerate(lines, start=1))
    return [(number, match[checker]) for number, match in found if match]


def errors_in(name, errors):
    return [(line, code) for file, line, code in errors if file == name]


@pytest.mark.parametrize("name", TYPED)
def test_mypy_strict_has_nothing_against_a_typed_file(name, mypy_errors):
    assert errors_in(name, mypy_errors) == []


@pytest.mark.parametrize("name", TYPED)
def test_pyright_strict_has_nothing_against_a_typed_file(name, pyright_errors):
    assert errors_in(name, pyright_errors) == []


def test_mypy_refuses_each_misuse_and_nothing_else(mypy_errors):
    assert sorted(errors_in(MISUSE, mypy_errors)) == expected_misuse(1)


def test_pyright_refuses_each_misuse_and_nothing_else(pyright_errors):
    assert sorted(errors_in(MISUSE, pyright_errors)) == expected_misuse(2)
