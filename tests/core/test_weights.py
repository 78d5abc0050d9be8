"""`load_weights`: mapped checkpoints, converted copies in the cache, and what is refused."""

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from core_kit import make_args, start
from safetensors.torch import save_file
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware._cache import CacheError


class Net(nn.Module):
    """A network as anybody may write it: tied weights, and a buffer that its state_dict leaves out."""

    def __init__(self, size=4):
        super().__init__()
        self.embedding = nn.Embedding(10, size)
        self.conv = nn.Conv2d(3, size, 3)
        self.norm = nn.BatchNorm2d(size)
        self.pointwise = nn.Conv2d(size, size, 1)
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.head = nn.Linear(size, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.arange(size).float() + 1, persistent=False)

    def forward(self, x):
        x = self.pointwise(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        return self.head(self.lstm(x)[0] * self.scale)


X = torch.linspace(-1, 1, 3 * 6 * 6).reshape(1, 3, 6, 6)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache for each test."""
    monkeypatch.setenv("KINDAWARE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def path(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def load(network, *paths, parameters=None, repository="/models/m", **options):
    """Load a network in a model's `load`, and return the model."""

    class TritonPythonModel(KindAwareModel):
        def load(self):
            return self.load_weights(network, *paths, **options)

        def forward(self, X):
            return X

    return start(TritonPythonModel, parameters=parameters, repository=repository)


def mapped_files(module):
    """The files that a module's parameters and buffers lie in, by name; None for memory of its own."""
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        start, end = (int(part, 16) for part in fields[0].split("-"))
        ranges.append((start, end, fields[5] if len(fields) > 5 else ""))
    found = {}
    for name, tensor in module.state_dict().items():
        address = tensor.data_ptr()
        file = next(file for start, end, file in ranges if start <= address < end)
        found[name] = Path(file).name if file.startswith("/") else None
    return found


def test_load_weights_maps_the_checkpoint(path, trained, cache):
    model = load(Net, path).model
    assert set(mapped_files(model).values()) == {"weights.pt"}
    assert not cache.exists()
    torch.testing.assert_close(model(X), trained(X), rtol=0, atol=0)


def test_load_weights_maps_tensors_of_any_strides_where_the_memory_format_is_left_open(trained, tmp_path):
    torch.save(trained.to(memory_format=torch.channels_last).state_dict(), tmp_path / "weights.pt")
    model = load(Net, tmp_path / "weights.pt").model
    assert set(mapped_files(model).values()) == {"weights.pt"}
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_load_weights_maps_safetensors_in_several_files(tmp_path):
    torch.manual_seed(0)
    trained = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    for index, layer in enumerate(trained):
        state = {f"{index}.{name}": one for name, one in layer.state_dict().items()}
        save_file(state, tmp_path / f"{index}.safetensors")
    paths = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    model = load(lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), *paths).model
    assert set(mapped_files(model).values()) == {"0.safetensors", "1.safetensors"}
    torch.testing.assert_close(model.state_dict(), trained.state_dict())


def test_load_weights_keeps_values_of_buffers_that_no_checkpoint_has(path):
    torch.testing.assert_close(load(Net, path).model.scale, torch.arange(4).float() + 1)


def test_load_weights_keeps_tied_weights_tied(path):
    for parameters in ({}, {"kindaware.precision": "bf16-true"}):
        model = load(Net, path, parameters=parameters).model
        assert model.head.weight is model.embedding.weight


def test_load_weights_ties_where_the_checkpoint_has_one_of_the_names(trained, tmp_path):
    state = {name: one for name, one in trained.state_dict().items() if name != "head.weight"}
    save_file(state, tmp_path / "weights.safetensors")
    model = load(Net, tmp_path / "weights.safetensors").model
    torch.testing.assert_close(model(X), trained(X), rtol=0, atol=0)


