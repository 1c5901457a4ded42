"""What agents of students return is read as in the public starter; their errors are a sentence."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_scripts import call, complaint, desk, save_data, write_config  # noqa: F401 - fixtures

import cs285.agents
from cs285.infrastructure.errors import UserError
from cs285.learning import student_code
from cs285.learning.agent_loop import AgentLoop
from cs285.training.policies import Policy

QUICK = ["-neval", 1, "--compile", "off", "-ngpu"]


@pytest.fixture
def agents_folder(tmp_path_factory, monkeypatch):
    """A folder whose files take the place of the package's own agents."""
    folder = tmp_path_factory.mktemp("student") / "agents"
    folder.mkdir()
    monkeypatch.setattr(cs285.agents, "__path__", [str(folder), *cs285.agents.__path__])
    kept = {name: module for name, module in sys.modules.items() if ".agents." in name}
    for name in kept:
        del sys.modules[name]
    yield folder
    for name in [name for name in sys.modules if ".agents." in name]:
        del sys.modules[name]
    sys.modules.update(kept)


@pytest.fixture
def hand_in(agents_folder):
    """Writes an agent file of a student."""

    def hand_in(name, text):
        (agents_folder / f"{name}_agent.py").write_text(text)
        importlib.invalidate_caches()

    return hand_in


class Chooser:
    """Returns what it is given."""

    def __init__(self, value):
        self.value = value
        self.num_actions = 5

    def get_action(self, observation, epsilon=0.0):
        return self.value

    def update(self, *batch):
        return self.value


ONE = [3, np.int64(3), np.float32(3), np.array(3), np.array([3]), np.array([[3]])]


@pytest.mark.parametrize(
    "given", [*ONE, torch.tensor(3), torch.tensor([3]), torch.ones(1, requires_grad=True) * 3]
)
def test_an_action_is_a_number_or_an_array_or_a_tensor_of_one(given):
    actions = AgentLoop([Chooser(given)]).act(np.zeros((1, 2, 2)), np.zeros(1), np.zeros((1, 2)))
    assert actions.tolist() == [[3, 3]]
    assert actions.dtype == np.int64


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "it returned None; `get_action` must return one action, an integer"),
        ("3", "it returned a str;"),
        ([3], "it returned a list;"),
        (2.5, "it returned a float (2.5);"),
        (float("nan"), "it returned a float (nan);"),
        (np.array([1, 2]), "it returned an array of shape (2,) and type int64;"),
        (torch.zeros(1, 5), "it returned a tensor of shape (1, 5) and type float32;"),
        (np.array([]), "it returned an array of shape (0,)"),
        (5, "it returned 5; the actions are from 0 to 4"),
        (-1, "it returned -1; the actions are from 0 to 4"),
    ],
)
def test_anything_else_is_refused_with_its_place(given, said):
    line = Chooser.get_action.__code__.co_firstlineno
    with pytest.raises(UserError) as caught:
        student_code.get_action(Chooser(given), np.zeros(2), 0.0)
    assert f"test_student_errors.py, line {line}, in get_action: {said}" in str(caught.value)


def test_a_random_agent_of_the_starter_takes_no_epsilon():
    class Random:
        def get_action(self, observation):
            return np.random.randint(5, size=1)  # noqa: NPY002

    assert student_code.get_action(Random(), np.zeros(2), 0.3) in range(5)


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (object(), "object has no method `update`"),
        (Chooser(0.5), "it returned a float (0.5); `update` must return a dict"),
        (Chooser({1: 2}), "it returned a dict; `update` must return a dict of the numbers to log"),
        (Chooser({"loss": "low"}), "it returned a str as 'loss', which must be a number"),
        (Chooser({"loss": None}), "it returned None as 'loss', which must be a number"),
    ],
)
def test_what_update_returns_must_be_numbers_by_name(agent, said, make_batch):
    with pytest.raises(UserError, match=re.escape(said)):
        AgentLoop([agent]).update(make_batch(1, 4), 1)


def test_an_update_that_takes_no_step_is_named(make_batch):
    class Agent:
        def update(self, observations, actions, rewards, next_observations, dones):
            return {}

    with pytest.raises(
        UserError, match=r"in update: it cannot be called with 6 arguments, .*dones"
    ):
        AgentLoop([Agent()]).update(make_batch(1, 4), 1)


def test_metrics_may_be_numbers_arrays_and_tensors(make_batch):
    logged = {"a": 1, "b": np.float64(2), "c": torch.tensor([3.0, 5.0], requires_grad=True)}
    found = AgentLoop([Chooser(logged)]).update(make_batch(1, 4), 1)
    assert {tag: value.tolist() for tag, value in found.items()} == {"a": [1], "b": [2], "c": [4]}
    assert AgentLoop([Chooser(None)]).update(make_batch(1, 4), 1) == {}


