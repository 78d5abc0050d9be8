"""From kind, device id and settings to devices."""

import os

import pytest
import torch
from core_kit import group, make_config

from kindaware import ConfigError, Placement
from kindaware._config.args import KINDS
from kindaware._placement import placement as placement_module


def cuda(*ordinals):
    return tuple(torch.device("cuda", ordinal) for ordinal in ordinals)


CPU = (torch.device("cpu"),)


@pytest.mark.parametrize("device_id", [0, 1, 7])
def test_from_args_gpu_takes_device_id(args, device_id):
    placement = Placement.from_args(args(kind="GPU", device_id=device_id), num_devices=8)
    assert placement.devices == cuda(device_id)
    assert placement.device == torch.device("cuda", device_id)
    assert (placement.kind, placement.uses_cuda, placement.moves_modules) == ("GPU", True, True)
    assert placement.reason == f"KIND_GPU {device_id}"


@pytest.mark.parametrize("num_devices", [0, 4])
def test_from_args_cpu_stays_on_cpu_whatever_is_visible(args, num_devices):
    placement = Placement.from_args(args(kind="CPU", device_id=0), num_devices=num_devices)
    assert (placement.devices, placement.uses_cuda, placement.moves_modules) == (CPU, False, True)


@pytest.mark.parametrize(
    ("policy", "devices", "moves"),
    [
        ("all", cuda(0, 1, 2), False),
        ("cuda:1", cuda(1), True),
        ("cuda:2, cuda:0", cuda(2, 0), False),
        ("round_robin", cuda(1), True),
        ("cpu", CPU, True),
    ],
)
def test_from_args_model_follows_policy(args, policy, devices, moves):
    instance = args(kind="MODEL", instance="m_0_4", parameters={"kindaware.model_devices": policy})
    placement = Placement.from_args(instance, num_devices=3)
    assert (placement.devices, placement.moves_modules) == (devices, moves)


def test_from_args_all_with_one_gpu_still_leaves_the_model_to_place_itself(args):
    placement = Placement.from_args(args(kind="MODEL"), num_devices=1, model_devices="all")
    assert (placement.devices, placement.moves_modules) == (cuda(0), False)


def test_from_args_model_without_policy_names_the_choices(args):
    with pytest.raises(ConfigError, match=r"model_devices to say which devices.*'all', 'round_robin', 'cpu'"):
        Placement.from_args(args(kind="MODEL"), num_devices=2)


@pytest.mark.parametrize("ordinal", range(5))
def test_from_args_round_robin_spreads_by_last_number_of_name(args, ordinal):
    instance = args(kind="MODEL", instance=f"m_7_{ordinal}")
    placement = Placement.from_args(instance, num_devices=2, model_devices="round_robin")
    assert placement.devices == cuda(ordinal % 2)


@pytest.mark.parametrize("name", ["m", "m_x", "m_" + "9" * 5000])
def test_from_args_round_robin_without_number_raises(args, name):
    with pytest.raises(ConfigError, match=r"model_instance_name.*a name that ends in the instance's number"):
        Placement.from_args(args(kind="MODEL", instance=name), num_devices=2, model_devices="round_robin")


@pytest.mark.parametrize(
    ("kind", "device_id", "policy"),
    [("GPU", 2, None), ("MODEL", 0, "cuda:0,cuda:2"), ("MODEL", 0, "cuda:2")],
)
def test_from_args_missing_gpu_raises_with_all_that_decides(args, monkeypatch, kind, device_id, policy):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc,7")
    with pytest.raises(ConfigError) as caught:
        Placement.from_args(args(kind=kind, device_id=device_id), num_devices=2, model_devices=policy)
    text = str(caught.value)
    for part in (
        f"instance 'm_0_0' of KIND_{kind}: expected GPU 2 to be visible to torch, got 2 visible devices",
        "CUDA_VISIBLE_DEVICES 'GPU-abc,7'",
        f"torch.version.cuda {torch.version.cuda}",
        "driver ",
        "kindaware.on_missing_gpu to 'cpu'",
    ):
        assert part in text


def test_from_args_all_without_any_gpu_raises(args):
    with pytest.raises(ConfigError, match="GPU 0 to be visible to torch, got 0 visible devices"):
        Placement.from_args(args(kind="MODEL"), num_devices=0, model_devices="all")


def test_describe_cuda_variable_not_set_says_so(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "CUDA_VISIBLE_DEVICES not set, " in placement_module.describe_cuda()


def test_describe_cuda_reads_driver_version(monkeypatch, tmp_path):
    version = tmp_path / "version"
    version.write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC version: 12.2"
    )
    monkeypatch.setattr(placement_module, "Path", lambda _: version)
    assert placement_module.describe_cuda().endswith("driver 550.54.15")


@pytest.mark.parametrize(("kind", "policy"), [("GPU", None), ("MODEL", "all"), ("MODEL", "cuda:0,cuda:9")])
def test_from_args_on_missing_gpu_cpu_falls_back_and_says_why(args, kind, policy):
    instance = args(kind=kind, parameters={"kindaware.on_missing_gpu": "cpu"})
    placement = Placement.from_args(instance, num_devices=0, model_devices=policy)
    assert (placement.devices, placement.moves_modules) == (CPU, True)
    assert "on_missing_gpu=cpu: " in placement.reason
    assert "asked for cuda:0, 0 visible" in placement.reason