def test_load_weights_refuses_a_checkpoint_with_none_of_the_names_of_tied_weights(trained, tmp_path):
    tied = ("embedding.weight", "head.weight")
    state = {name: one for name, one in trained.state_dict().items() if name not in tied}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(
        ConfigError, match=r"got missing 'embedding.weight', 'head.weight'; load the checkpoint"
    ):
        load(Net, tmp_path / "weights.pt")


def test_load_weights_refuses_two_values_for_tied_weights(trained, tmp_path):
    state = {**trained.state_dict(), "head.weight": torch.zeros(10, 4)}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"one value of 'embedding.weight' and 'head.weight'.*got two"):
        load(Net, tmp_path / "weights.pt")


@pytest.mark.parametrize("made", [Net, lambda: Net().eval()])
@pytest.mark.parametrize(
    ("parameters", "dtype", "memory_format"),
    [
        ({"kindaware.precision": "bf16-true"}, torch.bfloat16, torch.contiguous_format),
        ({"kindaware.precision": "16-true"}, torch.float16, torch.contiguous_format),
        ({"kindaware.memory_format": "channels_last"}, torch.float32, torch.channels_last),
        (
            {"kindaware.precision": "bf16-true", "kindaware.memory_format": "channels_last"},
            torch.bfloat16,
            torch.channels_last,
        ),
    ],
)
def test_load_weights_maps_a_converted_copy(
    args, path, trained, parameters, dtype, memory_format, made, cache
):
    model = load(made, path, parameters=parameters).model
    files = mapped_files(model)
    assert None not in files.values()
    assert files["conv.weight"] == files["pointwise.weight"] != "weights.pt"
    # Counters aren't converted.
    assert files["norm.num_batches_tracked"] == "weights.pt"
    expected = trained.to(dtype).to(memory_format=memory_format)
    for name, tensor in model.state_dict().items():
        want = expected.state_dict()[name]
        assert (tensor.dtype, tensor.stride()) == (want.dtype, want.stride())
        torch.testing.assert_close(tensor, want, rtol=0, atol=0)
    (copy,) = cache.glob("*.pt")
    before = copy.stat()
    again = load(made, path, parameters=parameters).model
    assert mapped_files(again) == files
    assert copy.stat() == before


def test_load_weights_converts_to_the_dtypes_of_the_network(trained, tmp_path):
    torch.save(trained.half().state_dict(), tmp_path / "half.pt")
    model = load(Net, tmp_path / "half.pt").model
    assert model.conv.weight.dtype == torch.float32
    assert None not in mapped_files(model).values()
    torch.testing.assert_close(model(X), trained.float()(X), rtol=0, atol=0)


