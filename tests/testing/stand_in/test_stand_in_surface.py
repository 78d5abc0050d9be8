"""Which names exist when, and the traits of all classes."""

import collections
import copy
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
from stand_in_kit import RecordingHost, new_request, open_host

from kindaware.testing import stand_in
from kindaware.testing.stand_in import Tensor, TritonModelException, new_c_module, new_module
from kindaware.testing.stand_in.objects.model_control import FUNCTIONS
from kindaware.testing.stand_in.pybind.pybind import ModuleFunction

PLAIN = {
    "ModelConfig", "TRITON_STRING_TO_NUMPY", "serialize_byte_tensor", "deserialize_bytes_tensor",
    "get_input_tensor_by_name", "get_output_tensor_by_name", "get_input_config_by_name",
    "get_output_config_by_name", "using_decoupled_model_transaction_policy", "triton_to_numpy_type",
    "numpy_to_triton_type", "triton_string_to_numpy", "np", "json", "struct",
    "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START", "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END",
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL", "TRITONSERVER_REQUEST_RELEASE_ALL",
    "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE",
}  # fmt: skip
ATTACHED = {
    "Tensor", "InferenceRequest", "InferenceResponse", "TritonError", "TritonModelException", "Logger",
    "PreferredMemory", "MetricFamily", "TRITONSERVER_MEMORY_GPU", "TRITONSERVER_MEMORY_CPU", "load_model",
    "unload_model", "is_model_ready", "get_model_dir",
}  # fmt: skip
HIDDEN = {
    "InferenceResponseSender", "ResponseIterator", "Metric", "MetricKind", "MemoryType", "InferenceTrace",
    "SharedMemory", "shared_memory",
}  # fmt: skip


def public(module):
    return {name for name in vars(module) if not name.startswith("__")}


def test_new_module_before_import_has_plain_names_only():
    module = new_module(RecordingHost())

    assert public(module) == PLAIN
    with pytest.raises(
        AttributeError, match="module 'triton_python_backend_utils' has no attribute 'InferenceRequest'"
    ):
        _ = module.InferenceRequest


def test_attach_classes_after_import_adds_the_rest(pb, c_module):
    assert public(pb) == PLAIN | ATTACHED
    assert public(c_module) >= HIDDEN | (ATTACHED - {"get_model_dir"})
    assert not HIDDEN & public(pb)


def test_new_c_module_before_import_has_all_but_the_shared_memory(c_module):
    early = new_c_module(RecordingHost())

    assert public(early) == public(c_module) - {"shared_memory"}
    assert early.Tensor("a", np.zeros(2)).shape() == [2]
    assert not hasattr(early, "__file__")


def test_attach_classes_gives_both_modules_the_same_objects(pb, c_module):
    assert {name for name in ATTACHED if getattr(pb, name) is not getattr(c_module, name, None)} == {
        "get_model_dir"
    }


@pytest.mark.parametrize(("version", "is_there"), [((25, 3), False), ((25, 4), True)])
@pytest.mark.parametrize("is_in_c", [True, False])
def test_function_of_the_module_is_there_from_its_release_on(monkeypatch, version, is_there, is_in_c):
    function = ModuleFunction(lambda host, more: (host.model_name, more), since=(25, 4), is_in_c=is_in_c)
    monkeypatch.setitem(FUNCTIONS, "newer", function)
    host, pb, c_module = open_host(server_version=version)

    assert (hasattr(pb, "newer"), hasattr(c_module, "newer")) == (is_there, is_there and is_in_c)
    if is_there:
        assert pb.newer(1) == (host.model_name, 1)


def test_new_module_constants_have_the_servers_numbers(pb):
    assert [
        pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
        pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END,
        pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
        pb.TRITONSERVER_REQUEST_RELEASE_ALL,
        pb.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
        int(pb.TRITONSERVER_MEMORY_GPU),
        int(pb.TRITONSERVER_MEMORY_CPU),
    ] == [1, 2, 1, 1, 2, 0, 1]


