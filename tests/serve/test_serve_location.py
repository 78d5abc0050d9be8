import importlib.metadata
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kindaware._server.location import (
    CONTAINER_PATH,
    VARIABLE,
    WHEEL_REQUIREMENTS,
    locate_server,
    wheel_package,
)
from kindaware.testing import ServerError


@pytest.fixture(autouse=True)
def without_the_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def make_executable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_locate_server_explicit_comes_before_path(tmp_path):
    explicit, on_path = (
        make_executable(tmp_path / "mine/bin/triton"),
        make_executable(tmp_path / "bin/tritonserver"),
    )

    location = locate_server(explicit, search_path=str(on_path.parent))

    assert location.path == explicit
    assert location.origin == "as given"
    assert not location.is_wheel


def test_locate_server_path_comes_before_wheel(tmp_path):
    on_path = make_executable(tmp_path / "bin/tritonserver")

    location = locate_server(search_path=str(on_path.parent))

    assert location.path == on_path
    assert location.origin == "on PATH"


def test_locate_server_variable_comes_after_what_is_given_and_before_path(tmp_path, monkeypatch):
    named, on_path = make_executable(tmp_path / "named"), make_executable(tmp_path / "bin/tritonserver")
    monkeypatch.setenv(VARIABLE, str(named))

    assert locate_server(search_path=str(on_path.parent)).path == named
    assert locate_server(search_path=str(on_path.parent)).origin == "named by KINDAWARE_TRITONSERVER"
    assert locate_server(on_path).path == on_path


def test_locate_server_variable_that_names_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no"))

    with pytest.raises(ServerError, match=f"got {tmp_path}/no, .* or unset KINDAWARE_TRITONSERVER$"):
        locate_server()


def test_locate_server_remedy_names_what_the_extra_brings():
    brought = [
        requirement.partition(";")[0].strip()
        for requirement in importlib.metadata.requires("kindaware")
        if "extra == 'server'" in requirement
    ]

    assert {Requirement(one) for one in WHEEL_REQUIREMENTS} == {
        Requirement(one) for one in brought if not one.startswith(("cloudpickle", "grpcio"))
    }  # which kindaware needs, and no server


@pytest.mark.skipif(wheel_package() is None, reason="needs the nvidia-pytriton wheel")
def test_locate_server_nothing_else_finds_the_wheel(tmp_path):
    location = locate_server(search_path=str(tmp_path))

    assert location.origin == "in the nvidia-pytriton wheel"
    assert location.is_wheel
    assert location.libraries.is_dir()
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in location.stubs


@pytest.mark.skipif(wheel_package() is None, reason="needs the nvidia-pytriton wheel")
def test_locate_server_link_to_the_wheel_is_the_wheel(tmp_path):
    (tmp_path / "tritonserver").symlink_to(locate_server(search_path="").path)

    location = locate_server(search_path=str(tmp_path))

    assert location.origin == "on PATH"
    assert location.is_wheel


@pytest.mark.parametrize(
    ("make", "text"), [(lambda path: None, "does not exist"), (Path.touch, "is not executable")]
)
def test_locate_server_explicit_unusable_names_it(tmp_path, make, text):
    make(tmp_path / "server")

    with pytest.raises(ServerError, match=f"{tmp_path}/server, which {text}"):
        locate_server(tmp_path / "server")


@pytest.mark.skipif(CONTAINER_PATH.exists(), reason="one of Triton's containers")
def test_locate_server_none_says_where_it_looked_and_what_to_install(tmp_path):
    # An interpreter without site-packages has no wheel; it gets kindaware's sources only.
    source = Path(__file__).parents[2] / "src"
    code = (
        "import sys, types\n"
        "for name in ('kindaware', 'kindaware.testing'):\n"
        "    package = sys.modules[name] = types.ModuleType(name)\n"
        f"    package.__path__ = [{str(source)!r} + '/' + name.replace('.', '/')]\n"
        "from kindaware._server.server import TritonServer\n"
        f"TritonServer({str(tmp_path)!r}).start()"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert (
        "ServerError: tritonserver: expected an executable, got none: not given, no 'tritonserver' on PATH, "
        "no /opt/tritonserver/bin/tritonserver, no installed nvidia-pytriton; "
        "pip install 'nvidia-pytriton>=0.7.0,<0.8' 'numpy<2' (Linux, Python 3.10 to 3.12), "
    ) in done.stderr


def test_locate_server_wheel_is_not_imported(tmp_path):
    code = (
        "import sys; from kindaware._server.location import locate_server; "
        f"locate_server(search_path={str(tmp_path)!r})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('pytriton', 'tritonclient', 'typer')])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
