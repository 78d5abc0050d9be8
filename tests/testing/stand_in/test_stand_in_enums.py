import pickle
import sys

import pytest


def test_error_codes_have_the_servers_numbers_and_names(pb):
    error = pb.TritonError
    names = [
        "UNKNOWN",
        "INTERNAL",
        "NOT_FOUND",
        "INVALID_ARG",
        "UNAVAILABLE",
        "UNSUPPORTED",
        "ALREADY_EXISTS",
        "CANCELLED",
    ]

    assert [(getattr(error, name).name, getattr(error, name).value) for name in names] == [
        (name, number) for number, name in enumerate(names)
    ]
    assert repr(error.INTERNAL) == "<__ErrorCode.INTERNAL: 1>"
    assert str(error.INTERNAL) == "__ErrorCode.INTERNAL"
    assert type(error.INTERNAL) is getattr(error, "__ErrorCode")
    assert list(type(error.INTERNAL).__members__) == names
    assert type(error.INTERNAL).__doc__.startswith("Members:\n\n  UNKNOWN\n\n  INTERNAL\n\n")


def test_enum_member_compares_and_counts_as_its_number(pb):
    code = pb.TritonError.INTERNAL

    assert code == 1
    assert code == pb.TritonError.INTERNAL
    assert code != pb.TritonError.UNKNOWN
    assert code != None  # noqa: E711 - the comparison itself
    assert code != "INTERNAL"
    assert hash(code) == 1
    assert (int(code), ["a", "b"][code]) == (1, "b")
    with pytest.raises(TypeError, match="'<' not supported"):
        _ = code < pb.TritonError.CANCELLED


def test_enum_constructor_takes_any_number(pb):
    cls = type(pb.TritonError.INTERNAL)

    assert cls(3) == pb.TritonError.INVALID_ARG
    assert repr(cls(99)) == "<__ErrorCode.???: 99>"
    for value in ("INTERNAL", 1.0, -1, 2**32):
        with pytest.raises(TypeError, match=r"__init__\(\): incompatible constructor arguments"):
            cls(value)


def test_enum_members_pickle_where_the_c_module_is_loaded(pb, c_module, monkeypatch):
    monkeypatch.setitem(sys.modules, "c_python_backend_utils", c_module)

    for member in (
        pb.TritonError.CANCELLED,
        pb.MetricFamily.GAUGE,
        pb.Logger.ERROR,
        pb.TRITONSERVER_MEMORY_GPU,
    ):
        assert pickle.loads(pickle.dumps(member)) == member


def test_enums_have_the_servers_names(pb):
    assert repr(pb.TRITONSERVER_MEMORY_GPU) == "<MemoryType.TRITONSERVER_MEMORY_GPU: 0>"
    assert repr(pb.MetricFamily.HISTOGRAM) == "<MetricKind.HISTOGRAM: 2>"
    assert repr(pb.Logger.VERBOSE) == "<LogLevel.VERBOSE: 3>"
    assert pb.Logger.LogLevel is type(pb.Logger.VERBOSE)
