"""The checker judges each class among the files it runs with, and blames the right one."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from cs285.grading.sandbox.sandbox import Sandbox
from cs285.grading.solutions.agent_source import AgentSource
from cs285.grading.solutions.assignment import AGENTS
from cs285.grading.solutions.checking import SolutionChecker
from cs285.grading.solutions.code_check import check_code
from cs285.grading.solutions.editions import homework_of_file, homework_of_tree
from cs285.grading.solutions.sources import read_solution
from cs285.grading.solutions.verdicts import Verdict
from cs285.infrastructure.errors import UserError

STUDENT_FILES = Path(__file__).parent / "student_files"


@pytest.fixture(scope="module")
def sandbox():
    """One child for the whole file."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def checker(sandbox):
    """Makes a checker of one solution: `checker(iql=text, awac=text)`, and its helper modules."""

    def make(modules=None, beside=None, **agents):
        files = {f"{name}_agent.py": text for name, text in agents.items()} | (beside or {})
        return SolutionChecker(sandbox, files, modules or {}, np.random.default_rng(1))

    return make


def student(name):
    return (STUDENT_FILES / f"{name}_agent.py").read_text(encoding="utf-8")


def patched(name, *replacements):
    text = student(name)
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return text


def faults(findings):
    return {one.method: one for one in findings if one.verdict.is_bad}


def said(findings):
    return "; ".join(f"{one.method} {one.verdict} {one.text}" for one in findings)


# What a child inherits

COLUMN_ADVANTAGE = (
    (
        "        q_values = self.critic(observations).gather(1, actions.unsqueeze(1)).squeeze(-1)\n"
        "        return q_values - self.value_critic(observations).squeeze(-1)\n"
    ),
    (
        "        q_values = self.critic(observations).gather(1, actions.unsqueeze(1))\n"
        "        return q_values - self.value_critic(observations)\n"
    ),
)
OWN_WEIGHTS = "weights = torch.exp(advantages / self.temperature)"
SQUEEZES = (OWN_WEIGHTS, "weights = torch.exp(advantages / self.temperature).flatten()")
IN_COLUMNS = (
    "-(distribution.log_prob(actions) * weights)",
    "-(distribution.log_prob(actions)[:, None] * weights)",
)
ADVANTAGE_IN_COLUMNS = (
    "return q_values - (action_dist.probs * qa_values).sum(dim=-1)",
    "return (q_values - (action_dist.probs * qa_values).sum(dim=-1))[:, None]",
)
ADVANTAGES = "advantages = self.compute_advantage(observations, actions)"
NEVER_STEPS = ("        self.actor_optimizer.step()\n", "")


@pytest.mark.parametrize(
    ("awac", "at_fault"),
    [
        (None, True),
        ((), True),
        ((SQUEEZES,), False),
        ((IN_COLUMNS, ADVANTAGE_IN_COLUMNS), False),
    ],
    ids=["no parent", "a parent in rows", "a parent that squeezes", "a parent in columns"],
)
def test_an_advantage_in_a_column_is_judged_with_the_step_that_reads_it(checker, awac, at_fault):
    parents = {} if awac is None else {"awac": patched("awac", *awac), "dqn": student("dqn")}
    check = checker(iql=patched("iql", COLUMN_ADVANTAGE), **parents)
    found = faults(check.check("iql"))
    assert found.keys() == ({"compute_advantage"} if at_fault else set()), said(check.check("iql"))
    if at_fault:
        assert "(batch, 1)" in found["compute_advantage"].text
        assert "inherited `update_actor`" in found["compute_advantage"].text
    assert "awac_agent.py" not in said(check.report("iql").findings)


def test_a_row_of_advantages_does_not_fit_a_parent_in_columns(checker):
    """Each file is right alone."""
    awac = patched("awac", IN_COLUMNS, ADVANTAGE_IN_COLUMNS)
    check = checker(iql=student("iql"), awac=awac)
    assert not faults(check.check("awac")), said(check.check("awac"))
    assert "log-probabilities (batch, 1)" in faults(check.check("iql"))["compute_advantage"].text


def test_in_one_file_the_advantage_is_blamed_for_its_shape(checker):
    found = checker(awac=patched("awac", ADVANTAGE_IN_COLUMNS)).check("awac")
    assert faults(found).keys() == {"compute_advantage"}, said(found)


