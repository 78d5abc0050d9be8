"""Whole models on a simulated GPU against the CPU, with random weights."""

import pytest
import torch
from accelerator_kit import module, numbers, simulated

from kindaware.testing.accelerator import Seeded

models = pytest.importorskip("torchvision.models")

IMAGE = (2, 3, 32, 32)
VISION = {
    "resnet18": models.resnet18,
    "mobilenet_v3_small": models.mobilenet_v3_small,
    "efficientnet_b0": models.efficientnet_b0,
    "vit_b_16": lambda: models.VisionTransformer(32, 16, 2, 4, 64, 128, num_classes=10),
    "swin_t": lambda: models.SwinTransformer([2, 2], 16, [1, 1], [2, 2], [4, 4], num_classes=10),
    "densenet": lambda: models.DenseNet(8, (2, 2), 16),
}
FORMS = {
    "as it is": lambda net: net,
    "channels_last": lambda net: net.to(memory_format=torch.channels_last),
    "bfloat16": lambda net: net.bfloat16(),
    "half": lambda net: net.half(),
}


def run(make, device, form):
    net = module("cpu", make()).to(device)
    net = FORMS[form](net)
    x = numbers(*IMAGE).to(device, next(net.parameters()).dtype)
    return net(x.to(memory_format=torch.channels_last) if form == "channels_last" else x).cpu()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("name", VISION)
def test_model_on_a_simulated_gpu_equals_the_cpus(name, mode):
    with mode():
        wanted = run(VISION[name], "cpu", "as it is")
        with simulated():
            found = run(VISION[name], "cuda:1", "as it is")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", list(FORMS)[1:])
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_model_in_another_form_equals_the_cpus(name, form):
    with torch.inference_mode():
        wanted = run(VISION[name], "cpu", form)
        with simulated():
            found = run(VISION[name], "cuda:1", form)
    assert found.dtype == wanted.dtype
    torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)


def test_model_equals_the_cpus_whatever_the_schedule_and_in_a_graph():
    x = numbers(*IMAGE)
    with torch.inference_mode():
        wanted = run(VISION["resnet18"], "cpu", "as it is")
        with simulated(schedule=Seeded(3)), torch.cuda.device(1):
            net = module("cpu", VISION["resnet18"]()).cuda()
            place = torch.zeros(IMAGE, device="cuda")
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = net(place)
            place.copy_(x)
            graph.replay()
            torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5)


def test_detection_operators_have_no_kernel_for_meta_and_work_all_the_same():
    ops = pytest.importorskip("torchvision.ops")
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [5, 5, 9, 9]])
    scores, image = torch.tensor([0.5, 0.9, 0.3]), numbers(1, 2, 10, 10)
    wanted = ops.nms(boxes, scores, 0.5), ops.roi_align(image, [boxes], 2)
    with simulated():
        kept = ops.nms(boxes.to("cuda:1"), scores.to("cuda:1"), 0.5)
        cut = ops.roi_align(image.to("cuda:1"), [boxes.to("cuda:1")], 2)
        assert kept.device == cut.device == torch.device("cuda:1")
        assert kept.tolist() == wanted[0].tolist()
        torch.testing.assert_close(cut.cpu(), wanted[1])
