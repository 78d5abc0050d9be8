"""A module over several devices: where its tensors go, and which inputs follow them."""

import contextlib
from collections import OrderedDict, namedtuple

import pytest
import torch
from core_kit import MESSAGE, Doubler, start
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from kindaware import ConfigError, place_module
from kindaware._placement.device_map import _bring, _BringInputs

CPU, META = torch.device("cpu"), torch.device("meta")


@contextlib.contextmanager
def way_back():
    """Lets tensors come back from the device meta, as empty ones."""
    to = torch.Tensor.to

    def move(tensor, device):
        return (
            torch.empty_like(tensor, device="cpu") if tensor.is_meta and device == CPU else to(tensor, device)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", move)
        yield


@pytest.fixture
def movable():
    """The same for a whole test."""
    with way_back():
        yield


class Part(nn.Module):
    """Has a weight and a buffer; notes where its inputs are, and works where they should be."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.zeros(2), persistent=False)
        self.seen = []

    def forward(self, x, scale=None):
        self.seen.append([one.device.type for one in (x, scale) if one is not None])
        return x + self.weight + self.shift


class Net(nn.Module):
    """An embedding, layers that are called one by one, and a head, as a transformer has them."""

    def __init__(self, num_layers=12):
        super().__init__()
        self.embed = Part()
        self.layers = nn.ModuleList(nn.Sequential(Part(), nn.ReLU(), Part()) for _ in range(num_layers))
        self.head = Part()

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def devices_of(module):
    """Names of parameters and buffers, and the kind of device that each is on."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    return {name: tensor.device.type for name, tensor in tensors}


def hooked(module):
    """Paths of the modules to which inputs are brought, and where."""
    return {
        path: hook.device.type
        for path, one in module.named_modules(remove_duplicate=False)
        for hook in one._forward_pre_hooks.values()
        if isinstance(hook, _BringInputs)
    }


def test_place_module_puts_each_tensor_where_the_longest_path_leads():
    net = place_module(Net(), {"": "cpu", "layers": "meta", "layers.1": CPU, "head": META})
    assert {name for name, kind in devices_of(net).items() if kind == "cpu"} == {
        f"{path}.{name}"
        for path in ("embed", "layers.1.0", "layers.1.2")  # not layers.10, nor layers.11
        for name in ("weight", "shift")
    }


def test_place_module_gives_the_module_itself_and_keeps_what_is_there():
    net = Net()
    weight = net.embed.weight
    assert place_module(net, {"": 0}, [CPU]) is net
    assert net.embed.weight is weight
    assert isinstance(net.head.weight, nn.Parameter)
    assert "shift" in net.head._non_persistent_buffers_set


def test_place_module_positions_count_among_the_devices_also_from_the_end():
    net = place_module(Net(2), {"": 0, "layers.0": 1, "head": -1}, [CPU, META])
    assert {name.split(".")[0] for name, kind in devices_of(net).items() if kind == "meta"} == {
        "layers",
        "head",
    }
    assert devices_of(net)["layers.1.0.weight"] == "cpu"


def test_forward_finds_its_inputs_on_the_device_of_each_part(movable):
    net = place_module(Net(3), {"": "cpu", "layers.1": "meta", "layers.2": "meta", "layers.2.2": "cpu"})
    assert net(torch.ones(4, 2)).device == CPU
    for path, part in net.named_modules():
        if isinstance(part, Part):
            assert part.seen == [[part.weight.device.type]], path


def test_forward_moves_only_where_devices_meet(monkeypatch):
    moved = []
    to = torch.Tensor.to
    net = place_module(
        Net(4), {"embed": 0, "layers": 0, "layers.2": 1, "layers.3": 1, "head": 1}, [CPU, META]
    )
    monkeypatch.setattr(torch.Tensor, "to", lambda *args: moved.append(args[1].type) or to(*args))
    assert net(torch.ones(4, 2)).is_meta
    assert moved == ["meta"]


def test_forward_of_a_module_on_one_device_as_a_whole_is_hooked_once():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([Part(), Part()])

        def forward(self, x):
            return self.parts[1](self.parts[0](x))

    net = nn.ModuleDict({"a": Block(), "b": Block(), "c": Block(), "d": Block()})
    place_module(net, {"": 0, "b": 1, "c.parts.1": 1, "d.parts.1": 0}, [CPU, META])
    assert hooked(net) == {
        "": "cpu",
        "a": "cpu",
        "b": "meta",
        "c.parts.0": "cpu",
        "c.parts.1": "meta",
        "d": "cpu",
        "d.parts.1": "cpu",
    }


def test_forward_of_a_module_with_tensors_of_its_own_and_a_part_elsewhere_is_hooked():
    inner = Part()
    inner.part = Part()
    net = place_module(nn.ModuleDict({"a": inner}), {"": 0, "a.part": 1}, [CPU, META])
    assert hooked(net) == {"": "cpu", "a": "cpu", "a.part": "meta"}


@pytest.mark.parametrize("container", [nn.Sequential, lambda *parts: nn.ModuleList(parts)])
def test_forward_of_a_container_whose_parts_are_called_one_by_one_is_followed(container):
    net = place_module(container(Part(), Part()), {"": META})
    assert hooked(net) == {"": "meta", "0": "meta", "1": "meta"}


def test_forward_on_the_cpu_by_its_ordinal_moves_nothing(monkeypatch):
    part = place_module(Part(), {"": "cpu:0"})
    monkeypatch.setattr(torch.Tensor, "to", None)
    assert part(torch.ones(2)).tolist() == [2, 2]


def test_forward_of_a_part_without_tensors_is_brought_only_what_the_map_says(movable):
    net = nn.Sequential(Part(), nn.ReLU(), nn.ReLU(), Part())
    place_module(net, {"0": "meta", "2": "cpu", "3": "meta"})
    seen = []
    net[1].register_forward_pre_hook(lambda module, args: seen.append(args[0].device))
    net[2].register_forward_pre_hook(lambda module, args: seen.append(args[0].device))
    net(torch.ones(1, 2))
    assert seen == [META, CPU]


def test_forward_moves_arguments_by_keyword_too():
    part = Part()
    place_module(part, {"": META})
    part(x=torch.ones(2), scale=torch.ones(2))
    assert part.seen == [["meta", "meta"]]


Pair = namedtuple("Pair", "first second")


def devices_in(value):
    """The same containers with the kinds of devices in place of the tensors."""
    if isinstance(value, torch.Tensor):
        return value.device.type
    if isinstance(value, dict):
        return type(value)((key, devices_in(one)) for key, one in value.items())
    if isinstance(value, Pair):
        return Pair(*map(devices_in, value))
    return type(value)(map(devices_in, value)) if isinstance(value, (list, tuple)) else value


def test_bring_moves_the_tensors_of_nested_containers_and_keeps_their_types():
    ones = torch.ones(2)
    value = (ones, [Pair(ones, 3), "text"], OrderedDict(a={"b": ones}, c=None), 1.5)
    assert devices_in(_bring(value, META)) == (
        "meta",
        [Pair("meta", 3), "text"],
        OrderedDict(a={"b": "meta"}, c=None),
        1.5,
    )
    assert devices_in(value) == (
        "cpu",
        [Pair("cpu", 3), "text"],
        OrderedDict(a={"b": "cpu"}, c=None),
        1.5,
    )
    assert type(_bring(value, META)[2]) is OrderedDict


def test_bring_hands_on_what_is_there_already_itself():
    cache = [torch.ones(2)]
    value = (cache, {"cache": cache, "other": object()})
    assert _bring(value, CPU) is value
    moved = _bring((cache, torch.ones(2, device="meta"), {"n": 1}), META)
    assert moved[0] is not cache
    assert cache[0].device == CPU


def test_bring_packed_sequence_keeps_its_lengths_on_the_host():
    packed = _bring(pack_sequence([torch.ones(3, 2), torch.ones(1, 2)]), META)
    assert (packed.data.device, packed.batch_sizes.device) == (META, CPU)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.MultiheadAttention])
