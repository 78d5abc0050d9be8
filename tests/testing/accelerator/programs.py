"""Programs whose outcome on a simulated GPU must be that of the CPU: each takes a device.

What a program returns is compared: tensors, and whatever else is in lists, tuples and dicts.
"""

import torch
from accelerator_kit import module, on
from torch import nn

F = nn.functional

PROGRAMS = {}


def program(function):
    PROGRAMS[function.__name__] = function
    return function


@program
def assigning_by_index(device):
    x, y = on(device, 4, 5), on(device, 5, seed=1)
    i = torch.tensor([0, 2], device=device)
    x[0] = y
    x[1, 2] = 7
    x[:, 1] = 0.5
    x[i, 3] = on(device, 2, seed=2)
    x[x > 1] = -1
    x[3:] = x[:1]
    x[..., 4] += 1
    x[i] = y
    x[torch.tensor([3], device=device)] = torch.tensor(2.0)
    x[2] = torch.tensor(3.0, device=device)
    x[x < -1] = x[x < -1] * 2
    x[[0, 1]] *= 2
    x[torch.tensor([1])] -= 1
    x[None, ..., 0] = 9
    return x


@program
def in_place(device):
    x = on(device, 3, 4)
    y = x.clone()
    y.add_(1).mul_(2).sub_(x).div_(3).clamp_(-2, 2).relu_().neg_().abs_().exp_().sqrt_()
    y += x
    y *= 2
    y -= 1
    y /= 3
    y[0].zero_()
    y[1].fill_(4)
    y.masked_fill_(y > 3, 0)
    y.copy_(y * 2)
    y[2].copy_(torch.arange(4.0))
    y.addcmul_(x, x).addmm_(x, on(device, 4, 4)).lerp_(x, 0.1)
    y.index_add_(0, torch.tensor([0], device=device), x[:1])
    F.relu(y, inplace=True)
    y.round_(decimals=3)
    y.scatter_(1, torch.tensor([[0], [1], [2]], device=device), 5.0).cumsum_(0).fill_diagonal_(1)
    z = on(device, 4, dtype=torch.int64)
    z.bitwise_and_(3)
    z += 1
    return [y, z]


@program
def shape_changed_in_place(device):
    x = on(device, 3, 1, 4)
    squeezed, unsqueezed, transposed, turned = (x.clone() for _ in range(4))
    squeezed.squeeze_(1)
    unsqueezed.unsqueeze_(0)
    transposed.transpose_(0, 2)
    turned[:, 0].t_()
    return [squeezed + 1, unsqueezed * 2, transposed + 0, turned, squeezed.shape]


@program
def resized(device):
    x = on(device, 3, 4)
    smaller, larger, other = x.clone(), x.clone(), x.clone()
    smaller.resize_(2, 3)
    larger.resize_(40, 40)[0, :12].add_(1)
    other.set_(x)
    return [smaller + 0, larger[0, :12], other, larger.shape]


@program
def out_variants(device):
    x = on(device, 3, 4)
    a, b, c, d = (torch.empty(3, 4, device=device) for _ in range(4))
    torch.add(x, 1, out=a)
    torch.mul(x, x, out=b)
    torch.clamp(x, -1, 1, out=c)
    torch.sin(x, out=d[:, :])
    e = torch.empty(6, 4, device=device)
    torch.cat([x, x], out=e)
    f, g = torch.empty(3, device=device), torch.empty(3, dtype=torch.int64, device=device)
    torch.max(x, 1, out=(f, g))
    h = torch.empty(3, 3, device=device)
    torch.mm(x, x.T, out=h)
    i = torch.empty(2, 3, 4, device=device)
    torch.stack([x, x], out=i)
    return [a, b, c, d, e, f, g, h, i]


@program
def out_variants_that_resize(device):
    x = on(device, 3, 4)
    a, b, c = (torch.empty(0, device=device) for _ in range(3))
    torch.add(x, 1, out=a)
    torch.cat([x, x], out=b)
    torch.mm(x, x.T, out=c)
    found = torch.empty(0, dtype=torch.int64, device=device)
    torch.nonzero(x > 0, out=found)
    return [a, b, c, found]


@program
def random_numbers_have_their_shape(device):
    x = on(device, 2, 3)
    made = [
        torch.rand(2, device=device),
        torch.randn(2, 3, device=device, dtype=torch.float16),
        torch.randint(0, 5, (3,), device=device),
        torch.randperm(4, device=device),
        torch.rand_like(x),
        torch.randn_like(x),
        torch.randint_like(x, 4),
        torch.bernoulli(x.sigmoid()),
        torch.multinomial(x.abs(), 2),
        torch.normal(x, x.abs()),
        x.normal_(),
        x.uniform_(),
        x.random_(),
        x.exponential_(),
        x.bernoulli_(0.3),
        F.dropout(x, 0.5),
        torch.randn(2, device=device, generator=torch.Generator(device).manual_seed(3)),
        nn.init.xavier_uniform_(torch.empty(2, 3, device=device)),
        nn.init.trunc_normal_(torch.empty(2, 3, device=device)),
    ]
    return [(one.shape, one.dtype, one.device == device, bool(one.isfinite().all())) for one in made]


@program
def default_device(device):
    with torch.device(device):
        made = [torch.zeros(2), torch.tensor([1.0]), torch.as_tensor([2]), torch.arange(3), torch.ones(2, 2)]
        made += [torch.linspace(0, 1, 3), torch.full((2,), 3), torch.eye(2), nn.Parameter(torch.ones(2))]
        net = nn.Linear(3, 2)
    assert net.weight.device == device
    torch.set_default_device(device)
    try:
        made += [torch.ones(3), torch.tensor([3.0])]
    finally:
        torch.set_default_device(None)
    return [*made, module(device, net)(on(device, 2, 3)), {one.device == device for one in made}]


@program
def half_precision(device):
    out = []
    for dtype in (torch.float16, torch.bfloat16):
        x = on(device, 4, 8, dtype=dtype)
        out += [x + x, x @ x.T, x.softmax(-1), F.layer_norm(x, (8,)), x.sum(), F.gelu(x), x.mean(0), x.exp()]
        out += [x.float().to(dtype), F.linear(x, x), x.argmax(1), F.conv1d(x[None], x[:, None, :3], groups=4)]
    return out


@program
def integers_of_all_sizes(device):
    out = []
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        x = on(device, 3, 4, dtype=dtype)
        out += [x + x, x * 2, x.sum(), x.max(), x // 2, x.float(), x == 2, x.sort(), x.clamp(1, 3)]
    return out


@program
def lists_of_tensors(device):
    many = [on(device, 2, 3), on(device, 3)]
    out = torch._foreach_add(many, 1)
    torch._foreach_mul_(out, 2)
    return [out, torch._foreach_norm(many), nn.utils.parameters_to_vector(many)]


@program
def modes_in_modes(device):
    x = on(device, 3)
    with torch.enable_grad():
        a = x * 2
    with torch.no_grad():
        b = x * 3
    with torch.inference_mode():
        c = x * 4
    with torch.inference_mode(False):
        d = x * 5
    return [a, b, c, d, a + c]


@program
def autocast(device):
    x, w = on(device, 3, 4), on(device, 5, 4)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        out = F.linear(x, w)
        scores = out.float().softmax(-1)
    return [out, scores]
