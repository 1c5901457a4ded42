"""The solution checker finds and names mistakes, accuses no one falsely, and survives attacks."""

import ast
import importlib
import json
import os
import stat
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cs285.grading.archives import UnsafeHandInError, check_members
from cs285.grading.sandbox.ends import End, Ending
from cs285.grading.sandbox.sandbox import Sandbox
from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.assignment import AGENTS
from cs285.grading.solutions.checking import _judge_class, check_file, check_files
from cs285.grading.solutions.judges import critics
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.reports import FileReport
from cs285.grading.solutions.sources import MAX_SOURCES, read_solution
from cs285.grading.solutions.verdicts import Verdict, most_serious
from cs285.infrastructure.errors import UserError
from cs285.scripts import check_solution

sys.path.insert(0, str(Path(__file__).parents[1]))  # `tests` is not installed
from tests.solutions import STYLES, Patched
from tests.solutions.mutants import MUTANTS
from tests.solutions.variants import VARIANTS

ALGORITHMS = ("random", "rnd", "dqn", "cql", "awac", "iql")


@pytest.fixture(scope="module")
def sandbox():
    """One child for the whole file: importing PyTorch takes longer than a check."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def check(sandbox):
    """Checks one file: `check("dqn", text)`; other files of the solution may come with it."""

    def check(agent, text, **others):
        files = {f"{name}_agent.py": other for name, other in others.items()}
        files[f"{agent}_agent.py"] = text
        # One seed for all, so that the tests can be repeated; graders use a new one each time.
        return check_file(sandbox, agent, files, np.random.default_rng(1))

    return check


def student(agent):
    return (STYLES["student"] / f"{agent}_agent.py").read_text(encoding="utf-8")


def said(findings):
    return "; ".join(f"{f.method} {f.verdict} {f.text}" for f in findings)


def at_fault(findings):
    return {finding.method for finding in findings if finding.verdict.is_bad}


def patched(name):
    return next(one for one in (*MUTANTS, *VARIANTS) if one.name == name)


IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
sys.path.insert(0, sys.argv[1])
import cs285
for module in pkgutil.walk_packages(cs285.__path__, "cs285."):
    if not module.name.startswith("cs285.grading."):
        assert importlib.import_module(module.name).__file__.startswith(sys.argv[1]), module
        print(module.name)
"""


def test_every_module_in_the_sandbox_can_be_imported(sandbox):
    """Without the repository, as in the child: whatever a student's file imports works there."""
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", IMPORT_EVERYTHING, str(sandbox._folder)],
        cwd=sandbox._folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert {"cs285.homework", "cs285.env_configs.loading", "cs285.networks.mlp"} <= modules
    # Files that give solutions away stay out.
    assert not {name for name in modules if name.endswith("_agent")}


def test_a_file_may_import_what_it_can_import_in_training(check):
    imports = (
        "import cs285.env_configs.loading\n"
        "import cs285.infrastructure.replay_buffer\n"
        "import cs285.infrastructure.statistics\n"
        "import cs285.learning.learner\n"
    )
    findings = check(
        "dqn", imports + student("dqn").replace("from __future__ import annotations\n", "")
    )
    assert {finding.verdict for finding in findings} == {Verdict.CORRECT}, said(findings)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_is_found_and_named(check, mutant):
    findings = check(mutant.agent, mutant.text)
    assert any(
        f.method == mutant.method and f.verdict == mutant.verdict and mutant.says in f.text
        for f in findings
    ), said(findings)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_right_solution_in_another_style_is_not_flagged(check, variant):
    findings = check(variant.agent, variant.text)
    assert findings
    assert {f.verdict for f in findings} <= {Verdict.CORRECT, Verdict.VARIANT}, said(findings)
    assert any(variant.says in f.text for f in findings), said(findings)


def test_a_custom_optimiser_is_not_a_mistake(check):
    """Its steps are read like those of the makers' optimisers."""
    own = student("awac").replace("make_actor_optimizer(self", "torch.optim.Adam(self")
    findings = check("awac", own)
    assert not at_fault(findings), said(findings)
    assert {f.method for f in findings if "settings have no effect on it" in f.text} == {"__init__"}
    wrong = own.replace("loss = -(dist", "loss = (dist")
    assert at_fault(check("awac", wrong)) == {"update_actor"}


# Parents