@pytest.mark.parametrize("mask", ["~done", "done"], ids=["a right DQN", "a wrong DQN"])
def test_a_step_that_suits_only_its_own_class_is_wrong_in_the_child(checker, mask):
    """AWAC computes its advantage within the step, so IQL's is never used."""
    own = (
        "values = self.critic(observations)\n"
        "            taken = values.gather(1, actions[:, None])[:, 0]\n"
        "            advantages = taken - (distribution.probs * values).sum(-1)"
    )
    awac = patched("awac", (ADVANTAGES, own))
    dqn = patched("dqn", ("~done", mask))
    check = checker(iql=student("iql"), awac=awac, dqn=dqn)
    assert not faults(check.check("awac")), said(check.check("awac"))
    found = faults(check.check("iql"))
    assert found.keys() == {"update_actor"}, said(check.check("iql"))
    assert "in place of V(s)" in found["update_actor"].text


@pytest.mark.parametrize(
    "change",
    [NEVER_STEPS, ("loss.backward()", "...")],
    ids=["never steps", "unsolved"],
)
def test_a_wrong_step_counts_where_it_is_written(checker, change):
    check = checker(iql=student("iql"), awac=patched("awac", change), dqn=student("dqn"))
    assert "update_actor" in faults(check.check("awac"))
    findings = check.report("iql").findings
    assert not faults(findings), said(findings)
    remark = next(one for one in findings if one.method == "update_actor")
    assert remark.text.startswith("inherited from awac_agent.py, where it counts as")
    assert check.report("iql").verdict in {Verdict.CORRECT, Verdict.VARIANT}


def test_an_update_that_never_reaches_the_inherited_step_is_found(checker):
    text = patched("iql", ('metrics["actor_loss"] = self.update_actor(observations, actions)', ""))
    found = faults(checker(iql=text, awac=student("awac")).check("iql"))
    assert found.keys() == {"update"}
    assert "the actor is never updated" in found["update"].text


OWN_DIFFERENCE = """
    def temporal_difference(self, obs, action, reward, next_obs, done):
        with torch.no_grad():
            chooser = self.critic if self.use_double_q else self.target_critic
            best = chooser(next_obs).argmax(1)
            y = reward + self.discount * self.target_critic(next_obs)[range(len(best)), best]
        qa_values = self.critic(obs)
        q_values = qa_values[range(len(action)), action]
        loss = ((q_values - y) ** 2).mean()
        return loss, {}, {"qa_values": qa_values, "q_values": q_values}
"""


def test_a_td_error_that_a_child_makes_itself_is_not_its_parents(checker):
    text = patched("cql", ("super().compute_critic_loss(", "self.temporal_difference("))
    check = checker(cql=text + OWN_DIFFERENCE, dqn=student("dqn"))
    assert "(1 - d) is missing" in faults(check.check("cql"))["compute_critic_loss"].text
    wrong_parent = checker(cql=student("cql"), dqn=patched("dqn", ("* ~done ", "")))
    assert not faults(wrong_parent.check("cql"))
    assert "compute_critic_loss" in faults(wrong_parent.check("dqn"))


# Errors


def test_an_error_in_what_is_inherited_is_told_without_its_line(checker):
    """The tuple that a child returns meets the parent's step; that parent is not handed in."""
    text = patched("cql", ("return loss, metrics, variables", "return loss"))
    found = checker(cql=text).check("cql")
    (step,) = (one for one in found if "inherited" in one.text)
    assert "in the inherited `update_critic`" in said(found)
    assert step.text.count("(line") == 0
    assert "/" not in step.text


def test_a_loss_that_cannot_be_differentiated_is_not_held_against_its_step(checker):
    """The student's loss is differentiated twice: by the checker, and by the class's own step."""
    detached = (
        "loss = self.critic_loss(q_values, target",
        "loss = self.critic_loss(q_values.detach(), target",
    )
    assert faults(checker(dqn=patched("dqn", detached)).check("dqn")).keys() == {
        "compute_critic_loss"
    }
    rows = ("loss = self.critic_loss(q_values, targets)", "loss = (q_values - targets) ** 2")
    rows = (rows, ("loss.item(),", "0.0,"))
    assert faults(checker(awac=patched("awac", *rows)).check("awac")).keys() == {
        "compute_critic_loss"
    }


