"""Programs with modules whose outcome on a simulated GPU must be that of the CPU."""

import copy
import io

import torch
from accelerator_kit import module, on
from programs import program
from torch import nn


@program
def copies_of_a_module(device):
    net = module(device, nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    other = copy.deepcopy(net)
    with torch.no_grad():
        net[0].weight.zero_()
    return other(on(device, 2, 3))


@program
def states_of_modules(device):
    def make():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()

    net = module(device, make())
    there, on_host = make().to(device), make()
    with torch.device("meta"):
        emptied, assigned = make(), make()
    for one in (there, on_host, emptied.to_empty(device=device)):
        one.load_state_dict(net.state_dict())
    assigned.load_state_dict(net.state_dict(), assign=True)
    return [one.to(device)(on(device, 2, 3)) for one in (there, on_host, emptied, assigned)]


@program
def saved_and_loaded(device):
    def save(what):
        file = io.BytesIO()
        torch.save(what, file)
        file.seek(0)
        return file

    net = module(device, nn.Linear(3, 4))
    out = []
    for state in (net.state_dict(), {name: one.cpu() for name, one in net.state_dict().items()}):
        for place in ("cpu", device, str(device), lambda storage, place: storage, {"cpu": str(device)}):
            loaded = torch.load(save(state), map_location=place, weights_only=True)
            out += [loaded["weight"], loaded["bias"]]
    shared = on("cpu", 4)
    one, other = torch.load(save([shared, shared[1:3]]), map_location=device, weights_only=True)
    one.add_(1)
    whole = torch.load(save(net), map_location=device, weights_only=False)
    return [out, one, other, whole(on(device, 2, 3)), copy.copy(net.weight)]


class Tied(nn.Module):
    """An output layer with the weights of the embedding, and a buffer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, i):
        return self.head(self.embedding(i)) * self.scale


@program
def tied_weights(device):
    net = module(device, Tied())
    return [net(torch.tensor([1, 3], device=device)), net.head.weight is net.embedding.weight]


@program
def recurrent(device):
    x = on(device, 2, 5, 3)
    out = []
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        out.append(module(device, kind(3, 4, num_layers=2, batch_first=True, bidirectional=True))(x))
        out.append(module(device, kind(3, 4, bias=False))(x))
    lstm = module(device, nn.LSTM(3, 4, batch_first=True, proj_size=2))
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    out.append(nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True))
    out += [module(device, nn.LSTMCell(3, 4))(x[:, 0]), module(device, nn.GRUCell(3, 4))(x[:, 0])]
    return [*out, nn.utils.rnn.pad_sequence([x[0], x[1, :3]], batch_first=True)]


@program
def modules_of_many_kinds(device):
    x = on(device, 2, 4, 6, 6)
    made = [nn.Conv2d(4, 2, 3, bias=False), nn.ConvTranspose2d(4, 2, 2), nn.GroupNorm(2, 4), nn.CELU()]
    made += [nn.InstanceNorm2d(4, affine=True), nn.Upsample(scale_factor=2), nn.PReLU(), nn.Flatten()]
    made += [nn.Softmax2d(), nn.AdaptiveAvgPool2d(1), nn.Dropout(), nn.Identity(), nn.LayerNorm([4, 6, 6])]
    made += [nn.ZeroPad2d(1), nn.PixelShuffle(2), nn.Hardswish(), nn.Unfold(2), nn.LazyConv2d(3, 1)]
    out = [module(device, one)(x) for one in made[:-1]]
    made[-1](on("cpu", 2, 4, 6, 6))
    normalised = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4))
    return [*out, *[module(device, one)(x) for one in (made[-1], normalised, spectral)]]


@program
def uses_of_a_module(device):
    net, seen = module(device, nn.Linear(3, 4)), []
    net.register_forward_hook(lambda module, inputs, output: seen.append(output * 2))
    x = on(device, 2, 3)
    called = torch.func.functional_call(net, dict(net.named_parameters()), x)
    stepped = net(x)
    net.weight.data = net.weight.data * 2
    net.half().float()
    return [
        called,
        stepped,
        seen,
        net(x),
        list(net.parameters()),
        sum(one.numel() for one in net.parameters()),
    ]


@program
def iteration(device):
    x = on(device, 3, 2)
    a, b, c = x
    return [a, b, c, list(x), [row + 1 for row in x], [*reversed(list(x))], max(x[:, 0]), sum(x)]


@program
def scripted(device):
    net = torch.jit.trace(module("cpu", nn.Linear(3, 4)), torch.ones(1, 3), check_trace=False)
    file = io.BytesIO()
    torch.jit.save(net, file)
    file.seek(0)
    return torch.jit.load(file, map_location=device)(on(device, 2, 3))