@pytest.mark.parametrize("agent", ["cql", "awac", "rnd"])
def test_a_wrong_parent_does_not_make_its_children_wrong(check, agent):
    findings = check(agent, student(agent), dqn=patched("dqn: no mask").text)
    assert not at_fault(findings), said(findings)


def test_a_child_that_needs_its_own_parent_is_judged_on_what_it_adds(check):
    """It reads a name that the reference's DQN does not have, and that DQN is wrong."""
    renamed = Patched("", "dqn", "", "", (("self.discount", "self.gamma"), ("* ~done ", "")))
    child = student("cql").replace(
        "self.cql_temperature = cql_t", "self.gamma *= 1.0\n        self.cql_temperature = cql_t"
    )
    assert not at_fault(check("cql", child, dqn=renamed.text))
    wrong = child.replace("self.cql_alpha * (", "(")
    assert at_fault(check("cql", wrong, dqn=renamed.text)) == {"compute_critic_loss"}


def test_the_message_of_an_exception_does_not_prevent_a_check_on_the_students_parent(check):
    """Only the end of the process does, not words that also occur in messages about it."""
    needs_gamma = student("cql").replace(
        "        self.cql_temperature = cql_t",
        "        if not hasattr(self, 'gamma'):\n"
        "            raise ValueError('processor time ended: flooded, brought down')\n"
        "        self.cql_temperature = cql_t",
    )
    renamed = Patched("", "dqn", "", "", (("self.discount", "self.gamma"),))
    assert at_fault(check("cql", needs_gamma))
    assert not at_fault(check("cql", needs_gamma, dqn=renamed.text))


def test_a_process_that_had_to_be_ended_is_not_tried_again(sandbox):
    endless = student("awac").replace(
        "        super().__init__(",
        "        import os\n        os._exit(3)\n        super().__init__(",
        1,
    )
    files = {"awac_agent.py": endless, "dqn_agent.py": student("dqn")}
    jobs = []

    class Counting:
        def run(self, job):
            jobs.append(job["module"])
            return sandbox.run(job)

    findings = check_file(Counting(), "awac", files, np.random.default_rng(1))
    assert {finding.end for finding in findings} == {End.STATUS}
    assert "exited with status 3" in findings[0].text
    # The parent is checked as well: had it ended in the same way, the child would not be blamed.
    assert jobs == ["cs285.agents.awac_agent", "cs285.agents.dqn_agent"]


# Verdicts


def test_a_file_has_the_gravest_verdict_of_its_methods():
    order = ["crashes", "wrong", "unsolved", "missing", "accepted variant", "correct", "not judged"]
    assert [str(verdict) for verdict in Verdict] == order
    assert most_serious([Verdict.UNJUDGED, Verdict.CORRECT, Verdict.WRONG]) is Verdict.WRONG
    assert most_serious([]) is Verdict.UNJUDGED
    assert [v for v in Verdict if v.is_right] == [Verdict.VARIANT, Verdict.CORRECT]
    assert [v for v in Verdict if v.is_bad] == list(Verdict)[:4]
    assert not any(v.is_right and v.is_bad for v in Verdict)


@pytest.mark.parametrize("end", End)
def test_every_kind_of_end_of_a_process_has_a_message(end):
    """It names the limit or the signal."""
    text = Ending(end, 6).text
    assert "{" not in text
    if end is End.SIGNAL:
        assert text.endswith("SIGABRT")
    if end in {End.STATUS, End.TIME}:
        assert "6" in text


def test_every_agent_of_the_assignment_has_its_judge_parents_and_makers():
    assert tuple(AGENTS) == ALGORITHMS
    for agent in AGENTS.values():
        assert issubclass(_judge_class(agent), Judge)
        module = importlib.import_module(f"cs285.agents.{agent.module}")
        cls = getattr(module, agent.class_name)
        ancestors = {one.__module__ for one in cls.__mro__[1:]}
        files = {f"cs285.agents.{name}_agent" for name in ALGORITHMS}
        expected = {f"cs285.agents.{AGENTS[parent].module}" for parent in agent.parents}
        assert ancestors & files == expected


# Files


def test_present_and_missing_files_get_verdicts(sandbox):
    reports = check_files(sandbox, {"random_agent.py": student("random")})
    verdicts = {report.file: report.verdict for report in reports}
    assert verdicts.pop("random_agent.py") == Verdict.CORRECT
    assert set(verdicts.values()) == {Verdict.MISSING}