def test_an_error_names_the_file_it_came_up_in(checker):
    helper = "def half(x):\n    return x / undefined\n"
    text = patched(
        "cql",
        ("import torch\n", "import torch\nfrom cs285.infrastructure.halves import half\n"),
        ("loss = loss + ", "loss = half(loss) + "),
    )
    check = checker({"cs285/infrastructure/halves.py": helper}, cql=text)
    assert "(line 2 of cs285/infrastructure/halves.py)" in said(check.check("cql"))
    broken = checker({"cs285/infrastructure/halves.py": "def half(:\n"}, cql=text)
    (only,) = broken.check("cql")
    assert (only.verdict, only.method) == (Verdict.CRASHES, "")
    assert "(line 1 of cs285/infrastructure/halves.py)" in only.text


def test_a_parent_that_cannot_be_imported_spoils_no_child(checker):
    syntax, imports = "class AWACAgent(:\n", "import nothing_like_it\nclass AWACAgent:\n    pass\n"
    unsolved = patched(
        "iql", ("u = target_qs - vs", "u = ..."), ("return q_values - ", "return ... or ")
    )
    for text, expected, broken in (
        (student("iql"), set(), imports),
        (unsolved, {"iql_expectile_loss", "compute_advantage"}, syntax),
    ):
        check = checker(iql=text, awac=broken)
        found = faults(check.check("iql"))
        assert found.keys() == expected, said(check.check("iql"))
        assert {one.verdict for one in found.values()} <= {Verdict.UNSOLVED}
        assert "awac_agent.py" in said(check.report("iql").findings)


def test_a_constructor_that_fails_is_one_finding(checker):
    (only,) = checker(awac=patched("awac", ("self.temperature = temperature", "1 / 0"))).check(
        "awac"
    )
    assert (only.method, only.verdict) == ("__init__", Verdict.CRASHES)
    assert "ZeroDivisionError" in only.text


# The hand-in's own modules

SOFT = ("torch.logsumexp(", "soft_maximum_of(")


@pytest.mark.parametrize(
    ("statement", "modules"),
    [
        (
            "from cs285.infrastructure.my_sums import soft_maximum_of",
            {"cs285/infrastructure/my_sums.py": "from torch import logsumexp as soft_maximum_of\n"},
        ),
        (
            "from cs285.mine.sums import soft_maximum_of",
            {"cs285/mine/sums.py": "from torch import logsumexp as soft_maximum_of\n"},
        ),
        (
            "from ..networks.sums import soft_maximum_of",
            {
                "cs285/networks/sums.py": "from .more import soft_maximum_of\n",
                "cs285/networks/more.py": "from torch import logsumexp as soft_maximum_of\n",
            },
        ),
        (
            "from sums import soft_maximum_of",
            {"sums.py": "from torch import logsumexp as soft_maximum_of\n"},
        ),
        (
            "from hw5.cs285.infrastructure.my_sums import soft_maximum_of",
            {"cs285/infrastructure/my_sums.py": "from torch import logsumexp as soft_maximum_of\n"},
        ),
        (
            "from cs285.infrastructure.pytorch_util import soft_maximum_of",
            {
                "cs285/infrastructure/pytorch_util.py": "from torch import logsumexp as "
                "soft_maximum_of\nfrom_numpy = None\n"
            },
        ),
        ("import gym\nfrom gym import spaces\nfrom torch import logsumexp as soft_maximum_of", {}),
    ],
    ids=["helper", "package", "relative", "beside", "folder above", "added name", "gym"],
)
def test_imports_that_work_at_home_work_here(checker, statement, modules):
    text = patched("cql", ("import torch\n", f"import torch\n{statement}\n"), SOFT)
    found = checker(modules, cql=text, dqn=student("dqn")).check("cql")
    assert {one.verdict for one in found} == {Verdict.CORRECT}, said(found)


