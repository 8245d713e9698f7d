import os
import subprocess
import sys
from dataclasses import replace

from tasks.core.process_identity import ProcessIdentity


def test_this_process_is_here_and_has_not_ended() -> None:
    me = ProcessIdentity.this_process()
    assert me == ProcessIdentity.this_process()
    assert (me.is_here, me.has_ended) == (True, False)
    assert str(me) == f"process {os.getpid()} on {me.host}"


def test_a_process_that_ended_has_ended_even_while_its_parent_took_no_note() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        owner = replace(ProcessIdentity.this_process(), pid=child.pid)
        assert owner.has_ended
    assert owner.has_ended


def test_a_number_used_again_is_another_process() -> None:
    assert replace(ProcessIdentity.this_process(), started="1").has_ended


def test_another_users_process_is_there() -> None:
    assert not replace(ProcessIdentity.this_process(), pid=1, started="").has_ended


def test_a_process_of_another_machine_counts_as_running() -> None:
    for there in ({"host": "other"}, {"space": "another boot"}):
        owner = replace(ProcessIdentity.this_process(), pid=2**22 - 1, **there)
        assert (owner.is_here, owner.has_ended) == (False, False)
