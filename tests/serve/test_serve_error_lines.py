"""What the terminal shows of the log's errors and warnings."""

import pytest

from kindaware._server.log import read_records
from kindaware._server.request_failures import FailedRequests, read_failed_requests, write_failed
from kindaware.cli.serve._error_lines import ErrorLines

HEAD = "E1122 15:53:41.540504 3766 log.py:24] "
SHAPED = (
    HEAD
    + """model 'net': error 5f0c91d2 failed 2 request(s), ids ['a', '']: \
model.py:7, in check: ValueError: too: long
    Traceback (most recent call last):
      File "{0}/net/1/model.py", line 17, in forward
        return self.model(check(X))
      File "{0}/net/1/model.py", line 7, in check
        raise ValueError("too: long")
    ValueError: too: long
"""
)
BY_HAND = """E1122 15:53:41.540504 3 pb_stub.cc:714] Failed to process the request(s) for model 'net_2_0_0', \
message: ValueError: negative
    At:
      /usr/lib/python3/dist-packages/numpy/core.py(9): sum
      {0}/net_2/1/model.py(11): execute
"""
ROUTINE = 'I1122 15:53:41.540504 3766 server.cc:9] "done"\na print\n    indented\n'
WARNING = 'W1122 15:53:41.540504 3766 model.py:9] "careful"\n'


def read(text):
    return read_failed_requests(next(read_records(text)))


def test_failed_requests_of_the_library_have_the_users_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert read(SHAPED.format(tmp_path)) == FailedRequests(
        "net", ("a", ""), "ValueError: too: long", "net/1/model.py:7, in check", "5f0c91d2"
    )


def test_failed_requests_of_a_hand_written_model_have_the_users_line(tmp_path):
    assert read(BY_HAND.format(tmp_path)) == FailedRequests(
        "net_2", (), "ValueError: negative", f"{tmp_path}/net_2/1/model.py:11, in execute"
    )


def test_place_is_the_users_file_and_not_the_servers_link_to_it(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "net").symlink_to(tmp_path / "mine")

    assert read(SHAPED.format(tmp_path)).place == f"{tmp_path}/mine/1/model.py:7, in check"


def test_id_that_ends_the_list_of_ids_does_no_harm():
    text = HEAD + """model 'net': error 5f0c91d2 failed 1 request(s), ids ['x]: y']: ValueError: z\n"""

    assert read(text).request_ids == ()


@pytest.mark.parametrize("text", [ROUTINE, WARNING, HEAD + "model 'net': load failed: x\n"])
def test_other_entries_are_no_failed_requests(text):
    assert read(text) is None


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((), "a request"),
        (("",), "a request"),
        (("a",), "request 'a'"),
        (("a", ""), "2 requests 'a'"),
        (tuple("abcd"), "4 requests 'a', 'b', 'c', ..."),
    ],
)
def test_line_names_model_requests_error_and_place(ids, words):
    assert write_failed(FailedRequests("net", ids, "E: x", "m.py:1")) == f"net: {words} failed: E: x (m.py:1)"
    assert write_failed(FailedRequests("net", ids, "E: x", "")) == f"net: {words} failed: E: x"


def test_errors_and_warnings_pass_however_the_log_is_cut(tmp_path):
    failure = HEAD + "stream not closed: ValueError\n    further\n"
    text = ROUTINE + failure + ROUTINE + WARNING + BY_HAND.format(tmp_path)
    errors = ErrorLines(lambda: 0.0)

    shown = "".join(errors.feed(text[at : at + 7]) for at in range(0, len(text), 7)) + errors.close()

    line = f"net_2: a request failed: ValueError: negative ({tmp_path}/net_2/1/model.py:11, in execute)\n"
    assert shown == failure + WARNING + line


def test_failure_to_load_is_left_out_since_the_command_reports_it():
    errors = ErrorLines(lambda: 0.0)
    text = (
        "E1122 15:53:41.540504 3766 model_lifecycle.cc:642] \"failed to load 'bad' version 1: Internal: x\"\n"
    )

    assert errors.feed(text) + errors.close() == ""


def test_entry_is_shown_as_soon_as_the_log_stands_still():
    errors = ErrorLines(lambda: 0.0)

    assert errors.feed(WARNING) == ""
    assert errors.feed("") == WARNING


def test_same_error_is_counted_and_not_repeated(tmp_path):
    time = [0.0]
    errors = ErrorLines(lambda: time[0])
    text = SHAPED.format(tmp_path)
    first = errors.feed(text) + errors.feed("")
    second = errors.feed(text * 3) + errors.feed("")
    time[0] = 10.0
    third = errors.feed("")
    time[0] = 20.0

    place = f"ValueError: too: long ({tmp_path}/net/1/model.py:7, in check)\n"
    assert first == f"net: 2 requests 'a' failed: {place}"
    assert second == ""
    assert third == f"net: 6 more requests failed like that: {place}"
    assert errors.feed("") == ""
    assert errors.feed(text) + errors.feed("") == first


def test_close_tells_what_has_not_been_told(tmp_path):
    errors = ErrorLines(lambda: 0.0)

    assert errors.feed(BY_HAND.format(tmp_path) * 2).startswith("net_2: a request failed: ")
    assert errors.close().startswith("net_2: 1 more request failed like that: ValueError: negative (")
