"""What a file of the homework's public starter may rely on works here as it does there."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from test_resume import labs, outcome  # noqa: F401 - a fixture
from test_training import EASY, random_walk
from torch import nn

import cs285.agents
import cs285.envs
from cs285.datasets.dataset_files import save_dataset
from cs285.infrastructure import import_names, utils
from cs285.infrastructure import pytorch_util as ptu
from cs285.infrastructure.distributions import make_multi_normal, make_tanh_transformed
from cs285.infrastructure.logger import Logger
from cs285.infrastructure.replay_buffer import ReplayBuffer
from cs285.networks.mlp_policy import MLPPolicy

ROOT = Path(__file__).parent.parent
ALGORITHMS = ("random", "rnd", "dqn", "cql", "awac", "iql")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the package, for processes that must not see the files of this one."""
    root = tmp_path_factory.mktemp("above") / "my_hw5"
    shutil.copytree(ROOT / "cs285", root / "cs285", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def python(root, *command, code=0):
    """Runs Python with the package of `root`; returns what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


# cs285.infrastructure.pytorch_util

ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_networks_have_the_activations_of_the_starter(name):
    torch.manual_seed(3)
    network = ptu.build_mlp(3, 2, 1, 4, name, output_activation="tanh")
    inputs = np.random.default_rng(0).normal(size=(5, 3))
    (w, b), (v, c) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in network
        if isinstance(layer, nn.Linear)
    )
    expected = np.tanh(ACTIVATIONS[name](inputs @ w.T + b) @ v.T + c)
    found = network(torch.tensor(inputs, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_networks_take_modules_as_activations_and_no_other_names():
    network = ptu.build_mlp(
        input_size=3,
        output_size=2,
        n_layers=2,
        size=4,
        activation=nn.ELU(),
        output_activation="selu",
    )
    assert [type(layer).__name__ for layer in network] == [
        *("Linear", "ELU", "Linear", "ELU", "Linear", "SELU"),
    ]
    with pytest.raises(
        ValueError, match="unknown activation 'swish'; the names are identity, relu"
    ):
        ptu.build_mlp(3, 2, 1, 4, activation="swish")


def test_arrays_and_dicts_of_arrays_become_tensors_and_return():
    nested = {"a": np.ones((2, 3)), "b": {"c": np.arange(3), "d": np.array([True, False])}}
    tensors = ptu.from_numpy(nested)
    types = (tensors["a"].dtype, tensors["b"]["c"].dtype, tensors["b"]["d"].dtype)
    assert types == (torch.float32, torch.int64, torch.bool)
    assert ptu.from_numpy(np.float32([1])).dtype == torch.float32
    back = ptu.to_numpy(tensors)
    np.testing.assert_array_equal(back["b"]["c"], [0, 1, 2])
    assert back["a"].dtype == np.float32
    assert ptu.to_numpy(torch.ones(2, requires_grad=True)).tolist() == [1, 1]


def test_the_device_is_chosen_as_in_the_starter(monkeypatch):
    monkeypatch.setattr(ptu, "device", torch.device("cpu"))
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ptu.init_gpu(use_gpu=True, gpu_id=3)
    assert ptu.device == torch.device("cuda:3")
    ptu.set_device(2)
    assert chosen == [2]
    ptu.init_gpu(False)
    assert ptu.device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ptu.init_gpu()
    ptu.set_device(0)
    assert (str(ptu.device), chosen) == ("cpu", [2])


# cs285.infrastructure.distributions and cs285.networks.mlp_policy


def log_normal(x, mean, std):
    return (-0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)


def test_distributions_of_vectors_have_one_density_per_row():
    mean, std = np.array([[0.1, -0.3], [0.5, 0.0]]), np.array([0.4, 2.0])
    x = np.array([[0.2, 0.6], [-0.5, 0.1]])
    tensors = [torch.tensor(a) for a in (mean, std, x)]
    plain = make_multi_normal(*tensors[:2]).log_prob(tensors[2])
    np.testing.assert_allclose(plain, log_normal(x, mean, std))
    assert make_multi_normal(tensors[0], 0.5).mean.shape == (2, 2)
    squashed = make_tanh_transformed(*tensors[:2]).log_prob(tensors[2])
    volume = np.log(1 - x**2).sum(-1)
    np.testing.assert_allclose(squashed, log_normal(np.arctanh(x), mean, std) - volume, rtol=1e-6)


@pytest.mark.parametrize("named", [False, True])
def test_a_discrete_policy_is_made_with_the_arguments_of_the_starter(named):
    sizes = {"ac_dim": 5, "ob_dim": 3, "discrete": True, "n_layers": 2, "layer_size": 8}
    policy = MLPPolicy(**sizes) if named else MLPPolicy(*sizes.values())
    linear = [layer for layer in policy.logits_net if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linear] == [(8, 3), (8, 8), (5, 8)]
    distribution = policy(torch.zeros(7, 3))
    assert type(distribution) is torch.distributions.Categorical
    assert distribution.probs.shape == (7, 5)
    assert distribution.log_prob(torch.zeros(7, dtype=torch.int64)).shape == (7,)


def test_a_policy_may_rescale_its_observations():
    torch.manual_seed(0)
    plain = MLPPolicy(4, 3, True, 1, 8)
    scaled = MLPPolicy(4, 3, True, 1, 8, input_scale=2.0)
    linear = [layer for layer in scaled.logits_net if isinstance(layer, nn.Linear)]
    for mine, its in zip(linear, plain.logits_net[::2], strict=True):
        mine.load_state_dict(its.state_dict())
    observations = torch.rand(7, 3)
    torch.testing.assert_close(
        scaled(observations).logits, plain(2.0 * (2 * observations - 1)).logits
    )


@pytest.mark.parametrize(
    ("options", "std"),
    [
        ({}, np.log(2) + 0.01),
        ({"fixed_std": 0.3}, 0.3),
        ({"state_dependent_std": True}, None),
        ({"use_tanh": True}, None),
    ],
)
def test_a_continuous_policy_learns_its_standard_deviation(options, std):
    policy = MLPPolicy(2, 3, False, 1, 8, **options)
    distribution = policy(torch.rand(7, 3))
    actions = distribution.sample()
    assert actions.shape == (7, 2)
    assert distribution.log_prob(actions).shape == (7,)
    if std is not None:
        torch.testing.assert_close(distribution.stddev, torch.full((7, 2), std))
    (-distribution.log_prob(actions).mean()).backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())
    assert ("std" in dict(policy.named_parameters())) == (
        not {"fixed_std", "state_dependent_std"} & options.keys()
    )


# cs285.infrastructure.replay_buffer


def test_the_buffer_keeps_the_latest_transitions():
    buffer = ReplayBuffer(capacity=4)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    for k in range(6):
        state = np.full(2, k, np.float32)
        buffer.insert(
            observation=state, action=k, reward=-k, next_observation=state + 1, done=k == 5
        )
    assert len(buffer) == 4
    batch = buffer.sample(200)
    assert list(batch) == ["observations", "actions", "rewards", "next_observations", "dones"]
    assert {name: (x.dtype.str[1:], x.shape[1:]) for name, x in batch.items()} == {
        "observations": ("f4", (2,)),
        "actions": ("i8", ()),
        "rewards": ("f4", ()),
        "next_observations": ("f4", (2,)),
        "dones": ("b1", ()),
    }
    assert set(batch["actions"].tolist()) == {2, 3, 4, 5}
    np.testing.assert_array_equal(batch["observations"][:, 0], batch["actions"])
    np.testing.assert_array_equal(batch["rewards"], -batch["actions"])
    np.testing.assert_array_equal(batch["next_observations"][:, 1], batch["actions"] + 1)
    np.testing.assert_array_equal(batch["dones"], batch["actions"] == 5)
    with pytest.raises(ValueError, match=r"observations have the shape \(2,\).*not \(3,\)"):
        buffer.insert(np.zeros(3), 0, 0.0, np.zeros(2), False)


# cs285.infrastructure.utils and logger


class Pacer:
    """Walks to the right, whatever it sees."""

    def get_action(self, observation):
        return 2


def test_trajectories_are_sampled_and_joined():
    env = gym.make("PointmassEasy-v0")
    env.reset(seed=1)
    one = utils.sample_trajectory(env, Pacer(), max_length=4)
    assert utils.get_traj_length(one) == one["episode_statistics"]["l"] == 4
    assert one["terminal"].tolist() == [False, False, False, True]
    assert one["observation"].shape == one["next_observation"].shape == (4, 2)
    np.testing.assert_array_equal(one["observation"][1:], one["next_observation"][:-1])
    assert one["action"].tolist() == [2] * 4
    assert one["episode_statistics"]["r"] == -4
    some, steps = utils.sample_trajectories(env, Pacer(), 9, max_length=4)
    assert (len(some), steps) == (3, 12)
    assert len(utils.sample_n_trajectories(env, Pacer(), 2, max_length=50)[0]["reward"]) == 50
    observations, actions, following, ends, rewards, separate = utils.convert_listofrollouts(some)
    assert observations.shape == following.shape == (12, 2)
    assert actions.shape == rewards.shape == (12,)
    assert ends.sum() == len(separate) == 3


def test_metrics_of_trajectories_have_the_names_of_the_starter():
    ours, theirs = ([{"reward": np.array(x)} for x in xs] for xs in ([[1.0, 2.0]], [[4.0], [6.0]]))
    assert utils.compute_trajectory_metrics(ours, theirs) == {
        "Eval_AverageReturn": 5.0,
        "Eval_StdReturn": 1.0,
        "Eval_MaxReturn": 6.0,
        "Eval_MinReturn": 4.0,
        "Eval_AverageEpLen": 1.0,
        "Train_AverageReturn": 3.0,
        "Train_StdReturn": 0.0,
        "Train_MaxReturn": 3.0,
        "Train_MinReturn": 3.0,
        "Train_AverageEpLen": 2.0,
    }


def test_the_logger_writes_event_files(tmp_path):
    from matplotlib.figure import Figure
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = Logger(tmp_path)
    logger.log_scalar(3.5, "loss", 7)
    logger.log_figure(Figure(), "picture", 7, "eval")
    logger.flush()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(7, 3.5)]
    assert events.Tags()["images"] == ["picture_eval"]


# Names to import


def test_agents_are_imported_from_their_package():
    for name, cls in cs285.agents.agents.items():
        module = importlib.import_module(f"cs285.agents.{name}_agent")
        assert cls is getattr(module, cls.__name__) is getattr(cs285.agents, cls.__name__)
    assert tuple(cs285.agents.agents) == ALGORITHMS
    assert {*cs285.agents.__all__} <= {*dir(cs285.agents)}
    with pytest.raises(ImportError, match="SACAgent"):
        from cs285.agents import SACAgent  # noqa: F401


def test_the_package_and_help_import_no_torch(tree):
    code = "import sys, cs285, cs285.agents; print('torch' in sys.modules)"
    assert python(tree, "-c", code) == "False\n"


def test_imports_may_begin_with_the_folder_above(tree):
    """In a process like that of the scripts, which import `cs285` first."""
    lines = ["import cs285"]
    for above in ("hw5", "homework5", "homework_fall2023.hw5", "my_hw5"):
        lines += [
            f"import {above}.cs285.agents.iql_agent as there",
            f"from {above}.cs285.infrastructure import pytorch_util as ptu",
            f"from {above}.cs285.agents import agents",
            "import cs285.agents.iql_agent as here, cs285.infrastructure.pytorch_util as own",
            "assert there is here and ptu is own and agents['iql'] is here.IQLAgent",
            "assert here.__spec__.name == here.__name__ == 'cs285.agents.iql_agent'",
            f"try: import {above}.cs285.agents.sac_agent",
            "except ModuleNotFoundError as error: print(error.name)",
        ]
    assert python(tree, "-c", "\n".join(lines)) == "cs285.agents.sac_agent\n" * 4


def test_other_names_are_left_to_python(tree):
    assert import_names.names_above(Path("/home/me/homework/hw5x")) == {
        *("hw5", "homework5", "homework_fall2023.hw5", "hw5x", "homework.hw5x"),
    }
    assert import_names.names_above(Path("/a b/c-d")) == import_names.USUAL
    code = """
import cs285
for name in ("hw6", "hw6.cs285", "hw5.agents"):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        print(error.name)
"""
    assert python(tree, "-c", code).split() == ["hw6", "hw6", "hw5.agents"]


# Runs


def test_fine_tuning_by_total_steps_resumes_sweeps_and_shortens(labs):  # noqa: F811
    """Half of 12 offline steps and of the 28 that 40 steps in all leave, for two alphas."""
    calm, stormy = labs
    path = calm.root / "tune.yaml"
    values = {
        "base_config": "cql",
        "env_name": EASY,
        "dataset_name": "shared",
        "hidden_size": 8,
        "total_steps": 40,
        "offline_steps": 12,
        "sweep": {"cql_alpha": [0.1, 1.0]},
    }
    path.write_text(yaml.safe_dump(values))
    flags = ["--steps_fraction", "0.5", "-neval", 1, "-ei", 10]
    folders = calm.run("finetune", path, flags=flags)
    stormy.run("finetune", path, flags=flags, stops=[4, 13])
    assert outcome(calm) == outcome(stormy)
    assert len(folders) == 2
    for folder in folders:
        kept = yaml.safe_load((folder / "config.yaml").read_text())
        assert (kept["offline_steps"], kept["online_steps"]) == (6, 14)
        assert "total_steps" not in kept


UTIL = """
import torch
from torch import nn

device = None
NAMES = {"tanh": nn.Tanh(), "identity": nn.Identity()}


def build_mlp(
    input_size, output_size, n_layers, size, activation="tanh", output_activation="identity"
):
    layers = []
    for _ in range(n_layers):
        layers += [nn.Linear(input_size, size), NAMES[activation]]
        input_size = size
    layers += [nn.Linear(size, output_size), NAMES[output_activation]]
    return nn.Sequential(*layers).to(device)


def init_gpu(use_gpu=True, gpu_id=0):
    global device
    device = torch.device("cpu")


def from_numpy(data):
    if isinstance(data, dict):
        return {k: from_numpy(v) for k, v in data.items()}
    data = torch.from_numpy(data)
    return (data.float() if data.dtype == torch.float64 else data).to(device)


def to_numpy(tensor):
    return tensor.to("cpu").detach().numpy()
"""
TREE = {
    "agents/__init__.py": """
from .random_agent import RandomAgent
from .dqn_agent import DQNAgent
from .cql_agent import CQLAgent

agents = {"random": RandomAgent, "dqn": DQNAgent, "cql": CQLAgent}
""",
    "agents/random_agent.py": """
import numpy as np
from torch import nn


class RandomAgent(nn.Module):
    def __init__(self, observation_shape, num_actions):
        super().__init__()
        self.num_actions = num_actions

    def get_action(self, observation):
        return np.random.randint(0, self.num_actions, size=(1,))

    def update(self, *args, **kwargs):
        pass
""",
    "agents/cql_agent.py": """
from my_hw5.cs285.agents.dqn_agent import DQNAgent
from cs285.helpers.soft import soft_maximum
from cs285.infrastructure.announce import announce


class CQLAgent(DQNAgent):
    def __init__(self, observation_shape, num_actions, make_critic, make_optimizer,
                 make_lr_schedule, discount, target_update_period, cql_alpha, cql_temperature=1.0,
                 use_double_q=False, clip_grad_norm=None):
        super().__init__(observation_shape, num_actions, make_critic, make_optimizer,
                         make_lr_schedule, discount, target_update_period, use_double_q,
                         clip_grad_norm)
        self.alpha, self.kelvin = cql_alpha, cql_temperature
        announce("made")

    def compute_critic_loss(self, *batch):
        loss, metrics, values = super().compute_critic_loss(*batch)
        term = soft_maximum(values["qa_values"], self.kelvin) - values["q_values"]
        return loss + self.alpha * term.mean(), metrics, values
""",
    "helpers/soft.py": """
import torch


def soft_maximum(values, kelvin):
    return kelvin * torch.logsumexp(values / kelvin, dim=1)
""",
    "infrastructure/announce.py": """
def announce(what):
    print("announced:", what)
""",
    "infrastructure/pytorch_util.py": UTIL,
}


def test_a_whole_tree_brings_its_own_helpers(tmp_path):
    """Modules of its own, the starter's `pytorch_util` and `agents/__init__`, the folder above."""
    root = tmp_path / "my_hw5"
    shutil.copytree(ROOT / "cs285", root / "cs285", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in TREE.items():
        (root / "cs285" / name).parent.mkdir(exist_ok=True)
        (root / "cs285" / name).write_text(text)
    (root / "datasets").mkdir()
    save_dataset(root / "datasets" / "mine_seed1.npz", random_walk(60, seed=1))
    values = {"base_config": "cql", "env_name": EASY, "training_steps": 10, "dataset_name": "mine"}
    (root / "cql.yaml").write_text(yaml.safe_dump(values))
    script = root / "cs285" / "scripts" / "run_hw5_offline.py"
    flags = ["-cfg", "cql.yaml", "-neval", 1, "-ngpu", "--compile", "off"]
    assert "announced: made" in python(root, script, *flags)
    assert len(list((root / "data").glob("*/summary.json"))) == 1