def test_place_module_modules_that_hold_their_weights_in_more_than_one_place(kind):
    inner = kind(4, 2)
    place_module(nn.ModuleDict({"inner": inner}), {"inner": META})
    assert set(devices_of(inner).values()) == {"meta"}
    x = torch.ones(3, 1, 4)
    assert (inner(x) if kind is nn.LSTM else inner(x, x, x))[0].is_meta


def fails(device_map, module=None, devices=(CPU, META)):
    with pytest.raises(ConfigError) as caught:
        place_module(Net(2) if module is None else module, device_map, devices)
    assert MESSAGE.match(str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "got", "remedy"),
    [
        ("layer.0", "no such module", "correct it; the nearest is 'layers.0'"),
        ("layers.2", "no such module", "correct it; the nearest is 'layers"),
        ("embed.", "no such module", "correct it; the nearest is 'embed'"),
        ("head.weight", "a parameter or buffer", "name the module that has it, 'head'"),
        (0, "no such module", "correct it; the nearest is"),
    ],
)
def test_place_module_key_that_is_no_module_names_the_nearest(key, got, remedy):
    assert fails({"": 0, key: 1}).startswith(
        f"device map of Net key {key!r}: expected the path of a module in it, got {got}; {remedy}"
    )


def test_place_module_tensors_that_no_key_covers_are_named():
    assert fails({"embed": 0, "layers.0": 0, "layers.1.0": 0}) == (
        "device map of Net: expected a device for every parameter and buffer, got none for "
        "'layers.1.2.weight', 'head.weight', 'layers.1.2.shift', 'head.shift'; add a key that covers them, "
        "such as 'layers.1.2', or '' for all the rest"
    )
    assert "'layers.1.0.weight', 'layers.1.2.weight' and 7 more; add a key that covers them" in fails({})


