"""The environment of a replica's server."""

import pytest

from kindaware.ray._environment import read_start_environment, server_environment


def changes(environment, *, started_with=None, cpus=1.0, gpus=(), num_cores=4):
    return server_environment(
        environment, started_with=started_with or {}, cpus=cpus, gpus=gpus, num_cores=num_cores
    )


@pytest.mark.parametrize(
    ("cpus", "share"), [(1.0, "0.25"), (0.5, "0.125"), (4.0, "1"), (64.0, "1"), (0.0, None)]
)
def test_instances_divide_the_cores_that_ray_has_assigned(cpus, share):
    assert changes({}, cpus=cpus).get("KINDAWARE_CPU_SHARE") == share


def test_share_of_the_operator_stays():
    assert "KINDAWARE_CPU_SHARE" not in changes({"KINDAWARE_CPU_SHARE": "0.1"})


def test_number_of_threads_that_ray_has_set_is_removed():
    assert changes({"OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] is None


def test_number_of_threads_of_the_operator_stays():
    assert "OMP_NUM_THREADS" not in changes({"OMP_NUM_THREADS": "2"}, started_with={"OMP_NUM_THREADS": "2"})


@pytest.mark.parametrize(("gpus", "visible"), [((), ""), (("2",), "2"), (("0", "3"), "0,3")])
def test_server_sees_the_gpus_of_the_replica_and_no_others(gpus, visible):
    assert changes({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, gpus=gpus)["CUDA_VISIBLE_DEVICES"] == visible


def test_start_environment_has_nothing_that_was_set_since(monkeypatch):
    monkeypatch.setenv("KINDAWARE_SET_SINCE", "1")
    found = read_start_environment()
    assert "KINDAWARE_SET_SINCE" not in found
    assert "PATH" in found