@pytest.mark.parametrize(
    ("text", "verdict", "says"),
    [
        ("class DQNAgent(:\n", Verdict.CRASHES, "line 1"),
        ("x = 1\n", Verdict.MISSING, "no class DQNAgent"),
        (
            "import tensorflow_of_the_future\nclass DQNAgent: pass\n",
            Verdict.UNJUDGED,
            "`tensorflow_of_the_future`, which is not in the hand-in",
        ),
        ("\0", Verdict.CRASHES, "not valid Python"),
        ("(" * 5000, Verdict.CRASHES, "not valid Python"),
    ],
)
def test_a_file_that_cannot_be_used_is_reported(check, text, verdict, says):
    findings = check("dqn", text)
    assert findings[0].verdict == verdict
    assert says in findings[0].text


def test_helpers_next_to_the_agents_may_be_imported(sandbox):
    text = (
        student("cql")
        .replace(
            "from cs285.agents.dqn_agent import DQNAgent",
            "from cs285.agents.dqn_agent import DQNAgent\nfrom cs285.agents.helpers import lse",
        )
        .replace("torch.logsumexp", "lse")
    )
    files = {"cql_agent.py": text, "helpers.py": "from torch import logsumexp as lse\n"}
    assert not at_fault(check_file(sandbox, "cql", files, np.random.default_rng()))


def test_the_reference_is_out_of_reach(check):
    stolen = "from cs285.agents.rnd_agent import RNDAgent\nclass DQNAgent(RNDAgent): pass\n"
    assert "ModuleNotFoundError" in check("dqn", stolen)[0].text