def test_a_parent_is_the_same_class_under_every_name(checker):
    line = "from cs285.agents.awac_agent import AWACAgent"
    names = (
        "from hw5.cs285.agents.awac_agent import AWACAgent as under_a_folder",
        "import homework.hw5.cs285.agents.awac_agent as module",
        "from .awac_agent import AWACAgent as relative",
        "from agents.awac_agent import AWACAgent as from_inside",
        "from awac_agent import AWACAgent as beside",
        "from cs285.agents import AWACAgent as of_the_package",
    )
    same = (
        "assert AWACAgent is under_a_folder is module.AWACAgent is relative is from_inside "
        "is beside is of_the_package"
    )
    text = patched("iql", (line, "\n".join((line, *names, same))))
    for parents in ({}, {"awac": student("awac")}):
        found = checker(iql=text, **parents).check("iql")
        assert {one.verdict for one in found} <= {Verdict.CORRECT, Verdict.VARIANT}, said(found)


def test_a_module_that_was_not_handed_in_is_no_fault(checker):
    for statement in (
        "from cs285.infrastructure.not_handed_in import x",
        "from cs285.infrastructure.pytorch_util import not_a_name",
        "import not_handed_in",
    ):
        (only,) = checker(
            cql=patched("cql", ("import torch\n", f"import torch\n{statement}\n"))
        ).check("cql")
        assert only.verdict is Verdict.UNJUDGED, only
        assert "which is not in the hand-in" in only.text
        assert "tmp" not in only.text


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8", newline="")
    return root


def test_a_tree_is_read_with_the_modules_that_its_agents_import(tmp_path):
    root = write(
        tmp_path,
        {
            "hw5/cs285/agents/dqn_agent.py": (
                "from cs285.infrastructure import (\n    one,\n    two\n)\nimport top\r"
            ),
            "hw5/cs285/agents/beside.py": "x = 1\n",
            "hw5/cs285/infrastructure/one.py": "from .three import x\n",
            "hw5/cs285/infrastructure/two.py": "y = 1\n",
            "hw5/cs285/infrastructure/three.py": "x = 1\n",
            "hw5/cs285/infrastructure/unused.py": "x = 1\n",
            "hw5/top.py": "z = 1\n",
            "hw4/top.py": "z = 2\n",
        },
    )
    solution = read_solution(root)
    assert set(solution.files) == {"dqn_agent.py", "beside.py"}
    assert set(solution.modules) == {
        *(f"cs285/infrastructure/{name}.py" for name in ("one", "two", "three")),
        "top.py",
    }
    assert "\r" not in solution.files["dqn_agent.py"]
    bare = write(
        tmp_path / "bare",
        {
            "dqn_agent.py": "import one, extra\n",
            "infrastructure/one.py": "",
            "extra/__init__.py": "",
        },
    )
    assert set(read_solution(bare).modules) == {"cs285/infrastructure/one.py", "extra/__init__.py"}


# Unsolved


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize(
    ("body", "left"),
    [
        ('"""Return it."""\n        ...', "`...` (line 4)"),
        ("x = ...\n        return x", "`...` (line 3)"),
        ("x = 1\n        y = ...\n        return x + y", "`...` (line 4)"),
        ('"""Return it."""', "no code (line 2)"),
        ("pass", "no code (line 2)"),
        ("# TODO(student): do it\n        return x", "a TODO without code (line 3)"),
        ("x = 1\n        # TODO(student): do it", "a TODO without code (line 4)"),
        ("# TODO(student): do it\n        x = 1\n        return x", ""),
        ("# TODO(student): do it\n        # Hint: so\n        return x.mean()", ""),
        ("return q[..., 0]", ""),
        (
            "# TODO(student): do it\n        x = None\n        return x.mean()",
            "`None` below a TODO (line 4)",
        ),
        ("# TODO(student): do it\n        x = None\n        x = q.mean()\n        return x", ""),
        ("x = None\n        return q", ""),
    ],
)
def test_a_method_is_unsolved_if_something_stands_for_its_code(body, left, end):
    text = (
        f"class A:\n    def f(self, q):\n        {body}\n\n"
        "    # The next one\n    def g(self):\n        return 1\n"
    )
    source = AgentSource(text.replace("\n", end), "A")
    assert source.placeholder("f") == left
    assert not source.placeholder("g")


