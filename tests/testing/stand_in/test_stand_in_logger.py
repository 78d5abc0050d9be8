import inspect
import os

import pytest

HERE = os.path.basename(__file__)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("log", "INFO"),
        ("log_info", "INFO"),
        ("log_warn", "WARNING"),
        ("log_error", "ERROR"),
        ("log_verbose", "VERBOSE"),
    ],
)
def test_log_functions_hand_over_level_text_and_place(pb, host, name, level):
    line = inspect.currentframe().f_lineno + 1
    assert getattr(pb.Logger, name)("100% {}\nnext") is None
    assert host.lines == [(level, "100% {}\nnext", HERE, line)]


def test_log_takes_a_level_by_position_and_keyword(pb, host):
    pb.Logger.log("a", pb.Logger.ERROR)
    pb.Logger.log(message="b", level=pb.Logger.VERBOSE)
    pb.Logger.log_info(message=b"bytes")
    pb.Logger.log_info(b"\xff")
    assert [line[:2] for line in host.lines] == [
        ("ERROR", "a"),
        ("VERBOSE", "b"),
        ("INFO", "bytes"),
        ("INFO", "\ufffd"),
    ]


@pytest.mark.parametrize("args", [("x", 1), ("x", "INFO"), ("x", None), (None,), (3,), ()])
def test_log_of_other_types_fails(pb, host, args):
    with pytest.raises(TypeError, match=r"^log\(\): incompatible function arguments"):
        pb.Logger.log(*args)
    assert not host.lines


def test_log_levels_have_the_servers_numbers(pb):
    logger = pb.Logger
    assert [int(level) for level in (logger.INFO, logger.WARNING, logger.ERROR, logger.VERBOSE)] == [
        0,
        1,
        2,
        3,
    ]
