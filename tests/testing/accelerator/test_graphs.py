"""Capture and replay of CUDA graphs."""

import pytest
import torch
from accelerator_kit import pinned, simulated

DEVICE = "cuda:1"
NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"


@pytest.fixture
def gpu():
    with simulated() as accelerator, torch.cuda.device(1):
        yield accelerator


def capture(function, **options):
    """Capture what a function does; gives the graph and what the function returned."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, **options):
        found = function()
    return graph, found


def test_capture_does_nothing_and_replay_does_it_again(gpu):
    x = torch.zeros(3, device=DEVICE)
    graph, y = capture(lambda: x.add_(1) * 2)
    assert x.cpu().tolist() == [0, 0, 0]
    assert y.cpu().isnan().all()
    for number in (1, 2):
        graph.replay()
        assert gpu.num_pending
        assert (x[0].item(), y[0].item()) == (number, 2 * number)


def test_replay_takes_what_its_inputs_hold_then(gpu):
    x = torch.zeros(3, device=DEVICE)
    graph, y = capture(lambda: x + 1)
    for number in (5.0, 6.0):
        x.fill_(number)
        graph.replay()
        assert y.cpu().tolist() == [number + 1] * 3


def test_replay_is_ordered_as_work_of_the_stream_that_is_current_then():
    with simulated(expects_violations=True), torch.cuda.device(1):
        x = torch.zeros(3, device=DEVICE)
        graph, y = capture(lambda: x + 1)
        with torch.cuda.stream(torch.cuda.Stream()):
            graph.replay()
        y.sum()


def test_memory_of_a_capture_stays_its_own(gpu):
    x = torch.ones(256, device=DEVICE)
    graph, y = capture(lambda: (x + 1) * 3)
    places = {node.writes[0].block.address for node in y_nodes(graph)}
    del y
    torch.cuda.empty_cache()
    others = [torch.empty(256, device=DEVICE) for _ in range(4)]
    assert not places & {one.data_ptr() for one in others}
    reserved = torch.cuda.memory_reserved(DEVICE)
    graph.reset()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved(DEVICE) == reserved - 1024 * len(places)


def y_nodes(graph):
    return graph._graph.nodes


def test_graphs_of_one_pool_share_memory(gpu):
    x = torch.ones(256, device=DEVICE)
    first, y = capture(lambda: x + 1)
    address = y.data_ptr()
    del y
    second, z = capture(lambda: x + 2, pool=first.pool())
    assert z.data_ptr() == address
    third, w = capture(lambda: x + 3)
    assert w.data_ptr() != address
    fourth, v = capture(lambda: x + 3, pool=torch.cuda.graph_pool_handle())
    assert len({z.data_ptr(), w.data_ptr(), v.data_ptr()}) == 3
    for graph, value, number in ((second, z, 3), (third, w, 4), (fourth, v, 4)):
        graph.replay()
        assert value.cpu()[0] == number


def test_copies_from_and_to_page_locked_memory_are_captured(gpu):
    source, target = pinned(1, 2), torch.zeros(2, pin_memory=True)
    x = torch.zeros(2, device=DEVICE)

    def work():
        x.copy_(source, non_blocking=True)
        target.copy_(x * 2, non_blocking=True)

    torch.cuda.synchronize()
    graph, _ = capture(work)
    for number in (3.0, 4.0):
        source.fill_(number)
        graph.replay()
        torch.cuda.synchronize()
        assert target.tolist() == [2 * number] * 2


@pytest.mark.parametrize(
    "what",
    [
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.cuda.current_stream().synchronize(),
        lambda x: torch.cuda.current_stream().query(),
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.copy_(torch.zeros(3, pin_memory=True)),
        lambda x: torch.cuda.empty_cache(),
    ],
    ids=["synchronize", "stream", "query", "item", "nonzero", "mask", "blocking copy", "empty_cache"],
)
def test_what_waits_is_refused_and_the_capture_is_lost(gpu, what):
    x = torch.ones(3, device=DEVICE)
    graph = torch.cuda.CUDAGraph()
    with (
        pytest.raises(
            RuntimeError, match="operation failed due to a previous error during capture"
        ) as raised,
        torch.cuda.graph(graph),
    ):
        what(x)
    assert NOT_PERMITTED in str(raised.value.__context__)
    assert not torch.cuda.is_current_stream_capturing()
    with pytest.raises(RuntimeError, match="CUDAGraph: expected a captured graph, got none"):
        graph.replay()
    assert (x + 1).cpu().tolist() == [2, 2, 2]


@pytest.mark.parametrize("what", [lambda x: x.cpu(), lambda x: x.copy_(torch.zeros(3), non_blocking=True)])
def test_pageable_memory_is_refused_in_torchs_words(gpu, what):
    x = torch.ones(3, device=DEVICE)
    with pytest.raises(
        RuntimeError, match="Cannot copy between CPU and CUDA tensors during CUDA graph capture"
    ):
        capture(lambda: what(x))


def test_capture_says_so_and_ends_with_its_block(gpu):
    assert not torch.cuda.is_current_stream_capturing()
    _, is_capturing = capture(torch.cuda.is_current_stream_capturing)
    assert is_capturing
    assert not torch.cuda.is_current_stream_capturing()


def test_capture_on_the_default_stream_or_twice_is_refused(gpu):
    with pytest.raises(RuntimeError, match=NOT_PERMITTED):
        torch.cuda.CUDAGraph().capture_begin()
    with pytest.raises(RuntimeError, match=NOT_PERMITTED):
        capture(lambda: torch.cuda.CUDAGraph().capture_begin())
    with pytest.raises(RuntimeError, match="CUDAGraph: expected a capture under way, got none"):
        torch.cuda.CUDAGraph().capture_end()
    assert torch.ones(1, device=DEVICE).item() == 1


def test_exception_in_a_capture_ends_it(gpu):
    with pytest.raises(KeyError, match="mine"):
        capture(lambda: {}["mine"])
    assert not torch.cuda.is_current_stream_capturing()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.ones(1, device=DEVICE).item() == 1


def test_waiting_in_a_capture_for_work_outside_is_refused(gpu):
    event = torch.cuda.Stream().record_event()
    with pytest.raises(RuntimeError, match="previous error during capture") as raised:
        capture(lambda: torch.cuda.current_stream().wait_event(event))
    assert "dependency created on uncaptured work in another stream" in str(raised.value.__context__)


def test_capture_over_two_streams_is_refused_as_not_simulated(gpu):
    with pytest.raises(NotImplementedError, match="simulated accelerator: expected a capture of one stream"):
        capture(lambda: torch.cuda.Stream().wait_stream(torch.cuda.current_stream()))


def test_event_recorded_in_a_capture_is_no_place_to_wait_for(gpu):
    event = torch.cuda.Event()
    capture(event.record)
    for use in (event.synchronize, event.query):
        with pytest.raises(RuntimeError, match="an event last recorded in a capturing stream"):
            use()


def test_captures_of_a_process_use_one_stream_unless_told_otherwise(gpu):
    _, one = capture(torch.cuda.current_stream)
    _, other = capture(torch.cuda.current_stream)
    own = torch.cuda.Stream()
    _, third = capture(torch.cuda.current_stream, stream=own)
    assert one == other
    assert third == own != one


def test_factories_are_captured(gpu):
    graph, found = capture(lambda: torch.arange(3, device=DEVICE) + torch.ones(3, device=DEVICE))
    graph.replay()
    assert found.cpu().tolist() == [1, 2, 3]