def test_a_method_that_is_written_below_its_todo_crashes(checker):
    text = patched(
        "iql",
        (
            "        u = target_qs - vs\n",
            "        # TODO(student): Compute the expectile loss\n        u = target_qs - values\n",
        ),
    )
    found = {one.method: one for one in checker(iql=text).check("iql")}
    assert found["iql_expectile_loss"].verdict is Verdict.CRASHES
    assert "(line " in found["iql_expectile_loss"].text


def test_a_step_on_an_unsolved_loss_is_not_at_fault(checker):
    """It fails because the loss is still an ellipsis, at a line of its own."""
    text = patched("dqn", ("loss = self.critic_loss(q_values, target_values)", "loss = ..."))
    found = {one.method: one for one in checker(dqn=text).check("dqn")}
    assert found["compute_critic_loss"].verdict is Verdict.UNSOLVED
    assert not faults(one for name, one in found.items() if name != "compute_critic_loss")


# Other homework

EARLIER_AGENT = (
    "from cs285.critics.iql_critic import IQLCritic\nfrom .dqn_agent import DQNAgent\n\n\n"
    "class IQLAgent(DQNAgent):\n    def __init__(self, env, agent_params):\n"
    "        super().__init__(env, agent_params)\n"
)
LATER_AGENT = (
    "from torch import nn\n\n\nclass IQLAgent(nn.Module):\n"
    "    def __init__(self, observation_shape, action_dim, make_actor, make_actor_optimizer,\n"
    "                 make_critic, make_critic_optimizer, discount, target_update_rate):\n"
    "        super().__init__()\n"
)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"cs285/agents/iql_agent.py": EARLIER_AGENT}, "homework 5 of another year"),
        ({"iql_agent.py": EARLIER_AGENT}, "homework 5 of another year"),
        ({"iql_agent.py": LATER_AGENT}, "another edition"),
        (
            {
                "hw5/cs285/agents/explore_or_exploit_agent.py": "",
                "hw5/cs285/agents/dqn_agent.py": "class DQNAgent: pass\n",
                "hw5/cs285/critics/cql_critic.py": "",
                "hw5/cs285/exploration/rnd_model.py": "",
            },
            "homework 5 of another year",
        ),
        (
            {"hw3/cs285/agents/dqn_agent.py": "", "hw3/cs285/scripts/run_hw3_dqn.py": ""},
            "homework 3 of the course",
        ),
        (
            {"cs285/agents/pg_agent.py": "", "cs285/scripts/run_hw2.py": ""},
            "homework 2 of the course",
        ),
        ({"src/agents/fql_agent.py": "", "src/scripts/run.py": ""}, "another edition"),
        ({"notes.py": ""}, "contains none of random_agent.py"),
    ],
)
def test_another_homework_is_named_in_one_sentence(tmp_path, files, says):
    write(tmp_path, files)
    with pytest.raises(UserError, match=says):
        read_solution(tmp_path)


def test_the_grader_and_the_script_say_which_homework_it_is(tmp_path):
    write(tmp_path, {"cs285/agents/iql_agent.py": EARLIER_AGENT, "cs285/critics/iql_critic.py": ""})
    verdicts = check_code(tmp_path)
    assert {one.verdict for one in verdicts} == {Verdict.UNJUDGED}
    assert {one.reason for one in verdicts} == {
        (
            "it is homework 5 of another year (2019 to 2022); only the Fall 2023 edition of "
            "homework 5 can be checked"
        )
    }


def test_files_of_this_homework_are_not_taken_for_another():
    for name, agent in AGENTS.items():
        assert not homework_of_file(AgentSource(student(name), agent.class_name), agent)
    ours = [
        "cs285/agents/dqn_agent.py",
        "cs285/agents/iql_agent.py",
        "cs285/scripts/run_hw5_offline.py",
    ]
    assert not homework_of_tree([PurePosixPath(path) for path in ours])


# What the checker reads


@pytest.mark.parametrize(
    "returned",
    [
        "np.random.randint(self.num_actions, size=1)",
        "np.random.randint(self.num_actions, size=(1, 1))",
        "np.int64(np.random.randint(self.num_actions))",
        "torch.randint(self.num_actions, (1,))",
        "torch.randint(self.num_actions, ())",
        "float(np.random.randint(self.num_actions))",
    ],
)
def test_an_action_may_be_a_number_or_an_array_of_one(checker, returned):
    text = patched("random", ("np.random.randint(self.num_actions)", returned))
    found = checker(random=text.replace("import numpy", "import torch\nimport numpy", 1)).check(
        "random"
    )
    assert not faults(found), said(found)


