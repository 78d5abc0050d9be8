"""What `make mutants` changes, and that it would say so when no test noticed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "kindaware"
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def scripts(monkeypatch):
    """The folder of the scripts is where imports are looked for first."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture
def mutations(scripts):
    """All mutants, by module."""
    from mutations import find_mutations

    found = {}
    for one in find_mutations(PACKAGE):
        found.setdefault(one.module, []).append(one)
    return found


def test_each_module_exists_and_has_mutants(mutations):
    from mutated_modules import MODULES

    assert set(mutations) == set(MODULES)


def test_mutants_have_names_of_their_own_by_which_the_equivalent_ones_are_found(mutations):
    from mutated_modules import EQUIVALENT

    keys = [one.key for some in mutations.values() for one in some]
    assert len(keys) == len(set(keys))
    assert set(EQUIVALENT) - set(keys) == set()
    assert all(len(why) > 10 for why in EQUIVALENT.values())


def test_mutants_differ_from_the_source_and_compile(mutations):
    from mutations import mutate

    for module in ("_execute/client_watch", "_execute/sequence_state", "_device/staging"):
        source = (PACKAGE / f"{module}.py").read_text()
        unchanged = ast.dump(ast.parse(source))
        changed = [mutate(one, source) for one in mutations[module]]
        assert len({ast.dump(tree) for tree in changed} - {unchanged}) == len(changed)
        for tree in changed:
            compile(tree, module, "exec")


SAMPLE = """
class Guarded:
    def run(self, items, limit):
        kept = [one for one in items if one > 0]
        try:
            if self.is_open and limit <= 3:
                self.note(kept)
            return len(kept) == limit
        except (ValueError, KeyError):
            return self.closed if limit else None
        finally:
            self.count += 1
"""


def test_operators_change_conditions_bounds_exceptions_calls_and_states(scripts, monkeypatch, tmp_path):
    from mutated_modules import LOGIC, MODULES
    from mutations import find_mutations, mutate

    (tmp_path / "sample.py").write_text(SAMPLE)
    for name in list(MODULES):
        monkeypatch.delitem(MODULES, name)
    monkeypatch.setitem(MODULES, "sample", frozenset({LOGIC}))
    found = {one.text.removeprefix("Guarded.run: "): one for one in find_mutations(tmp_path)}
    assert list(found) == [
        "for all, not only if one > 0",
        "one > 0: GtE",
        "finally self.count += 1: not after an exception",
        "if self.is_open and limit <= 3: always False",
        "self.is_open and limit <= 3: without self.is_open",
        "self.is_open and limit <= 3: without limit <= 3",
        "limit <= 3: Lt",
        "self.note(kept): dropped",
        "return len(kept) == limit: the contrary",
        "except (ValueError, KeyError): not ValueError",
        "except (ValueError, KeyError): not KeyError",
        "if limit: the contrary",
        "self.count += 1: dropped",
    ]
    assert "except (KeyError,):" in ast.unparse(
        mutate(found["except (ValueError, KeyError): not ValueError"], SAMPLE)
    )
    assert "return not len(kept) == limit" in ast.unparse(
        mutate(found["return len(kept) == limit: the contrary"], SAMPLE)
    )


def test_script_says_which_test_notices():
    options = [
        "--only",
        "_timer.cancel(): dropped",
        "--jobs",
        "1",
        "--tests",
        "tests/core/test_stream_watch.py",
    ]
    command = [sys.executable, str(SCRIPTS / "mutants.py"), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 mutants (_execute/client_watch 1): 1 killed" in done.stdout
    assert "`tests/core/test_stream_watch.py::test_" in done.stdout
