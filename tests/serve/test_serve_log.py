import pytest

from kindaware._server.keeper import LogLines, spread
from kindaware._server.log import (
    Record,
    last_lines,
    read_failures,
    read_instances,
    read_load_events,
    read_port_in_use,
    read_records,
    read_stub_failure,
    read_unfinished,
)

LOG = r"""
I1122 15:53:39.893168 3766 model_lifecycle.cc:472] "loading: bad:1"
I1122 15:53:39.893246 3766 model_lifecycle.cc:472] "loading: echo:1"
I1122 15:53:39.893246 3766 model_lifecycle.cc:472] "loading: slow:12"
I1122 15:53:41.417536 3766 model_lifecycle.cc:839] "successfully loaded 'echo'"
E1122 15:53:41.540504 3766 model_lifecycle.cc:642] "failed to load 'bad' version 1: Internal: Bad: \"a\"\nb"
I1122 15:53:41.540516 3766 model_lifecycle.cc:777] "failed to load 'bad'"
E1122 15:57:50.193420 4677 manager.cc:1460] "Poll failed for model directory 'torn': no proto"
I1122 15:53:41.540620 3766 server.cc:631]
+---------+------+
| Backend | Path |
a line of the model's own
"""
INSTANCE = (
    "kindaware instance {} ready: kind {}, device {}, threads 3 (a cap of (x) cores), precision 32-true, "
    "load 1.25 s, {}"
)


def test_read_failures_unquotes_what_the_server_wrote():
    assert read_failures(LOG) == {"bad": 'Internal: Bad: "a"\nb', "torn": "no proto"}


def test_read_failures_reads_servers_that_do_not_quote():
    log = "E1122 15:53:41.540504 3766 model_lifecycle.cc:642] failed to load 'bad' version 1: Internal: gone"

    assert read_failures(log) == {"bad": "Internal: gone"}


def test_read_failures_words_of_a_model_are_no_failure():
    words = "failed to load 'x' version 1: no"
    log = f'I1122 15:53:41.540504 3766 model.py:4] "{words}"\n{words}'

    assert read_failures(log) == {}


def test_read_unfinished_is_what_began_and_did_not_end():
    assert read_unfinished(LOG) == ["slow"]


def test_last_lines_leave_out_tables_routine_and_what_is_told_elsewhere():
    assert last_lines(LOG).splitlines()[-1] == "a line of the model's own"
    assert "+--" not in last_lines(LOG)
    assert "failed to load" not in last_lines(LOG)


@pytest.mark.parametrize(
    ("device", "read"),
    [("cpu", "cpu"), ("cuda:0, own stream", "cuda:0"), ("cuda:0,cuda:1", "cuda:0,cuda:1")],
)
def test_read_instances_takes_the_line_apart(device, read):
    line = INSTANCE.format("net_0_1", "GPU", device, "warm-up 0.50 s (batch sizes 1, 8)")

    (report,) = read_instances(f'I1122 15:53:41.416386 3766 model.py:4] "{line}"\n')

    assert (report.name, report.kind, report.device) == ("net_0_1", "GPU", read)
    assert (report.threads, report.threads_reason, report.precision) == (3, "a cap of (x) cores", "32-true")
    assert (report.load_seconds, report.warmup) == (1.25, "0.50 s (batch sizes 1, 8)")


def test_read_instances_warm_up_may_be_words():
    (report,) = read_instances(INSTANCE.format("a", "CPU", "cpu", "warm-up off"))

    assert report.warmup == "off"


def test_read_stub_failure_is_the_loaders_or_the_stubs_own_words():
    loader = "triton_python_backend_stub: error while loading shared libraries: libpython3.11.so.1.0: none"

    assert read_stub_failure(LOG) is None
    assert read_stub_failure(f"/x/{loader}\n") == loader


def test_read_port_in_use_gives_the_address():
    line = "main.cc:245] \"failed to start GRPC service: Unavailable - Socket '[::1]:81' already in use \""

    assert read_port_in_use(line) == "[::1]:81"
    assert read_port_in_use(LOG) is None


def test_read_failures_names_the_place_in_a_config_that_does_not_parse():
    log = (
        "[libprotobuf ERROR a/text_format.cc:337] Error parsing text-format inference.ModelConfig: 2:14: "
        'Message type "inference.ModelConfig" has no field named "max_batchsize".\n'
        "E1122 17:41:39.280854 18049 model_repository_manager.cc:1460] "
        "\"Poll failed for model directory 'net': failed to read text proto from /m/net/config.pbtxt\"\n"
    )
    assert read_failures(log) == {
        "net": "failed to read text proto from /m/net/config.pbtxt "
        '(2:14: Message type "inference.ModelConfig" has no field named "max_batchsize".)'
    }