def test_attach_classes_of_two_hosts_keeps_their_classes_apart(pb):
    _, other, _ = open_host()

    assert pb.Tensor is not other.Tensor
    assert pb.TritonModelException is other.TritonModelException is TritonModelException
    assert issubclass(pb.Tensor, Tensor)
    assert issubclass(other.Tensor, Tensor)


def test_stand_in_import_needs_neither_tritonclient_nor_a_place_in_sys_modules():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from kindaware import KindAwareModel\n"
        "known = set(sys.modules)\n"
        "import kindaware.testing.stand_in as s, importlib.util\n"
        "new = set(sys.modules) - known\n"
        "assert not [n for n in sys.modules if n.startswith('tritonclient')]\n"
        "assert 'torch' not in new, new\n"
        "assert 'c_python_backend_utils' not in sys.modules\n"
        "assert importlib.util.find_spec('triton_python_backend_utils') is None\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda pb, host: pb.Tensor("a", np.zeros(2)),
        lambda pb, host: pb.InferenceResponse([]),
        lambda pb, host: pb.TritonError("x"),
        lambda pb, host: pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU),
        lambda pb, host: new_request(host),
        lambda pb, host: new_request(host).get_response_sender(),
        lambda pb, host: new_request(host).trace(),
        lambda pb, host: pb.MetricFamily("a", "b", pb.MetricFamily.GAUGE),
    ],
    ids=[
        "Tensor",
        "InferenceResponse",
        "TritonError",
        "PreferredMemory",
        "InferenceRequest",
        "sender",
        "trace",
        "family",
    ],
)
def test_classes_share_the_traits_of_the_c_module(pb, host, make):
    one, other = make(pb, host), make(pb, host)

    assert one == one  # noqa: PLR0124 - the default identity
    assert one != other
    assert hash(one) != hash(other)
    assert bool(one)
    assert weakref.ref(one)() is one
    assert type(one).__module__ == "c_python_backend_utils"
    assert repr(one).startswith(f"<c_python_backend_utils.{type(one).__name__} object at 0x")
    missing = f"'c_python_backend_utils.{type(one).__name__}' object has no attribute 'mark'"
    with pytest.raises(AttributeError, match=missing):
        one.mark = 1
    with pytest.raises(AttributeError, match=missing):
        _ = one.mark
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(
            TypeError, match=f"cannot pickle 'c_python_backend_utils.{type(one).__name__}' object"
        ):
            duplicate(one)


def test_subclass_without_super_init_fails(pb):
    class Bare(pb.Tensor):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"Tensor.__init__\(\) must be called when overriding __init__"):
        Bare()


def test_subclass_with_super_init_works_and_takes_attributes(pb):
    class Named(pb.Tensor):
        def __init__(self):
            super().__init__("named", np.zeros(2))
            self.mark = 1

    assert Named().name() == "named"
    assert pb.InferenceResponse([Named()]).output_tensors()[0].mark == 1


@pytest.mark.parametrize(
    "name", ["InferenceResponseSender", "Metric", "InferenceTrace", "SharedMemory", "Logger"]
)
def test_classes_of_the_server_have_no_constructor(c_module, name):
    with pytest.raises(TypeError, match=f"c_python_backend_utils.{name}: No constructor defined!"):
        getattr(c_module, name)()