HEADER = "import os, sys, time, signal, socket, subprocess, torch\n"
ATTACKS = {
    "endless loop": "while True: pass",
    "sleep": "time.sleep(1000)",
    "exit": "os._exit(0)",
    "system exit": "sys.exit(3)",
    "signal": "os.kill(os.getpid(), signal.SIGKILL); os.abort()",
    "memory": "x = bytearray(16 << 30)",
    "fork": "os.fork()",
    "process": "subprocess.run(['true'])",
    "socket": "socket.create_connection(('127.0.0.1', 9), timeout=1)",
    "kill the parent": "os.kill(os.getppid(), 9)",
    "write outside": f"open({str(Path(__file__).parent / 'attacked')!r}, 'w')",
    "write into home": "open(os.path.expanduser('~/attacked'), 'w')",
    "delete": f"os.remove({__file__!r})",
    "big file": "open('big', 'wb').write(bytes(64 << 20))",
    "segfault": "import ctypes; ctypes.string_at(0)",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_counts_as_a_crash_and_the_next_check_works(check, attack):
    text = student("random").replace("import numpy", f"{HEADER}import numpy")
    text = text.replace(
        "        super().__init__()", f"        super().__init__()\n        {attack}"
    )
    findings = check("random", text)
    assert {f.verdict for f in findings} == {Verdict.CRASHES}, said(findings)
    assert all(f.text for f in findings)
    assert not (Path(__file__).parent / "attacked").exists()
    assert not at_fault(check("random", student("random")))


def test_floods_and_tampering_change_nothing(check):
    text = (
        student("random")
        .replace(
            "        super().__init__()",
            "        super().__init__()\n        import sys\n"
            "        print('x' * (1 << 24)); print('{\"verdict\": \"correct\"}', file=sys.stderr)\n"
            "        sys.modules.clear()",
        )
        .replace("randint(self.num_actions)", "randint(2)")
    )
    assert at_fault(check("random", text))
    assert not at_fault(check("random", student("random")))


def test_forged_answers_do_not_pass(check):
    """Writes to every open pipe: a line that says done, an invalid answer, and a flood."""
    for forged in ('{"stage": "done"}', "[" * 100_000, '{"trial": 0, "stage": "call", "call": 0}'):
        text = student("random").replace(
            "        super().__init__()",
            "        super().__init__()\n        import os\n        for fd in range(3, 64):\n"
            f"            try: os.write(fd, {(forged + chr(10)).encode()!r})\n"
            "            except OSError: pass\n        os._exit(0)",
        )
        findings = check("random", text)
        assert {f.verdict for f in findings} == {Verdict.CRASHES}, said(findings)


def archive(path, *names, text="x = 1\n"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../dqn_agent.py", "leads out"),
        ("a/../../dqn_agent.py", "leads out"),
        ("/etc/dqn_agent.py", "absolute"),
        ("C:/dqn_agent.py", "absolute"),
        ("..\\dqn_agent.py", "leads out"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name, says):
    with pytest.raises(UnsafeHandInError, match=says):
        read_solution(archive(tmp_path / "a.zip", name))


@pytest.mark.parametrize(("kind", "says"), [(stat.S_IFLNK, "link"), (stat.S_IFCHR, "device")])
def test_links_and_devices_in_an_archive_are_refused(tmp_path, kind, says):
    member = zipfile.ZipInfo("dqn_agent.py")
    member.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc/passwd")
    with pytest.raises(UnsafeHandInError, match=says):
        read_solution(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_appears_twice_is_refused(tmp_path):
    with pytest.raises(UnsafeHandInError, match="appears twice"):
        read_solution(archive(tmp_path / "a.zip", "dqn_agent.py", "dqn_agent.py"))


def test_an_encrypted_member_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", "dqn_agent.py")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(UnsafeHandInError, match="encrypted"):
        read_solution(path)


def test_bombs_are_refused_before_they_unpack(tmp_path):
    with pytest.raises(UnsafeHandInError, match="bomb"):
        read_solution(archive(tmp_path / "a.zip", "events", text="0" * (8 << 20)))
    many = [zipfile.ZipInfo(str(number)) for number in range(30_000)]
    with pytest.raises(UnsafeHandInError, match="30000 members"):
        check_members(many)
    large = zipfile.ZipInfo("events")
    large.file_size, large.compress_size = 5 << 30, 1 << 30
    with pytest.raises(UnsafeHandInError, match="5,369 MB"):
        check_members([large])


def test_a_table_of_contents_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", "dqn_agent.py")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\5\6") + 12, 5 << 20)
    path.write_bytes(data)
    monkeypatch.delattr(zipfile, "ZipFile")
    with pytest.raises(UnsafeHandInError, match="table of contents"):
        read_solution(path)


def test_agents_are_read_before_other_files(tmp_path):
    crowd = [f"a{number}.py" for number in range(MAX_SOURCES)]
    solution = read_solution(archive(tmp_path / "a.zip", *crowd, "cql_agent.py", "dqn_agent.py"))
    assert {"cql_agent.py", "dqn_agent.py"} < set(solution.files)
    assert len(solution.files) == MAX_SOURCES
    assert f"{MAX_SOURCES + 2} Python files" in solution.problems[0]


@pytest.mark.parametrize("cut", [slice(None, 40), slice(10, None), slice(0, 0)])
def test_a_broken_archive_is_reported(tmp_path, cut):
    path = archive(tmp_path / "a.zip", "dqn_agent.py")
    path.write_bytes(path.read_bytes()[cut])
    with pytest.raises(UserError, match=r"not a readable zip|contains none"):
        read_solution(path)


def test_a_member_with_a_false_size_is_refused(tmp_path):
    path = archive(tmp_path / "a.zip", "dqn_agent.py", text="x = 1\n" * 100)
    data = bytearray(path.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, 10)
    path.write_bytes(data)
    with pytest.raises(UnsafeHandInError):
        read_solution(path)


def test_names_may_have_the_separators_of_another_system(tmp_path):
    with zipfile.ZipFile(tmp_path / "hand_in.zip", "w") as archive:
        archive.writestr("hw5\\cs285\\agents\\dqn_agent.py", student("dqn"))
        archive.writestr("hw5\\data\\", "")
    assert read_solution(tmp_path / "hand_in.zip").files == {"dqn_agent.py": student("dqn")}


def test_links_in_a_folder_are_not_followed(tmp_path):
    (tmp_path / "dqn_agent.py").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "cql_agent.py")
    (tmp_path / "random_agent.py").write_text(student("random"), encoding="utf-8")
    solution = read_solution(tmp_path)
    assert set(solution.files) == {"random_agent.py"}
    assert len(solution.problems) == 2
    (tmp_path / "random_agent.py").unlink()
    with pytest.raises(UnsafeHandInError, match="not read"):
        read_solution(tmp_path)


