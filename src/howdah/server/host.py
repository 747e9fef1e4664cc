"""Facts of the machine: memory and its limits, processes and files, cores, disks."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

__all__ = ["Disk", "Host", "Memory", "PrivateMemory", "disk_of", "host", "memory", "private_memory"]

_CGROUPS = Path("/sys/fs/cgroup")
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of this machine, in bytes.

    Attributes:
        total_bytes: RAM.
        available_bytes: What could be handed out without swapping (MemAvailable).
        cgroup_limit_bytes: The least limit of the control groups above the
            process; None without one.
        swap_bytes: Swap in all.
        huge_page_bytes: RAM set aside as huge pages, which no process but one
            that asks for them can use.
    """

    total_bytes: int
    available_bytes: int
    cgroup_limit_bytes: int | None
    swap_bytes: int
    huge_page_bytes: int

    @property
    def limit_bytes(self) -> int:
        """What can be used at most: RAM, or the control group's limit where that is less."""
        return min(self.total_bytes, self.cgroup_limit_bytes or self.total_bytes)


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that a server runs on.

    Attributes:
        memory: See `Memory`.
        cores: CPUs that the process may use.
        processes_limit: How many processes the server's OS user or control
            group may have; None without a limit.
        open_files_limit: How many files one process may hold open; None without a limit.
        open_files_system: fs.file-max; None where unknown.
        overcommit: vm.overcommit_memory: 2 refuses memory beyond RAM and swap
            instead of killing; None where unknown.
    """

    memory: Memory
    cores: int
    processes_limit: int | None
    open_files_limit: int | None
    open_files_system: int | None
    overcommit: int | None


@dataclass(frozen=True, slots=True)
class Disk:
    """The file system that holds a folder.

    Attributes:
        mount: Where it is mounted.
        total_bytes: Its size.
        free_bytes: What an ordinary user may still write.
        rotational: Whether it is a spinning disk; None where unknown.
    """

    mount: Path
    total_bytes: int
    free_bytes: int
    rotational: bool | None


@dataclass(frozen=True, slots=True)
class PrivateMemory:
    """What one process has for itself, in bytes.

    Attributes:
        private_bytes: Private_Clean and Private_Dirty of smaps_rollup, without
            the shared buffers that RSS counts again and again.
        page_table_bytes: VmPTE of status.
        rss_bytes: What `top` shows, shared pages and all.
    """

    private_bytes: int
    page_table_bytes: int
    rss_bytes: int

    @property
    def total_bytes(self) -> int:
        """Private memory and page tables."""
        return self.private_bytes + self.page_table_bytes


def host(pid: int | None = None) -> Host:
    """Return the facts of this machine.

    Args:
        pid: The process whose limits count, a postmaster's; None for our own.
    """
    pid = pid or os.getpid()
    return Host(
        memory=memory(pid),
        cores=_cores(),
        processes_limit=_least(_limit(pid, "Max processes"), _cgroup_value(pid, "pids.max")),
        open_files_limit=_limit(pid, "Max open files"),
        open_files_system=_sysctl("fs/file-max"),
        overcommit=_sysctl("vm/overcommit_memory"),
    )


def memory(pid: int | None = None) -> Memory:
    """Return the memory of this machine, with the limits of a process's control groups."""
    pid = pid or os.getpid()
    found = psutil.virtual_memory()
    return Memory(
        total_bytes=int(found.total),
        available_bytes=int(found.available),
        cgroup_limit_bytes=_memory_limit(pid, int(found.total)),
        swap_bytes=int(psutil.swap_memory().total),
        huge_page_bytes=_huge_pages(),
    )


def private_memory(pid: int) -> PrivateMemory | None:
    """Return the private memory of a process; None where it is gone, hidden, or not on Linux."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    rows, facts = _fields(rollup), _fields(status)
    private = rows.get("Private_Clean", 0) + rows.get("Private_Dirty", 0)
    return PrivateMemory(private, facts.get("VmPTE", 0), facts.get("VmRSS", 0))


def disk_of(folder: Path) -> Disk:
    """Return the file system that holds a folder."""
    mount = next(place for place in (folder, *folder.parents) if place.is_mount())
    usage = psutil.disk_usage(str(folder))
    return Disk(mount, int(usage.total), int(usage.free), _is_rotational(folder))


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _fields(text: str) -> dict[str, int]:
    """Read lines such as "VmPTE:  64 kB" into bytes."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":  # noqa: PLR2004 - name, number, unit
            found[words[0].rstrip(":")] = int(words[1]) * _KIB
    return found


def _huge_pages() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    values = {line.split(":")[0]: line.split()[1] for line in lines}
    return int(values.get("HugePages_Total", 0)) * int(values.get("Hugepagesize", 0)) * _KIB


def _memory_limit(pid: int, total: int) -> int | None:
    limits = [_cgroup_value(pid, "memory.max"), _cgroup_value(pid, "memory.limit_in_bytes")]
    # Version 1 writes "none" as a number near 2**63.
    found = [limit for limit in limits if limit is not None and limit < total]
    return min(found, default=None)


def _cgroup_value(pid: int, name: str) -> int | None:
    """Return the least value of a file in the control groups above a process."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    values: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = _CGROUPS / controllers if controllers else _CGROUPS
        folder = root / path.lstrip("/")
        # Inside a container the path may be the host's: then the root is ours.
        for place in {root, *(p for p in (folder, *folder.parents) if p.is_relative_to(root))}:
            value = _number(place / name)
            if value is not None:
                values.append(value)
    return min(values, default=None)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _sysctl(name: str) -> int | None:
    return _number(Path("/proc/sys") / name)


def _limit(pid: int, name: str) -> int | None:
    """Return a soft limit of a process from /proc/PID/limits; None for "unlimited"."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return _own_limit(name)
    for line in text.splitlines():
        if line.startswith(name):
            soft = line[len(name) :].split()[0]
            return int(soft) if soft.isdecimal() else None
    return None


def _own_limit(name: str) -> int | None:
    which = resource.RLIMIT_NOFILE if "files" in name else resource.RLIMIT_NPROC
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _is_rotational(folder: Path) -> bool | None:
    try:
        device = folder.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        block = (Path("/sys/dev/block") / number).resolve(strict=True)
    except OSError:
        return None
    for place in (block, block.parent):  # a partition's disk is its parent
        value = _number(place / "queue" / "rotational")
        if value is not None:
            return bool(value)
    return None