@pytest.mark.parametrize(
    ("call", "start"),
    [
        (
            lambda pb: pb.Tensor.name(5),
            "name(): incompatible function arguments. The following argument types",
        ),
        (lambda pb: pb.Tensor.name(), "name(): incompatible function arguments."),
        (lambda pb: pb.Tensor("a", np.zeros(1)).name(1), "name(): incompatible function arguments."),
        (lambda pb: pb.get_model_dir(1), "get_model_dir(): incompatible function arguments."),
        (
            lambda pb: pb.Tensor(),
            "__init__(): incompatible constructor arguments. The following argument types",
        ),
        (lambda pb: pb.InferenceResponse(foo=1), "__init__(): incompatible constructor arguments."),
        (
            lambda pb: pb.InferenceResponse([], None, None, None),
            "__init__(): incompatible constructor arguments.",
        ),
    ],
)
def test_calls_that_do_not_fit_fail_as_pybinds_do(pb, call, start):
    with pytest.raises(TypeError) as caught:
        call(pb)
    assert str(caught.value).startswith(start)
    assert "\n\nInvoked with: " in str(caught.value)


def test_mismatch_text_shows_signature_and_arguments(pb):
    with pytest.raises(TypeError) as caught:
        pb.Tensor("a", [1])
    assert str(caught.value) == (
        "__init__(): incompatible constructor arguments. The following argument types are supported:\n"
        "    1. c_python_backend_utils.Tensor(arg0: str, arg1: numpy.ndarray)\n\nInvoked with: 'a', [1]"
    )
    with pytest.raises(TypeError) as caught:
        pb.Logger.log("x", level=1)
    assert str(caught.value) == (
        "log(): incompatible function arguments. The following argument types are supported:\n"
        "    1. (message: str, level: c_python_backend_utils.Logger.LogLevel = <LogLevel.INFO: 0>) -> None"
        "\n\nInvoked with: 'x'; kwargs: level=1"
    )


@pytest.mark.parametrize("value", [np.int64(3), np.float32(3), np.array(3), 3])
def test_int_arguments_take_what_python_can_make_an_int_of(host, value):
    request = new_request(host)
    request.set_flags(value)
    assert request.flags() == 3


@pytest.mark.parametrize("value", ["3", 3.0, np.float64(3), None, -1, 2**32, [3]])
def test_unsigned_arguments_refuse_text_floats_and_what_is_out_of_range(host, value):
    request = new_request(host)
    with pytest.raises(TypeError, match=r"set_flags\(\): incompatible function arguments"):
        request.set_flags(value)
    assert request.flags() == 0


class Odd:
    """A sequence, a number and a truth value that all fail."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError("odd element")

    def __index__(self):
        raise ValueError("odd number")

    def __bool__(self):
        raise ValueError("odd truth")


def test_errors_of_sequences_pass_and_those_of_numbers_and_truth_values_do_not(host, pb):
    with pytest.raises(ValueError, match="odd element"):
        pb.InferenceResponse(Odd())
    with pytest.raises(TypeError, match=r"^set_flags\(\): incompatible function arguments"):
        new_request(host).set_flags(Odd())
    with pytest.raises(TypeError, match=r"^exec\(\): incompatible function arguments"):
        new_request(host).exec(Odd())


@pytest.mark.parametrize(
    "value", [range(0), np.zeros(0), bytearray(), collections.deque(), collections.UserList()]
)
def test_list_arguments_take_every_sequence(pb, value):
    assert pb.InferenceResponse(value).output_tensors() == []


@pytest.mark.parametrize("value", [{}, collections.OrderedDict(), type.__dict__, set(), "", b"", iter([])])
def test_list_arguments_refuse_text_mappings_and_iterators(pb, value):
    with pytest.raises(TypeError, match=r"^__init__\(\): incompatible constructor arguments"):
        pb.InferenceResponse(value)


def test_constants_of_classes_cannot_be_set(pb):
    for owner, name in [
        (pb.TritonError, "INTERNAL"),
        (pb.TritonError("x"), "INTERNAL"),
        (pb.Logger, "INFO"),
        (pb.MetricFamily, "GAUGE"),
    ]:
        with pytest.raises(AttributeError, match="property of 'pybind11_type' object has no setter"):
            setattr(owner, name, 3)


def test_stand_in_exports_what_a_harness_needs():
    assert all(hasattr(stand_in, name) for name in stand_in.__all__)
