"""The server's log as the terminal shows it."""

import time

from kindaware.cli.serve import _log_follower
from kindaware.cli.serve._log_follower import LogFollower
from kindaware.cli.serve._view import TextView

VIEW = TextView((), has_all_examples=False)


def wait_for(text, capsys):
    """What was shown, as soon as it has the text; or after some seconds."""
    shown, latest = "", time.monotonic() + 20
    while text not in shown and time.monotonic() < latest:
        time.sleep(0.005)
        shown += capsys.readouterr().err
    return shown


def test_close_shows_what_was_written_since_the_last_look(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_log_follower, "_POLL_SECONDS", 3600.0)
    log = tmp_path / "log"
    follower = LogFollower(log, VIEW.write_log)
    follower.start()
    log.write_text("the server's last words\n")
    follower.close()
    assert capsys.readouterr().err == "the server's last words\n"


def test_follower_shows_each_line_once_while_the_log_grows(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(_log_follower, "_POLL_SECONDS", 0.005)
    path = tmp_path / "log"
    follower = LogFollower(path, VIEW.write_log)
    follower.start()
    with path.open("w") as log:
        for line in ("first\n", "second\n"):
            print(line, end="", file=log, flush=True)
            assert wait_for(line, capsys) == line
    follower.close()
    assert capsys.readouterr().err == ""


def test_follower_shows_bytes_that_are_no_text(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_bytes(b"caf\xe9\n")
    follower = LogFollower(log, VIEW.write_log)
    follower.start()
    follower.close()
    assert capsys.readouterr().err == "caf\N{REPLACEMENT CHARACTER}\n"


def test_close_of_a_log_that_never_came_shows_nothing(tmp_path, capsys):
    follower = LogFollower(tmp_path / "log", VIEW.write_log)
    follower.start()
    follower.close()
    assert capsys.readouterr().err == ""


def test_close_of_a_follower_that_never_began_shows_nothing(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text("before\n")
    LogFollower(log, VIEW.write_log).close()
    assert capsys.readouterr().err == ""


def test_follower_with_errors_shows_those_that_come_from_now_on(tmp_path, capsys):
    log = tmp_path / "log"
    entry = '{}1122 15:53:41.540504 3766 model.py:4] "{}"\n'
    log.write_text(entry.format("E", "before"))
    follower = LogFollower(log, VIEW.write_log)
    follower.start_with_errors(VIEW.open_errors())
    with log.open("a") as more:
        more.write(entry.format("I", "routine") + entry.format("E", "behind"))
    follower.close()
    assert capsys.readouterr().err == entry.format("E", "behind")
