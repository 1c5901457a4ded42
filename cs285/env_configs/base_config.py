"""The keys that several algorithms share, and the interface of a config to training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cs285.envs.tasks import InputBounds, get_task
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import check_name

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cs285.networks.mlp_policy import MLPPolicy

Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Size = Annotated[int, Field(ge=1, le=8_192)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class BaseConfig(BaseModel):
    """One run: the values of its YAML file, and the defaults below for all other keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )

    per_run: ClassVar[frozenset[str]] = frozenset(
        {"env_name", "exp_name", "dataset_name", "dataset_seed", "seed"}
    )
    """Keys in which the runs of one training program may differ."""

    base_config: str
    """The algorithm."""
    env_name: str
    """Gymnasium id of a Pointmass environment, or of any other environment with flat Box
    observations and Discrete actions."""
    exp_name: str
    """Part of the run folder's name. Default: the YAML file's name."""
    dataset_name: str
    """The dataset that exploration writes and the other two stages read: a plain name, stored as
    `{dataset_name}_seed{seed}.npz`. Default: exploration uses its `exp_name`; the other stages
    read RND's data, `pointmass_medium_rnd` on Medium or `cartpole_rnd` on CartPole-v1."""
    dataset_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed of the dataset to read. Default: the seed of the run."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Determines the initial weights, the noise, the exploration and the batches."""

    total_steps: Steps = 10_000
    """Environment steps of exploration (`run_hw5_explore.py`)."""
    training_steps: Steps = 100_000
    """Gradient steps of offline training (`run_hw5_offline.py`)."""
    offline_steps: Steps = 50_000
    """Offline gradient steps of fine-tuning (`run_hw5_finetune.py`)."""
    online_steps: Steps = 50_000
    """Environment steps of fine-tuning, each with one gradient step (`run_hw5_finetune.py`)."""

    learning_starts: Annotated[int, Field(ge=1)] = 500
    """Random actions that exploration takes before the agent acts and learns."""

    if TYPE_CHECKING:
        # Training reads these from every config; configs of agents that learn declare them as keys.
        @property
        def batch_size(self) -> int: ...  # noqa: D102
        @property
        def epsilon(self) -> float: ...  # noqa: D102
        @property
        def updates_per_step(self) -> int: ...  # noqa: D102

    @field_validator("*", mode="before")
    @classmethod
    def _whole_number(cls, value: object) -> object:
        """Accept `1e5`, a float in YAML, as a whole number."""
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @field_validator("env_name")
    @classmethod
    def _known_environment(cls, value: str) -> str:
        get_task(value)  # raises ValueError with the known names
        return value

    @field_validator("exp_name", "dataset_name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        try:
            check_name(value, "name")
        except UserError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def program_key(self) -> tuple[Any, ...]:
        """A key that is equal for two runs exactly if they can train as one program."""
        values = self.model_dump(exclude=set(self.per_run))
        return (type(self), get_task(self.env_name).layout, *sorted(values.items()))

    @property
    def exploration_phases(self) -> dict[str, int]:
        """Phases of exploration by name, and the environment steps of each."""
        return {"exploration": self.total_steps}

    def make_agent(self, observation_shape: tuple[int, ...], num_actions: int) -> Any:
        """Build the agent; its weights come from PyTorch's global generator."""
        raise NotImplementedError


class LearnerConfig(BaseConfig):
    """Keys of all agents that learn."""

    per_run: ClassVar[frozenset[str]] = BaseConfig.per_run | {"epsilon"}

    batch_size: Size = 128
    """Transitions in a batch, drawn with replacement."""
    epsilon: Fraction = 0.3
    """Probability of a random action while collecting data; evaluation is always greedy. AWAC and
    IQL sample from their actor instead if this is above 0, and act greedily if it is 0."""
    updates_per_step: Annotated[int, Field(ge=1, le=100)] = 1
    """Gradient steps for every environment step, in exploration and online."""


class NetworkConfig(LearnerConfig):
    """Keys that critics and actors have in common."""

    input_scale: Positive | None = 3.0
    """Critics and actors see observations rescaled from the bounds of their space to
    [-scale, scale]. Null leaves all coordinates unscaled; those without bounds always are. With
    centred and stretched inputs, a network distinguishes the two sides of a wall several times
    sooner."""
    clip_grad_norm: Positive | None = None
    """Maximum norm of each network's gradient; null: no clipping."""

    @property
    def input_bounds(self) -> InputBounds | None:
        """The bounds from which `input_scale` rescales; None for [0, 1]."""
        return get_task(self.env_name).input_bounds


class PolicyConfig(NetworkConfig):
    """Keys of all agents with an actor."""

    per_run: ClassVar[frozenset[str]] = NetworkConfig.per_run | {"actor_learning_rate"}

    actor_hidden_size: Size = 128
    """Width of the actor's hidden layers."""
    actor_num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of the actor's hidden layers."""
    actor_learning_rate: LearningRate = 3e-4
    """Adam's learning rate for the actor."""

    def make_policy(self, observation_shape: tuple[int, ...], num_actions: int) -> MLPPolicy:
        """Build an actor, or another policy of this size."""
        from cs285.networks.mlp_policy import MLPPolicy

        return MLPPolicy(
            num_actions,
            math.prod(observation_shape),
            discrete=True,
            n_layers=self.actor_num_layers,
            layer_size=self.actor_hidden_size,
            input_scale=self.input_scale,
            input_bounds=self.input_bounds,
        )

    def policy_arguments(self) -> dict[str, Any]:
        """Return the arguments about the actor that all agents with one have."""
        return {
            "make_actor": self.make_policy,
            "make_actor_optimizer": adam(self.actor_learning_rate),
        }


class CriticConfig(NetworkConfig):
    """Keys of all agents with a critic."""

    per_run: ClassVar[frozenset[str]] = NetworkConfig.per_run | {"discount", "learning_rate"}

    discount: Fraction = 0.98
    """Discount factor. At 0.98 the agent looks about 50 steps ahead, through two rooms."""
    hidden_size: Size = 64
    """Width of the critic's hidden layers."""
    num_layers: Annotated[int, Field(ge=1, le=16)] = 2
    """Number of the critic's hidden layers."""
    learning_rate: LearningRate = 1e-3
    """Adam's learning rate for critics."""
    target_update_period: Steps = 300
    """Number of updates between copies of a network to its target network."""

    def critic_arguments(self) -> dict[str, Any]:
        """Return the arguments of `DQNAgent` and its subclasses, except the shapes."""
        from cs285.networks.critics import StateActionCritic

        def make_critic(observation_shape: tuple[int, ...], num_actions: int) -> nn.Module:
            return StateActionCritic(
                observation_shape,
                num_actions,
                self.num_layers,
                self.hidden_size,
                self.input_scale,
                self.input_bounds,
            )

        return {
            "make_critic": make_critic,
            "make_optimizer": adam(self.learning_rate),
            "make_lr_schedule": constant_schedule,
            "discount": self.discount,
            "target_update_period": self.target_update_period,
            "use_double_q": True,  # if it is not a key, only a student's file may read it
            "clip_grad_norm": self.clip_grad_norm,
        }


class ActorCriticConfig(PolicyConfig, CriticConfig):
    """Keys of all agents with an actor and a critic."""

    per_run: ClassVar[frozenset[str]] = PolicyConfig.per_run | CriticConfig.per_run

    def actor_critic_arguments(self) -> dict[str, Any]:
        """Return the arguments of `ActorCriticAgent`, except the shapes."""
        critic = self.critic_arguments()
        return {
            **self.policy_arguments(),
            "make_critic": critic["make_critic"],
            "make_critic_optimizer": critic["make_optimizer"],
            "discount": self.discount,
            "target_update_period": self.target_update_period,
            "clip_grad_norm": self.clip_grad_norm,
        }


class QLearningConfig(CriticConfig):
    """Keys of all agents whose critic bootstraps from a maximum over actions."""

    use_double_q: bool = True
    """Let the online critic choose the action that the target critic evaluates: less bias."""

    def critic_arguments(self) -> dict[str, Any]:
        """Return the arguments of `DQNAgent` and its subclasses, except the shapes."""
        return super().critic_arguments() | {"use_double_q": self.use_double_q}


def adam(learning_rate: float) -> Callable[[Iterable[nn.Parameter]], torch.optim.Adam]:
    """Return a function that makes an Adam optimiser with this learning rate."""
    import torch

    return lambda parameters: torch.optim.Adam(parameters, lr=learning_rate)


def constant_schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule that keeps the learning rate constant."""
    import torch

    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
