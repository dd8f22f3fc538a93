"""Starts one child program so that it cannot outlive whoever started it. Standard library only; run as a script.

``python -I -S launch.py PARENT_PID DEATH_SIGNAL USER DIRECTORY PROGRAM [ARGUMENT …]`` replaces itself by PROGRAM.
USER is ``same``, ``namespace`` (root looks like an ordinary user to the program, files stay root's) or ``UID:GID``.
"""

import ctypes
import os
import signal
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
#: What the program sees itself as inside a user namespace; any id but 0 would do.
NAMESPACE_ID = 1000
CANNOT_CHANGE_USER = 125


def main(arguments: list[str]) -> None:
    """Become the asked user, tie the own life to the parent's, and execute the program."""
    parent, death_signal, user, directory, *command = arguments
    try:
        _become(user)
        os.chdir(directory)
    except OSError as error:
        print(f"launch: cannot run as {user} in {directory}: {error}", file=sys.stderr)
        raise SystemExit(CANNOT_CHANGE_USER) from None
    # Only now: the kernel forgets a parent-death signal when a process changes its credentials.
    _die_with(int(parent), int(death_signal))
    os.execv(command[0], command)


def _become(user: str) -> None:
    if user == "namespace":
        _enter_user_namespace()
    elif user != "same":
        uid, gid = (int(part) for part in user.split(":"))
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)


def _enter_user_namespace() -> None:
    """Map root to an ordinary user id for this process and its children. Raises OSError where the kernel forbids it."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    for name, text in (
        ("uid_map", f"{NAMESPACE_ID} {uid} 1"),
        ("setgroups", "deny"),  # without it the kernel refuses the next line
        ("gid_map", f"{NAMESPACE_ID} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _die_with(parent: int, death_signal: int) -> None:
    if not sys.platform.startswith("linux"):
        return  # elsewhere the next start ends what was left behind
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:  # it died between our fork and the line above: no signal would come
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
