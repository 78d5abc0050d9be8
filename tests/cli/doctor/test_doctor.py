"""What the doctor sees on machines of all kinds."""

import json

import pytest
from typer.testing import CliRunner

from kindaware._server.interpreter import Interpreter
from kindaware._server.location import Location
from kindaware.cli._app import app
from kindaware.cli._machine import Machine, SharedMemory
from kindaware.cli.doctor import _checks
from kindaware.cli.doctor._checks import Line, driver_version, memory_bytes
from kindaware.cli.doctor._faults import FAULTS, faults_of
from kindaware.cli.doctor._report import can_serve, look

MIB = 2**20


def machine(**parts):
    made = Machine()
    vars(made).update(
        num_cores=2, num_gpus=0, shared_memory=SharedMemory(1024 * MIB, 1024 * MIB), server=None
    )
    vars(made).update(parts)
    return made


def one_line(check, host):
    [line] = check(host)
    return line


@pytest.mark.parametrize(
    ("size", "status"),
    [
        (None, "error"),
        (SharedMemory(64 * MIB, 15 * MIB), "error"),
        (SharedMemory(64 * MIB, 64 * MIB), "warning"),
        (SharedMemory(65 * MIB, 65 * MIB), "ok"),
    ],
)
def test_shared_memory(size, status):
    line = one_line(_checks.shared_memory, machine(shared_memory=size))
    assert line.status == status
    assert bool(line.remedy) == (status != "ok")


def test_server_that_is_not_there_says_how_to_get_one(monkeypatch):
    monkeypatch.setenv("KINDAWARE_TRITONSERVER", "/nowhere/tritonserver")
    line = one_line(_checks.server, machine())
    assert (line.status, line.text) == ("error", "/nowhere/tritonserver, which does not exist")
    assert "unset KINDAWARE_TRITONSERVER" in line.remedy


def server(tmp_path, *stubs):
    path = tmp_path / "bin" / "tritonserver"
    path.parent.mkdir()
    path.touch(mode=0o755)
    for version in stubs:
        stub = tmp_path / "python_backend_stubs" / version / "triton_python_backend_stub"
        stub.parent.mkdir(parents=True)
        stub.touch()
    return Location.of(path, "in a test")


def interpreter(tmp_path, numpy):
    library = tmp_path / "libpython3.11.so.1.0"
    return Interpreter(tmp_path / "python", "3.11", tmp_path, tmp_path, library, numpy)


@pytest.mark.parametrize(("numpy", "status"), [("1.26.4", "ok"), ("2.0.0", "error")])
def test_server_of_the_wheel_has_version_stub_and_faults(tmp_path, monkeypatch, numpy, status):
    location = server(tmp_path, "3.11")
    monkeypatch.setenv("KINDAWARE_TRITONSERVER", str(location.path))
    host = machine(server=location, interpreter=interpreter(tmp_path, numpy))
    found, stub, *faults = _checks.server(host)
    assert found.text == f"2.51.0, named by KINDAWARE_TRITONSERVER: {location.path}"
    assert (stub.name, stub.status) == ("stub", status)
    assert len(faults) == len(FAULTS)


def test_server_of_a_container_says_its_version(tmp_path, monkeypatch):
    location = server(tmp_path)
    (tmp_path / "TRITON_VERSION").write_text("2.60.0\n")
    monkeypatch.setenv("KINDAWARE_TRITONSERVER", str(location.path))
    found, stub, *faults = _checks.server(
        machine(server=location, interpreter=interpreter(tmp_path, "2.1.0"))
    )
    assert (found.text[:6], stub.status) == ("2.60.0", "note")
    assert [one.text[:12] for one in faults] == ["before 26.01"]


@pytest.mark.parametrize(
    ("version", "releases"),
    [
        ("2.51.0", ["24.11", "25.04", "25.08", "26.01"]),
        ("2.57.0", ["25.08", "26.01"]),
        ("2.73.0dev", []),
        ("", []),
        ("unknown", []),
    ],
)
def test_faults_of_a_version(version, releases):
    assert [one.release for one in faults_of(version)] == releases


def test_processor_features_and_limits_are_named(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(_checks, "read_processor_flags", lambda: ["avx2", "avx512_bf16"])
    monkeypatch.setattr(_checks.os, "cpu_count", lambda: 8)
    cores, threads, processor = _checks.processor(machine())
    assert cores.text == "2 of 8, by affinity or cgroup"
    assert "OMP_NUM_THREADS=3" in threads.text
    assert "BF16 is fast" in processor.text
    monkeypatch.setattr(_checks, "read_processor_flags", lambda: ["avx2"])
    assert "BF16 is slower" in list(_checks.processor(machine()))[-1].text


def test_memory_is_the_cgroups_where_that_is_less(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 1000 kB\nMemAvailable: 900 kB\n")
    assert memory_bytes(info, tmp_path) == (1000 * 1024, 900 * 1024)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_bytes(info, tmp_path) == (1000 * 1024, 900 * 1024)
    (tmp_path / "memory.max").write_text("512000\n")
    (tmp_path / "memory.current").write_text("500000\n")
    assert memory_bytes(info, tmp_path) == (512000, 12000)


def test_driver_version_is_read_from_its_file(tmp_path):
    file = tmp_path / "version"
    assert driver_version(file) == ""
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 2024\n")
    assert driver_version(file) == "550.90.07"


def test_port_that_is_taken_is_named(monkeypatch):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(_checks, "_PORTS", (port,))
        line = one_line(_checks.ports, machine())
    assert (line.status, line.text) == ("warning", f"{port} taken by another program")
    assert one_line(_checks.ports, machine()).status == "ok"


def test_check_that_fails_is_a_line_and_the_others_go_on(monkeypatch):
    def broken(host):
        raise RuntimeError("no /proc")
        yield

    monkeypatch.setattr(_checks, "CHECKS", [broken, _checks.shared_memory])
    monkeypatch.setattr("kindaware.cli.doctor._report.CHECKS", [broken, _checks.shared_memory])
    first, second = look(machine())
    assert (first.name, first.status, first.text) == ("broken", "error", "RuntimeError: no /proc")
    assert second.name == "/dev/shm"


@pytest.mark.parametrize(
    ("status", "served"), [("ok", True), ("note", True), ("warning", True), ("error", False)]
)
def test_only_an_error_prevents_serving(status, served):
    assert can_serve([Line("a", "ok", ""), Line("b", status, "")]) == served


def test_command_prints_lines_or_json_and_has_an_exit_code(monkeypatch):
    monkeypatch.setattr(
        "kindaware.cli.doctor._report.CHECKS",
        [lambda host: iter([Line("a", "ok", "fine"), Line("bb", "error", "gone", "get it")])],
    )
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "ok       a   fine",
        "error    bb  gone",
        "             -> get it",
        "",
        "models can't be served here: see bb",
    ]
    document = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert document["can_serve"] is False
    assert document["checks"][0] == {"name": "a", "status": "ok", "text": "fine", "remedy": None}


def test_this_machine_is_examined_to_the_end():
    lines = list(look(Machine()))
    names = [one.name for one in lines]
    assert {"python", "torch", "cores", "memory", "/dev/shm", "tritonserver", "ports"} <= set(names)
    assert [one for one in lines if one.remedy.startswith("run it with --debug")] == []
