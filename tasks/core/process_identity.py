"""Identifies a process among all others, and finds out whether it is still running.

A process number means something only on its machine, in its boot and its process namespace (two containers
of one host name may both have a process 7), and only together with the time it started, since numbers are
used again. Of a process elsewhere nothing is known; what it does has to be watched.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19
"""Places in /proc/PID/stat after the command's closing bracket (proc_pid_stat(5), fields 3 and 22)."""
_ENDED_STATES = {"Z", "X"}


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process.

    Attributes:
        host: Its machine's name, for people.
        space: In which boot and process namespace the number is meant; empty where the system does not say.
        pid: Its number.
        started: When it started, in the system's own measure; empty where the system does not say.
    """

    host: str
    space: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Self:
        """The process that asks."""
        started = _status(os.getpid())[1]
        return cls(host=socket.gethostname(), space=_space(), pid=os.getpid(), started=started)

    @property
    def is_here(self) -> bool:
        """It is or was a process that this one would see."""
        return (self.host, self.space) == (socket.gethostname(), _space())

    @property
    def has_ended(self) -> bool:
        """It ran on this machine and has ended; False for a process of another machine."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            # Another user's; it is there.
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
    """State and start of a process; both empty where the system does not say."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return "", ""
    # The command comes first, in brackets, and may itself hold brackets and spaces.
    fields = stat.rpartition(")")[2].split()
    return fields[_STATE], fields[_STARTED]
