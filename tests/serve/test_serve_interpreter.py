import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from kindaware._server.interpreter import Interpreter
from kindaware.testing import ServerError

STUBS = {version: Path("stub") for version in ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")}


@pytest.fixture(scope="module")
def interpreter():
    return Interpreter.probe()


@pytest.fixture(scope="module")
def usable(interpreter):
    return replace(interpreter, version="3.11", numpy="1.26.4", library=Path("/lib/libpython3.11.so.1.0"))


@pytest.fixture
def environment(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    return tmp_path / "venv"


def test_probe_running_interpreter_stays_in_its_environment(interpreter):
    assert interpreter.prefix == Path(sys.prefix)
    assert interpreter.executable.parent == Path(sys.executable).parent
    assert interpreter.version == f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.mark.skipif(not sysconfig.get_config_var("Py_ENABLE_SHARED"), reason="needs a shared libpython")
def test_probe_running_interpreter_finds_the_library_it_has_loaded(interpreter):
    with open("/proc/self/maps") as maps:
        loaded = {line.split()[-1] for line in maps if "libpython" in line}

    assert {str(interpreter.library.resolve())} == loaded


def test_probe_other_environment_reports_that_one(environment):
    found = Interpreter.probe(environment / "bin" / "python")

    assert found.prefix == environment
    assert found.numpy is None


def test_probe_broken_interpreter_says_why(tmp_path):
    with pytest.raises(
        ServerError, match=f"Python {tmp_path}/python: expected an interpreter that runs, got"
    ):
        Interpreter.probe(tmp_path / "python")


def test_check_for_usable_interpreter_passes(usable):
    usable.check_for(STUBS)


def test_check_for_python_313_says_that_numpy_has_no_build(usable):
    with pytest.raises(
        ServerError, match=r"3.10, 3.11, 3.12, got 3.13: there is no numpy below 2 for it; use"
    ):
        replace(usable, version="3.13").check_for(STUBS)


def test_check_for_python_without_stub_names_those_with_one(usable):
    with pytest.raises(ServerError, match=r"has a stub for: 3.10, 3.11, 3.12, got 3.14: it has no stub"):
        replace(usable, version="3.14").check_for(STUBS)


def test_check_for_missing_libpython_says_how_to_go_on(usable):
    with pytest.raises(ServerError, match=r"shared library libpython3.11.so.1.0, .*--enable-shared\); use a"):
        replace(usable, library=None).check_for(STUBS)


@pytest.mark.parametrize("version", ["2.0.0", "2.4.1", "10.0"])
def test_check_for_numpy_too_new_says_what_to_install(usable, version):
    text = f"expected a version below 2: .*, got {version}; .*python.* -m pip install 'numpy<2'"
    with pytest.raises(ServerError, match=text):
        replace(usable, numpy=version).check_for(STUBS)


def test_check_for_numpy_missing_says_what_to_install(usable):
    with pytest.raises(ServerError, match=r"got none installed; .* -m pip install 'numpy<2'"):
        replace(usable, numpy=None).check_for(STUBS)


def test_probe_real_numpy_of_another_environment_is_the_one_checked(environment):
    # The metadata that pip would write for numpy 2, in a real environment.
    site = next(environment.glob("lib/python*/site-packages")) / "numpy-2.1.0.dist-info"
    site.mkdir()
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.1.0\n")

    assert Interpreter.probe(environment / "bin" / "python3").numpy == "2.1.0"


def test_place_on_path_environment_uses_its_own_directory(environment, tmp_path):
    found = Interpreter.probe(environment / "bin" / "python")

    assert found.place_on_path(tmp_path / "bin") == environment / "bin"
    assert not (tmp_path / "bin").exists()


def test_place_on_path_environment_without_python3_fails(environment, tmp_path):
    os.rename(environment / "bin" / "python3", environment / "bin" / "python-moved")
    os.remove(environment / "bin" / "python")
    os.symlink("python-moved", environment / "bin" / "python")
    found = Interpreter.probe(environment / "bin" / "python")

    with pytest.raises(ServerError, match=r"virtual environment .*/bin/python3, .* got no such file; ln -s"):
        found.place_on_path(tmp_path / "bin")


def test_place_on_path_interpreter_without_python3_beside_it_gets_a_link(tmp_path, interpreter):
    alone = tmp_path / "alone" / "python3.99"
    alone.parent.mkdir()
    alone.symlink_to(os.path.realpath(sys.executable))
    found = replace(interpreter, executable=alone, prefix=interpreter.base_prefix)

    place = found.place_on_path(tmp_path / "bin")

    code = "import sys; print(sys.prefix)"
    done = subprocess.run([place / "python3", "-I", "-c", code], capture_output=True, text=True, check=True)
    assert place == tmp_path / "bin"
    assert done.stdout.strip() == str(interpreter.base_prefix)


def test_check_for_a_package_that_shadows_the_servers_module_says_what_to_uninstall(usable, environment):
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "triton_python_backend_utils.py").write_text("")
    info = site / "triton_mock-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: triton-mock\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("triton_python_backend_utils\n")
    (info / "RECORD").write_text("triton_python_backend_utils.py,,\n")
    found = Interpreter.probe(environment / "bin" / "python3")
    shadowed = replace(usable, shadow=found.shadow, shadow_owners=found.shadow_owners)
    with pytest.raises(ServerError, match=r"got .*utils\.py; .*python.* -m pip uninstall triton-mock"):
        shadowed.check_for(STUBS)
