"""Attacks on the grader and on other hand-ins, and a stage of harmless victims to try them on.

`python tests/sandbox_attacks.py root` or `... user` tries every attack twice, unconfined and
confined, and prints the outcomes as JSON. An attack succeeds if it does what its name says; it
raises an exception if the system refuses. The victims are this program's own processes, files and
sockets.
"""

# Attacks are system calls, written as such.
# ruff: noqa: PTH101, PTH104, PTH115, PTH123, PTH208, PTH211

import ctypes
import encodings.ascii  # noqa: F401 - a confined process may not find it
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECRET = "the grader's secret, which is nowhere else"
USER = 65534
EXECUTED = 42
"""Exit status of a program that was executed by an attack."""

NUMBERS = {
    "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "process_madvise": (440, 440), "move_pages": (279, 239),
    "migrate_pages": (256, 238), "kcmp": (312, 272), "perf_event_open": (298, 241),
    "ioprio_set": (251, 30), "sched_setattr": (314, 274), "fchmodat2": (452, 452),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "inotify_init1": (294, 26),
    "fanotify_init": (300, 262), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "bpf": (321, 280), "add_key": (248, 217), "keyctl": (250, 219), "shmget": (29, 194),
    "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "fsopen": (430, 430), "open_tree": (428, 428), "pivot_root": (155, 41),
    "sethostname": (170, 161), "clone": (56, 220), "clone3": (435, 435), "capset": (126, 91),
    "syslog": (103, 116), "swapoff": (168, 225), "acct": (163, 89), "init_module": (175, 105),
    "reboot": (169, 142), "personality": (135, 92), "get_robust_list": (274, 100),
    "timer_create": (222, 107), "truncate": (76, 45), "openat2": (437, 437), "shmctl": (31, 195),
    "semctl": (66, 191), "msgctl": (71, 187), "mq_unlink": (241, 181), "kexec_load": (246, 104),
    "quotactl": (179, 60), "settimeofday": (164, 170), "sched_setparam": (142, 118),
}  # fmt: skip
COLUMN = 0 if platform.machine() == "x86_64" else 1
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """Make a system call by its name; raise `OSError` if it fails."""
    result = LIBC.syscall(ctypes.c_long(NUMBERS[name][COLUMN]), *arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def reaches(name, *arguments):
    """Make a call that cannot succeed; return whether it got as far as its arguments."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.ENOSYS, errno.EACCES}:
            raise
    return True


class Stage:
    """The victims of an attack, and a folder that the attacker may write to."""

    def __init__(self, root):
        self.root = root
        self.cwd, self.home = root / "cwd", root / "home"
        self.file, self.closed = self.home / "file", self.home / "closed"

    def set_up(self):
        self.cwd.mkdir()
        (self.home / "folder").mkdir(parents=True)
        self.file.write_text(SECRET)
        os.setxattr(self.file, "user.kept", b"kept")
        self.closed.write_text(SECRET)
        self.closed.chmod(0o600)
        self.opened = os.open(self.file, os.O_RDONLY)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.home / "socket"))
        self.unix.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract_name = f"\0cs285-{os.getpid()}-{time.monotonic_ns()}"
        self.abstract.bind(self.abstract_name)
        self.abstract.listen()
        self.kept = mmap.mmap(-1, mmap.PAGESIZE)
        self.kept[: len(SECRET)] = SECRET.encode()
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.kept))
        self.victim = os.fork()
        if self.victim == 0:
            os.setsid()
            while True:
                signal.pause()
        while os.getsid(self.victim) != self.victim:
            time.sleep(0.001)

    def tear_down(self):
        os.kill(self.victim, signal.SIGKILL)
        os.waitpid(self.victim, 0)
        os.close(self.opened)
        for one in (self.listener, self.unix, self.abstract):
            one.close()

    def victim_state(self):
        return Path(f"/proc/{self.victim}/stat").read_text().rpartition(")")[2].split()[0]

    def state(self):
        """Return everything that an attack may have changed."""
        files = {}
        for path in sorted(self.home.rglob("*")):
            status = path.lstat()
            files[path.name] = [
                status.st_mode, status.st_uid, status.st_gid, status.st_nlink, status.st_mtime_ns,
                status.st_size,
            ]  # fmt: skip
        limits = [resource.prlimit(self.victim, one) for one in range(15)]
        return {
            "files": files,
            "text": self.file.read_text() if self.file.exists() else None,
            "attributes": {
                name: os.getxattr(self.file, name).hex()
                for name in (os.listxattr(self.file) if self.file.exists() else ())
            },
            "alive": self.victim_state() not in "TtZX",
            "limits": limits,
            "priority": os.getpriority(os.PRIO_PROCESS, self.victim),
            "policy": os.sched_getscheduler(self.victim),
            "processors": sorted(os.sched_getaffinity(self.victim)),
            "memory": self.kept[: len(SECRET)].decode(),
        }


@dataclass(frozen=True)
class Attack:
    """One attack."""

    run: Callable
    root: bool = False
    """Whether it needs root even unconfined."""
    harms: bool = False
    """Whether only its victims show that it worked."""


ATTACKS: dict[str, Attack] = {}


def attack(name, **settings):
    def add(run):
        ATTACKS[name] = Attack(run, **settings)
        return run

    return add


def simple(name, run, **settings):
    ATTACKS[name] = Attack(run, **settings)


# Signals to others


def info(number):
    return ctypes.create_string_buffer(struct.pack("iii", number, 0, -1) + bytes(116), 128)


STOP, KILL = int(signal.SIGSTOP), int(signal.SIGKILL)
simple("kill", lambda s: os.kill(s.victim, STOP), harms=True)
simple("killpg", lambda s: os.killpg(s.victim, KILL), harms=True)
simple("kill everybody, signal 0", lambda s: os.kill(-1, 0))
simple("kill the parent, signal 0", lambda s: os.kill(os.getppid(), 0))
simple("tkill", lambda s: call("tkill", s.victim, STOP), harms=True)
simple("tgkill", lambda s: call("tgkill", s.victim, s.victim, STOP), harms=True)
simple("rt_sigqueueinfo", lambda s: call("rt_sigqueueinfo", s.victim, KILL, info(9)), harms=True)
simple(
    "rt_tgsigqueueinfo",
    lambda s: call("rt_tgsigqueueinfo", s.victim, s.victim, STOP, info(19)),
    harms=True,
)
simple("pidfd_open", lambda s: call("pidfd_open", s.victim, 0))


@attack("pidfd_send_signal through /proc", harms=True)
def pidfd_send_signal(s):
    call("pidfd_send_signal", os.open(f"/proc/{s.victim}", os.O_RDONLY), KILL, None, 0)


def _owned_pipe(set_owner):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    set_owner(reader)
    fcntl.fcntl(reader, fcntl.F_SETSIG, KILL)
    os.write(writer, b"x")


@attack("F_SETOWN and F_SETSIG", harms=True)
def setown(s):
    _owned_pipe(lambda reader: fcntl.fcntl(reader, fcntl.F_SETOWN, s.victim))


@attack("F_SETOWN_EX", harms=True)
def setown_ex(s):
    _owned_pipe(lambda reader: fcntl.fcntl(reader, 15, struct.pack("ii", 1, s.victim)))


@attack("F_SETOWN of a group", harms=True)
def setown_group(s):
    _owned_pipe(lambda reader: fcntl.fcntl(reader, fcntl.F_SETOWN, -s.victim))


# Limits and priorities of others

simple("prlimit", lambda s: resource.prlimit(s.victim, resource.RLIMIT_FSIZE, (0, 0)), harms=True)
simple("prlimit, reading", lambda s: resource.prlimit(s.victim, resource.RLIMIT_FSIZE))
simple("setpriority", lambda s: os.setpriority(os.PRIO_PROCESS, s.victim, 19), harms=True)
simple("nice of a group", lambda s: os.setpriority(os.PRIO_PGRP, s.victim, 19), harms=True)
simple("sched_setaffinity", lambda s: os.sched_setaffinity(s.victim, {0}))
simple(
    "sched_setscheduler",
    lambda s: os.sched_setscheduler(s.victim, os.SCHED_BATCH, os.sched_param(0)),
    harms=True,
)
simple("sched_setparam", lambda s: os.sched_setparam(s.victim, os.sched_param(0)))
simple(
    "sched_setattr",
    lambda s: call(
        "sched_setattr",
        s.victim,
        ctypes.create_string_buffer(struct.pack("IIQiIQQQ", 48, 3, 0, 5, 0, 0, 0, 0)),
        0,
    ),
    harms=True,
)
simple(
    "real-time priority for itself",
    lambda s: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    root=True,
)
simple("negative niceness for itself", lambda s: os.setpriority(os.PRIO_PROCESS, 0, -5), root=True)
simple("ioprio_set", lambda s: call("ioprio_set", 1, s.victim, 3 << 13))
simple(
    "migrate_pages",
    lambda s: call(
        "migrate_pages",
        s.victim,
        8,
        ctypes.byref(ctypes.c_ulong(1)),
        ctypes.byref(ctypes.c_ulong(1)),
    ),
)
simple("move_pages", lambda s: call("move_pages", s.victim, ctypes.c_ulong(0), None, None, None, 0))
simple(
    "raise its own limits",
    lambda s: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40)),
)

# Memory and secrets of other processes


def _vector(address, size):
    return ctypes.create_string_buffer(struct.pack("QQ", address, size))


@attack("process_vm_readv")
def process_vm_readv(s):
    taken = ctypes.create_string_buffer(20)
    here = _vector(ctypes.addressof(taken), 20)
    call(
        "process_vm_readv",
        s.victim,
        here,
        ctypes.c_ulong(1),
        _vector(s.address, 20),
        ctypes.c_ulong(1),
        ctypes.c_ulong(0),
    )
    return taken.raw == SECRET[:20].encode()


@attack("process_vm_writev", harms=True)
def process_vm_writev(s):
    given = ctypes.create_string_buffer(b"overwritten by other", 20)
    here = _vector(ctypes.addressof(given), 20)
    call(
        "process_vm_writev",
        s.victim,
        here,
        ctypes.c_ulong(1),
        _vector(s.address, 20),
        ctypes.c_ulong(1),
        ctypes.c_ulong(0),
    )


@attack("/proc/PID/mem")
def proc_mem(s):
    with open(f"/proc/{s.victim}/mem", "rb", 0) as file:
        file.seek(s.address)
        return file.read(20) == SECRET[:20].encode()


simple("ptrace", lambda s: call("ptrace", 16, s.victim, None, None), harms=True)
simple(
    "kcmp",
    lambda s: call("kcmp", os.getpid(), s.victim, 1, ctypes.c_ulong(0), ctypes.c_ulong(0)) >= 0,
)
simple("process_madvise", lambda s: reaches("process_madvise", -1, None, ctypes.c_ulong(0), 20, 0))
simple(
    "get_robust_list",
    lambda s: call(
        "get_robust_list",
        s.victim,
        ctypes.byref(ctypes.c_void_p()),
        ctypes.byref(ctypes.c_size_t()),
    ),
)
simple(
    "perf_event_open",
    lambda s: reaches("perf_event_open", ctypes.create_string_buffer(128), s.victim, -1, -1, 0),
    root=True,
)
simple(
    "environment of the grader", lambda s: SECRET in Path(f"/proc/{s.victim}/environ").read_text()
)
simple(
    "environment of the parent",
    lambda s: SECRET in Path(f"/proc/{os.getppid()}/environ").read_text(),
)
simple("its own environment", lambda s: SECRET in os.environ.values())
simple("command line of the grader", lambda s: Path(f"/proc/{s.victim}/cmdline").read_bytes())
simple("maps of the grader", lambda s: Path(f"/proc/{s.victim}/maps").read_text())
simple("status of the grader", lambda s: Path(f"/proc/{s.victim}/status").read_text())
simple("working directory of the grader", lambda s: os.readlink(f"/proc/{s.victim}/cwd"))
simple("root of the grader", lambda s: Path(f"/proc/{s.victim}/root{s.file}").read_text() == SECRET)
simple("descriptors of the grader", lambda s: os.listdir(f"/proc/{s.victim}/fd"))
simple("list of all processes", lambda s: str(s.victim) in os.listdir("/proc"))
simple(
    "oom_score_adj of the grader",
    lambda s: Path(f"/proc/{s.victim}/oom_score_adj").write_text("999"),
)
simple(
    "descriptor kept open",
    lambda s: os.read(next(fd for fd in range(3, 200) if _is_file(fd, s)), 9),
)


def _is_file(fd, s):
    try:
        return os.fstat(fd).st_ino == s.file.stat().st_ino
    except OSError:
        return False


# Files of others

simple("read a file", lambda s: s.file.read_text() == SECRET)
simple("read a file of the grader alone", lambda s: s.closed.read_text() == SECRET)
simple("list a folder", lambda s: os.listdir(s.home))
simple(
    "list the temporary folder",
    lambda s: os.listdir("/tmp"),
)
simple("read accounts", lambda s: Path("/etc/passwd").read_text())
simple("read the reference", lambda s: (REFERENCE / "agents" / "dqn_agent.py").read_text())
simple("list the reference's tests", lambda s: os.listdir(REFERENCE.parent / "tests"))
simple(
    "read through openat2",
    lambda s: os.read(
        call(
            "openat2",
            -100,
            str(s.file).encode(),
            ctypes.create_string_buffer(24),
            ctypes.c_ulong(24),
        ),
        9,
    ),
)
simple(
    "read through a link in /proc",
    lambda s: Path(f"/proc/self/fd/{os.open(s.file, os.O_PATH)}").read_text() == SECRET,
)
simple(
    "read through /proc/self/root", lambda s: Path(f"/proc/self/root{s.file}").read_text() == SECRET
)
simple(
    "read through a folder's handle",
    lambda s: os.open("file", os.O_RDONLY, dir_fd=os.open(s.home, os.O_PATH)),
)
simple("read after chdir", lambda s: (os.chdir(s.home), Path("file").read_text())[1] == SECRET)
simple(
    "hard link to a file",
    lambda s: (os.link(s.file, "mine"), Path("mine").read_text())[1] == SECRET,
)
simple(
    "symbolic link to a file",
    lambda s: (os.symlink(s.file, "mine"), Path("mine").read_text())[1] == SECRET,
)
simple("move a file here", lambda s: os.rename(s.file, "mine"), harms=True)
simple(
    "move a file there",
    lambda s: (Path("mine").write_text(""), os.rename("mine", s.home / "theirs")),
    harms=True,
)
simple("overwrite a file", lambda s: s.file.write_text("graded: 100 %"), harms=True)
simple("append to a file", lambda s: s.file.open("a").write("graded"), harms=True)
simple("truncate a file", lambda s: os.truncate(s.file, 0), harms=True)
simple("open with O_TRUNC", lambda s: os.open(s.file, os.O_RDONLY | os.O_TRUNC), harms=True)
simple("create a file", lambda s: (s.home / "new").touch(), harms=True)
simple("create a folder", lambda s: (s.home / "new").mkdir(), harms=True)
simple("create a pipe", lambda s: os.mkfifo(s.home / "new"), harms=True)
simple("create a link", lambda s: os.symlink("/", s.home / "new"), harms=True)
simple(
    "create a device",
    lambda s: os.mknod(s.home / "new", 0o20666, os.makedev(1, 3)),
    harms=True,
    root=True,
)
simple("create a device here", lambda s: os.mknod("new", 0o20666, os.makedev(1, 3)), root=True)
simple("unnamed file elsewhere", lambda s: os.open(s.home, os.O_TMPFILE | os.O_RDWR))
simple("remove a file", lambda s: s.file.unlink(), harms=True)
simple("remove a folder", lambda s: (s.home / "folder").rmdir(), harms=True)
simple(
    "write into /dev/shm",
    lambda s: _and_remove(Path(f"/dev/shm/cs285-{os.getpid()}"), lambda p: p.write_text("x")),
)
simple(
    "write into /tmp",
    lambda s: _and_remove(Path(f"/tmp/cs285-{os.getpid()}"), lambda p: p.write_text("x")),
)
simple("write to a device", lambda s: os.open("/dev/kmsg", os.O_WRONLY), root=True)


def _and_remove(path, write):
    write(path)
    path.unlink()


simple("chmod", lambda s: s.file.chmod(0o777), harms=True)
simple("fchmod", lambda s: os.fchmod(os.open(s.file, os.O_RDONLY), 0o777), harms=True)
simple("fchmodat2", lambda s: call("fchmodat2", -100, str(s.file).encode(), 0o777, 0), harms=True)
simple(
    "chmod through /proc",
    lambda s: os.chmod(f"/proc/self/fd/{os.open(s.file, os.O_PATH)}", 0o777),
    harms=True,
)
simple("chmod of the folder", lambda s: s.home.chmod(0o777))
simple("chmod to setuid, here", lambda s: (Path("x").touch(), os.chmod("x", 0o6777)))
simple("chown", lambda s: os.chown(s.file, 12345, 12345), harms=True, root=True)
simple("lchown", lambda s: os.lchown(s.file, os.getuid(), os.getgid()))
simple("fchown", lambda s: os.fchown(os.open(s.file, os.O_RDONLY), os.getuid(), os.getgid()))
simple("utime", lambda s: os.utime(s.file, (0, 0)), harms=True)
simple(
    "utime of an open file", lambda s: os.utime(os.open(s.file, os.O_RDONLY), (0, 0)), harms=True
)
simple("setxattr", lambda s: os.setxattr(s.file, "user.stolen", b"x"), harms=True)
simple(
    "fsetxattr",
    lambda s: os.setxattr(os.open(s.file, os.O_RDONLY), "user.stolen", b"x"),
    harms=True,
)
simple("removexattr", lambda s: os.removexattr(s.file, "user.kept"), harms=True)
simple("getxattr", lambda s: os.getxattr(s.file, "user.kept") == b"kept")
simple(
    "attributes of a file system",
    lambda s: fcntl.ioctl(os.open(s.file, os.O_RDONLY), 0x40086602, struct.pack("l", 0x40)),
)
simple("flock", lambda s: fcntl.flock(os.open(s.file, os.O_RDONLY), fcntl.LOCK_EX))
simple("lock of a record", lambda s: fcntl.lockf(os.open(s.file, os.O_RDONLY), fcntl.LOCK_SH))
simple(
    "lease", lambda s: fcntl.fcntl(os.open(s.file, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
)
simple("F_NOTIFY", lambda s: fcntl.fcntl(os.open(s.home, os.O_RDONLY), fcntl.F_NOTIFY, 1))
simple("inotify", lambda s: call("inotify_init1", 0))
simple("fanotify", lambda s: call("fanotify_init", 0, 0), root=True)


@attack("open_by_handle_at", root=True)
def open_by_handle_at(s):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    call("name_to_handle_at", -100, str(s.file).encode(), handle, ctypes.byref(ctypes.c_int()), 0)
    found = call("open_by_handle_at", os.open("/", os.O_RDONLY), handle, os.O_RDONLY)
    return os.read(found, 9) == SECRET[:9].encode()


# What outlives a job


def _shmget(s):
    segment = call("shmget", 0, ctypes.c_ulong(4096), 0o1600)
    call("shmctl", segment, 0, None)


simple("System V shared memory", _shmget)
simple("System V semaphores", lambda s: call("semctl", call("semget", 0, 1, 0o1600), 0, 0, 0) == 0)
simple("System V messages", lambda s: call("msgctl", call("msgget", 0, 0o1600), 0, None) == 0)


@attack("POSIX messages")
def posix_messages(s):
    name = f"cs285-{os.getpid()}".encode()
    call("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None)
    call("mq_unlink", name)


@attack("POSIX shared memory")
def posix_shared_memory(s):
    name = f"/cs285-{os.getpid()}".encode()
    if LIBC.shm_open(name, os.O_CREAT | os.O_RDWR, 0o600) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    LIBC.shm_unlink(name)


simple("keyring", lambda s: call("add_key", b"user", b"cs285", b"x", ctypes.c_ulong(1), -3))
simple("reading keyrings", lambda s: call("keyctl", 0, -4, 1))
simple("memfd", lambda s: call("memfd_create", b"x", 0))
simple("fork", lambda s: _child(os.fork))


def _child(make):
    if make() == 0:
        os._exit(0)
    os.wait()


@attack("daemon")
def daemon(s):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, b"alive")
        os._exit(0)
    return os.read(reader, 5) == b"alive"


simple(
    "clone without CLONE_THREAD",
    lambda s: _child(
        lambda: call("clone", ctypes.c_ulong(17), None, None, None, ctypes.c_ulong(0))
    ),
)
simple(
    "clone3",
    lambda s: _child(
        lambda: call(
            "clone3",
            ctypes.create_string_buffer(struct.pack("8Q", 0, 0, 0, 0, 17, 0, 0, 0)),
            ctypes.c_ulong(64),
        )
    ),
)
simple("posix_spawn", lambda s: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0)
simple("execve", lambda s: os.execve("/bin/sh", ["sh", "-c", f"exit {EXECUTED}"], {}))


@attack("execve of its own file")
def execve_own(s):
    mine = os.open("mine", os.O_CREAT | os.O_WRONLY, 0o700)
    os.write(mine, f"#!/bin/sh\nexit {EXECUTED}\n".encode())
    os.close(mine)
    os.execve("mine", ["mine"], {})


simple("system", lambda s: LIBC.system(b"true") == 0)
simple("write a program's memory as file", lambda s: os.open("/proc/self/mem", os.O_RDWR))


# The network


def _connect(family, address):
    with socket.socket(family) as one:
        one.connect(address)


simple("TCP", lambda s: _connect(socket.AF_INET, s.listener.getsockname()))
simple(
    "UDP",
    lambda s: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(
        b"x", s.listener.getsockname()
    ),
)
simple("listening", lambda s: socket.create_server(("127.0.0.1", 0)))
simple("a socket in a folder", lambda s: _connect(socket.AF_UNIX, str(s.home / "socket")))
simple("an abstract socket", lambda s: _connect(socket.AF_UNIX, s.abstract_name))
simple("netlink", lambda s: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
simple("a pair of sockets", lambda s: socket.socketpair())
simple("raw packets", lambda s: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1), root=True)
simple("io_uring", lambda s: call("io_uring_setup", 1, ctypes.create_string_buffer(120)))

# Privileges

simple("setuid", lambda s: os.setuid(USER - 1), root=True)
simple("setgid", lambda s: os.setgid(USER - 1), root=True)
simple("setgroups", lambda s: os.setgroups([0]), root=True)
simple("back to root", lambda s: os.setresuid(0, 0, 0), root=True)
simple("is root", lambda s: os.geteuid() == 0, root=True)
simple("holds capabilities", lambda s: _status("CapPrm") != 0, root=True)
simple("may get capabilities", lambda s: _status("CapBnd") != 0, root=True)
simple("may gain by executing", lambda s: _status("NoNewPrivs") == 0)
simple("chroot", lambda s: os.chroot(s.cwd), root=True)


@attack("mount", root=True)
def mount(s):
    call("mount", b"none", str(s.cwd).encode(), b"tmpfs", ctypes.c_ulong(0), None)
    call("umount2", str(s.cwd).encode(), 2)


simple("umount", lambda s: reaches("umount2", b"/nowhere/at/all", 0), root=True)
simple("pivot_root", lambda s: reaches("pivot_root", b"/nowhere", b"/nowhere"), root=True)
simple("new mount interface", lambda s: call("fsopen", b"tmpfs", 0), root=True)
simple("open_tree", lambda s: call("open_tree", -100, str(s.home).encode(), 1), root=True)
simple("unshare users", lambda s: call("unshare", 0x10000000))
simple("unshare the network", lambda s: call("unshare", 0x40000000), root=True)
simple("setns", lambda s: call("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0), root=True)
simple(
    "sethostname",
    lambda s: call(
        "sethostname", socket.gethostname().encode(), ctypes.c_ulong(len(socket.gethostname()))
    ),
    root=True,
)
simple("init_module", lambda s: reaches("init_module", None, ctypes.c_ulong(0), b""), root=True)
simple("swapoff", lambda s: reaches("swapoff", b"/nowhere"), root=True)
simple("acct", lambda s: reaches("acct", b"/nowhere"), root=True)
simple("reboot, with a wrong number", lambda s: reaches("reboot", 1, 2, 3, None), root=True)
simple("kernel's log", lambda s: call("syslog", 10, None, 0), root=True)
simple("bpf", lambda s: reaches("bpf", 0, None, 0), root=True)
simple("personality", lambda s: call("personality", ctypes.c_ulong(0x0040000)) >= 0)
simple("userfaultfd", lambda s: call("userfaultfd", 1))
simple(
    "timer to a thread",
    lambda s: call(
        "timer_create",
        1,
        ctypes.create_string_buffer(struct.pack("Qiii", 0, 9, 4, os.getpid()) + bytes(44)),
        ctypes.byref(ctypes.c_int()),
    ),
)
simple(
    "set the clock",
    lambda s: reaches("settimeofday", ctypes.create_string_buffer(struct.pack("qq", -1, -1)), None),
    root=True,
)
simple(
    "more files than a job has", lambda s: [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
)
simple("a large file", lambda s: Path("large").write_bytes(bytes(2_000_000)))
simple("much memory", lambda s: mmap.mmap(-1, 3 << 30))
simple("locked memory", lambda s: _checked(LIBC.mlock(ctypes.create_string_buffer(8192), 8192)))
simple("many threads", lambda s: [_thread() for _ in range(400)])


def _thread():
    threading.stack_size(16 << 20)
    thread = threading.Thread(target=time.sleep, args=(0.5,), daemon=True)
    thread.start()


def _checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "refused")


def _status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(name))


# Trying the attacks

REFERENCE = Path(__file__).resolve().parents[1] / "cs285"
REFUSED, DONE = "refused", "done"


class Stages:
    """Provides a stage, and a new one once its victims have been harmed."""

    def __init__(self, root):
        self.root = root
        self.stage = None

    def fresh(self):
        if self.stage is None:
            self.stage = Stage(Path(tempfile.mkdtemp(dir=self.root)))
            self.stage.root.chmod(0o755)
            self.stage.set_up()
            self.before = self.stage.state()
        return self.stage

    def changed(self, seconds):
        """Return what an attack has changed, waiting for at most this many seconds."""
        deadline = time.monotonic() + seconds
        while (after := self.stage.state()) == self.before and time.monotonic() < deadline:
            time.sleep(0.005)
        found = [key for key, value in self.before.items() if value != after[key]]
        if found:
            self.close()
        return found

    def close(self):
        if self.stage is not None:
            self.stage.tear_down()
        self.stage = None


def attempt(name, stage):
    """Try an attack in this process; return its result."""
    try:
        os.chdir(stage.cwd)
        result = REFUSED if ATTACKS[name].run(stage) is False else DONE
    except BaseException as error:  # noqa: BLE001
        number = getattr(error, "errno", None)
        result = f"{type(error).__name__} {errno.errorcode.get(number, '')} {error}"
    return result.encode()[:300]


def begin(stage, work):
    """Start a process that works with one end of a pipe; return the process and the other end."""
    mine, other = socket.socketpair()
    process = os.fork()
    if process == 0:
        mine.close()
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 2)
        try:
            work(stage, other.detach())
        finally:
            os._exit(0)
    other.close()
    return process, mine


def unconfined(name, stages):
    """Try an attack in a process without confinement."""
    process, pipe = begin(stages.fresh(), lambda stage, end: os.write(end, attempt(name, stage)))
    with pipe:
        result = pipe.recv(1000)
    if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == EXECUTED:
        result = DONE.encode()
    changed = stages.changed(0.3 if ATTACKS[name].harms else 0.0)
    return {"result": result.decode(errors="replace"), "changed": changed}


def confined(names, stages, confine):
    """Try attacks one after the other in a confined process, or in several if it ends early."""
    found = {}
    while len(found) < len(names):
        left = names[len(found) :]

        def work(stage, end, left=left):
            os.chdir(stage.cwd)
            confine(stage, end)
            Path("own").write_text("what a solution may do")
            os.write(end, Path("own").read_bytes()[:4])
            lowest = os.dup(end)
            for name in left:
                os.closerange(lowest, end)  # what the last one left open
                os.closerange(max(lowest, end + 1), confinement.OPEN_FILES)
                os.write(end, attempt(name, stage))
                os.read(end, 1)

        process, pipe = begin(stages.fresh(), work)
        with pipe:
            assert pipe.recv(4) == b"what", "it was not confined, or too much"
            for name in left:
                result = pipe.recv(1000).decode(errors="replace")
                found[name] = {"result": result, "changed": stages.changed(0)}
                if not result or found[name]["changed"]:
                    break
                pipe.send(b"x")
        os.kill(process, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == EXECUTED:
            found[name]["result"] = DONE
    # Late effects would show here.
    assert stages.stage is None or not stages.changed(0.1), "a late change"
    return found


def main(role):
    """Try all attacks as `root` or as a `user`; print the outcomes as JSON."""
    folder = Path(tempfile.mkdtemp(prefix="cs285-attacks-"))
    folder.chmod(0o755)
    libraries = tuple(reading.libraries(REFERENCE))
    if role == "user" and os.geteuid() == 0:
        os.chown(folder, USER, USER)
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        LIBC.prctl(4, 1, 0, 0, 0)  # as a program that this user has started
    user = privileges.transient_user(os.getpid())
    permissions = confinement.Permissions(libraries, REFERENCE, user)

    def confine(stage, kept):
        """Confine this process as the supervisor confines a job."""
        confinement.close_files(kept)
        if user is not None:
            os.chown(stage.cwd, user, user)
        confinement.confine(stage.cwd, permissions)

    names = [name for name, one in ATTACKS.items() if role == "root" or not one.root]
    stages = Stages(folder)
    without = {name: unconfined(name, stages) for name in names}
    stages.close()
    within = confined(names, stages, confine)
    stages.close()
    leftovers.remove(folder)
    outcomes = {name: {"unconfined": without[name], "confined": within[name]} for name in names}
    print(json.dumps(outcomes))


if __name__ == "__main__":
    sys.path[0] = str(REFERENCE.parent)
    from cs285.grading.sandbox import confinement, leftovers, privileges, reading

    main(sys.argv[1])
