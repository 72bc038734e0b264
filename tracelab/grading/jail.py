"""What runs inside the sandbox: builds the jail, then runs a response and its tests in it.

Started as a script by an isolated interpreter (`python -I -S -B jail.py ...`), so it imports the
standard library only. `sandbox.py` is the outside and says what is and is not guaranteed.

    tracelab ─► enter (namespaces, mounts, limits) ─► init (pid 1) ─► run (a fresh interpreter)

What it has to say goes to its standard output, one JSON object a line: `{"setup": reason}` when
the jail cannot be built; then, with the nonce of the request, `{"ready"}`, and `{"answer"}` or
`{"broken"}`. The response never sees that pipe or the nonce on purpose, but it runs in the same
process as `run`, so it could find them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import sys
import types
from typing import Any, NoReturn

_NEW_MOUNTS, _NEW_IPC, _NEW_NAMES = 0x20000, 0x8000000, 0x4000000
_NEW_USERS, _NEW_PIDS, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_NO_SUID, _NO_DEV, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MOUNT_SETATTR = 442  # the same number on every architecture; Linux 5.12
_AT_FDCWD, _AT_RECURSIVE, _READ_ONLY = -100, 0x8000, 1
_PARENT_DEATH, _NO_NEW_PRIVILEGES = 1, 38
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), "prctl")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(done, f"mounting {target}")


def _read_only(path: str, *, recursive: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY | _NO_SUID, 0, 0, 0)
    done = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_size_t(32),
    )
    _check(done, f"making {path} read-only")


def _needed() -> list[str]:
    """Folders the interpreter needs: its own prefix and those of the libraries it has loaded."""
    wanted = {os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)}
    wanted |= {p for p in ("/lib", "/lib64", "/usr/lib", "/usr/lib64") if os.path.isdir(p)}
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            mapped = line.rstrip("\n").split(maxsplit=5)[5:]
            if mapped and ".so" in mapped[0] and os.path.isfile(mapped[0]):
                wanted.add(os.path.dirname(mapped[0]))
    kept: list[str] = []
    for path in sorted(wanted):
        if path != "/" and not any(path.startswith(f"{k}/") for k in kept):
            kept.append(path)
    return kept


def _build(root: str, disk_bytes: int) -> None:
    """Make `root` a file system with the interpreter, /dev/null and an empty /work, no more."""
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID, "size=1m,mode=755")
    for path in _needed():
        os.makedirs(root + path, exist_ok=True)
        _mount(path, root + path, None, _BIND | _RECURSIVE)
        _read_only(root + path, recursive=True)
    os.mkdir(f"{root}/etc")
    os.mkdir(f"{root}/dev")
    files = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/etc/ld.so.cache"]
    for path in filter(os.path.exists, files):
        with open(root + path, "wb"):
            pass
        _mount(path, root + path, None, _BIND)
    shutil.copyfile(__file__, f"{root}/jail.py")
    os.mkdir(f"{root}/work")
    options = f"size={disk_bytes},nr_inodes=4096,mode=777"
    _mount("tmpfs", f"{root}/work", "tmpfs", _NO_SUID | _NO_DEV, options)
    _read_only(root, recursive=False)


def _become_user_root() -> None:
    """Without being root: a user namespace of our own, in which we may mount, and nobody's id."""
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_USERS), "making a user namespace")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{_NOBODY} {uid} 1"),
        ("gid_map", f"{_NOBODY} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as f:
            f.write(text)


def _drop_root(number: int) -> None:
    """As root: become a user that nobody else is, for the kernel counts processes by user."""
    os.setgroups([])
    for uid in (1_900_000_000 + number, _NOBODY):
        try:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            return
        except OSError:  # not mapped in this container
            continue
    raise OSError(1, "there is no unprivileged user to become")


def _wait(pid: int) -> int:
    """Wait for one child, reaping all; its exit code, or 128 + the signal that ended it."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _enter(settings: dict[str, Any]) -> NoReturn:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
        f.write("1000")  # if memory runs out, it is this that goes
    outside, number = os.getppid(), os.getpid()
    _prctl(_PARENT_DEATH, signal.SIGKILL)
    if os.getppid() != outside:
        os._exit(1)
    jailed = settings["isolation"] == "namespaces"
    script = os.path.abspath(__file__)
    if jailed:
        root = settings["folder"]
        as_root = os.geteuid() == 0
        if not as_root:
            _become_user_root()
        kinds = _NEW_MOUNTS | _NEW_IPC | _NEW_NAMES | _NEW_PIDS | _NEW_NET
        _check(_libc.unshare(kinds), "making namespaces")
        _build(root, settings["disk_bytes"])
        alive, held = os.pipe()  # its end is the end of this process, whenever that comes
        init = os.fork()
        if init:
            os._exit(_wait(init))
        os.close(held)
        os.setsid()
        _prctl(_PARENT_DEATH, signal.SIGKILL)
        os.chroot(root)
        if as_root:
            _drop_root(number)
            _prctl(_PARENT_DEATH, signal.SIGKILL)  # a change of user clears it
        os.set_blocking(alive, False)
        with contextlib.suppress(BlockingIOError):
            os.read(alive, 1)
            os._exit(1)  # killed before we asked to die with it
        script = "/jail.py"
    os.chdir("/work" if jailed else settings["folder"])
    _prctl(_NO_NEW_PRIVILEGES, 1)
    child = os.fork()
    if child:  # in the jail this is pid 1: when it ends, the kernel ends everything in there
        os.closerange(0, 3)
        os._exit(_wait(child))
    cpu = settings["cpu_seconds"]
    for what, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, settings["disk_bytes"], settings["disk_bytes"]),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_NPROC, settings["processes"] + 1, settings["processes"] + 1),
        (resource.RLIMIT_AS, settings["memory_bytes"], settings["memory_bytes"]),
    ):
        resource.setrlimit(what, (soft, hard))
    home = "/work" if jailed else settings["folder"]
    environment = {"HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "PATH": "/nowhere"}
    python = os.path.realpath(sys.executable)
    os.execve(python, [python, "-I", "-S", "-B", script, "run"], environment)


def _run() -> NoReturn:
    request = json.loads(sys.stdin.buffer.read())
    mine, verdicts = os.getpid(), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # the request's file is gone with this
        os.dup2(nothing, number)
    nonce = request.pop("nonce")

    def say(**what: Any) -> None:
        with contextlib.suppress(OSError):
            if os.getpid() == mine:  # what the response forks has no say
                os.write(verdicts, json.dumps({"nonce": nonce, **what}).encode() + b"\n")

    def done(**what: Any) -> NoReturn:
        say(**what)
        os._exit(0)

    say(ready=True)
    try:
        tests = compile(request["tests"], "<tests>", "exec")
    except BaseException as e:
        done(broken=_described(e))
    response = types.ModuleType("response")  # so `if __name__ == "__main__"` does not run
    sys.modules["response"] = response
    phase = "response"
    try:
        exec(compile(request["code"], "<response>", "exec"), response.__dict__)
        phase = "tests"
        exec(tests, response.__dict__)
    except BaseException as e:
        failed = phase == "tests" and isinstance(e, AssertionError)
        detail = _described(e)
        done(answer="fail" if failed else f"error:{_type_name(e)}", detail=detail)
    done(answer="pass")


def _type_name(error: BaseException) -> str:
    name = type(error).__name__
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= 60 else "Other"


def _described(error: BaseException) -> str:
    try:
        message = " ".join(str(error)[:400].split())[:200]
    except BaseException:
        message = ""
    return f"{_type_name(error)}: {message}" if message else _type_name(error)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _run()
    try:
        _enter(json.loads(sys.argv[1]))
    except BaseException as e:
        with contextlib.suppress(OSError):
            os.write(1, json.dumps({"setup": _described(e)}).encode() + b"\n")
        os._exit(1)
