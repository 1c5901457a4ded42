"""A loop in the style of the homework's public starter: one run per process, one step at a time.

A NumPy replay buffer, a conversion of every field in every step, plain modules with plain Adam,
`.item()` on every metric of every step, evaluation one environment step at a time. The losses are
those of the handout, as a good student would write them. As a script it trains one run from start
to end, and prints when its first update was done and how long its loop took:

    python benchmarks/contenders/starter.py --settings settings.json \
        --dataset datasets/pointmass_medium_rnd_seed1.npz --steps 100000 --log_dir data
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

if TYPE_CHECKING:
    import gymnasium as gym
    from torch.utils.tensorboard import SummaryWriter

Settings = dict[str, Any]
"""A resolved config of the package, as plain values."""
Arrays = dict[str, np.ndarray]

OBSERVATIONS, ACTIONS = 2, 5
MAX_WEIGHT = 100.0
EVAL_INTERVAL, EVAL_EPISODES, LOG_INTERVAL = 2_500, 20, 1_000
BLOCK = 20


def from_numpy(array: np.ndarray) -> torch.Tensor:
    """Convert one array; float64 becomes float32."""
    tensor = torch.from_numpy(array)
    return tensor.float() if tensor.dtype == torch.float64 else tensor


class ReplayBuffer:
    """Arrays that are written row by row and sampled with `np.random.randint`."""

    def __init__(self, capacity: int = 1_000_000) -> None:
        self.capacity, self.size = capacity, 0
        self.arrays: Arrays = {
            "observations": np.empty((capacity, OBSERVATIONS), np.float32),
            "actions": np.empty(capacity, np.int64),
            "rewards": np.empty(capacity, np.float32),
            "next_observations": np.empty((capacity, OBSERVATIONS), np.float32),
            "dones": np.empty(capacity, np.bool_),
        }

    def insert(self, **transition: Any) -> None:
        """Append one transition."""
        for name, value in transition.items():
            self.arrays[name][self.size % self.capacity] = np.asarray(value)
        self.size += 1

    def load(self, path: str) -> None:
        """Load a dataset of the package."""
        with np.load(path) as data:
            self.size = len(data["actions"])
            for name, array in self.arrays.items():
                array[: self.size] = data["terminated" if name == "dones" else name]

    def sample(self, batch_size: int) -> Arrays:
        """Draw a batch."""
        rows = np.random.randint(0, self.size, size=(batch_size,)) % self.capacity  # noqa: NPY002 - as in the starter
        return {name: array[rows] for name, array in self.arrays.items()}


class DQNAgent:
    """Double Q-learning."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.critic, self.optimizer = self._network("", ACTIONS, "learning_rate")
        self.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0)
        self.target_critic = copy.deepcopy(self.critic)

    def _network(
        self, prefix: str, outputs: int, rate: str
    ) -> tuple[nn.Sequential, torch.optim.Adam]:
        width, depth = (self.settings[f"{prefix}{key}"] for key in ("hidden_size", "num_layers"))
        sizes = [OBSERVATIONS, *[width] * depth]
        hidden = [[nn.Linear(i, o), nn.Tanh()] for i, o in itertools.pairwise(sizes)]
        network = nn.Sequential(*itertools.chain(*hidden), nn.Linear(width, outputs))
        return network, torch.optim.Adam(network.parameters(), lr=self.settings[rate])

    @torch.no_grad()
    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Act epsilon-greedily on one observation."""
        values = self.critic(from_numpy(np.asarray(observation))[None])
        if np.random.rand() < epsilon:  # noqa: NPY002 - as in the starter
            return int(np.random.randint(ACTIONS))  # noqa: NPY002 - as in the starter
        return int(values.argmax(dim=-1).squeeze(0).item())

    def next_values(self, next_obs: torch.Tensor) -> Any:
        """Return the values of the next states."""
        next_action = self.critic(next_obs).argmax(dim=-1, keepdim=True)
        return self.target_critic(next_obs).gather(-1, next_action).squeeze(-1)

    def q_values(self, obs: torch.Tensor, action: torch.Tensor) -> Any:
        """Return the values of the actions taken, and of all actions."""
        qa_values = self.critic(obs)
        return qa_values.gather(-1, action.unsqueeze(-1)).squeeze(-1), qa_values

    def compute_critic_loss(self, *batch: torch.Tensor) -> tuple[Any, dict[str, float], Any]:
        """Return the loss, what to log, and the values it was computed from."""
        obs, action, reward, next_obs, done = batch
        with torch.no_grad():
            next_values = self.next_values(next_obs)
            target = reward + self.settings["discount"] * (1.0 - done.float()) * next_values
        q_values, qa_values = self.q_values(obs, action)
        loss = nn.functional.mse_loss(q_values, target)
        metrics = {
            "critic_loss": loss.item(),
            "q_values": q_values.mean().item(),
            "target_values": target.mean().item(),
        }
        return loss, metrics, (q_values, qa_values)

    def _step(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Any) -> float:
        optimizer.zero_grad()
        loss.backward()
        bound = self.settings["clip_grad_norm"] or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), bound)
        optimizer.step()
        return norm.item()

    def learn(self, *batch: torch.Tensor) -> dict[str, float]:
        """Take all gradient steps of one update."""
        loss, metrics, _ = self.compute_critic_loss(*batch)
        metrics["grad_norm"] = self._step(self.critic, self.optimizer, loss)
        self.lr_scheduler.step()
        return metrics

    def update_target(self) -> None:
        """Copy the critic to its target."""
        self.target_critic.load_state_dict(self.critic.state_dict())

    def update(self, *batch: torch.Tensor, step: int) -> dict[str, float]:
        """Learn from observations, actions, rewards, next observations and dones."""
        metrics = self.learn(*batch)
        if step % self.settings["target_update_period"] == 0:
            self.update_target()
        return metrics


class CQLAgent(DQNAgent):
    """DQN with a conservative term."""

    def compute_critic_loss(self, *batch: torch.Tensor) -> tuple[Any, dict[str, float], Any]:
        """Return the loss, what to log, and the values it was computed from."""
        loss, metrics, (q_values, qa_values) = super().compute_critic_loss(*batch)
        temperature = self.settings["cql_temperature"]
        soft = temperature * torch.logsumexp(qa_values / temperature, dim=-1)
        loss = loss + self.settings["cql_alpha"] * (soft - q_values).mean()
        return loss, metrics, (q_values, qa_values)


class AWACAgent(DQNAgent):
    """An actor that clones the actions its critic prefers."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.actor, self.actor_optimizer = self._network("actor_", ACTIONS, "actor_learning_rate")

    def _policy(self, obs: torch.Tensor) -> Any:
        return Categorical(logits=self.actor(obs))

    @torch.no_grad()
    def get_action(self, observation: np.ndarray, epsilon: float = 0.0) -> int:
        """Sample the actor while exploring, else take its mode."""
        dist = self._policy(from_numpy(np.asarray(observation))[None])
        action = dist.sample() if epsilon > 0 else dist.probs.argmax(dim=-1)
        return int(action.squeeze(0).item())

    def next_values(self, next_obs: torch.Tensor) -> Any:
        """Return the values of the next states under the actor."""
        return (self._policy(next_obs).probs * self.target_critic(next_obs)).sum(dim=-1)

    def compute_advantage(self, obs: torch.Tensor, action: torch.Tensor, dist: Any) -> Any:
        """Return how much better an action is than the actor's average."""
        q_values, qa_values = self.q_values(obs, action)
        return q_values - (dist.probs * qa_values).sum(dim=-1)

    def compute_actor_loss(self, obs: torch.Tensor, action: torch.Tensor) -> Any:
        """Return the weighted cloning loss."""
        dist = self._policy(obs)
        with torch.no_grad():
            advantage = self.compute_advantage(obs, action, dist)
            weights = torch.exp(advantage / self.settings["temperature"]).clamp(max=MAX_WEIGHT)
        return -(dist.log_prob(action) * weights).mean()

    def learn(self, *batch: torch.Tensor) -> dict[str, float]:
        """Take all gradient steps of one update."""
        metrics = super().learn(*batch)
        loss = self.compute_actor_loss(*batch[:2])
        self._step(self.actor, self.actor_optimizer, loss)
        return {**metrics, "actor_loss": loss.item()}


