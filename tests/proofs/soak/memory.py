"""How much memory another process uses."""

from pathlib import Path

_KIB = 1024


def resident_mib(pid: int) -> float:
    """Return the resident set of a process in MiB, NaN where there is no /proc or no such process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return float("nan")
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(sizes[0]) / _KIB if sizes else float("nan")
