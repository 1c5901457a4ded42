"""What confines student code: the filter of system calls, files, privileges, leftovers, messages.

`test_sandbox_attacks.py` tries attacks one by one; here are tests of the parts, honest programs,
and hostile hand-ins on their way through the checker.
"""

import errno
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cs285.grading.archives import UnsafeHandInError
from cs285.grading.hand_ins import unpacking
from cs285.grading.hand_ins.unpacking import open_hand_in
from cs285.grading.sandbox import bubblewrap, layers, leftovers, reading, system_calls
from cs285.grading.sandbox.ends import DISK_ENTRIES, End
from cs285.grading.sandbox.layers import Layer
from cs285.grading.sandbox.sandbox import MAX_TEXT, PACKAGE, Sandbox, SandboxError, plain
from cs285.grading.solutions import checking
from cs285.grading.solutions.assignment import AGENTS
from cs285.grading.solutions.checking import check_file, check_files
from cs285.grading.solutions.reports import FileReport, SolutionReport, format_solution
from cs285.grading.solutions.sources import read_solution
from cs285.grading.solutions.verdicts import Finding, Verdict
from cs285.infrastructure.errors import UserError
from cs285.scripts import check_solution

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.solutions import STYLES

needs_linux = pytest.mark.skipif(
    not {Layer.CALLS, Layer.FILES} <= layers.active(), reason="no seccomp or no Landlock here"
)

# The filter


def answer(column, architecture, number, *arguments, itself=77):
    """Run the filter as the kernel's machine would; return 0 for an allowed call, else its errno.

    From Documentation/userspace-api/seccomp_filter.rst and networking/filter.rst.
    """
    known = system_calls._MACHINES[("x86_64", "aarch64")[column]][1]
    values = [one & (1 << 64) - 1 for one in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("<iIQ6Q", number, architecture or known, 0, *values)
    program = [
        struct.unpack("<HBBI", step) for step in system_calls._program(column, known, itself)
    ]
    place = accumulator = 0
    while True:
        code, if_true, if_false, value = program[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x15:
            place += if_true if accumulator == value else if_false
        elif code == 0x35:
            place += if_true if accumulator >= value else if_false
        elif code == 0x06:
            if value == 0x7FFF0000:
                return 0
            assert value & 0xFFFF0000 == 0x00050000
            return value & 0xFFFF
        else:
            raise AssertionError(code)


NUMBERS = {
    name: numbers for name, (numbers, _) in system_calls.LIMITED.items()
} | system_calls.CALLS | system_calls.ABSENT  # fmt: skip


@pytest.mark.parametrize("column", [0, 1], ids=["x86-64", "arm64"])
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (0, 1, 2), 0),
        ("kill", (77, 9), 0),
        ("kill", (76, 9), errno.EPERM),
        ("kill", (-1, 9), errno.EPERM),
        ("kill", (0, 9), errno.EPERM),
        ("tgkill", (77, 78, 9), 0),
        ("tgkill", (76, 76, 9), errno.EPERM),
        ("clone", (0x3D0F00,), 0),
        ("clone", (17,), errno.EPERM),
        ("clone", (0x3D0F00 | 0x10000000,), errno.EPERM),
        ("clone3", (0, 64), errno.ENOSYS),
        ("fcntl", (3, 1030, 0), 0),
        ("fcntl", (3, 8, 5), errno.EPERM),
        ("fcntl", (3, 10, 9), errno.EPERM),
        ("ioctl", (1, 0x5401), 0),
        ("ioctl", (1, 0x5412), errno.EPERM),
        ("prctl", (15,), 0),
        ("prctl", (22,), errno.EPERM),
        ("prlimit64", (0, 7, 0, 1), 0),
        ("prlimit64", (77, 7, 0, 1), 0),
        ("prlimit64", (76, 7, 0, 1), errno.EPERM),
        ("prlimit64", (0, 7, 1, 0), errno.EPERM),
        ("prlimit64", (0, 7, 1 << 32, 0), errno.EPERM),
    ],
)
def test_the_filter_looks_at_arguments(column, name, arguments, expected):
    assert answer(column, None, NUMBERS[name][column], *arguments) == expected