def test_an_agent_may_leave_epsilon_out(checker):
    text = patched(
        "random", ("self, *args, **kwargs):\n        return np", "self, obs):\n        return np")
    )
    assert not faults(checker(random=text).check("random"))
    ignores = patched("dqn", ("observation, epsilon=0.0):", "observation):\n        epsilon = 0.0"))
    assert "epsilon is ignored" in faults(checker(dqn=ignores).check("dqn"))["get_action"].text


def test_a_child_is_not_blamed_for_an_accepted_variant_of_its_parent(checker):
    """With half of the squared error, the rewards that RND's critic learns from look halved."""
    half = patched("dqn", ("loss = self.critic_loss(", "loss = 0.5 * self.critic_loss("))
    found = checker(rnd=student("rnd"), dqn=half).check("rnd")
    assert not faults(found), said(found)


def test_anything_else_is_no_action(checker):
    for returned, says in (
        ("np.zeros(2)", "array of shape (2,)"),
        ("0.5", "0.5"),
        ("None", "NoneType"),
    ):
        text = patched("random", ("np.random.randint(self.num_actions)", returned))
        found = faults(checker(random=text).check("random"))
        assert says in found["get_action"].text


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "dqn",
            (
                (
                    "self.target_critic = make_critic(observation_shape, num_actions)",
                    "self.target_critic = copy.deepcopy(self.critic)",
                ),
            ),
        ),
        ("dqn", (("self.critic", "self.q_net"), ("self.q_net_", "self.critic_"))),
        (
            "dqn",
            (
                (
                    "clip_grad_norm=None,",
                    "clip_grad_norm=None,\n        tau=0.5,\n        verbose=False,",
                ),
            ),
        ),
        (
            "iql",
            (
                ("        self.target_value_critic = make_value_critic(observation_shape)\n", ""),
                (
                    "self.target_value_critic.load_state_dict(self.value_critic.state_dict())",
                    "pass",
                ),
                (
                    "self.target_value_critic(next_observations)",
                    "self.value_critic(next_observations)",
                ),
                ("    self.update_target_value_critic()", "    pass"),
            ),
        ),
        (
            "iql",
            (
                (
                    "self.target_value_critic(next_observations)",
                    "self.value_critic(next_observations)",
                ),
                ("    self.update_target_value_critic()", "    pass"),
            ),
        ),
        ("iql", (("self.value_critic_optimizer", "self.v_opt"), ("self.expectile", "self.tau"))),
    ],
    ids=[
        "deepcopy",
        "renamed",
        "extra arguments",
        "no target V",
        "target V unused",
        "renamed in IQL",
    ],
)
def test_networks_are_read_however_a_class_holds_them(checker, name, changes):
    text = patched(name, *changes)
    if name == "dqn":
        text = text.replace("import torch\n", "import copy\n\nimport torch\n", 1)
    found = checker(**{name: text}).check(name)
    assert not faults(found), said(found)
    assert Verdict.UNJUDGED not in {one.verdict for one in found}, said(found)


# What hand-ins of strangers showed


def test_a_target_that_shares_its_parameters_is_told_once(checker):
    """Each in another way: the same module, the same storage, the same module from the start."""
    copy = "self.target_critic.load_state_dict(self.critic.state_dict())"
    pairs = "zip(self.target_critic.parameters(), self.critic.parameters())"
    ways = {
        "update_target_critic": ("self.target_critic = self.critic",
                                 f"for a, b in {pairs}:\n            a.data = b.data"),
    }  # fmt: skip
    for method, texts in ways.items():
        for text in texts:
            dqn = patched("dqn", (copy, text))
            check = checker(dqn=dqn, cql=student("cql"), rnd=student("rnd"))
            found = faults(check.check("dqn"))
            assert set(found) == {method}, said(found.values())
            assert "shares the online network's parameters" in found[method].text
            assert not faults(check.check("cql"))
            assert not faults(check.check("rnd"))
    made = "self.target_critic = make_critic(observation_shape, num_actions)"
    check = checker(
        dqn=patched("dqn", (made, "self.target_critic = self.critic")), cql=student("cql")
    )
    assert set(faults(check.check("dqn"))) == {"__init__"}
    assert not faults(check.check("cql"))