def test_load_weights_of_a_newer_checkpoint_replaces_the_copy(path, trained, cache):
    parameters = {"kindaware.precision": "bf16-true"}
    load(Net, path, parameters=parameters)
    before = path.stat()
    with torch.no_grad():
        trained.conv.bias.fill_(3)
    # As an unpacked archive: another file of the same size and time.
    torch.save(trained.state_dict(), path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    model = load(Net, path, parameters=parameters).model
    assert model.conv.bias.tolist() == [3.0] * 4
    assert len(list(cache.glob("*.pt"))) == 1


def test_load_weights_of_a_model_that_is_downloaded_anew_replaces_the_copy(trained, tmp_path, cache):
    for download in ("first", "second"):
        path = tmp_path / download / "net" / "1" / "weights.pt"
        path.parent.mkdir(parents=True)
        torch.save(trained.state_dict(), path)
        load(Net, path, parameters={"kindaware.precision": "bf16-true"}, repository=path.parents[1])
    assert len(list(cache.glob("*.pt"))) == 1


@pytest.mark.parametrize("folders", [("1", "2"), ("encoder/v1", "decoder/v1")])
@pytest.mark.parametrize("is_in_repository", [True, False])
def test_load_weights_of_files_of_one_name_makes_a_copy_each(
    trained, tmp_path, cache, folders, is_in_repository
):
    for folder in folders:
        path = tmp_path / "net" / folder / "weights.pt"
        path.parent.mkdir(parents=True)
        torch.save(trained.state_dict(), path)
        repository = tmp_path / "net" if is_in_repository else "/models/m"
        load(Net, path, parameters={"kindaware.precision": "bf16-true"}, repository=repository)
    assert len(list(cache.glob("*.pt"))) == 2


def test_load_weights_with_a_damaged_copy_writes_it_anew(path, trained, cache):
    parameters = {"kindaware.precision": "bf16-true"}
    load(Net, path, parameters=parameters)
    (copy,) = cache.glob("*.pt")
    content = copy.read_bytes()
    os.truncate(copy, len(content) // 2)
    model = load(Net, path, parameters=parameters).model
    torch.testing.assert_close(model.conv.weight, trained.conv.weight.bfloat16(), rtol=0, atol=0)
    assert copy.read_bytes() == content


def test_load_weights_on_a_full_disk_says_so(path, monkeypatch):
    full = Path("/dev/full")
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda what, to: save(what, full))
    with pytest.raises(
        CacheError,
        match=r"with room for them, got OSError: torch.save failed with \d+ MiB free.*; make room, or name",
    ):
        load(Net, path, parameters={"kindaware.precision": "bf16-true"})


def test_a_write_to_a_mapped_parameter_stays_in_the_process(path):
    content = path.read_bytes()
    model = load(Net, path).model
    with torch.no_grad():
        model.conv.bias.fill_(7)
    assert load(Net, path).model.conv.bias.tolist() != [7.0] * 4
    assert path.read_bytes() == content


def test_load_weights_takes_a_network_on_meta(tmp_path):
    trained = nn.Linear(4, 3)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    with torch.device("meta"):
        network = nn.Linear(4, 3)
    assert load(network, tmp_path / "weights.pt").model is network
    torch.testing.assert_close(network.state_dict(), trained.state_dict())


def test_load_weights_refuses_buffers_without_a_value(path):
    with torch.device("meta"):
        network = Net()
    with pytest.raises(
        ConfigError, match=r"a value for every buffer.*got none for 'scale'.*pass the function"
    ):
        load(network, path)


def test_load_weights_starts_relative_paths_at_the_folder_of_model_py(tmp_path):
    (tmp_path / "1").mkdir()
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "1" / "weights.pt")

    class TritonPythonModel(KindAwareModel):
        def load(self):
            return self.load_weights(lambda: nn.Linear(4, 3), "weights.pt")

        def forward(self, X):
            return X

    model = TritonPythonModel()
    model.initialize({**make_args(), "model_repository": str(tmp_path)})
    assert set(mapped_files(model.model).values()) == {"weights.pt"}


def test_load_weights_reads_under_a_key_and_behind_a_prefix(tmp_path):
    trained = nn.Linear(4, 3)
    state = {f"module.{name}": one for name, one in trained.state_dict().items()} | {"step": torch.tensor(7)}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "trainer.pt")
    model = load(lambda: nn.Linear(4, 3), tmp_path / "trainer.pt", key="state_dict", prefix="module.")
    torch.testing.assert_close(model.model.state_dict(), trained.state_dict())