@pytest.mark.parametrize("column", [0, 1], ids=["x86-64", "arm64"])
def test_the_filter_allows_what_is_listed_and_nothing_else(column):
    allowed = {numbers[column] for numbers in system_calls.CALLS.values()} - {None}
    limited = {numbers[column] for numbers, _ in system_calls.LIMITED.values()}
    absent = {numbers[column] for numbers in system_calls.ABSENT.values()}
    for number in range(1000):
        found = answer(column, None, number, 1 << 20, 1 << 20, 1)
        expected = errno.ENOSYS if number in absent else errno.EPERM
        assert found == (0 if number in allowed else expected), number
    assert not allowed & limited
    assert not allowed & absent


def test_other_architectures_are_refused():
    """Their numbers mean other calls: 32-bit programs, and x86-64's second set of numbers."""
    assert answer(0, 0x40000003, 3) == errno.EPERM
    assert answer(1, 0x40000028, 63) == errno.EPERM
    assert answer(0, None, 0x40000000) == errno.EPERM


HEADERS = (
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm-generic/unistd.h"),
)


@pytest.mark.parametrize("column", [0, 1], ids=["x86-64", "arm64"])
def test_numbers_are_those_of_the_kernels_headers(column):
    if not HEADERS[column].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[column].read_text()
    numbers = {
        name: int(number)
        for name, number in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", text, re.MULTILINE)
    }
    # On arm64 some have a second name: `#define __NR_fcntl __NR3264_fcntl`.
    aliases = dict(re.findall(r"^#define __NR_(\w+) __NR3264_(\w+)", text, re.MULTILINE))
    numbers |= {one: numbers[two] for one, two in aliases.items() if two in numbers}
    for name, known in NUMBERS.items():
        assert known[column] == numbers.get(name), name


# Honest solutions


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


def student(agent="random"):
    return (STYLES["student"] / f"{agent}_agent.py").read_text(encoding="utf-8")


def with_code(code, agent="random"):
    """A correct solution that runs some code when it is imported."""
    own = student(agent).replace("from __future__ import annotations", "")
    return f"{textwrap.dedent(code)}\n{own}"


def check(sandbox, code):
    files = {"random_agent.py": with_code(code)}
    return check_file(sandbox, "random", files, np.random.default_rng(1))


HONEST = {
    "threads": """
        import threading, queue
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(abs, [-1, -2])) == [1, 2]
        import torch
        torch.set_num_threads(2)
        (torch.ones(400, 400, requires_grad=True) @ torch.ones(400, 400)).sum().backward()
        torch.set_num_threads(1)
    """,
    "temporary files": """
        import os, tempfile
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "a"), "w") as file:
                file.write("x")
            os.rename(os.path.join(folder, "a"), os.path.join(folder, "b"))
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write("x"), file.seek(0)
            assert file.read() == "x"
        with tempfile.TemporaryFile() as file:
            file.write(b"x")
    """,
    "saving": """
        import json, os, pickle, numpy as np, torch
        os.makedirs("logs/deep", exist_ok=True)
        np.save("a.npy", np.arange(3)), np.savez_compressed("a.npz", a=np.arange(3))
        assert np.load("a.npy").sum() == np.load("a.npz")["a"].sum() == 3
        torch.save({"a": torch.ones(3)}, "a.pt")
        assert torch.load("a.pt", weights_only=True)["a"].sum() == 3
        json.dump({}, open("logs/deep/a.json", "w")), os.remove("a.npy"), os.listdir(".")
        mapped = np.memmap("m", dtype=np.float32, mode="w+", shape=10)
        mapped[:] = 1; mapped.flush()
    """,
    "plots": """
        import matplotlib
        import matplotlib.pyplot as plt, numpy as np
        figure, axes = plt.subplots(2, 2)
        axes[0, 0].pcolormesh(np.ones((20, 20))), axes[0, 0].set_title("$x$")
        axes[0, 1].plot(np.arange(3), label="a"), axes[0, 1].legend()
        figure.savefig("figure.png"), plt.close(figure)
    """,
    "time, chance and signals": """
        import os, random, signal, time, uuid, secrets
        time.sleep(0.01), time.perf_counter(), random.SystemRandom().random(), uuid.uuid4()
        secrets.token_hex(), time.localtime(), os.cpu_count(), os.getpid(), os.uname()
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        signal.raise_signal(signal.SIGUSR1), os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [1, 1]
        import resource
        resource.getrlimit(resource.RLIMIT_AS), resource.getrusage(resource.RUSAGE_SELF)
    """,
    "libraries": """
        import collections, copy, dataclasses, functools, logging, typing, warnings
        import gymnasium, numpy.linalg, scipy.stats, yaml
        from tqdm import tqdm
        logging.getLogger("x").warning("hello"), warnings.warn("hello"), print("hello")
        assert sum(tqdm(range(3))) == 3
        assert gymnasium.make("CartPole-v1").reset(seed=1)[0].shape == (4,)
    """,
    "its own place": """
        import os
        assert open(__file__).read() and os.path.exists(__file__)
        assert open("/proc/self/status").read() and open("/proc/cpuinfo").read()
        assert open("/dev/urandom", "rb").read(3)
        os.chdir("."), os.stat("/"), os.path.isfile("/etc/passwd"), os.environ.get("HOME")
    """,
}  # fmt: skip


