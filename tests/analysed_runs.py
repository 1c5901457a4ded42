"""Run folders as training leaves them, with agents that know what they do, and their datasets."""

from pathlib import Path

import torch
from test_training import EASY, random_walk

from cs285.datasets.dataset_files import save_dataset
from cs285.env_configs.loading import make_config
from cs285.homework import Stage, keys_of_other_stages
from cs285.results.run_folders import RunFolder
from cs285.training.runs import make_agent

SMALL = {"hidden_size": 8, "input_scale": None}
ACTORS = {"awac", "iql"}


def settings(algorithm, env_id, **values):
    small = SMALL | ({"actor_hidden_size": 8} if algorithm in ACTORS else {})
    return {
        "base_config": algorithm,
        "env_name": env_id,
        "exp_name": f"a_{algorithm}",
        "dataset_name": "walk",
        "seed": 1,
        "training_steps": 300,
        **small,
        **values,
    }


def make_run_folder(path, algorithm="dqn", env_id=EASY, change=lambda agent: None, **values):
    """Writes a finished run; `change` edits its freshly made agent. Returns its path."""
    path.mkdir(parents=True)
    config = make_config(settings(algorithm, env_id, **values), Path("run.yaml"), Stage.OFFLINE)
    others = set(keys_of_other_stages(Stage.OFFLINE))
    RunFolder(path).write_config(config.model_dump(mode="json", exclude=others))
    add_agent(path, config, change)
    return path


def add_agent(path, config, change=lambda agent: None, step=None):
    torch.manual_seed(0)
    agent = make_agent(config)
    with torch.no_grad():
        change(agent)
    name = "agent.pt" if step is None else f"agent_step{step:08d}.pt"
    torch.save(agent.state_dict(), path / name)


def reload(path):
    return make_config(RunFolder(path).read_config(), path / "config.yaml", Stage.OFFLINE)


def always(action):
    """Returns a change after which a critic says 1 for one action and 0 for all others."""

    def change(agent):
        *_, weight, bias = agent.critic.parameters()
        weight.zero_()
        bias.copy_(torch.eye(5)[action])

    return change


def save_walk(folder, size=400, seed=0):
    """Saves a random walk on Easy as the dataset `walk` and returns it."""
    dataset = random_walk(size, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_dataset(folder / "walk.npz", dataset)
    return dataset