def test_read_failures_knows_a_model_without_a_version():
    log = (
        "E1122 17:41:35.747606 18005 model_repository_manager.cc:724] "
        "\"failed to load model 'net': at least one version must be available\"\n"
    )
    assert read_failures(log) == {"net": "at least one version must be available"}


ESCAPED = (
    b'E1122 15:53:41.540504 3766 module.py:92] "'
    rb"""model 'net' failed, ids ['7']\nTraceback:\n  File \"m.py\"\n\nKeyError: a\\b\tc\n"""
    b'"'
)
SPREAD = (
    "E1122 15:53:41.540504 3766 module.py:92] model 'net' failed, ids ['7']\n"
    '    Traceback:\n      File "m.py"\n    \n    KeyError: a\\b\tc'
)


def test_spread_puts_each_line_of_a_text_on_one_of_its_own():
    assert spread(ESCAPED).decode() == SPREAD


@pytest.mark.parametrize(
    "line",
    [
        rb'I1122 15:53:41.540504 3766 server.cc:631] "no line ends, a \"quote\""',
        rb'"a\nprint of the model"',
        rb"E1122 15:53:41.540504 3766 server.cc:631] words \n without quotes",
    ],
)
def test_spread_leaves_other_lines_as_they_are(line):
    assert spread(line) == line


def test_spread_lets_no_client_forge_an_entry_or_reach_the_terminal():
    forged = (
        rb'E1122 15:53:41.540504 3766 m.py:1] "no\nI1122 15:53:41.540504 1 m.py:1] \u001b[31m all is well"'
    )

    lines = spread(forged).decode().splitlines()

    assert lines[1].startswith("    I1122")
    assert "\\u001b[31m" in lines[1]
    assert [record.level for record in read_records(spread(forged).decode())] == ["E"]


def test_log_lines_come_out_the_same_however_they_are_cut():
    text = b"print\n" + ESCAPED + b"\n10%\r20%\n" + ESCAPED
    expected = f"print\n{SPREAD}\n10%\r20%\n"

    for size in (1, 7, 50, 1000):
        lines = LogLines()
        written = b"".join(lines.feed(text[at : at + size]) for at in range(0, len(text), size))
        assert written.decode() == expected, size
        assert lines.end() == ESCAPED


def test_log_lines_let_a_progress_bar_through_before_its_line_ends():
    lines = LogLines()

    assert lines.feed(b"loading 10%") == b"loading 10%"
    assert lines.feed(b"\rloading 20%") == b"\rloading 20%"
    assert lines.feed(b"\n" + ESCAPED + b"\n") == b"\n" + SPREAD.encode() + b"\n"


def test_read_records_joins_the_lines_of_one_entry_and_takes_no_print_for_one():
    after = 'I1122 15:53:41.540504 3766 server.cc:9] "done"\n    a print\n'

    records = list(read_records(f"{SPREAD}\n{after}"))

    assert records[0] == Record(
        "E", "model 'net' failed, ids ['7']\nTraceback:\n  File \"m.py\"\n\nKeyError: a\\b\tc", "module.py:92"
    )
    assert records[1:3] == [Record("I", "done", "server.cc:9"), Record("", "    a print")]


def test_read_failures_reads_both_formats_of_the_servers_log():
    log = (
        "2026-11-28T16:47:13Z E 32112 m.cc:642] "
        + r""""failed to load 'bad' version 1: gone\nat\n"
"""
    )
    spread_log = spread(log.encode().rstrip()).decode()

    assert read_failures(log) == {"bad": "gone\nat"}
    assert read_failures(spread_log) == {"bad": "gone\nat"}


def test_last_lines_leave_out_all_lines_of_an_entry_that_is_told_elsewhere():
    entry = rb"""E1122 15:53:41.540504 3766 m.cc:642] "failed to load 'bad' version 1: no\nat line 3\n" """

    assert last_lines(spread(entry.strip()).decode() + "\nthe end\n") == "the end"


def test_read_load_events_come_in_the_order_of_the_log():
    assert list(dict.fromkeys(read_load_events(LOG))) == [
        ("loading", "bad"),
        ("loading", "echo"),
        ("loading", "slow"),
        ("ready", "echo"),
        ("failed", "bad"),
    ]