@pytest.mark.parametrize("program", HONEST.values(), ids=HONEST)
def test_an_honest_solution_may_do_what_it_needs(sandbox, program):
    findings = check(sandbox, program)
    assert {one.verdict for one in findings} == {Verdict.CORRECT}, findings[0].text


# PyTorch's compiler, whose import takes seconds

ORDINARY = """
    import importlib, sys, torch
    from torch import nn, optim
    from torch.optim import lr_scheduler
    for name in ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad"):
        plain = getattr(importlib.import_module(f"torch.optim.{name.lower()}"), name)
        for kind in (plain, getattr(optim, name)):
            net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
            optimizer = kind(net.parameters(), lr=0.1)
            for schedule in (lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
                             lr_scheduler.StepLR(optimizer, 2),
                             lr_scheduler.CosineAnnealingLR(optimizer, 9)):
                before = net[0].weight.detach().clone()
                optimizer.zero_grad()
                net(torch.ones(4, 3)).square().mean().backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                assert not torch.equal(before, net[0].weight) and torch.is_grad_enabled()
            optimizer.load_state_dict(optimizer.state_dict())
    nn.utils.stateless.functional_call(net, dict(net.named_parameters()), torch.ones(1, 3))
    torch.vmap(lambda x: 2 * x)(torch.ones(3))
    torch.distributions.Categorical(logits=torch.ones(3)).entropy()
"""
# Without the word for which the compiler would be imported.
NOT_IMPORTED = """
    assert "torch._dyn" "amo.config" not in sys.modules
"""
UNUSUAL = {
    "gradients of functions": """
        import torch
        slope = torch.func.grad(lambda x: (x**2).sum())(torch.ones(3))
        assert torch.equal(slope, 2 * torch.ones(3))
    """,
    "checkpoints": """
        import torch
        from torch.utils.checkpoint import checkpoint
        x = torch.ones(3, requires_grad=True)
        checkpoint(lambda x: x**2, x, use_reentrant=False).sum().backward()
        assert torch.equal(x.grad, 2 * torch.ones(3))
    """,
    "compiled": """
        import torch
        seen = []
        def backend(graph, inputs):
            seen.append(graph)
            return graph
        net = torch.nn.Linear(3, 2)
        optimizer = torch.optim.Adam(net.parameters())
        twice = torch.compile(lambda x: 2 * x, backend=backend)
        assert torch.equal(twice(torch.ones(3)), 2 * torch.ones(3)) and len(seen) == 1
        net(torch.ones(1, 3)).sum().backward(), optimizer.step()
    """,
    "by a name that no word gives away": """
        import importlib, torch
        exec(bytes(c ^ 1 for c in b"hlqnsu!unsbi/^exo`ln/bnoghf!`r!b").decode())
        assert c.cache_size_limit > 0 and c is getattr(torch, "_dyn" + "amo").config
    """,
}


def test_ordinary_code_does_not_import_the_compiler(sandbox):
    findings = check(sandbox, ORDINARY + NOT_IMPORTED)
    assert {one.verdict for one in findings} == {Verdict.CORRECT}, findings[0].text


@pytest.mark.parametrize("program", UNUSUAL.values(), ids=UNUSUAL)
def test_what_needs_the_compiler_has_it(program):
    with Sandbox() as sandbox:  # one that has not imported it for an earlier job
        findings = check(sandbox, program)
    assert {one.verdict for one in findings} == {Verdict.CORRECT}, findings[0].text


WATCHED = """

import functools, sys

def _watched(method):
    @functools.wraps(method)
    def call(*values, **named):
        result = method(*values, **named)
        if "torch._dyn" "amo.config" in sys.modules:
            raise ImportError("it has been imported")
        return result
    return call

for _name, _method in list(vars(CLASS).items()):
    if callable(_method) and not isinstance(_method, staticmethod) and _name != "__init__":
        setattr(CLASS, _name, _watched(_method))
"""


