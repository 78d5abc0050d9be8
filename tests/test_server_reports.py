"""What a failed test says of its servers."""

from kindaware.testing import TritonServer
from server_reports import NUM_LINES, describe_servers


class Stand(TritonServer):
    """A server that prints what it is told to, and ends so, or not at all."""

    def __init__(self, returncode, *lines):
        super().__init__("models")
        self.returncode = returncode
        self.lines = lines

    def log_text(self):
        return "\n".join(self.lines)


def test_servers_are_found_within_what_fixtures_return():
    first, second, third = (Stand(None) for _ in range(3))
    found = describe_servers([first, (second, "models"), {"b": [third]}, first, "models", 5])
    assert [title for title, _ in found] == [f"server {one!r}" for one in (first, second, third)]


def test_report_has_the_exit_status_and_the_end_of_the_log():
    lines = [f"line {number}" for number in range(NUM_LINES + 1)]
    [(_, text)] = describe_servers([Stand(-11, *lines)])
    assert text.splitlines() == ["it has ended, with exit status -11; its log ends:", *lines[1:]]


def test_report_says_that_a_server_runs():
    [(_, text)] = describe_servers([Stand(None, "ready")])
    assert text.splitlines() == ["it runs; its log ends:", "ready"]