def test_a_policy_follows_get_action_where_a_student_overrides_it(make_agent):
    agent = make_agent("awac")
    from cs285.envs.tasks import get_task

    class Own(type(agent)):
        def get_action(self, observation, epsilon=0.0):
            return torch.tensor([4])

    agent.__class__ = Own
    found = Policy(agent, get_task("PointmassEasy-v0"))(np.zeros((2, 2)))
    np.testing.assert_array_equal(found, np.eye(5)[[4, 4]])


# Errors in files


GYM = (
    "the package `gym` is not installed, since Gymnasium has replaced it; "
    "write `import gymnasium as gym`"
)
MISSING = "No module named 'cs285.infrastructure.my_helper', so this file is missing from the tree"
CONSTRUCTOR = """
class DQNAgent:
    def __init__(self, *arguments, **more):
        assert len(arguments) == 7
"""
PARENT = """
from cs285.learning.agent import Agent

class DQNAgent(Agent):
    def __init__(self, *arguments, **more):
        super().__init__(1, 2)
"""
BROKEN = {
    "a name": ("x = undefined_name\n", ", line 1: NameError: name 'undefined_name' is not defined"),
    "syntax": ("class DQNAgent(:\n    pass\n", ", line 1: SyntaxError: "),
    "gym": ("import torch\nimport gym\n", f", line 2: {GYM}"),
    "a helper": (
        "from cs285.infrastructure.my_helper import soft\n",
        f", line 1: ModuleNotFoundError: {MISSING}",
    ),
    "exit": ("import sys\n\nsys.exit('bye')\n", ", line 3: SystemExit: bye"),
    "no class": ("x = 1\n", ": ImportError: cannot import name 'DQNAgent'"),
    "constructor": (
        CONSTRUCTOR,
        ", line 4, in __init__: AssertionError: assert len(arguments) == 7",
    ),
    "parent": (PARENT, ", line 6, in __init__: TypeError: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_used_is_one_sentence(complaint, hand_in, name):  # noqa: F811
    text, said = BROKEN[name]
    hand_in("dqn", text)
    error = complaint("explore", "-cfg", write_config(Path("a.yaml")))
    assert f"dqn_agent.py{said}" in error


LATE = """
import torch
from cs285.agents.awac_agent import AWACAgent


class IQLAgent(AWACAgent):
    def __init__(self, observation_shape, num_actions, make_value_critic,
                 make_value_critic_optimizer, expectile, **kwargs):
        super().__init__(observation_shape, num_actions, **kwargs)
        self.calls = 0

    def update(self, observations, actions, rewards, next_observations, dones, step):
        self.calls += 1
        if self.calls > 8:
            return self.update_v(observations, actions)
        return {"v_loss": 0.0}

    def update_v(self, observations, actions):
        return self.critic(observations).gather(1, actions)
"""


def test_an_error_in_training_is_one_sentence_and_the_run_resumes(call, hand_in):  # noqa: F811
    hand_in("iql", LATE)
    save_data()
    config = write_config(Path("a.yaml"), "training_steps: 20", algorithm="iql")
    status, said = call("offline", "-cfg", config, "--checkpoint_interval", 3, *QUICK)
    assert status == 2
    last = said.strip().splitlines()[-1]
    assert re.match(r"error: .*iql_agent.py, line 19, in update_v: \w+Error: ", last)
    assert "(called from" not in last
    (folder,) = Path("data").iterdir()
    assert last.endswith(f"--resume {folder}")
    assert (folder / "checkpoint.safetensors").exists()
    assert not (folder / "summary.json").exists()
    # Mended, it continues where it was.
    for name in [name for name in sys.modules if ".agents." in name]:
        del sys.modules[name]
    hand_in("iql", LATE.replace("> 8", "> 800"))
    status, said = call("offline", "--resume", folder)
    assert status == 0, said
    assert "| 6/20 " in said
    assert (folder / "summary.json").exists()


def test_an_error_in_a_parent_names_the_file_that_called_it(hand_in, make_batch, make_agent):
    hand_in(
        "cql",
        """
from cs285.agents.dqn_agent import DQNAgent


class CQLAgent(DQNAgent):
    def __init__(self, *arguments, cql_alpha, cql_temperature=1.0, **more):
        super().__init__(*arguments, **more)

    def compute_critic_loss(self, *batch):
        return super().compute_critic_loss(*batch[:1], batch[1].float(), *batch[2:])
""",
    )
    agent = make_agent("cql")
    with pytest.raises(UserError) as caught, student_code.reported():
        AgentLoop([agent]).update(make_batch(1, 4), 1)
    assert re.fullmatch(
        r".*agents/dqn_agent.py, line \d+, in compute_critic_loss \(called from .*agents/"
        r"cql_agent.py, line 10, in compute_critic_loss\): RuntimeError: gather.*",
        str(caught.value),
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_of_other_code_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), student_code.reported():
        print(1 / 0)
