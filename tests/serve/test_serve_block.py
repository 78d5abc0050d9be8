import pytest

from kindaware._server.instances import list_instances
from kindaware._server.log import InstanceReport
from kindaware.cli.serve._block import NOT_REPORTED, assign_devices


def report(name, device):
    return InstanceReport(name, "GPU", device, 1, "", "32-true", 0.0, "off")


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (
            [{"name": "m_0", "kind": "KIND_CPU", "count": 2, "gpus": []}],
            [("m_0_0", "CPU"), ("m_0_1", "CPU")],
        ),
        (
            [{"name": "m_0", "kind": "KIND_GPU", "count": 1, "gpus": [0, 1]}],
            [("m_0_0", "GPU"), ("m_0_0", "GPU")],
        ),
        (
            [
                {"name": "m_0", "kind": "KIND_MODEL", "count": 1, "gpus": []},
                {"name": "host", "kind": "KIND_CPU", "count": 1, "gpus": []},
            ],
            [("m_0_0", "MODEL"), ("host_0", "CPU")],
        ),
        ([], []),
    ],
)
def test_list_instances_follows_the_groups(groups, expected):
    assert list_instances({"instance_group": groups}) == expected


def test_assign_devices_without_a_report_does_not_guess():
    assert assign_devices([("m", "1", "m_0_0", "GPU")], []) == [NOT_REPORTED]


def test_assign_devices_one_name_on_several_gpus_gets_each():
    rows = [("m", "1", "m_0_0", "GPU")] * 2

    assert assign_devices(rows, [report("m_0_0", "cuda:1"), report("m_0_0", "cuda:0")]) == [
        "cuda:0",
        "cuda:1",
    ]


def test_assign_devices_after_a_reload_the_last_report_counts():
    rows = [("m", "1", "m_0_0", "GPU")]

    assert assign_devices(rows, [report("m_0_0", "cpu"), report("m_0_0", "cuda:0")]) == ["cuda:0"]


def test_assign_devices_name_of_two_models_on_different_devices_is_not_told():
    rows = [("a", "1", "host_0", "CPU"), ("b", "1", "host_0", "GPU")]

    assert assign_devices(rows, [report("host_0", "cpu"), report("host_0", "cuda:0")]) == [NOT_REPORTED] * 2
    assert assign_devices(rows, [report("host_0", "cpu"), report("host_0", "cpu")]) == ["cpu", "cpu"]
    assert assign_devices(rows, [report("host_0", "cpu")]) == [NOT_REPORTED] * 2