def test_no_job_of_a_right_solution_imports_the_compiler():
    files = {
        agent.file: student(name) + WATCHED.replace("CLASS", agent.class_name)
        for name, agent in AGENTS.items()
    }
    with Sandbox() as sandbox:
        reports = check_files(sandbox, files, np.random.default_rng(1))
    for report in reports:
        assert all(one.verdict.is_right for one in report.findings), report


# Stand-ins


def stand_in_job(code):
    text = STYLES["student"].joinpath("cql_agent.py").read_text(encoding="utf-8")
    own = f"{textwrap.dedent(code)}\n{text.replace('from __future__ import annotations', '')}"
    return {"cql_agent.py": own}


def test_a_class_is_checked_on_a_stand_in_whose_text_it_cannot_read(sandbox):
    """Its source is not in the memory of the process either, for example in the job."""
    code = """
        import gc, inspect, os, sys
        import cs285.agents.dqn_agent as parent
        texts = [text for text in gc.get_objects() if isinstance(text, dict)]
        texts = [str(value) for one in texts for value in list(one.values()) if type(value) is str]
        frame = sys._getframe()
        while frame:
            texts += [str(value) for value in list(frame.f_locals.values())]
            frame = frame.f_back
        folder = os.path.dirname(__file__)
        for name in os.listdir(folder):
            texts.append(open(os.path.join(folder, name), errors="replace").read())
        found = [text for text in texts if "class " + "DQNAgent" in text]
        try: found.append(inspect.getsource(parent.DQNAgent))
        except (OSError, TypeError): pass
        doc = parent.__doc__, parent.DQNAgent.__doc__
        if found or doc != (None, None): raise RuntimeError(f"found {len(found)}, {doc}")
    """
    findings = check_file(sandbox, "cql", stand_in_job(code), np.random.default_rng(1))
    assert {one.verdict for one in findings} == {Verdict.CORRECT}, findings[0].text


def test_an_error_in_a_stand_in_names_its_method_and_shapes(sandbox):
    text = stand_in_job("")["cql_agent.py"].replace(
        "super().compute_critic_loss(obs,", "super().compute_critic_loss(obs[0],"
    )
    findings = check_file(sandbox, "cql", {"cql_agent.py": text}, np.random.default_rng(1))
    assert any("in the inherited `compute_critic_loss` on obs (2,)" in one.text for one in findings)


# Hostile hand-ins on their way through the checker

SPOILED = {
    "deep folders": "import os\nfor _ in range(1200): os.mkdir('d'); os.chdir('d')",
    "closed folders": "import os\nos.makedirs('a/b'); open('a/b/c', 'w'); os.mkdir('z', 0)",
    "threads left behind": """
        import threading, time
        for _ in range(20): threading.Thread(target=time.sleep, args=(99,), daemon=True).start()
    """,
}  # fmt: skip


@needs_linux
@pytest.mark.parametrize("program", SPOILED.values(), ids=SPOILED)
def test_nothing_of_a_job_is_left(sandbox, program):
    assert check(sandbox, program)
    assert not list(sandbox._folder.glob("cs285-check-*"))
    assert {one.verdict for one in check(sandbox, "")} == {Verdict.CORRECT}


@needs_linux
def test_a_job_that_fills_the_disk_is_killed(sandbox):
    findings = check(sandbox, "n = 0\nwhile True:\n    open(str(n), 'w').close(); n += 1")
    assert {one.end for one in findings} == {End.DISK}
    assert f"{DISK_ENTRIES:,} files" in findings[0].text
    assert not list(sandbox._folder.glob("cs285-check-*"))


REMEMBERS = """
    import ctypes, gc, os, re
    MINE = "mark_of_MYSELF"
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    reader, writer = os.pipe()
    def readable(page):
        done = libc.write(writer, ctypes.c_void_p(page), ctypes.c_size_t(1)) == 1
        return done and bool(os.read(reader, 1))
    size, page = 1 << 22, 4096
    heap = libc.sbrk(ctypes.c_long(0)) // size
    found = set()
    for block in {id(one) // size for one in gc.get_objects()} | {heap - k for k in range(16)}:
        pages = [block * size + k * page for k in range(size // page)]
        text = b"".join(ctypes.string_at(one, page) for one in pages if readable(one))
        found |= set(re.findall(rb"mark_of_([A-Z]+)", text))
    raise RuntimeError(sorted(found))
"""


