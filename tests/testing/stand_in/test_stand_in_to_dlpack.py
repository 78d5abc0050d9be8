"""DLPack out of a tensor, and how long the memory lives, with real capsules."""

import contextlib
import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

from kindaware.testing.stand_in import answer_of


def test_dlpack_of_bytes_tensor_fails(pb):
    tensor = pb.Tensor("a", np.array([b"x"], object))
    for export in (tensor.to_dlpack, tensor.__dlpack__, lambda: pb.Tensor.from_dlpack("b", tensor)):
        with pytest.raises(
            pb.TritonModelException, match=r"^DLPack does not have support for string tensors\.$"
        ):
            export()


def test_dlpack_takes_a_stream_and_nothing_else(pb):
    tensor = pb.Tensor("a", np.zeros(1))
    for capsule in (tensor.__dlpack__(), tensor.__dlpack__(5), tensor.__dlpack__(stream=object())):
        assert '"dltensor"' in repr(capsule)
    with pytest.raises(TypeError, match=r"^__dlpack__\(\): incompatible function arguments"):
        tensor.__dlpack__(max_version=(1, 0))


@pytest.mark.parametrize("consume", [torch.from_dlpack, np.from_dlpack], ids=["torch", "numpy"])
def test_dlpack_shares_memory_with_consumers(pb, consume):
    array = np.arange(6.0).reshape(2, 3)
    view = consume(pb.Tensor("a", array))
    array[1, 2] = 50
    assert view[1, 2] == 50


def test_dlpack_capsule_holds_one_reference_until_it_or_its_consumer_goes(pb):
    tensor = pb.Tensor("a", np.arange(3.0))
    count = sys.getrefcount(tensor)
    capsule = tensor.to_dlpack()
    assert sys.getrefcount(tensor) == count + 1
    del capsule
    assert sys.getrefcount(tensor) == count
    view = torch.from_dlpack(tensor)
    assert sys.getrefcount(tensor) == count + 1
    del view
    assert sys.getrefcount(tensor) == count


def test_dlpack_view_outlives_the_tensor(pb):
    views = [torch.from_dlpack(pb.Tensor("a", np.full(1000, float(number)))) for number in range(50)]
    gc.collect()
    assert [view.sum().item() for view in views] == [1000.0 * number for number in range(50)]


def test_from_dlpack_keeps_the_source_alive_and_lets_it_go(pb):
    class Owner(np.ndarray):
        pass

    base = np.arange(3.0).view(Owner)
    gone = weakref.ref(base)
    source = torch.from_numpy(base)
    del base
    tensor = pb.Tensor.from_dlpack("a", source)
    del source
    gc.collect()
    assert answer_of(pb.InferenceResponse([tensor]), None).outputs[0].value().tolist() == [0, 1, 2]
    del tensor
    gc.collect()
    assert gone() is None


def test_dlpack_objects_alive_at_exit_do_no_harm():
    code = (
        "import numpy as np, torch\n"
        "from kindaware.testing.stand_in import Host, attach_classes, new_c_module, new_module\n"
        "host = Host(); pb = new_module(host); attach_classes(pb, new_c_module(host), host)\n"
        "tensor = pb.Tensor('a', np.zeros(3))\n"
        "capsule = tensor.to_dlpack(); view = torch.from_dlpack(tensor)\n"
        "taken = pb.Tensor.from_dlpack('b', torch.zeros(3)); kept = torch.from_dlpack(taken)\n"
        "torch.kept = [tensor, capsule, view, taken, kept]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


LOSSES = {
    "a view by torch": lambda tensor: torch.from_dlpack(tensor).reshape(7, 7),
    "a view by numpy": lambda tensor: np.from_dlpack(tensor).reshape(7, 7),
    "a capsule that nobody takes": lambda tensor: int([tensor.to_dlpack()]),
    "a capsule that torch has taken": lambda tensor: torch.from_dlpack(tensor.to_dlpack()).reshape(7, 7),
    "a tensor of a tensor": lambda tensor: torch.from_dlpack(type(tensor).from_dlpack("b", tensor)).reshape(
        7, 7
    ),
    "a tensor of torch's": lambda tensor: int([type(tensor).from_dlpack("b", torch.zeros(3))]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int64])
def test_an_error_passes_on_while_what_dlpack_has_made_is_freed(pb, name, dtype):
    for _ in range(20):
        with pytest.raises(Exception, match=r"invalid for|cannot reshape|argument must be"):
            LOSSES[name](pb.Tensor("a", np.arange(3).astype(dtype)))


@pytest.mark.parametrize("name", LOSSES)
def test_an_error_that_frees_what_dlpack_has_made_leaves_nothing(pb, name):
    array = np.arange(3.0)
    count = sys.getrefcount(array)
    for _ in range(5):
        with contextlib.suppress(RuntimeError, ValueError, TypeError):
            LOSSES[name](pb.Tensor("a", array))
    assert sys.getrefcount(array) == count
