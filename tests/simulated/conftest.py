"""Says at the end how many interleavings there were."""

from interleavings import TALLY


def pytest_terminal_summary(terminalreporter):
    if TALLY.num_runs:
        terminalreporter.write_sep("-", "simulated GPUs")
        terminalreporter.write_line(str(TALLY))
