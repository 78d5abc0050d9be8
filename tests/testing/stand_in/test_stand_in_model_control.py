import pytest
from stand_in_kit import open_host

from kindaware.testing.stand_in import TritonContractError

PREFIX = "Failed to process the request for model 'probe_0_0', message: "


def fails(pb, call, text):
    with pytest.raises(pb.TritonModelException) as caught:
        call()
    assert str(caught.value) == text


def test_load_model_hands_over_name_config_and_files(pb, host):
    pb.load_model("m")
    pb.load_model(model_name=b"m", config="{}", files={"file:1/model.py": b"x"})
    assert host.controls == [("load", "m", "", {}), ("load", "m", "{}", {"file:1/model.py": b"x"})]


def test_load_model_refused_has_the_servers_text(pb, host):
    host.refusal = "failed to load 'm', failed to poll from model repository"
    fails(pb, lambda: pb.load_model("m"), f"Failed to load model: {PREFIX}{host.refusal}")
    fails(pb, lambda: pb.unload_model("m"), f"Failed to unload model: {PREFIX}{host.refusal}")
    fails(pb, lambda: pb.is_model_ready("m"), f"Failed to check model readiness: {PREFIX}{host.refusal}")


def test_load_model_with_bad_files_fails(pb, host):
    fails(
        pb,
        lambda: pb.load_model("m", files=[1]),
        "failed to load model 'm', files should be a dictionary of file paths and file contents",
    )
    with pytest.raises(TypeError, match=r"^Object of type 'str' is not an instance of 'bytes'$"):
        pb.load_model("m", files={"a": "b"})
    with pytest.raises(RuntimeError, match="Unable to cast Python instance"):
        pb.load_model("m", files={1: b"b"})
    assert not host.controls


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("load_model", (None,)),
        ("load_model", ("m", None)),
        ("unload_model", ("m", None)),
        ("unload_model", ()),
        ("is_model_ready", ("m", 1)),
        ("is_model_ready", (1,)),
    ],
)
def test_model_control_of_other_types_fails(pb, host, name, args):
    with pytest.raises(TypeError, match=rf"^{name}\(\): incompatible function arguments"):
        getattr(pb, name)(*args)
    assert not host.controls


def test_unload_model_hands_over_dependents(pb, host):
    pb.unload_model("m")
    pb.unload_model("m", unload_dependents=1)
    assert host.controls == [("unload", "m", False), ("unload", "m", True)]


@pytest.mark.parametrize(
    ("given", "asked"),
    [("", ""), ("1", "1"), (" 2", "2"), ("1.5", "1"), ("3x", "3"), ("0", "0"), ("+4", "4")],
)
def test_is_model_ready_reads_the_version_as_c_does(pb, host, given, asked):
    host.ready = True
    assert pb.is_model_ready("m", given) is True
    assert host.controls == [("ready", "m", asked)]


@pytest.mark.parametrize(
    ("version", "details"), [("x", " (details: stol)"), ("-1", ""), (str(2**70), " (details: stol)")]
)
def test_is_model_ready_with_bad_version_fails(pb, version, details):
    fails(
        pb,
        lambda: pb.is_model_ready("m", version),
        f"Failed to check model readiness: {PREFIX}failed to get model version from specified version string "
        f"'{version}'{details}, version should be an integral value > 0",
    )


def test_is_model_ready_of_unknown_model_depends_on_the_version():
    host, pb, _ = open_host(server_version=(26, 6))
    assert pb.is_model_ready("m") is False
    host, pb, _ = open_host(server_version=(26, 7))
    fails(
        pb,
        lambda: pb.is_model_ready("m"),
        f"Failed to check model readiness: {PREFIX}Request for unknown model: 'm' is not found",
    )
    host.ready = False
    assert pb.is_model_ready("m") is False


def test_model_control_before_construction_is_a_contract_error(pb, host):
    host.phase = "auto_complete"
    for call in (pb.load_model, pb.unload_model, pb.is_model_ready):
        with pytest.raises(TritonContractError, match="the server would never answer"):
            call("m")
    assert len(host.violations) == 3
    assert not host.controls


def test_get_model_dir_gives_the_versions_directory(pb):
    assert pb.get_model_dir() == "/models/probe/1"
