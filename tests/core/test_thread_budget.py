"""How many threads an instance gets, and why."""

from pathlib import Path

import pytest
import torch
from core_kit import Doubler, group, start

from kindaware import ConfigError, DevicePlacement, InstanceArgs
from kindaware._config.model_spec import InstanceGroup, instance_groups_of
from kindaware._config.settings import PLACEMENT_SETTINGS
from kindaware._device.placed_instance import PlacedInstance
from kindaware._placement import threads as threads_module
from kindaware._placement.placement import Placement
from kindaware._placement.threads import ThreadBudget, count_cores
from kindaware._placement.versions import count_versions

CPU = Placement("CPU", (torch.device("cpu"),), moves_modules=True, reason="")
GPU = Placement("GPU", (torch.device("cuda", 0),), moves_modules=True, reason="")


@pytest.fixture
def budget_of(args):
    """What an instance of a model with these groups gets on eight cores."""

    def budget(
        *groups,
        instance="m_0_0",
        placement=CPU,
        num_threads=None,
        num_cores=8,
        num_versions=1,
        **environment,
    ):
        config = {"name": "m", "instance_group": list(groups)}
        return ThreadBudget.of_instance(
            InstanceArgs.from_dict(args(config, instance=instance)),
            instance_groups_of(config),
            placement,
            num_threads=num_threads,
            num_cores=num_cores,
            num_versions=num_versions,
            environment=environment,
        )

    return budget


def test_of_instance_setting_wins_over_everything(budget_of):
    budget = budget_of(group(count=4), num_threads=3, OMP_NUM_THREADS="5", KINDAWARE_CPU_SHARE="0.1")
    assert budget == ThreadBudget(3, "setting num_threads")


@pytest.mark.parametrize("text", ["5", " 5 ", "5,2"])
def test_of_instance_omp_num_threads_is_honoured(budget_of, text):
    assert budget_of(group(count=4), OMP_NUM_THREADS=text) == ThreadBudget(5, "OMP_NUM_THREADS")
    assert budget_of(placement=GPU, OMP_NUM_THREADS=text).num_threads == 5


@pytest.mark.parametrize("text", ["", "0", "-3", "many", "²", "99999", "9" * 5000])
def test_of_instance_omp_num_threads_no_number_is_ignored(budget_of, text):
    assert budget_of(group(), OMP_NUM_THREADS=text) == ThreadBudget(
        8, "8 cores / 1 CPU instance", is_limit=True
    )


def test_of_instance_versions_share_the_cores(budget_of):
    assert budget_of(group(count=2), num_versions=2) == ThreadBudget(
        2, "8 cores / 2 CPU instances / 2 versions", is_limit=True
    )
    assert budget_of(group(), num_versions=20).num_threads == 1
    assert budget_of(placement=GPU, num_versions=2).num_threads == 4
    assert budget_of(group(), num_versions=2, num_threads=7).num_threads == 7


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (None, 1),
        ({}, 1),
        ({"latest": {}}, 1),
        ({"latest": {"num_versions": 2}}, 2),
        ({"latest": {"num_versions": 9}}, 3),
        ({"all": {}}, 3),
        ({"specific": {"versions": [1, 10]}}, 2),
        ({"specific": {"versions": ["1", "7"]}}, 1),
        ({"specific": {"versions": ["8"]}}, 1),
    ],
)
def test_count_versions_follows_the_policy(tmp_path, policy, expected):
    for name in ("1", "2", "10", "010", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "3").write_text("no directory")
    assert count_versions(str(tmp_path), {} if policy is None else {"version_policy": policy}) == expected


def test_count_versions_without_a_directory_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
    assert count_versions("", {"version_policy": {"all": {}}}) == 1
    for name in ("/nowhere", "\ud800", "a\0b"):  # the last two are names that no folder can have
        assert count_versions(name, {"version_policy": {"all": {}}}) == 1