def test_from_args_on_missing_gpu_cpu_keeps_a_gpu_that_is_there(args):
    placement = Placement.from_args(args(kind="GPU", device_id=1), num_devices=2, on_missing_gpu="cpu")
    assert placement.devices == cuda(1)


def test_from_args_parameter_wins_over_argument(args):
    instance = args(kind="MODEL", parameters={"kindaware.model_devices": "cuda:1"})
    assert Placement.from_args(instance, num_devices=2, model_devices="all").devices == cuda(1)


def test_from_args_without_config_or_name_is_enough():
    bare = {"model_instance_kind": "GPU", "model_instance_device_id": "1"}
    assert Placement.from_args(bare, num_devices=2).devices == cuda(1)


@pytest.mark.parametrize("kind", ["KIND_GPU", "KIND_CPU", "KIND_MODEL"])
def test_from_args_config_spelling_raises_with_the_right_one(args, kind):
    with pytest.raises(
        ConfigError, match=f"got '{kind}'; pass '{kind.removeprefix('KIND_')}', as Triton does"
    ):
        Placement.from_args(args(kind=kind), num_devices=2)


def test_kind_that_nobody_places_is_not_taken_for_another(args, monkeypatch):
    monkeypatch.setattr("kindaware._config.args.KINDS", (*KINDS, "NPU"))
    with pytest.raises(NotImplementedError, match="got 'NPU'; add it here"):
        Placement.from_args(args(kind="NPU"), num_devices=2, model_devices="all")


@pytest.mark.parametrize("kind", ["", "AUTO", "KIND_AUTO", "gpu", "TPU"])
def test_from_args_unknown_kind_raises(args, kind):
    with pytest.raises(ConfigError, match=r"expected 'CPU', 'GPU' or 'MODEL', got .*the server chose"):
        Placement.from_args(args(kind=kind), num_devices=2)


@pytest.mark.parametrize("device_id", ["", "-1", "one", "0x1", "1.0", "²", "٣", "1" * 7, " 1"])
def test_from_args_device_id_no_ordinal_raises(args, device_id):
    with pytest.raises(ConfigError, match=r"model_instance_device_id.*expected a device ordinal as text"):
        Placement.from_args(args(kind="GPU", device_id=device_id), num_devices=2)


@pytest.mark.parametrize("broken", [None, [], "args", {"model_instance_kind": "CPU"}])
def test_from_args_no_dict_or_key_missing_raises(broken):
    with pytest.raises(ConfigError, match=r"^args: expected "):
        Placement.from_args(broken, num_devices=1)


def test_from_args_instance_name_no_text_raises(args):
    with pytest.raises(ConfigError, match=r"model_instance_name'.*expected text"):
        Placement.from_args({**args(kind="GPU"), "model_instance_name": None}, num_devices=1)


def test_from_args_several_groups_each_get_their_own(args):
    config = make_config(
        instance_group=[
            group("m_0"),
            group("m_1", "KIND_GPU", gpus=[0, 1]),
            group("m_2", "KIND_GPU", gpus=[1]),
        ]
    )
    instances = [("m_0_0", "CPU", 0), ("m_1_0", "GPU", 0), ("m_1_0", "GPU", 1), ("m_2_0", "GPU", 1)]
    placements = [
        Placement.from_args(args(config, kind=kind, device_id=device_id, instance=name), num_devices=2)
        for name, kind, device_id in instances
    ]
    assert [one.devices for one in placements] == [CPU, cuda(0), cuda(1), cuda(1)]


@pytest.mark.parametrize(
    "groups",
    [[group("m")], [group("m_0", count=2)], []],
    ids=["omitted, as the server fills it in", "count: 2, as the server fills it in", "not filled in"],
)
def test_from_args_group_without_kind_works(args, groups):
    instance = args(make_config(instance_group=groups), instance="m_0")
    assert Placement.from_args(instance, num_devices=0).devices == CPU


def test_from_args_never_calls_torch_cuda(args, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a call of torch.cuda")

    for name in dir(torch.cuda):
        if callable(getattr(torch.cuda, name)) and not isinstance(getattr(torch.cuda, name), type):
            monkeypatch.setattr(torch.cuda, name, refuse)
    for kind, policy in [("CPU", None), ("GPU", None), ("MODEL", "all"), ("MODEL", "cuda:1")]:
        Placement.from_args(args(kind=kind), num_devices=2, model_devices=policy)
    with pytest.raises(ConfigError, match="GPU 0 to be visible"):
        Placement.from_args(args(kind="GPU"), num_devices=0)


def test_from_args_never_reads_cuda_visible_devices_to_decide(args, monkeypatch):
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "5")
    assert Placement.from_args(args(kind="GPU", device_id=0), num_devices=1).devices == cuda(0)
