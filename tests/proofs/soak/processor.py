"""How much of a processor another process uses."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the user and system time of a process, and its age; NaN where there is no /proc or no such process."""
    try:
        # The process's name stands in brackets before these fields, and may have any character. Source: proc_pid_stat(5).
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return float("nan"), float("nan")
    user, system, started = (int(fields[number]) / _TICKS_A_SECOND for number in (11, 12, 19))
    return user + system, time.clock_gettime(time.CLOCK_BOOTTIME) - started


@dataclass
class Shares:
    """Keeps how much processor time each process had used at the last call of `take`."""

    _before: dict[int, tuple[float, float]] = field(default_factory=dict)

    def take(self, pid: int) -> float:
        """Return the share of one core that the process used since the last call for it, or since its start."""
        used, age = cpu_seconds(pid)
        used_before, age_before = self._before.get(pid, (0.0, 0.0))
        self._before[pid] = (used, age)
        return (used - used_before) / (age - age_before) if age > age_before else float("nan")