def test_instance_of_a_model_with_two_versions_gets_half_the_cores(tmp_path, args, monkeypatch):
    monkeypatch.setattr("kindaware._device.placed_instance.count_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
    config = {"name": "m", "instance_group": [group()], "version_policy": {"all": {}}}
    given = {**args(config, instance="m_0_0"), "model_repository": str(tmp_path)}
    before = torch.get_num_threads()
    try:
        assert PlacedInstance(DevicePlacement, given, PLACEMENT_SETTINGS).thread_budget == ThreadBudget(
            4, "8 cores / 1 CPU instance / 2 versions", is_limit=True
        )
    finally:
        torch.set_num_threads(before)


def test_of_instance_kind_model_on_the_cpu_shares_the_cores(args, budget_of):
    groups = [group(count=1), group("m_1", "KIND_MODEL", count=3)]
    for instance, kind in (("m_0_0", "CPU"), ("m_1_0", "MODEL")):
        given = args(kind=kind, instance=instance)
        placement = Placement.from_args(given, num_devices=0, model_devices="cpu")
        assert budget_of(*groups, instance=instance, placement=placement).num_threads == 2
    placement = Placement.from_args(args(), num_devices=0, model_devices="all")
    assert budget_of(*groups, placement=placement).num_threads == 8


def test_of_instance_share_loses_no_core_to_floating_point(budget_of):
    assert budget_of(group(), num_cores=100, KINDAWARE_CPU_SHARE="0.29").num_threads == 29


def test_of_instance_share_divides_the_host(budget_of):
    budget = budget_of(group(count=2), KINDAWARE_CPU_SHARE="0.5")
    assert budget == ThreadBudget(2, "0.5 of 8 cores / 2 CPU instances", is_limit=True)


@pytest.mark.parametrize("text", ["0", "-0.5", "1.1", "nan", "inf", "half", ""])
def test_of_instance_bad_share_raises(budget_of, text):
    with pytest.raises(ConfigError, match="KINDAWARE_CPU_SHARE: expected a number above 0 and at most 1"):
        budget_of(group(), KINDAWARE_CPU_SHARE=text)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], 8),
        ([group(count=2)], 4),
        ([group(count=3)], 2),
        ([group(count=9)], 1),
        ([group(count=1), group("m_1", count=3)], 2),
        ([group(count=2), group("m_1", "KIND_GPU", count=4, gpus=[0])], 4),
        ([group(count=2, host_policy="a"), group("m_1", count=6, host_policy="b")], 4),
        ([group(count=2, host_policy="a"), group("m_1", count=6, host_policy="a")], 1),
    ],
)
def test_of_instance_cores_are_divided_among_cpu_instances_on_them(budget_of, groups, expected):
    assert budget_of(*groups).num_threads == expected


def test_of_instance_group_named_by_the_user_is_found(budget_of):
    groups = [group("left", count=2, host_policy="a"), group("right", count=4, host_policy="b")]
    assert budget_of(*groups, instance="left_1").num_threads == 4
    assert budget_of(*groups, instance="right_3").num_threads == 2


def test_of_instance_gpu_group_that_fell_back_to_cpu_counts_over_all_its_gpus(budget_of):
    assert budget_of(group(kind="KIND_GPU", count=2, gpus=[0, 1])).num_threads == 2


@pytest.mark.parametrize(("num_cores", "expected"), [(1, 1), (3, 3), (4, 4), (64, 4)])
def test_of_instance_gpu_is_capped(budget_of, num_cores, expected):
    budget = budget_of(group(kind="KIND_GPU", gpus=[0]), placement=GPU, num_cores=num_cores)
    assert budget.num_threads == expected
    assert budget.reason.endswith("at most 4 for a GPU instance")


def test_from_config_group_without_count_is_one_instance():
    assert InstanceGroup.from_config({"name": "m", "kind": "KIND_CPU"}, "g").num_instances == 1