@needs_linux
def test_a_job_finds_no_earlier_job_in_its_memory(sandbox):
    """A fork inherits all memory, also what has been freed; the control is its own text."""
    for _ in range(2):
        assert check(sandbox, 'THEIRS = "mark_of_OTHERS"\n' + "# filler\n" * 500)
    findings = check(sandbox, REMEMBERS)
    assert "[b'MYSELF']" in findings[0].text, findings[0].text


@needs_linux
def test_a_job_ends_with_the_process_that_runs_the_checks():
    """Nobody else would end a job that sleeps when the time for a hand-in is over."""
    with Sandbox() as sandbox, ThreadPoolExecutor() as pool:
        check(sandbox, "")
        child = sandbox._process.pid
        answer = pool.submit(check, sandbox, "import time; time.sleep(1_000)")
        while not any(map(leads_a_session, family_of(child)[1:])):
            time.sleep(0.01)
        family = family_of(child)
        os.killpg(child, signal.SIGKILL)
        for _ in range(500):
            if not (left := [pid for pid in family if is_alive(pid)]):
                break
            time.sleep(0.01)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left
        assert answer.result()


def leads_a_session(pid):
    with suppress(OSError):
        return os.getsid(pid) == pid
    return False


def family_of(pid):
    """The process and its descendants."""
    family = [pid]
    for one in family:
        with suppress(OSError):
            children = Path(f"/proc/{one}/task/{one}/children").read_text()
            family += map(int, children.split())
    return family


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@needs_linux
def test_an_exception_reveals_nothing_about_the_grader(sandbox, monkeypatch):
    """It could quote the reference, or who runs the checker, if the hand-in could read them."""
    code = f"""
        import glob, os, sys
        found = []
        def look(path):
            try: found.append(open(path, errors="replace").read())
            except OSError: pass
        for place in [*sys.path, {str(PACKAGE.parent)!r}]:
            for path in glob.glob(place + "/cs285/agents/*_agent.py"): look(path)
        look({str(PACKAGE / "agents" / "dqn_agent.py")!r})
        look({__file__!r})
        for pid in (os.getppid(), {os.getpid()}):
            for name in ("environ", "cmdline", "maps", "status"): look(f"/proc/{{pid}}/{{name}}")
        own = [text for text in found if "class RandomAgent" in text and "found = []" in text]
        raise RuntimeError(f"{{len(found)}} files, {{len(own)}} its own: {{found}}")
    """
    findings = check(sandbox, code)
    assert "1 files, 1 its own" in findings[0].text, findings[0].text


FORGED = {
    "stage": "import",
    "error": {
        "type": "T" * 9000,
        "message": "\x1b]0;title\x07\x1b[2J\r\n  dqn_agent.py correct\u202e\u2066\x9b31m"
        + "x" * 9000,
        "file": "cs285/agents/random_agent.py",
        "line": 3,
        "function": "\x1b[31m\nget_action",
    },
}


@needs_linux
def test_a_forged_message_cannot_draw_on_the_terminal(sandbox):
    """It is written to the pipe itself, so no code of the checker has cut or escaped it."""
    line = json.dumps(FORGED) + "\n"
    findings = check(
        sandbox,
        f"import os\nfor fd in range(3, 60):\n    try: os.write(fd, {line.encode()!r})\n"
        "    except OSError: pass\nos._exit(0)",
    )
    report = SolutionReport("a\x1b[2J\nb", (FileReport("random_agent.py", tuple(findings)),))
    texts = [format_solution(report), json.dumps(report.as_json(), ensure_ascii=False)]
    assert "title" in texts[0]
    for text in texts:
        assert len(text) < 20_000
        assert json.loads(texts[1])["files"]
    for one in texts[0]:
        assert one == "\n" or one.isprintable(), ascii(one)
    assert not any(line.strip().startswith("dqn_agent.py") for line in texts[0].splitlines())
    for finding in findings:
        assert finding.text.isprintable()
        assert len(finding.text) < 3 * MAX_TEXT