class IQLAgent(AWACAgent):
    """AWAC's actor with an expectile critic."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.value_critic, self.value_optimizer = self._network("", 1, "learning_rate")
        self.target_value_critic = copy.deepcopy(self.value_critic)

    def next_values(self, next_obs: torch.Tensor) -> Any:
        """Return the target value of the next states."""
        return self.target_value_critic(next_obs).squeeze(-1)

    def compute_value_loss(self, obs: torch.Tensor, action: torch.Tensor) -> Any:
        """Return the expectile loss and what to log."""
        with torch.no_grad():
            q_values, _ = self.q_values(obs, action)
        vs = self.value_critic(obs).squeeze(-1)
        errors, tau = q_values - vs, self.settings["expectile"]
        loss = (torch.where(errors < 0, 1 - tau, tau) * errors**2).mean()
        adv = (vs - q_values).mean().item()
        return loss, {"v_loss": loss.item(), "vs": vs.mean().item(), "vs_adv": adv}

    def compute_advantage(self, obs: torch.Tensor, action: torch.Tensor, dist: Any) -> Any:
        """Return Q - V."""
        del dist
        return self.q_values(obs, action)[0] - self.value_critic(obs).squeeze(-1)

    def learn(self, *batch: torch.Tensor) -> dict[str, float]:
        """Take all gradient steps of one update."""
        metrics = DQNAgent.learn(self, *batch)
        loss, more = self.compute_value_loss(*batch[:2])
        more["v_grad_norm"] = self._step(self.value_critic, self.value_optimizer, loss)
        loss = self.compute_actor_loss(*batch[:2])
        self._step(self.actor, self.actor_optimizer, loss)
        return {**metrics, **more, "actor_loss": loss.item()}

    def update_target(self) -> None:
        """Copy Q and V."""
        super().update_target()
        self.target_value_critic.load_state_dict(self.value_critic.state_dict())


class RNDAgent(DQNAgent):
    """DQN on a novelty bonus."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        shape = ("rnd_", settings["rnd_dim"], "rnd_learning_rate")
        self.rnd_net, self.rnd_optimizer = self._network(*shape)
        self.rnd_target_net, _ = self._network(*shape)

    def compute_errors(self, obs: torch.Tensor) -> Any:
        """Return the squared error of every observation."""
        obs = (2.0 * obs - 1.0) * self.settings["rnd_input_scale"]
        with torch.no_grad():
            targets = self.rnd_target_net(obs)
        return ((self.rnd_net(obs) - targets) ** 2).sum(dim=-1)

    def learn(self, *batch: torch.Tensor) -> dict[str, float]:
        """Take all gradient steps of one update."""
        obs, action, reward, next_obs, done = batch
        with torch.no_grad():
            errors = self.compute_errors(next_obs)
            bonus = (errors - errors.mean()) / (errors.std(correction=0) + 1e-8)
            reward = reward + self.settings["rnd_weight"] * bonus
        metrics = super().learn(obs, action, reward, next_obs, done)
        loss = self.compute_errors(next_obs).mean()
        self._step(self.rnd_net, self.rnd_optimizer, loss)
        return {**metrics, "rnd_loss": loss.item()}