@pytest.mark.parametrize(
    ("entry", "num_instances"), [({"count": 0}, 1), ({"count": 0, "gpus": [0, 1]}, 2), ({"count": 3}, 3)]
)
def test_from_config_group_has_an_instance_at_least_on_each_gpu(entry, num_instances):
    assert InstanceGroup.from_config({"name": "m", **entry}, "g").num_instances == num_instances


@pytest.mark.parametrize(
    ("count", "setting", "is_limit"), [(4, None, True), (4, "share", False), (8, None, False), (4, 2, False)]
)
def test_of_instance_fewer_threads_may_do_where_auto_gives_several(budget_of, count, setting, is_limit):
    assert budget_of(group(count=count), num_threads=setting).is_limit == is_limit


def test_of_instance_on_a_gpu_no_fewer_threads_are_tried(budget_of):
    assert not budget_of(group(kind="KIND_GPU", gpus=[0]), placement=GPU).is_limit


def test_initialize_gives_torch_its_threads_and_logs_the_reason(caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        model = start(parameters={"kindaware.num_threads": "1"})
    assert torch.get_num_threads() == model.thread_budget.num_threads == 1
    assert "threads 1 (setting num_threads)" in caplog.text


@pytest.fixture
def cgroups(monkeypatch, tmp_path):
    """Write a tree of cgroup files; count the cores of a process of sixteen in it."""
    monkeypatch.setattr(threads_module.os, "sched_getaffinity", lambda _: set(range(16)))

    def count(own, **files):
        for name, text in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "own").write_text(own)
        return count_cores(tmp_path / "root", tmp_path / "own")

    return count


V1 = "12:pids:/x\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "what is this\n"}, 16),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/b/cpu.max": "400000 100000"}, 4),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "800000 100000"}, 3),
        ("0::/a\n", {"b/cpu.max": "100000 100000"}, 16),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        (
            V1,
            {
                "cpu/docker/abc/cpu.cfs_quota_us": "300000\n",
                "cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (V1, {"cpu/docker/cpu.cfs_quota_us": "50000\n", "cpu/docker/cpu.cfs_period_us": "50000\n"}, 1),
        (V1, {"cpu/x/cpu.cfs_quota_us": "100000", "cpu/x/cpu.cfs_period_us": "100000"}, 16),
    ],
)
def test_count_cores_smallest_quota_of_own_cgroups_counts(cgroups, own, files, expected):
    assert cgroups(own, **files) == expected


def test_count_cores_no_cgroups_counts_affinity(monkeypatch, tmp_path):
    monkeypatch.setattr(threads_module.os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert count_cores(tmp_path / "none", tmp_path / "neither") == 3


def test_count_cores_affinity_below_quota_counts(monkeypatch, cgroups):
    monkeypatch.setattr(threads_module.os, "sched_getaffinity", lambda _: {0})
    assert cgroups("0::/\n", **{"cpu.max": "400000 100000"}) == 1


def test_threads_that_load_changes_are_set_back_and_the_log_says_so(caplog):
    class Changes(Doubler):
        num_threads = 2

        def load(self):
            torch.set_num_threads(1)  # as `import silero_vad` does

    start(Changes)
    assert torch.get_num_threads() == 2
    [text] = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert text.startswith(
        "model 'm' load: expected torch.get_num_threads() left at 2, got 1, and set it back; "
    )


def test_threads_that_load_leaves_alone_are_not_mentioned(caplog):
    start(Doubler)
    assert [one for one in caplog.records if one.levelname == "WARNING"] == []


def test_version_directory_is_that_of_model_py(args):
    given = {**args(), "model_repository": "/models/net", "model_version": "3"}
    assert InstanceArgs.from_dict(given).version_directory == Path("/models/net/3")


def test_version_directory_without_a_repository_says_what_to_pass(args):
    given = {name: text for name, text in args().items() if name != "model_repository"}
    with pytest.raises(
        ConfigError, match=r"args\['model_repository'\]: expected .*, got no such entry; pass"
    ):
        _ = InstanceArgs.from_dict(given).version_directory
