import os
import socket
import sys

import pytest

from kindaware._server.command import choose_shm_bytes, read_option
from kindaware._server.ports import CHOICE, choose_ports
from kindaware._server.repository import check_models, find_models, list_repositories
from kindaware._server.repository_links import check_shell_safe
from kindaware.testing import ServerError, TritonServer


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_list_repositories_several_come_back_absolute(tmp_path, write_model, monkeypatch):
    write_model(tmp_path / "a", "echo")
    write_model(tmp_path / "b", "echo")
    monkeypatch.chdir(tmp_path)

    assert list_repositories(["a", "b"]) == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert list_repositories("a") == [str(tmp_path / "a")]
    assert list_repositories("s3://bucket/models") == ["s3://bucket/models"]


def test_list_repositories_missing_says_so(tmp_path):
    with pytest.raises(ServerError, match=f"model repository {tmp_path}/no: .* got no such directory; check"):
        list_repositories(tmp_path / "no")


def test_list_repositories_file_says_so(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ServerError, match="got a file"):
        list_repositories(tmp_path / "file")


def test_list_repositories_empty_says_what_belongs_there(tmp_path):
    (tmp_path / "README").touch()

    with pytest.raises(
        ServerError, match=r"got a directory without any; put a model into it, at least .*/NAME/1/"
    ):
        list_repositories(tmp_path)
    assert list_repositories(tmp_path, may_be_empty=True) == [str(tmp_path)]


def test_list_repositories_none_at_all_is_refused():
    with pytest.raises(ServerError, match="expected at least one, got none"):
        list_repositories([])


@pytest.mark.parametrize("parts", [{"source": None}, {"config": None}])
def test_list_repositories_model_counts_as_a_repository_of_itself(tmp_path, write_model, parts):
    model = write_model(tmp_path, "echo", **parts)

    assert list_repositories(model) == [str(model)]
    assert find_models([str(model)]) == {"echo": model}


def test_find_models_takes_the_name_that_a_configuration_has(tmp_path, write_model):
    model = write_model(tmp_path, "my-copy", config='name: "echo"\nbackend: "python"\n')

    assert find_models([str(model)]) == {"echo": model}


def test_check_models_model_by_itself_is_checked(tmp_path, write_model):
    model = write_model(tmp_path, "bare", source=None)

    with pytest.raises(ServerError, match="model 'bare': expected its code in"):
        check_models([str(model)])


def test_list_repositories_version_or_its_code_says_which_path_to_pass(tmp_path, write_model):
    version = write_model(tmp_path, "echo") / "1"

    with pytest.raises(ServerError, match=f"got a version of a model; pass {version.parent}$"):
        list_repositories(version)
    with pytest.raises(ServerError, match=f"got a file; pass {version.parent}$"):
        list_repositories(version / "model.py")
    with pytest.raises(ServerError, match=f"got a file; pass {version.parent}$"):
        list_repositories(version.parent / "config.pbtxt")


def test_list_repositories_one_level_above_names_the_repositories_in_it(tmp_path, write_model):
    write_model(tmp_path / "models", "echo")
    write_model(tmp_path / "more", "echo")
    (tmp_path / "docs").mkdir()

    with pytest.raises(
        ServerError, match=f"got one with a repository in it, models; pass {tmp_path}/models {tmp_path}/more$"
    ):
        list_repositories(tmp_path)


def test_list_repositories_what_tools_leave_is_no_model(tmp_path):
    for name in ("__pycache__", ".ipynb_checkpoints", ".git", "__MACOSX"):
        (tmp_path / name).mkdir()

    with pytest.raises(ServerError, match="got a directory without any"):
        list_repositories(tmp_path)


def test_list_repositories_names_of_digits_are_models(tmp_path, write_model):
    write_model(tmp_path, "7")

    assert list_repositories(tmp_path) == [str(tmp_path)]


def test_check_models_directory_that_is_no_model_is_named(tmp_path, write_model):
    write_model(tmp_path, "echo")
    (tmp_path / "data").mkdir()
    (tmp_path / "__pycache__").mkdir()

    with pytest.raises(
        ServerError, match=f"directory {tmp_path}/data: expected a model, .* got neither; move it out"
    ):
        check_models([str(tmp_path)])
    check_models([str(tmp_path)], ["echo"])
    check_models([str(tmp_path)], code_only=True)


def test_check_models_code_outside_of_a_version_says_how_to_move_it(tmp_path, write_model):
    for name, has_config in (("bare", False), ("configured", True)):
        model = write_model(tmp_path / name, "net", source=None)
        (model / "1").rmdir()
        (model / "model.py").touch()
        if not has_config:
            (model / "config.pbtxt").unlink()

        with pytest.raises(ServerError, match=f"; mkdir -p {model}/1 && mv {model}/model.py {model}/1$"):
            check_models([str(tmp_path / name)])


