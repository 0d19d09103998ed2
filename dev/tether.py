"""Run a command that the kernel ends together with its parent: `tether.py PARENT_PID COMMAND ...`.

The command replaces this program (exec) and keeps its process id. On Linux the kernel then sends SIGKILL when
the parent dies (`PR_SET_PDEATHSIG`); on other systems the command just runs. This is a program and not a
`preexec_fn`, because that runs Python after a fork, which is unsafe once threads are running.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the call above
            sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