def test_load_weights_where_names_lack_a_prefix_says_which(tmp_path):
    state = {f"module.{name}": one for name, one in nn.Linear(4, 3).state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(
        ConfigError, match=r"got missing 'bias', 'weight'; unexpected .*pass prefix='module\.'"
    ):
        load(lambda: nn.Linear(4, 3), tmp_path / "weights.pt")


def test_load_weights_of_another_network_does_not_advise_to_leave_names_out(tmp_path):
    torch.save({"weight": torch.ones(3, 4), "logits": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(
        ConfigError, match=r"missing 'bias'; unexpected 'logits'; load the checkpoint of this network$"
    ):
        load(lambda: nn.Linear(4, 3), tmp_path / "weights.pt")


def test_load_weights_not_strict_leaves_out_what_the_network_lacks(tmp_path):
    state = {**nn.Linear(4, 3).state_dict(), "logits": torch.zeros(1)}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"got unexpected 'logits'.*pass strict=False"):
        load(lambda: nn.Linear(4, 3), tmp_path / "weights.pt")
    assert "logits" not in load(lambda: nn.Linear(4, 3), tmp_path / "weights.pt", strict=False).model._buffers


def test_load_weights_not_strict_still_needs_values(tmp_path):
    torch.save({"weight": torch.ones(3, 4)}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"got missing 'bias'; load the checkpoint"):
        load(lambda: nn.Linear(4, 3), tmp_path / "weights.pt", strict=False)
    network = nn.Linear(4, 3)
    bias = network.bias.detach().clone()
    load(network, tmp_path / "weights.pt", strict=False)
    torch.testing.assert_close(network.bias.detach(), bias)


@pytest.mark.parametrize(
    ("saved", "options", "expected"),
    [
        (
            {"weight": torch.ones(3, 5), "bias": torch.ones(3)},
            {},
            r"tensors of the network's shapes, got .*size mismatch for weight",
        ),
        (
            {"epoch": 1, "model": {"weight": torch.ones(3, 4)}},
            {},
            r"a state_dict, got keys 'epoch', 'model'; .*key='model'",
        ),
        ({"model": {}}, {"key": "ema"}, r"the key 'ema', got keys 'model'; correct key"),
        (
            {"weight": torch.ones(3, 4)},
            {"prefix": "net."},
            r"names that begin with 'net\.', got keys 'weight'",
        ),
        ([torch.ones(3)], {}, r"a state_dict, got list; save network.state_dict\(\)"),
        (
            OrderedDict(net=nn.Linear(4, 3)),
            {},
            r"tensors and nothing else, got UnpicklingError.*state_dict\(\)",
        ),
    ],
)
def test_load_weights_refuses_what_is_no_state_dict_of_the_network(tmp_path, saved, options, expected):
    torch.save(saved, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=rf"(?s)weights .*weights.pt'?: expected {expected}"):
        load(lambda: nn.Linear(4, 3), tmp_path / "weights.pt", **options)


def test_load_weights_refuses_formats_that_cannot_be_mapped(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(nn.Linear(4, 3).state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ConfigError, match=r"that can be mapped.*write it anew"):
        load(lambda: nn.Linear(4, 3), path)


def test_load_weights_without_a_file_names_it(tmp_path):
    with pytest.raises(
        ConfigError, match=r"missing\.pt'?: expected a file with weights, got none; put it there"
    ):
        load(Net, tmp_path / "missing.pt")


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("net", r"a torch.nn.Module, or a function that returns one, got str"),
        (lambda: 3, r"got a function that returns int"),
        (
            lambda: nn.Linear(4, 3).weight.sum().item(),
            r"without reading its random weights.*pass the network itself",
        ),
    ],
)
def test_load_weights_refuses_what_is_no_network(path, network, expected):
    with pytest.raises(ConfigError, match=expected):
        load(network, path)


def test_load_weights_passes_on_what_the_function_raises(path):
    def broken():
        raise NotImplementedError("no such backbone")

    with pytest.raises(NotImplementedError, match="no such backbone"):
        load(broken, path)


def test_load_weights_by_networks_of_one_file_makes_a_copy_each(tmp_path, cache):
    """An encoder and a decoder in one checkpoint: neither replaces the copy of the other."""
    state = {f"{part}.{name}": one for part in "ab" for name, one in nn.Linear(4, 3).state_dict().items()}
    torch.save(state, tmp_path / "weights.pt")

    class TritonPythonModel(KindAwareModel):
        precision = "bf16-true"

        def load(self):
            self.a = self.load_weights(lambda: nn.Linear(4, 3), tmp_path / "weights.pt", prefix="a.")
            self.b = self.load_weights(lambda: nn.Linear(4, 3), tmp_path / "weights.pt", prefix="b.")

        def forward(self, X):
            return X

    model = start(TritonPythonModel)
    torch.testing.assert_close(model.b.weight.detach(), state["b.weight"].bfloat16())
    assert len(list(cache.glob("*.pt"))) == 2
