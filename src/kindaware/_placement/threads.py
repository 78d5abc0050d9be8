"""The number of CPU threads of an instance, chosen so that the instances on a host don't oversubscribe it."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kindaware._config.args import InstanceArgs
from kindaware._config.model_spec import InstanceGroup
from kindaware._config.settings import MAX_THREADS
from kindaware._errors import ConfigError
from kindaware._placement.placement import Placement

SHARE_VARIABLE = "KINDAWARE_CPU_SHARE"
MAX_GPU_THREADS = 4
"""Maximum for a GPU instance: it computes on its GPU, and more would take cores from CPU instances."""


@dataclass(frozen=True, slots=True)
class ThreadBudget:
    """The argument of `torch.set_num_threads`, and where it comes from.

    Attributes:
        num_threads: torch's intra-op threads on the CPU.
        reason: how the number was determined, for the log.
        is_limit: whether fewer threads may do, which only forwards can tell.
    """

    num_threads: int
    reason: str
    is_limit: bool = False

    @classmethod
    def of_instance(
        cls,
        args: InstanceArgs,
        groups: Sequence[InstanceGroup],
        placement: Placement,
        *,
        num_threads: int | str | None,
        num_cores: int,
        num_versions: int = 1,
        environment: Mapping[str, str],
    ) -> ThreadBudget:
        """Divide the cores of this process among the instances that share them.

        Args:
            args: the args of the instance.
            groups: the model's instance groups; those on the CPU with the same host policy share the cores.
            placement: the placement of the instance.
            num_threads: the setting of that name: a number, `share`, or None for `auto`.
            num_cores: number of cores that this process may use; see `count_cores`.
            num_versions: versions of the model that are loaded beside each other, each with these groups.
            environment: read for OMP_NUM_THREADS and KINDAWARE_CPU_SHARE.

        Raises:
            ConfigError: KINDAWARE_CPU_SHARE is not a number above 0 and at most 1.
        """
        # In order of precedence: the setting, the operator's OMP_NUM_THREADS, an equal share of the cores.
        if isinstance(num_threads, int):
            return cls(num_threads, "setting num_threads")
        # OpenMP allows a list with a number per nesting level; the first is the outermost.
        omp = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
        if omp.isascii() and omp.isdigit() and len(omp) <= 5 and 0 < int(omp) <= MAX_THREADS:
            return cls(int(omp), "OMP_NUM_THREADS")
        share = _share(environment)
        cores = num_cores * share
        of_cores = f"{num_cores} core{'s' if num_cores > 1 else ''}"
        if share < 1:
            of_cores = f"{share:g} of {of_cores}"
        if placement.uses_cuda:
            return cls(
                max(1, min(MAX_GPU_THREADS, _whole(cores))), f"{of_cores}, at most 4 for a GPU instance"
            )
        kinds = [f"KIND_{kind}" for kind in placement.host_kinds]
        sharers = _count_sharers(args.instance_name, groups, kinds)
        reason = f"{of_cores} / {sharers} CPU instance{'s' if sharers > 1 else ''}"
        if num_versions > 1:
            reason += f" / {num_versions} versions"
        part = max(1, _whole(cores / sharers / num_versions))
        return cls(part, reason, is_limit=num_threads is None and part > 1)


def _whole(cores: float) -> int:
    """Round down, forgiving floating-point error: 0.29 of 100 cores are 29, not 28."""
    return math.floor(cores + 1e-9)


def _count_sharers(instance_name: str, groups: Sequence[InstanceGroup], kinds: Collection[str]) -> int:
    """Count the CPU instances of this model that share this instance's cores.

    The server passes a host policy's cores to the stub as its affinity, so groups with another policy don't
    count. The instance's own group is the one whose name is the prefix of the instance's name.
    """
    own_name = instance_name.rpartition("_")[0]
    # Unknown when a unit test passes another name; then groups of every policy count.
    policies = [group.host_policy for group in groups if group.name == own_name]
    sharing = [
        group.num_instances
        for group in groups
        if (group.kind in kinds or group.name == own_name)
        and (not policies or group.host_policy == policies[0])
    ]
    return max(1, sum(sharing))


def _share(environment: Mapping[str, str]) -> float:
    text = environment.get(SHARE_VARIABLE, "1")
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise ConfigError.of(
            f"environment variable {SHARE_VARIABLE}",
            expected="a number above 0 and at most 1",
            got=repr(text),
            remedy="set it to this server's share of the host's cores, or unset it",
        )
    return share


def count_cores(
    cgroup_root: Path = Path("/sys/fs/cgroup"), own_cgroup: Path = Path("/proc/self/cgroup")
) -> int:
    """Count the cores that this process may use: its affinity, limited by its cgroups' quota (v1 and v2)."""
    cores = len(os.sched_getaffinity(0))
    quota = min(_quotas(cgroup_root, own_cgroup), default=math.inf)
    return max(1, min(cores, math.ceil(quota) if math.isfinite(quota) else cores))


def _quotas(cgroup_root: Path, own_cgroup: Path) -> list[float]:
    """Return the quotas, in cores, of the process's cgroup and its ancestors, each of which may limit it."""
    # In a container the root of the mounted tree is the process's own cgroup, whatever its path says.
    paths = [cgroup_root, cgroup_root / "cpu"]
    if own_cgroup.exists():
        for line in own_cgroup.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            # The line without controllers is v2's; v1 has a line per hierarchy.
            if controllers == "" or "cpu" in controllers.split(","):
                root = cgroup_root if controllers == "" else cgroup_root / "cpu"
                own = root / path.lstrip("/")
                paths += [own, *(parent for parent in own.parents if parent.is_relative_to(root))]
    return [quota for path in paths if (quota := _quota(path)) is not None]


def _quota(path: Path) -> float | None:
    """Return a cgroup's quota in cores; None if it has none, which v2 writes as `max` and v1 as -1."""
    try:
        if (path / "cpu.max").exists():
            quota, period = (path / "cpu.max").read_text().split()
        else:
            quota = (path / "cpu.cfs_quota_us").read_text().strip()
            period = (path / "cpu.cfs_period_us").read_text().strip()
        return float(quota) / float(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