@pytest.mark.parametrize("value", [2, -3, True, None, "cuda:0", "cuda", "gpu", 1.0, torch.device("cuda:1")])
def test_place_module_device_that_is_not_among_those_given_is_refused(value):
    assert fails({"": 0, "head": value}) == (
        "device map of Net key 'head': expected one of the devices cpu, meta, or a position among them, got "
        f"{value!r}; correct it"
    )


@pytest.mark.parametrize("value", [0, True, None, "cuda", "gpu"])
def test_place_module_without_devices_takes_names_with_ordinals_only(value):
    assert fails({"": value}, devices=None) == (
        "device map of Net key '': expected a torch.device, or a name such as 'cuda:1', got "
        f"{value!r}; correct it; for positions pass devices=self.devices"
    )


def test_place_module_map_that_is_no_mapping_is_refused():
    assert fails("cuda:0") == (
        "device map of Net: expected a mapping of paths to devices, got str; pass a dict such as {'': 0}"
    )


def test_place_module_tied_tensors_on_two_devices_are_refused():
    net = Net(2)
    net.head.weight = net.embed.weight
    assert fails({"": 0, "head": 1}, net) == (
        "device map of Net tensor 'head.weight': expected the device cpu of 'embed.weight', which is the "
        "same tensor, got meta; give both names one device, or make a copy"
    )
    place_module(net, {"": 1, "embed": 0, "head": 0}, [CPU, META])
    assert net.head.weight is net.embed.weight


def test_place_module_one_module_on_two_devices_is_refused():
    relu = nn.ReLU()
    net = nn.Sequential(Part(), relu, Part(), relu)
    assert fails({"": 0, "1": 0, "3": 1}, net) == (
        "device map of Sequential module '3': expected the device cpu of '1', which is the same module, got "
        "meta; give both names one device, or make a copy"
    )