AGENTS: dict[str, type[DQNAgent]] = {
    "dqn": DQNAgent,
    "cql": CQLAgent,
    "awac": AWACAgent,
    "iql": IQLAgent,
    "rnd": RNDAgent,
}


class Loop:
    """One run, step by step: exploration, or offline training where there is a dataset."""

    def __init__(self, settings: Settings, dataset: str | None, seed: int = 1) -> None:
        self.settings, self.explores, self.step = settings, dataset is None, 0
        self.buffer = ReplayBuffer()
        self.metrics: dict[str, float] = {}
        self.warm_up = settings["learning_starts"] if self.explores else 0
        if dataset is not None:
            self.buffer.load(dataset)
        else:
            self.env = make_env(settings["env_name"])
            self.observation, _ = self.env.reset(seed=seed)
        self.is_random = settings["base_config"] == "random"
        if not self.is_random:
            self.agent = AGENTS[settings["base_config"]](settings)

    def advance(self) -> None:
        """Take one step."""
        self.step += 1
        if self.explores:
            self._interact()
        if self.step <= self.warm_up or self.is_random:
            return
        for _ in range(self.settings["updates_per_step"] if self.explores else 1):
            sample = self.buffer.sample(self.settings["batch_size"])
            batch = {name: from_numpy(array) for name, array in sample.items()}
            batch["rewards"] = batch["rewards"] * (0.0 if self.explores else 1.0)
            self.metrics = self.agent.update(*batch.values(), step=self.step)

    def _interact(self) -> None:
        if self.step <= self.warm_up or self.is_random:
            action = int(np.random.randint(ACTIONS))  # noqa: NPY002 - as in the starter
        else:
            action = self.agent.get_action(self.observation, self.settings["epsilon"])
        next_observation, reward, terminated, truncated, _ = self.env.step(action)
        self.buffer.insert(
            observations=self.observation,
            actions=action,
            rewards=reward,
            next_observations=next_observation,
            dones=terminated,
        )
        is_over = terminated or truncated
        self.observation = self.env.reset()[0] if is_over else next_observation


