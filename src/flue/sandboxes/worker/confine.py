"""What a worker gives up before it runs anything: memory, time, files, processes and the sight of other processes.

bashkit shows a script nothing of the host. These are the walls behind it, for the case that a script finds a hole:
resource limits everywhere, and on Linux (x86-64 and 64-bit ARM) a seccomp filter, see seccomp(2). Calls the filter
refuses fail with EPERM.
"""

from __future__ import annotations

import posix
import resource
import sys

from flue.sandboxes.worker.c_library import Memory, function, long

TYPE_CHECKING = False  # see bashkit_files.py
if TYPE_CHECKING:
    from typing import Any

OPEN_FILES = 64
"""Descriptors a worker may hold; sockets of `curl` are most of them."""
_NICE = 10  # the program's event loop goes first
_EPERM, _ENOSYS = 1, 38

# Numbers of system calls on (x86-64, 64-bit ARM), from the kernel's tables; None: it has no such call.
_PROCESSES = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "setpriority": (141, 140),
    "sched_setaffinity": (203, 122),
}
_KERNEL = {
    "io_uring_setup": (425, 425),  # would do all the others' work past the filter
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "mount": (165, 40),
    "umount2": (166, 39),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
_CHANGES = {
    "creat": (85, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "rmdir": (84, None),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "open_by_handle_at": (304, 265),
}
_OPENING = {"open": (2, None), "openat": (257, 56), "openat2": (437, 437)}
_SOCKETS = {"socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201)}
# bashkit's SQLite makes a directory in the host's /tmp for temporary tables, puts nothing into it and removes it. It is
# told that it has one.
_PRETENDED = {"mkdir": (83, None), "mkdirat": (258, 34)}
_CLONE, _CLONE3, _TGKILL, _PRLIMIT = (56, 220), (435, 435), (234, 131), (302, 261)

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE_THREAD = 0x10000
_WRITING = 0o3 | 0o100 | 0o1000 | 0o20000000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # BPF instructions
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38

_library: dict[str, Any] = {}
_prepared: dict[str, list[bytes]] = {}
_filters: dict[bool, _Filter] = {}  # with network or without


class _Filter:
    """A program for seccomp."""

    def __init__(self, program: list[bytes]) -> None:
        self._code = Memory(b"".join(program))
        # struct sock_fprog: the number of instructions, and their address.
        self._head = Memory(len(program).to_bytes(8, "little") + self._code.address.to_bytes(8, "little"))

    def install(self) -> None:
        """Have the kernel judge all calls of this process by it, too, from now on."""
        _prctl(_PR_SET_SECCOMP, 2, self._head.address)


def ready_to_confine() -> None:
    """Load what `confine` needs, once and before any worker is forked."""
    if not sys.platform.startswith("linux"):
        return
    _library["prctl"] = function("prctl")
    machine = posix.uname().machine
    if machine in _MACHINES and sys.maxsize > 1 << 32:
        column, arch = _MACHINES[machine]
        _prepared["head"] = _head(column, arch)
        _prepared["always"] = _always(column)
        _filters[True] = _Filter(_prepared["head"] + _reading_only(column))
        _filters[False] = _Filter(_prepared["head"] + _denied({**_OPENING, **_SOCKETS}, column))


def confine() -> None:
    """Confine this process, before its first thread but the main one starts (SBX-07).

    Nothing gives back what was given up.
    """
    _write("/proc/self/oom_score_adj", b"1000")  # when the machine runs out of memory, rather this than the program
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    posix.nice(_NICE)
    if _library:
        _prctl(_PR_SET_PDEATHSIG, 9)
        _prctl(_PR_SET_DUMPABLE, 0)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if _prepared:
        column, _ = _MACHINES[posix.uname().machine]
        # abort() signals its own thread.
        own_signals = _judged(_TGKILL[column], 0, (_EQUAL, posix.getpid()), allowed_if=True)
        _Filter(_prepared["head"] + own_signals + _prepared["always"]).install()


def confine_further(memory: int, *, network: bool) -> None:
    """Let this process take at most `memory` bytes more than it has (SBX-06), and see files and sockets if at all.

    Files it may only read; without `network` it opens neither from now on.
    """
    taken = _address_space()
    if taken:
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    if _filters:
        _filters[network].install()


def allow_processor_time(seconds: float) -> None:
    """End this process by SIGXCPU when it uses more than so many seconds from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft, hard = int(used.ru_utime + used.ru_stime + seconds) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _address_space() -> int:
    """Return how many bytes of addresses are in use; 0 where nothing says so (macOS, which has no limit for it)."""
    try:
        descriptor = posix.open("/proc/self/statm", posix.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(posix.read(descriptor, 100).split()[0]) * resource.getpagesize()
    finally:
        posix.close(descriptor)


def _write(path: str, content: bytes) -> None:
    try:
        descriptor = posix.open(path, posix.O_WRONLY)
    except OSError:
        return
    try:
        posix.write(descriptor, content)
    except OSError:
        pass
    finally:
        posix.close(descriptor)


def _prctl(option: int, value: int, address: int = 0) -> None:
    """Set something of this process, where the system lets it: some containers do not, and the other walls remain."""
    _library["prctl"](option, long(value), long(address), long(0), long(0))


def _head(column: int, arch: int) -> list[bytes]:
    """Return the first instructions of a filter; what follows looks at the number of the call."""
    program = [_step(_LOAD, _ARCH), _step(_EQUAL, arch, 1, 0), _refuse(_EPERM), _step(_LOAD, _NUMBER)]
    if column == 0:
        # The x32 calls of x86-64 have numbers of their own.
        program += [_step(_AT_LEAST, 0x40000000, 0, 1), _refuse(_EPERM)]
    return program


def _always(column: int) -> list[bytes]:
    program = _denied({**_PROCESSES, **_KERNEL, **_CHANGES}, column)[:-1]
    program += _denied(_PRETENDED, column, error=0)[:-1]
    # The C library falls back to clone, whose flags can be seen.
    program += [_step(_EQUAL, _CLONE3[column], 0, 1), _refuse(_ENOSYS)]
    program += _judged(_CLONE[column], 0, (_ANY_BIT, _CLONE_THREAD), allowed_if=True)
    # Limits are set for this process only.
    program += _judged(_PRLIMIT[column], 0, (_EQUAL, 0), allowed_if=True)
    return [*program, _step(_RETURN, _ALLOW)]


def _denied(calls: dict[str, Any], column: int, *, error: int = _EPERM) -> list[bytes]:
    """Return the rest of a filter that refuses some calls. Each test is followed by its decision: no jump is far."""
    program = []
    for numbers in calls.values():
        if numbers[column] is not None:
            program += [_step(_EQUAL, numbers[column], 0, 1), _refuse(error)]
    return [*program, _step(_RETURN, _ALLOW)]


def _reading_only(column: int) -> list[bytes]:
    """Return the rest of a filter that lets files be opened to read them."""
    program = []
    for name, argument in (("open", 1), ("openat", 2)):
        call = _OPENING[name][column]
        if call is not None:
            program += _judged(call, argument, (_ANY_BIT, _WRITING), allowed_if=False)
    # Its flags are in memory, where no filter sees them.
    return [*program, _step(_EQUAL, _OPENING["openat2"][column] or 0, 0, 1), _refuse(_ENOSYS), _step(_RETURN, _ALLOW)]


def _judged(call: int, argument: int, test: tuple[int, int], *, allowed_if: bool) -> list[bytes]:
    """Return the instructions that let one call through depending on the low half of one of its arguments."""
    instruction, value = test
    refused = _refuse(_EPERM)
    allow = _step(_RETURN, _ALLOW)
    return [
        _step(_EQUAL, call, 0, 4),
        _step(_LOAD, _ARGUMENTS + 8 * argument),
        _step(instruction, value, 0, 1),
        allow if allowed_if else refused,
        refused if allowed_if else allow,
    ]


def _refuse(error: int) -> bytes:
    return _step(_RETURN, _ERRNO | error)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return (code | if_true << 16 | if_false << 24 | value << 32).to_bytes(8, "little")
