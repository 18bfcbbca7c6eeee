"""CPU of a process, from the kernel's own accounting."""

import os
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """User and system seconds so far."""

    user: float
    system: float

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.user - earlier.user, self.system - earlier.system)

    @property
    def total(self) -> float:
        """User and system together, in seconds."""
        return self.user + self.system


def cpu_of(pid: int) -> Cpu:
    """All threads of one process; ticks of 10 ms, so measure windows of seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return Cpu(int(fields[11]) / TICK, int(fields[12]) / TICK)


def resident_mib(pid: int) -> float:
    """Resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
