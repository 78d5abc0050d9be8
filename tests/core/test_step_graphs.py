"""`StepGraphs`: what is run, captured and released, on a runtime that notes it."""

import inspect
import weakref

import pytest
import torch
from core_kit import make_device, make_plan

from kindaware._device.runtime import CpuRuntime
from kindaware._execute.step_graphs import StepGraphs
from kindaware._hooks.graphed import Graphed


class Noting(CpuRuntime):
    """The CPU in the place of a GPU: a capture runs its work, and so does each replay."""

    is_host = False

    def __init__(self):
        self.log = []
        self.held = []

    def capture(self, work):
        self.log.append("capture")
        work()

        def replay():
            self.log.append("replay")
            work()

        return replay

    def release_memory(self):
        self.log.append(("release", [reference() is None for reference in self.held]))


@pytest.fixture
def runtime():
    return Noting()


class Model:
    """What has the method."""


def graphs_of(runtime, function, sizes=(1, 4)):
    plan = make_plan(lambda X: X, step=lambda states: states, cuda_graphs=sizes)
    mark = Graphed(function, inspect.signature(function))
    graphs, model = StepGraphs(plan, make_device(runtime)), Model()

    def call(*args, **kwargs):
        return graphs.call(mark, mark.signature.bind(model, *args, **kwargs))

    return graphs, mark, call


def test_record_replays_each_graph_once(runtime):
    def double(self, values):
        return 2 * values

    graphs, mark, call = graphs_of(runtime, double)
    with graphs.noting():
        call(torch.ones(2))
    assert graphs.record([mark]) == [1, 4]
    assert runtime.log == ["capture", "replay"] * 2
    runtime.log.clear()
    assert call(values=torch.tensor([3.0, 4.0])).tolist() == [6, 8]
    assert runtime.log == ["replay"]


def test_record_size_without_memory_lets_go_of_it_before_others_are_captured(runtime):
    def double(self, values):
        doubled = 2 * values
        if len(values) == 4:
            runtime.held += [weakref.ref(doubled), weakref.ref(values)]
            raise torch.OutOfMemoryError("full")
        return doubled

    graphs, mark, call = graphs_of(runtime, double)
    with graphs.noting():
        call(torch.ones(2))
    assert graphs.record([mark]) == [1]
    released, *others = runtime.log
    assert released[0] == "release"
    assert released[1][0]
    assert others == ["capture", "replay"]


def test_record_size_that_fails_releases_nothing(runtime):
    def double(self, values):
        if len(values) == 4:
            raise ValueError("too many")
        return 2 * values

    graphs, mark, call = graphs_of(runtime, double)
    with graphs.noting():
        call(torch.ones(2))
    assert graphs.record([mark]) == [1]
    assert runtime.log == ["capture", "replay"]


def test_calls_outside_of_the_warm_up_are_not_kept(runtime):
    def double(self, values):
        return 2 * values

    graphs, mark, call = graphs_of(runtime, double)
    call(torch.ones(2))
    assert graphs.record([mark]) == []
    assert runtime.log == []