def test_check_models_python_model_without_code_is_refused(tmp_path, write_model):
    write_model(tmp_path, "net", source=None)

    with pytest.raises(
        ServerError, match=f"model 'net': expected its code in {tmp_path}/net/1/model.py, got no such file"
    ):
        check_models([str(tmp_path)], code_only=True)


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ('backend: "onnxruntime"', "model.onnx"),
        ('platform: "ensemble" ensemble_scheduling { step [ ] }', None),
        ('# backend: "python"\n', "model.pt"),
        ('backend: "python" default_model_filename: "net.py"', "net.py"),
        ('backend: "python" version_policy: { specific: { versions: 0 } }', "../0/model.py"),
    ],
)
def test_check_models_code_elsewhere_is_none_of_its_business(tmp_path, write_model, config, file):
    model = write_model(tmp_path, "net", source=None, config=config)
    if file is not None:
        (model / "0").mkdir()
        (model / "1" / file).touch()

    check_models([str(tmp_path)])


def test_check_models_newest_version_without_code_is_refused(tmp_path, write_model):
    (write_model(tmp_path, "net") / "2").mkdir()

    with pytest.raises(ServerError, match=r"expected its code in .*/net/2/model.py"):
        check_models([str(tmp_path)])


def test_check_shell_safe_model_name_for_the_shell_is_refused(tmp_path, write_model):
    write_model(tmp_path, "my model")

    with pytest.raises(ServerError, match=r"model directory .*my model: .* got 'my model'; rename it"):
        check_shell_safe([str(tmp_path)])


def test_choose_ports_zero_gives_three_that_differ():
    ports = choose_ports("127.0.0.1", {"--http-port": 0, "--grpc-port": 0, "--metrics-port": 0})

    assert len(set(ports.values())) == 3
    assert all(port in CHOICE for port in ports.values())


@pytest.mark.parametrize("option", ["--http-port", "--grpc-port", "--metrics-port"])
def test_choose_ports_taken_names_port_and_option(taken_port, option):
    in_python = option.removeprefix("--").replace("-", "_")
    text = f"{option}, in Python {in_python}: expected a free port, got {taken_port}, which another .* with 0"
    with pytest.raises(ServerError, match=text):
        choose_ports(
            "127.0.0.1", {"--http-port": 0, "--grpc-port": 0, "--metrics-port": 0, option: taken_port}
        )


def test_choose_ports_taken_on_loopback_is_taken_on_all_addresses(taken_port):
    with pytest.raises(ServerError, match=f"got {taken_port}"):
        choose_ports("0.0.0.0", {"--http-port": taken_port})


def test_choose_ports_same_twice_is_refused():
    with pytest.raises(ServerError, match="expected ports that differ, got 21000 for two services"):
        choose_ports("127.0.0.1", {"--http-port": 21000, "--grpc-port": 21000})


def test_server_that_prints_nothing_is_doubted(tmp_path, write_model):
    write_model(tmp_path, "echo")

    with pytest.raises(
        ServerError, match=r"its end with status 0; check that it is a tritonserver: it has printed nothing$"
    ):
        TritonServer(tmp_path, tritonserver="/bin/true").start()


def test_server_kind_other_than_cpu_is_refused(tmp_path):
    with pytest.raises(ServerError, match="kind: expected CPU, or none, got 'GPU'; for other kinds change"):
        TritonServer(tmp_path, kind="GPU")


@pytest.mark.parametrize("port", [-1, 65536])
def test_choose_ports_out_of_range_is_refused(port):
    with pytest.raises(
        ServerError, match=f"in Python http_port: expected a port from 0 to 65535, got {port}"
    ):
        choose_ports("127.0.0.1", {"--http-port": port})


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_choose_ports_foreign_host_is_refused(host):
    with pytest.raises(
        ServerError, match=f"--host, in Python host: expected an address of this machine, got '{host}'"
    ):
        choose_ports(host, {"--http-port": 0})


@pytest.mark.parametrize("args", [["--http-port=1"], ["--log-file", "x"], ["--exit-on-error=false"]])
def test_server_args_that_belong_to_the_library_are_refused(tmp_path, write_model, monkeypatch, args):
    write_model(tmp_path / "models", "echo")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    with pytest.raises(ServerError, match=f"server option {args[0].split('=')[0]}: .* got it in args; "):
        TritonServer(tmp_path / "models", tritonserver="/bin/true", args=args).start()
    assert os.listdir(temporary) == []


def test_server_other_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(ServerError, match="tritonserver: expected Linux, got darwin; run this in a Linux"):
        TritonServer(tmp_path).start()


def test_server_not_started_says_so(tmp_path):
    with pytest.raises(ServerError, match="expected a running server, got none; use it in a with statement"):
        _ = TritonServer(tmp_path).http_url


def test_server_program_that_does_not_start_leaves_nothing(tmp_path, write_model, monkeypatch):
    write_model(tmp_path / "models", "echo")
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_bytes(b"\x7fELF, but broken")
    program.chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    with pytest.raises(ServerError, match=r"expected a program that starts, got .*Exec format error"):
        TritonServer(tmp_path / "models", tritonserver=program).start()
    assert os.listdir(temporary) == []


def test_read_option_takes_both_forms_and_the_last():
    assert read_option(["--a=1", "--a", "2"], "--a") == "2"
    assert read_option(["--ab=1"], "--a") is None


def test_choose_shm_bytes_stays_between_the_limits(tmp_path):
    assert 2**20 <= choose_shm_bytes() <= 64 * 2**20
    assert choose_shm_bytes(tmp_path / "no") == 2**20
