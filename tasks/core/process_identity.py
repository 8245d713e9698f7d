"""Identifies a process across machines, and determines whether a process of this machine has ended.

A process id is unique only within one boot and one PID namespace (two containers with the same host name may
both have a process 7), and only together with the process's start time, since ids are reused. Whether a
process of another machine is running cannot be determined here.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19
"""Positions of the fields in /proc/PID/stat after the command's closing bracket: fields 3 and 22 in
proc_pid_stat(5)."""
_ENDED_STATES = {"Z", "X"}


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process.

    Attributes:
        host: Host name of its machine.
        space: Boot id and PID namespace that the process id belongs to; empty on systems without /proc.
        pid: Its process id.
        started: Its start time in clock ticks since boot; empty on systems without /proc.
    """

    host: str
    space: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Self:
        """The current process."""
        started = _status(os.getpid())[1]
        return cls(host=socket.gethostname(), space=_space(), pid=os.getpid(), started=started)

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the same machine, boot and PID namespace as the current process."""
        return (self.host, self.space) == (socket.gethostname(), _space())

    @property
    def has_ended(self) -> bool:
        """Whether it ran on this machine and has ended; False for a process of another machine."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            # It exists and belongs to another user.
            pass
        state, started = _status(self.pid)
        return state in _ENDED_STATES or bool(started and self.started and started != self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _space() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _status(pid: int) -> tuple[str, str]:
    """State and start time of a process; both empty if /proc has no entry for it."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return "", ""
    # The command precedes these fields in brackets, and may itself contain brackets and spaces.
    fields = stat.rpartition(")")[2].split()
    return fields[_STATE], fields[_STARTED]
