"""Becomes the server: drops root, ties its life to the gateway's, then executes the command it was given.

Run as a script (`python -I -S _launch.py PARENT UID GID COMMAND...`), never imported by the gateway: a
fresh interpreter does here what a `preexec_fn` may not do safely between fork and exec of a process with
threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Replace this process by the command; every failure ends it with a plain line on stderr."""
    parent, uid, gid, *command = sys.argv[1:]
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # After setuid, which clears it (prctl(2)). SIGINT is PostgreSQL's fast shutdown: even a gateway killed
    # by -9 leaves sound data.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the gateway is gone already")
    os.umask(0o077)
    os.chdir("/")
    os.execv(command[0], command)  # noqa: S606


main()
