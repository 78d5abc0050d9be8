"""What all tests share: which of them run where and when, how long they search, what is said at the end."""

import gc
import importlib.util
import os

import pytest

from searches import register_profiles
from server_reports import describe_servers
from slow_tests import is_slow
from taking_turns import take_turn
from tally import TALLY
from triton_version import OTHER_SERVER, skip_on_other_server
from unit_servers import UnitServers
from work_units import in_order, make_scheduler

REQUIRE_SERVER = "KINDAWARE_REQUIRE_SERVER"
CONTAINERS = "KINDAWARE_CONTAINERS"
UNIT_SERVERS = UnitServers()

register_profiles()  # before the modules of the tests ask for one


def pytest_configure(config: pytest.Config) -> None:
    """Have the workers of pytest-xdist share the machine: each has ports, cores and memory of its own."""
    if worker := getattr(config, "workerinput", None):
        import torch

        from kindaware._server import command, ports

        number, num_workers = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        ports.CHOICE = ports.CHOICE[number::num_workers]  # a server listens only seconds after it chose
        command.MOST_SHM_BYTES = 8 * 2**20  # of each of some hundred instances
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // num_workers))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Keep tests that share a server in one worker."""
    return make_scheduler(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow tests, and put workers' in order; skip those on the real server where it isn't installed."""
    for item in items:
        if is_slow(item):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("containers") and os.environ.get(CONTAINERS) != "1":
            item.add_marker(pytest.mark.skip(reason=f"takes minutes, and makes images: {CONTAINERS}=1"))
    if hasattr(config, "workerinput"):
        items[:] = in_order(items)
    if os.environ.get(OTHER_SERVER):
        skip_on_other_server(items)
        return
    if importlib.util.find_spec("pytriton") is not None or os.environ.get(REQUIRE_SERVER) == "1":
        return
    reason = "no tritonserver: pip install 'kindaware[server]', on Python 3.10 to 3.12 for its numpy 1.26"
    for item in items:
        if item.get_closest_marker("server"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage among what is imported for good: each time that would take a fifth of a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_user(tmp_path_factory: pytest.TempPathFactory):
    """Keep the tests, and the servers that they start, out of the user's cache and collector of traces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINDAWARE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OTEL_TRACES_EXPORTER", "none")  # a model with `tracing` on would look for a collector
        yield


@pytest.fixture(scope="module")
def constant_error_ids():
    """Errors have the same id each time, so that the texts of two runs can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kindaware._hooks.disclosure.secrets.token_hex", lambda num_bytes: "5f0c91d2")
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Let nothing run beside a test that is marked `alone`."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with take_turn(is_alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request: pytest.FixtureRequest):
    """Note the servers that a worker starts for all tests of a unit."""
    value = yield
    if fixturedef.scope == "session" and hasattr(request.config, "workerinput"):
        UNIT_SERVERS.note(value)
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    """End the servers of a unit after its last test."""
    result = yield
    UNIT_SERVERS.end_after(item.nodeid, None if nextitem is None else nextitem.nodeid)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Say of a failed test what became of its servers."""
    report = yield
    if report.failed:
        report.sections += describe_servers(getattr(item, "funcargs", {}).values())
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what this worker counted to the process that started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["interleavings"] = TALLY.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """Add up what the workers counted."""
    TALLY.add(**getattr(node, "workeroutput", {}).get("interleavings", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many interleavings there were."""
    if TALLY.num_runs:
        terminalreporter.write_sep("-", "simulated GPUs")
        terminalreporter.write_line(str(TALLY))