AS_A_USER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cs285.grading.sandbox import reading, views
paths = [*reading.libraries(Path("/nowhere")), Path(sys.executable).resolve().parent]
if not views.open_up([*paths, Path(sys.argv[1])], 65534): sys.exit(77)
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
os.environ["TMPDIR"] = sys.argv[2]
os.execv(sys.executable, [sys.executable, "-B", *sys.argv[3:]])
"""


@needs_linux
def test_a_grader_who_is_an_ordinary_user_is_as_safe(tmp_path_factory):
    """A hand-in that tries to stop its grader harms only itself; the grader is not root here."""
    if os.geteuid() != 0:
        pytest.skip("these tests run as an ordinary user anyway")
    with leftovers.temporary_folder("cs285-user-") as folder:
        tgkill = NUMBERS["tgkill"][os.uname().machine == "aarch64"]
        hostile = f"""
            import ctypes, os
            libc, done = ctypes.CDLL(None), []
            near = range(os.getppid() - 40, os.getppid() + 40)
            for pid in {{os.getppid(), *near}} - {{os.getpid()}}:
                if libc.syscall({tgkill}, pid, pid, 9) == 0: done.append(pid)
                for name in ("environ", "cmdline", "maps"):
                    try: done.append(open(f"/proc/{{pid}}/{{name}}").read())
                    except OSError: pass
            raise RuntimeError(f"{{os.getuid()}} {{len(done)}}")
        """
        for name, code in (("hostile", hostile), ("right", "")):
            (folder / name).mkdir()
            (folder / name / "random_agent.py").write_text(with_code(code))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        script = PACKAGE / "scripts" / "check_solution.py"
        done = subprocess.run(
            [sys.executable, "-B", "-c", AS_A_USER, str(PACKAGE.parent), str(folder), str(script),
             str(folder / "hostile"), str(folder / "right"), "--workers", "1"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 77:
            pytest.skip("other users cannot read Python here, and root may not mount it elsewhere")
        assert "RuntimeError: 65534 0" in done.stdout, done.stdout + done.stderr
        assert "random_agent.py  correct" in done.stdout
        assert {path.name for path in folder.iterdir()} == {"hostile", "right"}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("naïve 好", "naïve 好"),
        ("a\nb\x1b[0m\u202e\ud800", "a\\nb\\x1b[0m\\u202e\\ud800"),
        ({"a\n": ["\r", 1, None, True]}, {"a\\n": ["\\r", 1, None, True]}),
        ("x" * 9000, "x" * MAX_TEXT),
    ],
)
def test_descriptions_of_errors_are_made_safe_to_show(said, shown):
    assert plain(said) == shown


@needs_linux
@pytest.mark.parametrize("kind", ["weights", "gradients"])
def test_forged_names_of_networks_are_not_an_answer(sandbox, kind):
    record = {
        "trial": 0,
        "stage": "construct",
        "optimisers": [],
        "own_optimisers": [],
        "weights": {},
    }
    line = json.dumps(record | {kind: {"\x1b[2J\ncritic/online": []}}) + "\n"
    findings = check(
        sandbox,
        f"import os\nfor fd in range(3, 60):\n    try: os.write(fd, {line.encode()!r})\n"
        "    except OSError: pass\nos._exit(0)",
    )
    assert {one.end for one in findings} == {End.NOT_AN_ANSWER}


@needs_linux
@pytest.mark.parametrize(
    "record",
    [
        '{"stage": "done", "trial": Infinity}',
        '{"stage": "import", "error": {"inherited": {"shapes": {"q": [1e400]}}}}',
        '{"stage": "construct", "trial": 0, "weights": ' + "[" * 900 + "]" * 900 + "}",
    ],
    ids=["infinite", "an infinite shape", "deep"],
)
def test_a_forged_number_is_not_an_answer(sandbox, record):
    """It counts against the hand-in, as any other answer that cannot be read."""
    line = record + "\n"
    findings = check(
        sandbox,
        f"import os\nfor fd in range(3, 60):\n    try: os.write(fd, {line.encode()!r})\n"
        "    except OSError: pass\nos._exit(0)",
    )
    assert {one.end for one in findings} == {End.NOT_AN_ANSWER}, findings
    assert all(one.verdict.is_bad for one in findings)


@needs_linux
@pytest.mark.parametrize(
    "flood",
    ['b"{}\\n" * 500_000', "b'{\"of\": [' + b'[],' * 500_000 + b'0]}\\n'"],
    ids=["records", "lists"],
)
def test_an_answer_of_few_bytes_cannot_fill_the_memory(sandbox, flood):
    findings = check(
        sandbox,
        f"import os\nfor fd in range(3, 60):\n    try: os.write(fd, {flood})\n"
        "    except OSError: pass\nos._exit(0)",
    )
    assert {one.end for one in findings} == {End.NOT_AN_ANSWER}


def test_a_deep_message_is_cut():
    deep = "x"
    for _ in range(900):
        deep = [deep]
    assert "x" not in json.dumps(plain(deep))


def test_a_report_escapes_names_of_files_and_students():
    hostile = "a\x1b[2J\n  dqn_agent.py correct\u202e"
    finding = Finding(hostile, Verdict.WRONG, hostile)
    report = SolutionReport(hostile, (FileReport("dqn_agent.py", (finding,)),), (hostile,))
    for text in (format_solution(report), format_solution(SolutionReport(hostile, error=hostile))):
        assert all(one == "\n" or " " <= one <= "~" for one in text)
        assert sum("dqn_agent.py" in line[:15] for line in text.splitlines()) <= 1


def test_a_checker_that_fails_on_one_hand_in_continues_with_the_next(tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "random_agent.py").write_text(student())
    working = checking.check_files

    def fail_once(*arguments, **named):
        monkeypatch.setattr(checking, "check_files", working)
        raise ZeroDivisionError("\x1b[2J")

    monkeypatch.setattr(checking, "check_files", fail_once)
    assert check_solution.main([str(tmp_path / "a"), str(tmp_path / "b"), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "the checker failed" in printed
    assert "random_agent.py  correct" in printed
    assert "\x1b" not in printed


# Files

HIDDEN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cs285.grading.sandbox import confinement
root = Path(sys.argv[2])
permissions = confinement.Permissions((root / "site",), root / "site" / "cs285")
confinement.confine(root / "own", permissions)
for name in ("site/other/a", "site/one", "site/cs285/agents/a", "site/cs285/b", "own/a"):
    try: print(name, (root / name).read_text())
    except OSError as error: print(name, type(error).__name__)
"""