def test_place_module_one_module_under_two_names_brings_its_inputs_once():
    part = Part()
    place_module(nn.ModuleList([part, part]), {"": META})
    assert len(part._forward_pre_hooks) == 1


def test_place_module_that_fails_changes_nothing():
    net = Net(2)
    net.head.shift = net.embed.shift
    fails({"": 1, "head": 0}, net)
    assert set(devices_of(net).values()) == {"cpu"}
    assert hooked(net) == {}


def test_place_module_tensors_without_data_are_refused():
    net = Net(2)
    net.head.to("meta")
    assert fails({"": 0}, net) == (
        "device map of Net tensor 'head.weight': expected a tensor with data, got one on the device meta; "
        "load the weights first"
    )


def test_place_module_that_keeps_its_tensors_is_refused():
    class Stubborn(Part):
        def _apply(self, *args, **kwargs):
            return self

    assert fails({"": 1}, Stubborn()) == (
        "device map of Stubborn tensor 'weight': expected device meta, got cpu; let the module be moved: it "
        "overrides _apply"
    )


def test_load_with_a_map_over_the_devices_of_an_instance():
    class Model(Doubler):
        def load(self):
            self.net = place_module(Net(2), {"": 0, "head": -1}, self.devices)

        def forward(self, X):
            return self.net(X.view(-1, 2)).view(X.shape)

    model = start(Model)
    assert model.forward(torch.ones(1, 4)).tolist() == [[7.0] * 4]


names = st.sampled_from(["a", "b", "a1", "layers", "10", "1"])


class Group(nn.Module):
    """Calls its parts one after the other."""

    def __init__(self, parts, has_weight):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        if has_weight:
            self.own = nn.Parameter(torch.ones(2))
        self.seen = []

    def forward(self, x):
        if hasattr(self, "own"):
            self.seen.append([x.device.type])
            x = x + self.own
        for part in self.children():
            for one in part if isinstance(part, (nn.ModuleList, nn.Sequential)) else [part]:
                x = one(x)
        return x


def make_container(parts, kind):
    return nn.ModuleList(parts) if kind == "list" else nn.Sequential(*parts)


def groups(parts):
    """Modules with a forward of their own around such parts."""
    return st.builds(Group, st.dictionaries(names, parts, max_size=3), st.booleans())


def trees():
    """Modules of parts, lists, sequences and groups, nested."""
    leaves = st.builds(Part) | st.builds(nn.ReLU)
    containers = st.builds(
        make_container, st.lists(leaves | groups(leaves), max_size=3), st.sampled_from(["list", "sequential"])
    )
    return groups(st.recursive(leaves | containers, groups, max_leaves=8))


@st.composite
def placements(draw):
    """A random module and a random map that covers it."""
    net = draw(trees())
    paths = sorted(path for path, _ in net.named_modules())
    keys = draw(st.lists(st.sampled_from(paths), unique=True))
    return net, {"": draw(st.sampled_from([0, 1])), **{key: draw(st.sampled_from([0, 1])) for key in keys}}


def longest(device_map, name):
    """The device of the longest key that leads to a tensor, found in the simplest way."""
    fitting = [key for key in device_map if not key or name.startswith(key + ".")]
    return ["cpu", "meta"][device_map[max(fitting, key=len)]]


@given(placements())
def test_place_module_any_module_and_map_each_tensor_is_on_the_device_of_its_longest_path(placement):
    net, device_map = placement
    place_module(net, device_map, [CPU, META])
    for name, kind in devices_of(net).items():
        assert kind == longest(device_map, name), name


@given(placements())
def test_forward_of_any_module_and_map_meets_its_inputs_on_its_own_device(placement):
    net, device_map = placement
    place_module(net, device_map, [CPU, META])
    with way_back():
        net(torch.ones(2))
    for path, one in net.named_modules():
        for tensor in (getattr(one, "weight", None), getattr(one, "own", None)):
            if tensor is not None:
                assert all(seen == [tensor.device.type] for seen in one.seen), path