def sample_trajectory(env: gym.Env[Any, Any], agent: DQNAgent) -> Arrays:
    """Play one episode with the greedy agent."""
    observation, _ = env.reset()
    observations, rewards, is_over = [], [], False
    while not is_over:
        observations.append(observation)
        observation, reward, terminated, truncated, _ = env.step(agent.get_action(observation))
        rewards.append(reward)
        is_over = terminated or truncated
    return {"observations": np.array(observations), "rewards": np.array(rewards)}


def make_env(name: str) -> gym.Env[Any, Any]:
    """Make the package's environment, without the checks that Gymnasium adds."""
    import gymnasium as gym

    import cs285.envs  # noqa: F401 - registers the environments

    return gym.make(name, disable_env_checker=True)


def main() -> None:
    """Train one run as the starter's scripts do."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", type=Path, required=True, help="JSON file")
    parser.add_argument("--dataset", help="explores without one")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--visualize_interval", type=int, default=25_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log_dir", required=True)
    arguments = parser.parse_args()

    from torch.utils.tensorboard import SummaryWriter

    settings = json.loads(arguments.settings.read_text())
    np.random.seed(arguments.seed)  # noqa: NPY002 - as in the starter
    torch.manual_seed(arguments.seed)
    loop = Loop(settings, arguments.dataset, arguments.seed)
    eval_env = make_env(settings["env_name"])
    logger = SummaryWriter(arguments.log_dir)
    first_update = 0.0
    start = time.perf_counter()
    while loop.step < arguments.steps:
        loop.advance()
        if loop.metrics:
            first_update = first_update or time.time()
        if loop.step % LOG_INTERVAL == 0:
            log(logger, loop.metrics, loop.step)
        if loop.step % EVAL_INTERVAL == 0:
            trajectories = [sample_trajectory(eval_env, loop.agent) for _ in range(EVAL_EPISODES)]
            returns = [trajectory["rewards"].sum() for trajectory in trajectories]
            names = ("mean", "std", "max", "min")
            log(logger, {f"eval/return_{x}": getattr(np, x)(returns) for x in names}, loop.step)
        if loop.step % arguments.visualize_interval == 0:
            explored = loop.buffer.arrays["observations"][: loop.buffer.size]
            draw(logger, explored if loop.explores else trajectories[0]["observations"], loop.step)
    seconds = time.perf_counter() - start
    logger.close()
    if loop.explores:
        held = {name: array[: loop.buffer.size] for name, array in loop.buffer.arrays.items()}
        np.savez(Path(arguments.log_dir, "data.npz"), allow_pickle=False, **held)
    print(json.dumps({"first_update": first_update, "loop_s": seconds}))


def log(logger: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Log scalars one by one."""
    for tag, value in values.items():
        logger.add_scalar(tag, value, step)


def draw(logger: SummaryWriter, visited: np.ndarray, step: int) -> None:
    """Log a picture of visited states."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    axes.plot(visited[:, 0], visited[:, 1], ".")
    logger.add_figure("trajectories_eval", figure, step)


def prepare(settings: Settings, dataset: str, kind: str, **_: Any) -> Callable[[], float]:
    """See `worker.py`: blocks of updates or of exploration steps, or an evaluation."""
    torch.set_num_threads(1)
    loop = Loop(settings, None if kind == "exploration" else dataset)
    env = make_env(settings["env_name"])

    def evaluate() -> float:
        return len([sample_trajectory(env, loop.agent) for _ in range(EVAL_EPISODES)])

    def advance() -> float:
        for _ in range(BLOCK):
            loop.advance()
        return BLOCK

    return evaluate if kind == "evaluation" else advance


if __name__ == "__main__":
    main()