def test_an_optimiser_of_the_target_network_makes_it_no_online_network(checker):
    text = patched(
        "iql", ("make_value_critic_optimizer(self.value_critic.parameters())",
                "make_value_critic_optimizer(self.target_value_critic.parameters())"),
    )  # fmt: skip
    found = faults(checker(iql=text).check("iql"))
    assert set(found) == {"update_v"}, said(found.values())
    assert "never trained" in found["update_v"].text


def test_targets_may_be_kept_as_plain_weights(checker):
    made = "self.target_critic = make_critic(observation_shape, num_actions)"
    copy = "self.target_critic.load_state_dict(self.critic.state_dict())"
    kept = "self.kept = {k: v.detach().clone() for k, v in self.critic.state_dict().items()}"
    call = "torch.func.functional_call(self.critic, self.kept, (next_obs,))"
    right = (made, "pass"), (copy, kept), ("self.target_critic(next_obs)", call)
    found = checker(dqn=patched("dqn", *right)).check("dqn")
    assert all(one.verdict.is_right for one in found), said(found)
    found = faults(checker(dqn=patched("dqn", *right, ("* ~done ", ""))).check("dqn"))
    assert set(found) == {"compute_critic_loss"}
    assert "(1 - d) is missing" in found["compute_critic_loss"].text


def test_a_class_that_fills_in_its_own_parent_is_not_judged_without_it(checker):
    """The parent is wrong elsewhere, so plain parents are tried; they lack the part."""
    value = "next_q_values = next_qa_values.gather(1, next_action.unsqueeze(1)).squeeze(1)"
    hook = "next_q_values = self.backup(next_obs)"
    method = (
        "    def backup(self, next_obs):\n"
        "        return self.target_critic(next_obs).max(dim=1).values\n\n"
        "    def update_target_critic"
    )
    dqn = patched("dqn", (value, hook), ("    def update_target_critic", method), ("* ~done ", ""))
    whole = student("awac")
    begin = whole.index("    def compute_critic_loss")
    awac = (
        whole[:begin]
        + "    def backup(self, next_obs):\n"
        + "        probs = self.actor(next_obs).probs\n"
        + "        return (probs * self.target_critic(next_obs)).sum(dim=-1)\n\n"
        + whole[whole.index("    def compute_advantage") :]
    )
    found = checker(dqn=dqn, awac=awac).check("awac")
    assert not faults(found), said(found)


def test_arguments_may_be_taken_by_name_alone(checker):
    first = "        observation_shape,\n"
    text = patched(
        "dqn",
        (f"        self,\n{first}", "        self,\n        *,\n"),
        ("        make_critic,\n", f"        make_critic,\n{first}"),
    )
    found = checker(dqn=text).check("dqn")
    assert all(one.verdict.is_right for one in found), said(found)


@pytest.mark.parametrize(
    ("name", "old", "new", "method", "text"),
    [
        ("dqn", "make_lr_schedule(self.critic_optimizer)",
         "make_lr_schedule(make_optimizer(self.critic.parameters()))", "__init__", "no effect"),
        ("awac", "if epsilon > 0 else", "if epsilon == 0 else", "get_action", "reversed"),
        ("rnd", "self.rnd_weight * bonus", "bonus", "update", "rnd_weight is ignored"),
        ("rnd", "rewards + self.rnd_weight * bonus", "self.rnd_weight * rewards + bonus", "update",
         "rnd_weight multiplies the reward instead"),
        ("rnd", "bonus = self.errors(next_observations)",
         ("s = next_observations\n"
          "            bonus = (self.rnd_net(s) - self.rnd_target_net(s)).mean(1)"),
         "update", "errors cancel"),
    ],
)  # fmt: skip
def test_further_mistakes_have_names(checker, name, old, new, method, text):
    found = faults(checker(**{name: patched(name, (old, new))}).check(name))
    assert set(found) == {method}, said(found.values())
    assert text in found[method].text