@pytest.mark.parametrize("prefix", ["", "agents/", "cs285/agents/", "submit/cs285/agents/"])
def test_agents_are_found_in_a_folder_a_tree_and_a_zip(tmp_path, prefix):
    tree = tmp_path / "tree"
    (tree / prefix).mkdir(parents=True, exist_ok=True)
    (tree / prefix / "dqn_agent.py").write_text("x = 1\n", encoding="utf-8")
    (tree / prefix / "helpers.py").write_text("y = 1\n", encoding="utf-8")
    zipped = archive(
        tmp_path / "a.zip", f"{prefix}dqn_agent.py", f"{prefix}helpers.py", "__MACOSX/dqn_agent.py"
    )
    for path in (tree, zipped):
        assert set(read_solution(path).files) == {"dqn_agent.py", "helpers.py"}


# The command


def test_several_solutions_give_a_table_and_json(tmp_path, capsys):
    right, wrong, unsafe = tmp_path / "right", tmp_path / "wrong", tmp_path / "bad.zip"
    for folder, text in ((right, student("cql")), (wrong, patched("cql: flipped").text)):
        folder.mkdir()
        (folder / "cql_agent.py").write_text(text, encoding="utf-8")
    archive(unsafe, "../cql_agent.py")
    paths = [str(path) for path in (right, wrong, unsafe)]
    assert check_solution.main([*paths, "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "flipped sign of the conservative term" in printed
    assert printed.splitlines()[-4].split() == ["solution", *ALGORITHMS]
    assert printed.splitlines()[-1].split()[1] == "refused"
    assert check_solution.main([paths[0], "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["passed"]
    verdicts = {file["file"]: file["verdict"] for file in report["files"]}
    assert verdicts["cql_agent.py"] == Verdict.CORRECT
    assert verdicts["iql_agent.py"] == Verdict.MISSING


def test_the_script_has_help_and_refuses_missing_paths(tmp_path, capsys):
    assert check_solution.main([str(tmp_path / "nothing")]) == 2
    assert "no such folder" in capsys.readouterr().err
    script = Path(check_solution.__file__)
    shown = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
    )
    assert "--json" in shown.stdout


def test_unreadable_numbers_are_called_neither_right_nor_wrong(check, monkeypatch):
    def unforeseen(*_):
        raise LookupError("unforeseen")

    monkeypatch.setattr(critics, "judge_update", unforeseen)
    findings = check("dqn", student("dqn"))
    assert [f.verdict for f in findings] == [Verdict.UNJUDGED], said(findings)
    assert FileReport("dqn_agent.py", tuple(findings)).verdict == Verdict.UNJUDGED


def test_an_actor_with_actions_out_of_range_is_wrong(check):
    text = (
        student("awac")
        + "\n    def get_action(self, observation, epsilon=0.0):\n        return 7\n"
    )
    assert "outside 0 to 4" in said(check("awac", text))


def test_each_node_is_visited_once_in_search_of_placeholders(monkeypatch):
    """In nested slices, visiting each one from every slice around it would take quadratic time."""
    nested = "x[" * 90 + "..." + "]" * 90
    text = f"class A:\n    def f(self) -> tuple[int, ...]:\n        return {nested}\n"
    visits = Counter()
    children = ast.iter_child_nodes

    def counted(node):
        visits[node] += 1
        return children(node)

    source = AgentSource(text, "A")
    nodes = sum(1 for _ in ast.walk(source.methods["f"]))
    monkeypatch.setattr(ast, "iter_child_nodes", counted)
    assert not source.placeholder("f")
    assert visits.total() <= nodes


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("...", "`...` (line 3)"),
        ("y: int = ...", "`...` (line 3)"),
        ("y = f(...)", "`...` (line 3)"),
        ("raise NotImplementedError", "`NotImplementedError` (line 3)"),
        (
            "raise NotImplementedError(x" + ".a" * 1500 + ")",
            "`NotImplementedError` (line 3)",
        ),
        ("raise ValueError('NotImplementedError')", ""),
        ("y: tuple[int, ...] = x[..., None]", ""),
    ],
)
def test_what_counts_as_a_placeholder(body, left):
    source = AgentSource(f"class A:\n    def f(self, x: tuple[int, ...]):\n        {body}\n", "A")
    assert source.placeholder("f") == left


def test_a_file_of_placeholders_is_unsolved(check):
    text = student("iql").replace("        u = target_qs - vs\n", "        u = ...\n")
    findings = check("iql", text)
    (static,) = [f for f in findings if f.method == "iql_expectile_loss"]
    assert static.verdict == Verdict.UNSOLVED
    assert not any(f.verdict == Verdict.WRONG for f in findings), said(findings)