@needs_linux
def test_an_installed_reference_is_hidden_among_the_libraries(tmp_path):
    for name in ("site/other/a", "site/one", "site/cs285/agents/a", "site/cs285/b", "own/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    done = subprocess.run(
        [sys.executable, "-B", "-c", HIDDEN, str(PACKAGE.parent), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        "site/other/a": "text", "site/one": "text", "own/a": "text",
        "site/cs285/agents/a": "PermissionError", "site/cs285/b": "PermissionError",
    }, done.stderr  # fmt: skip


def test_the_folder_of_a_checkout_is_not_a_library():
    assert reading.is_code_of_the_repository(str(PACKAGE.parent), PACKAGE)
    assert not reading.is_code_of_the_repository(np.__path__[0], PACKAGE)
    assert PACKAGE.parent not in reading.libraries(PACKAGE)


def test_a_closed_folder_is_found(tmp_path):
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    found = reading.closed_folder(inner, 54321)
    assert found is not None
    assert found == tmp_path / "closed" or found in tmp_path.parents or found == tmp_path
    assert reading.closed_folder(Path("/usr/lib"), 54321) is None


def test_leftovers_are_measured_and_removed(tmp_path):
    folder = tmp_path / "job"
    place = folder
    for _ in range(30):
        place = place / ("d" * 200)  # together longer than a path may be
        if len(str(place)) > 3500:
            break
        place.mkdir(parents=True)
    (folder / "file").write_bytes(bytes(100_000))
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (folder / "link").symlink_to(outside)
    (folder / "folder link").symlink_to(tmp_path)
    assert leftovers.exceed(folder, 50_000, 1000)
    assert leftovers.exceed(folder, 10_000_000, 10)
    assert not leftovers.exceed(folder, 10_000_000, 1000)
    leftovers.remove(folder)
    assert not folder.exists()
    assert outside.read_text() == "kept"


def test_a_zip_of_thousands_of_configs_is_read_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_FILES", 40)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(19_000):
            file.writestr(f"data/hw5_offline_{number}/config.yaml", "base_config: dqn\n")
    with open_hand_in(tmp_path / "a.zip") as hand_in:
        assert sum(1 for _ in hand_in.root.glob("data/*/config.yaml")) == 40
        assert len(hand_in.files) == 19_000
        assert hand_in.problems == (
            "19,000 logs, configs and datasets; only the first 40 are read",
        )


def test_a_zip_of_thousands_of_large_configs_has_few_problems(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(500):
            file.writestr(f"data/hw5_offline_{number}/config.yaml", "a: b\n" * 2000)
    with open_hand_in(tmp_path / "a.zip") as hand_in:
        assert len(hand_in.problems) == 21
        assert "480 more" in hand_in.problems[-1]


def test_a_zip_or_a_folder_that_is_too_deep_is_refused_or_cut(tmp_path):
    """Removing a thousand nested folders crashes a program that recurses into each."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a/" * 985 + "config.yaml", "base_config: dqn")
    with (
        pytest.raises(UnsafeHandInError, match="985 folders deep"),
        open_hand_in(tmp_path / "a.zip"),
    ):
        pass
    place = tmp_path / "folder"
    for _ in range(985):
        place = place / "a"
    deepest = []
    for part in reversed([place, *place.parents]):
        if part.is_relative_to(tmp_path) and part != tmp_path:
            part.mkdir()
            deepest = [part]
    (deepest[0] / "dqn_agent.py").write_text("")
    with open_hand_in(tmp_path / "folder") as hand_in:
        assert not hand_in.files
    with pytest.raises(UserError, match="contains none of"):
        read_solution(tmp_path / "folder")
    leftovers.remove(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# Layers


def test_missing_layers_are_reported_on_every_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layers.landlock, "version", lambda: 0)
    monkeypatch.setattr(layers.system_calls, "are_filtered", lambda: False)
    monkeypatch.setattr(layers.privileges, "transient_user", lambda seed: None)
    monkeypatch.setattr(layers.os, "geteuid", lambda: 0)
    monkeypatch.setattr(bubblewrap, "state", lambda: bubblewrap.State.ABSENT)
    (tmp_path / "empty").mkdir()
    assert check_solution.main([str(tmp_path / "empty")]) == 1
    printed = capsys.readouterr().err
    for word in ("seccomp", "Landlock", "user", "container"):
        assert word in printed
    assert printed.count("\n") == 1


def test_a_system_with_all_layers_gets_no_warning(monkeypatch):
    monkeypatch.setattr(layers, "active", lambda: frozenset(Layer))
    monkeypatch.setattr(bubblewrap, "state", lambda: bubblewrap.State.WORKS)
    assert not layers.warning()
    monkeypatch.setattr(bubblewrap, "state", lambda: bubblewrap.State.FAILS)
    assert "bubblewrap" in layers.warning()


def test_root_who_may_not_mount_stays_root_if_python_is_closed_to_others(monkeypatch):
    monkeypatch.setattr(layers.os, "geteuid", lambda: 0)
    monkeypatch.setattr(layers.privileges, "transient_user", lambda seed: 61184)
    monkeypatch.setattr(bubblewrap, "state", lambda: bubblewrap.State.ABSENT)
    for may_mount in (True, False):
        for closed in (None, Path("/root")):
            monkeypatch.setattr(layers.privileges, "may_mount", lambda may=may_mount: may)
            monkeypatch.setattr(layers.reading, "closed_folder", lambda *_, closed=closed: closed)
            assert (Layer.USER in layers.active()) == (may_mount or closed is None)


@needs_linux
def test_the_child_says_which_layers_are_active(sandbox):
    check(sandbox, "")
    assert sandbox.layers == layers.active()


@pytest.fixture
def own_bubblewrap(tmp_path, monkeypatch):
    """Puts a program of that name first in the path; returns its own path."""
    program = tmp_path / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    bubblewrap.state.cache_clear()
    yield program
    bubblewrap.state.cache_clear()


def test_a_bubblewrap_that_does_not_start_is_left_out_and_reported(own_bubblewrap, tmp_path):
    assert bubblewrap.state() is bubblewrap.State.FAILS
    assert bubblewrap.command(tmp_path, PACKAGE) == []
    assert "bubblewrap, which is installed but does not start" in layers.warning()


def test_bubblewrap_shows_python_and_hides_the_rest(own_bubblewrap, tmp_path):
    own_bubblewrap.write_text("#!/bin/sh\nexit 0\n")
    parts = bubblewrap.command(tmp_path, PACKAGE)
    assert parts[0] == str(own_bubblewrap)
    assert {"--unshare-pid", "--unshare-net", "--unshare-ipc"} <= set(parts)
    shown = {parts[n + 2] for n, part in enumerate(parts) if part == "--ro-bind"}
    assert not any(PACKAGE.is_relative_to(path) for path in shown)
    assert parts[-6:] == ["--bind", str(tmp_path), str(tmp_path), "--chdir", str(tmp_path), "--"]


def test_a_child_that_does_not_start_is_nobodys_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Sandbox() as sandbox, pytest.raises(SandboxError, match="does not start"):
        sandbox.run({"seconds": 1})


def test_only_the_owner_and_the_jobs_user_can_open_the_folder(sandbox):
    check(sandbox, "")
    status = sandbox._folder.stat()
    assert not status.st_mode & stat.S_IRWXO
    if status.st_mode & stat.S_IRWXG:
        assert 61184 <= status.st_gid < 61184 + 4336 or status.st_gid == 65534
