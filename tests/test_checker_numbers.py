"""The checker's numbers: files written against the public starter, with one slot changed each time.

Every right way is accepted, and every mistake is found in the method that makes it and named.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from cs285.grading.sandbox.sandbox import Sandbox
from cs285.grading.solutions.checking import check_file

# Each file has slots `<name>`; DEFAULTS fills those that a test does not.

DQN = """
import torch
from torch import nn
import numpy as np
import torch.nn.functional as F
import cs285.infrastructure.pytorch_util as ptu


class DQNAgent(nn.Module):
    def __init__(self, observation_shape, num_actions, make_critic, make_optimizer,
                 make_lr_schedule, discount, target_update_period, use_double_q=False,
                 clip_grad_norm=None):
        super().__init__()
        self.critic = make_critic(observation_shape, num_actions)
        self.target_critic = make_critic(observation_shape, num_actions)
        self.critic_optimizer = make_optimizer(self.critic.parameters())
        self.lr_scheduler = make_lr_schedule(self.critic_optimizer)
        self.observation_shape = observation_shape
        self.num_actions = num_actions
        self.discount = discount
        self.target_update_period = target_update_period
        self.clip_grad_norm = clip_grad_norm
        self.use_double_q = use_double_q
        self.critic_loss = nn.MSELoss()
        self.update_target_critic()

    def get_action(self, observation, epsilon=0.02):
        observation = ptu.from_numpy(np.asarray(observation))[None]
        # TODO(student): get the action from the critic using an epsilon-greedy strategy
        <acting>

    def compute_critic_loss(self, obs, action, reward, next_obs, done):
        (batch_size,) = reward.shape
        with torch.no_grad():
            # TODO(student): compute target values
            next_qa_values = self.target_critic(next_obs)
            if self.use_double_q:
                next_action = <double>
            else:
                next_action = next_qa_values.argmax(dim=1)
            next_q_values = <next>
            target_values = <target>
        qa_values = self.critic(obs)
        q_values = <q>
        loss = <loss>
        return loss, {"critic_loss": loss.item()}, {"qa_values": qa_values, "q_values": q_values}

    def update_critic(self, obs, action, reward, next_obs, done):
        loss, metrics, _ = self.compute_critic_loss(obs, action, reward, next_obs, done)
        self.critic_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.critic.parameters(), self.clip_grad_norm or float("inf"))
        self.critic_optimizer.step()
        self.lr_scheduler.step()
        return metrics

    def update_target_critic(self):
        self.target_critic.load_state_dict(self.critic.state_dict())

    def update(self, observations, actions, rewards, next_observations, dones, step):
        critic_stats = self.update_critic(observations, actions, rewards, next_observations, dones)
        if step % self.target_update_period == 0:
            self.update_target_critic()
        return critic_stats
"""

CQL = """
import torch
from cs285.agents.dqn_agent import DQNAgent


class CQLAgent(DQNAgent):
    def __init__(self, observation_shape, num_actions, cql_alpha, cql_temperature=1.0, **kwargs):
        super().__init__(observation_shape, num_actions, **kwargs)
        self.cql_alpha = cql_alpha
        self.cql_temperature = cql_temperature

    def compute_critic_loss(self, obs, action, reward, next_obs, done):
        loss, metrics, variables = super().compute_critic_loss(obs, action, reward, next_obs, done)
        # TODO(student): modify the loss to implement CQL
        qa, q = variables["qa_values"], variables["q_values"]
        T, alpha = self.cql_temperature, self.cql_alpha
        loss = <cql>
        return loss, metrics, variables
"""

AWAC = """
import torch
from torch import nn
import torch.nn.functional as F
from cs285.agents.dqn_agent import DQNAgent


class AWACAgent(DQNAgent):
    def __init__(self, observation_shape, num_actions, make_actor, make_actor_optimizer,
                 temperature, **kwargs):
        super().__init__(observation_shape=observation_shape, num_actions=num_actions, **kwargs)
        self.actor = make_actor(observation_shape, num_actions)
        self.actor_optimizer = make_actor_optimizer(self.actor.parameters())
        self.temperature = temperature

    def compute_critic_loss(self, observations, actions, rewards, next_observations, dones):
        with torch.no_grad():
            # TODO(student): compute the actor distribution, then use it to compute E[Q(s, a)]
            next_qa_values = self.target_critic(next_observations)
            dist = self.actor(next_observations)
            next_qs = <awac_next>
            target_values = <awac_target>
        qa_values = self.critic(observations)
        q_values = <awac_q>
        loss = <awac_loss>
        return loss, {"critic_loss": loss.item()}, {"qa_values": qa_values, "q_values": q_values}

    def compute_advantage(self, observations, actions, action_dist=None):
        if action_dist is None:
            action_dist = self.actor(observations)
        qa_values = self.critic(observations)
        q_values = <advantage_q>
        values = <baseline>
        advantages = <advantage>
        return advantages

    def update_actor(self, observations, actions):
        # TODO(student): update the actor using AWAC
        dist = self.actor(observations)
        with torch.no_grad():
            advantages = self.compute_advantage(observations, actions, dist)
        weights = <weights>
        loss = <actor_loss>
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        return loss.item()

    def update(self, observations, actions, rewards, next_observations, dones, step):
        <awac_steps>
        if step % self.target_update_period == 0:
            self.update_target_critic()
        return metrics
"""

IQL = """
import torch
from torch import nn
from cs285.agents.awac_agent import AWACAgent


class IQLAgent(AWACAgent):
    def __init__(self, observation_shape, num_actions, make_value_critic,
                 make_value_critic_optimizer, expectile, **kwargs):
        super().__init__(observation_shape=observation_shape, num_actions=num_actions, **kwargs)
        self.value_critic = make_value_critic(observation_shape)
        <target_v>
        self.value_critic_optimizer = make_value_critic_optimizer(self.value_critic.parameters())
        self.expectile = expectile

    def compute_advantage(self, observations, actions, action_dist=None):
        # TODO(student): compute advantage with IQL
        qa_values = self.critic(observations)
        with torch.no_grad():
            return <iql_advantage>

    def update_q(self, observations, actions, rewards, next_observations, dones):
        # TODO(student): update Q(s, a) to match targets (based on V)
        qa_values = self.critic(observations)
        q_values = <iql_q>
        with torch.no_grad():
            vs = <iql_next>
            target_values = <iql_target>
        loss = <q_loss>
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        return {"q_loss": loss.item()}

    @staticmethod
    def iql_expectile_loss(expectile, vs, target_qs):
        # TODO(student): compute the expectile loss
        u = <u>
        return <expectile>

    def update_v(self, observations, actions):
        # TODO(student): compute target values for V
        with torch.no_grad():
            qa_values = self.critic(observations)
            target_values = <v_target>
        vs = <vs>
        loss = <v_loss>
        self.value_critic_optimizer.zero_grad()
        loss.backward()
        self.value_critic_optimizer.step()
        return {"v_loss": loss.item()}

    def update_critic(self, observations, actions, rewards, next_observations, dones):
        metrics = self.update_q(observations, actions, rewards, next_observations, dones)
        return {**metrics, **self.update_v(observations, actions)}

    def update_target_value_critic(self):
        <copy_v>

    def update(self, observations, actions, rewards, next_observations, dones, step):
        metrics = self.update_critic(observations, actions, rewards, next_observations, dones)
        metrics["actor_loss"] = self.update_actor(observations, actions)
        if step % self.target_update_period == 0:
            self.update_target_critic()
            self.update_target_value_critic()
        return metrics
"""
FILES = {"dqn": DQN, "cql": CQL, "awac": AWAC, "iql": IQL}

GATHER = "qa_values.gather(1, actions.unsqueeze(-1)).squeeze(-1)"
BATCH = "observations, actions, rewards, next_observations, dones"
DEFAULTS = {
    "acting": (
        "if np.random.random() < epsilon:\n"
        "            return int(np.random.randint(self.num_actions))\n"
        "        return int(self.critic(observation).argmax(dim=-1).item())"
    ),
    "double": "self.critic(next_obs).argmax(dim=1)",
    "next": "next_qa_values.gather(1, next_action.unsqueeze(1)).squeeze(1)",
    "target": "reward + self.discount * (1 - done.float()) * next_q_values",
    "q": "qa_values.gather(1, action.unsqueeze(1)).squeeze(1)",
    "loss": "self.critic_loss(q_values, target_values)",
    "cql": "loss + alpha * (T * torch.logsumexp(qa / T, dim=1) - q).mean()",
    "awac_next": "(dist.probs * next_qa_values).sum(dim=-1)",
    "awac_target": "rewards + self.discount * (1 - dones.float()) * next_qs",
    "awac_q": GATHER,
    "awac_loss": "self.critic_loss(q_values, target_values)",
    "advantage_q": GATHER,
    "baseline": "(action_dist.probs * qa_values).sum(dim=-1)",
    "advantage": "q_values - values",
    "weights": "torch.exp(advantages / self.temperature)",
    "actor_loss": "-(dist.log_prob(actions) * weights).mean()",
    "awac_steps": (
        f"metrics = self.update_critic({BATCH})\n"
        '        metrics["actor_loss"] = self.update_actor(observations, actions)'
    ),
    "target_v": (
        "self.target_value_critic = make_value_critic(observation_shape)\n"
        "        self.target_value_critic.load_state_dict(self.value_critic.state_dict())"
    ),
    "iql_advantage": f"{GATHER} - self.value_critic(observations).squeeze(-1)",
    "iql_q": GATHER,
    "iql_next": "self.target_value_critic(next_observations).squeeze(-1)",
    "iql_target": "rewards + self.discount * (1 - dones.float()) * vs",
    "q_loss": "self.critic_loss(q_values, target_values)",
    "u": "target_qs - vs",
    "expectile": "(torch.where(u < 0, 1 - expectile, expectile) * u ** 2).mean()",
    "v_target": GATHER,
    "vs": "self.value_critic(observations).squeeze(-1)",
    "v_loss": "self.iql_expectile_loss(self.expectile, vs, target_values)",
    "copy_v": "self.target_value_critic.load_state_dict(self.value_critic.state_dict())",
}


def render(agent, slots=None):
    """Return a file with some of its slots filled differently."""
    filled = {**DEFAULTS, **(slots or {})}
    text = re.sub(r"<(\w+)>", lambda slot: filled[slot[1]], FILES[agent])
    unused = [name for name in slots or {} if f"<{name}>" not in FILES[agent]]
    assert not unused, unused
    return text


@dataclass(frozen=True)
class Case:
    agent: str
    slots: dict = field(default_factory=dict)
    method: str = ""
    says: str = ""
    """A regular expression that the verdict on the method must match."""

    def __str__(self):
        shown = "; ".join(f"{name} = {text}" for name, text in self.slots.items())
        return f"{self.agent}: {shown or 'as written'}"


def right(agent, says="", **slots):
    return Case(agent, slots, says=says)


def wrong(agent, method, says, **slots):
    return Case(agent, slots, method, says)


COLUMN_Q = "qa_values.gather(1, actions.unsqueeze(-1))"
COLUMN_V = "self.value_critic(observations)"
COLUMN_NEXT = "self.target_value_critic(next_observations)"
LOSS, ADVANTAGE, ACTOR = "compute_critic_loss", "compute_advantage", "update_actor"
EXPECTILE = "iql_expectile_loss"
BROADCAST = r"\(B, 1\) against \(B,\)"
SAMPLED_BASELINE = "qa_values.gather(1, action_dist.sample()[:, None])[:, 0]"
SAMPLE = "next_qa_values.gather(1, dist.sample().unsqueeze(1)).squeeze(1)"

RIGHT = [
    right("dqn"),
    right("cql"),
    right("awac"),
    right("iql"),
    # Columns throughout, one-hot masks, indexing.
    right(
        "dqn",
        next="next_qa_values.gather(1, next_action.unsqueeze(1))",
        target="reward[:, None] + self.discount * (1 - done.float())[:, None] * next_q_values",
        q="qa_values.gather(1, action.unsqueeze(1))",
    ),
    right(
        "dqn",
        next="next_qa_values[torch.arange(batch_size), next_action]",
        q="(qa_values * F.one_hot(action, self.num_actions)).sum(dim=-1)",
        target="torch.where(done, reward, reward + self.discount * next_q_values)",
    ),
    right("dqn", loss="((q_values - target_values) ** 2).mean()"),
    right("dqn", "half", loss="0.5 * F.mse_loss(q_values, target_values)"),
    right("dqn", target="reward + (~done) * self.discount * next_q_values"),
    right("cql", cql="loss + alpha * (torch.logsumexp(qa, dim=1).mean() - q.mean())"),
    right("cql", cql="loss + alpha * T * torch.nn.functional.cross_entropy(qa / T, action)"),
    # A column of logsumexp against q of shape (batch,) has the same mean.
    right("cql", cql="loss + alpha * (T * torch.logsumexp(qa / T, 1, keepdim=True) - q).mean()"),
    right("awac", "sampled", awac_next=SAMPLE),
    right(
        "awac", "half of the squared error", awac_next=SAMPLE,
        awac_loss="0.5 * ((q_values - target_values) ** 2).mean()",
    ),
    right("awac", "online", awac_next="(dist.probs * self.critic(next_observations)).sum(-1)"),
    right("awac", "average", awac_next=(
        "next_qa_values.gather(1, dist.sample((8,)).T).mean(dim=1)"
    )),
    right("awac", "sampled", baseline=SAMPLED_BASELINE),
    right("awac", advantage="(q_values - values)[:, None]", actor_loss=(
        "-(dist.log_prob(actions)[:, None] * weights).mean()"
    ), says="shape"),
    right("awac", "capped", weights="torch.exp(advantages / self.temperature).clamp(max=1.3)"),
    # IQL: squeezed at the source, at the use, in the loss, by indexing, or columns throughout.
    right("iql", iql_next=f"{COLUMN_NEXT}[:, 0]", vs=f"{COLUMN_V}.view(-1)"),
    right("iql", vs=COLUMN_V, u="target_qs - vs.squeeze(1)"),
    right("iql", vs=COLUMN_V, u="target_qs.unsqueeze(1) - vs"),
    right("iql", vs=COLUMN_V, v_target=COLUMN_Q),
    right(
        "iql", iql_q=COLUMN_Q, iql_next=COLUMN_NEXT,
        iql_target="rewards.unsqueeze(1) + self.discount * (1 - dones.float()).unsqueeze(1) * vs",
    ),
    right("iql", "no target V", iql_next="self.value_critic(next_observations).squeeze(-1)",
          target_v="pass", copy_v="pass"),
    right("iql", "online V", iql_next="self.value_critic(next_observations).squeeze(-1)"),
    right("iql", expectile="torch.mean(torch.abs(expectile - (u < 0).float()) * u.pow(2))"),
    right(
        "iql", "averaged by the caller",
        expectile="torch.where(u < 0, 1 - expectile, expectile) * u**2",
        v_loss="self.iql_expectile_loss(self.expectile, vs, target_values).mean()",
    ),
    # The arguments change places in the call and in the method.
    right(
        "iql", "right when called as in update_v", u="vs - target_qs",
        v_loss="self.iql_expectile_loss(self.expectile, target_values, vs)",
    ),
]  # fmt: skip

WRONG = [
    # Broadcasts, each in its place
    wrong("dqn", LOSS, f"{BROADCAST}.*target of every row",
          q="qa_values.gather(1, action.unsqueeze(1))"),
    wrong("dqn", LOSS, f"{BROADCAST}.*next value meets the reward",
          next="next_qa_values.gather(1, next_action.unsqueeze(1))"),
    wrong("dqn", LOSS, f"{BROADCAST}.*next value and Q",
          next="next_qa_values.gather(1, next_action.unsqueeze(1))",
          q="qa_values.gather(1, action.unsqueeze(1))"),
    wrong("dqn", LOSS, f"{BROADCAST}.*the reward has another shape",
          target="reward[:, None] + self.discount * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, f"{BROADCAST}.*mask",
          target="reward + self.discount * (1 - done.float())[:, None] * next_q_values"),
    wrong("dqn", LOSS, r"every row's action", q="qa_values[:, action]"),
    wrong("dqn", LOSS, r"every row's action", next="next_qa_values[:, next_action]"),
    wrong("dqn", LOSS, "one-hot", q="qa_values * F.one_hot(action, self.num_actions)",
          loss="((q_values - target_values[:, None]) ** 2).mean()"),
    wrong("dqn", LOSS, "divided by the number of actions",
          q="(qa_values * F.one_hot(action, self.num_actions)).mean(dim=1)"),
    wrong("awac", LOSS, BROADCAST, awac_q=COLUMN_Q),
    wrong("awac", LOSS, BROADCAST, awac_next="(dist.probs * next_qa_values).sum(-1, keepdim=True)"),
    wrong("awac", LOSS, BROADCAST, awac_next=SAMPLE, awac_q=COLUMN_Q),
    wrong("awac", LOSS, BROADCAST, awac_next=SAMPLE.replace(".squeeze(1)", "")),
    wrong("awac", LOSS, BROADCAST, awac_next=SAMPLE.replace(".squeeze(1)", ""), awac_q=COLUMN_Q),
    wrong("awac", LOSS, "every row's action", awac_next="next_qa_values[:, dist.sample()]"),
    wrong("awac", ADVANTAGE, rf"{BROADCAST}.*Q\(s, a\) of shape", advantage_q=COLUMN_Q),
    wrong("awac", ADVANTAGE, rf"{BROADCAST}.*baseline of shape",
          baseline="(action_dist.probs * qa_values).sum(-1, keepdim=True)"),
    wrong("awac", ADVANTAGE, "every row's action", advantage_q="qa_values[:, actions]"),
    wrong("awac", ACTOR, BROADCAST, weights="torch.exp(advantages / self.temperature)[:, None]"),
    wrong("awac", ACTOR, r"log_prob of actions \(B, 1\)",
          actor_loss="-(dist.log_prob(actions[:, None]) * weights).mean()"),
    wrong("iql", "update_q", f"{BROADCAST}.*next value meets the reward", iql_next=COLUMN_NEXT),
    wrong("iql", "update_q", f"{BROADCAST}.*next value and Q", iql_next=COLUMN_NEXT,
          iql_q=COLUMN_Q),
    wrong("iql", "update_q", f"{BROADCAST}.*target of every row", iql_q=COLUMN_Q),
    wrong("iql", "update_q", BROADCAST, iql_next=COLUMN_NEXT,
          iql_target="rewards + torch.where(dones, torch.zeros_like(vs), self.discount * vs)"),
    wrong("iql", "update_v", f"{BROADCAST}.*every V", vs=COLUMN_V),
    wrong("iql", "update_v", f"{BROADCAST}.*every V", v_target=COLUMN_Q),
    wrong("iql", "update_v", f"{BROADCAST}.*every V", u="target_qs - vs.squeeze(1)", vs=COLUMN_V,
          v_target=COLUMN_Q),
    wrong("iql", ADVANTAGE, rf"{BROADCAST}.*V\(s\) of shape",
          iql_advantage=f"{GATHER} - {COLUMN_V}"),
    wrong("iql", ADVANTAGE, rf"{BROADCAST}.*Q\(s, a\) of shape",
          iql_advantage=f"{COLUMN_Q} - {COLUMN_V}.squeeze(-1)"),
    # Targets
    wrong("dqn", LOSS, r"1 - d lacks its brackets",
          target="reward + self.discount * next_q_values * 1 - done.float()"),
    wrong("dqn", LOSS, r"~d of a number",
          target="reward + self.discount * (~done.int()) * next_q_values"),
    wrong("dqn", LOSS, r"\(1 - d\) also multiplies Q",
          loss="self.critic_loss(q_values * (1 - done.float()), target_values)"),
    wrong("dqn", LOSS, r"\(1 - d\) multiplies the whole error",
          loss="((1 - done.float()) * (q_values - target_values) ** 2).mean()"),
    wrong("dqn", LOSS, r"left out of the mean",
          loss="((q_values - target_values) ** 2)[~done].mean()"),
    wrong("dqn", LOSS, "d in place of", target="reward + self.discount * done * next_q_values"),
    wrong("dqn", LOSS, "discount is squared",
          target="reward + self.discount ** 2 * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, r"hard-coded as 0\.73",
          target="reward + 0.73 * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, r"reward is multiplied by 0\.37",
          target="0.37 * reward + self.discount * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, r"reward is multiplied by 3.*discount is hard-coded as 0\.42",
          target="3 * reward + 0.42 * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, r"the number 1 is added",
          target="reward + 1 + self.discount * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, r"standardised over the batch",
          target="(reward - reward.mean()) / reward.std() + self.discount * ~done * next_q_values"),
    wrong("dqn", LOSS, r"clipped", target=(
        "reward.clamp(-1, 1) + self.discount * (1 - done.float()) * next_q_values"
    )),
    wrong("dqn", LOSS, r"targets are mixed over the batch: .*mean",
          loss="self.critic_loss(q_values, target_values.mean().expand(batch_size))"),
    wrong("dqn", LOSS, r"targets are mixed over the batch",
          loss="self.critic_loss(q_values, target_values.roll(1, 0))"),
    wrong("dqn", LOSS, r"next values are mixed over the batch",
          next="next_qa_values.gather(1, next_action.unsqueeze(1)).squeeze(1).flip(0)"),
    wrong("dqn", LOSS, r"its loss is random",
          loss="self.critic_loss(q_values, target_values[torch.randperm(batch_size)])"),
    wrong("dqn", LOSS, r"cut to a whole number",
          target="reward.long() + self.discount * (1 - done.float()) * next_q_values"),
    wrong("dqn", LOSS, r"with use_double_q: .*at s", double="self.critic(obs).argmax(dim=1)"),
    wrong("dqn", LOSS, "with use_double_q: .*lowest|with use_double_q: loss: expected",
          double="self.critic(next_obs).argmin(dim=1)"),
    wrong("dqn", LOSS, "loss has no gradient",
          loss="self.critic_loss(q_values, target_values).detach()"),
    wrong("dqn", LOSS, "root of the mean", loss="self.critic_loss(q_values, target_values).sqrt()"),
    wrong("iql", "update_q", "discount is squared",
          iql_target="rewards + self.discount ** 2 * (1 - dones.float()) * vs"),
    wrong("iql", "update_q", "DQN's target",
          iql_next=("(self.target_critic(next_observations).gather(1, (self.critic if "
                    "self.use_double_q else self.target_critic)(next_observations)"
                    ".argmax(1, keepdim=True)))[:, 0]")),
    wrong("iql", "update_q", "loss has no gradient",
          q_loss="self.critic_loss(q_values, target_values).detach()"),
    # AWAC's critic
    wrong("awac", LOSS, "DQN's target",
          awac_next=("next_qa_values.gather(1, (self.critic(next_observations) if "
                     "self.use_double_q else next_qa_values).argmax(1, keepdim=True)).squeeze(1)")),
    wrong("awac", LOSS, "entropy is added",
          awac_next="(dist.probs * (next_qa_values - self.temperature * dist.logits)).sum(-1)"),
    wrong("awac", LOSS, r"^the discount is hard-coded as 0\.99", awac_next=SAMPLE,
          awac_target="rewards + 0.99 * (1 - dones.float()) * next_qs"),
    wrong("awac", LOSS, r"^\(1 - d\) is missing", awac_next=SAMPLE,
          awac_target="rewards + self.discount * next_qs"),
    wrong("awac", LOSS, r"^wrong action", awac_next=SAMPLE, awac_q=(
        "qa_values.gather(1, self.actor(next_observations).sample()[:, None])[:, 0]"
    )),
    wrong("awac", LOSS, "actor at s", awac_next=(
        "next_qa_values.gather(1, self.actor(observations).sample()[:, None])[:, 0]"
    )),
    wrong("awac", LOSS, "equally likely", awac_next=(
        "next_qa_values.gather(1, torch.randint(5, (len(actions), 1)))[:, 0]"
    )),
    wrong("awac", LOSS, "reward is missing.*$", awac_next=SAMPLE,
          awac_target="self.discount * (1 - dones.float()) * next_qs"),
    # CQL
    wrong("cql", LOSS, "q_values and qa_values are swapped",
          cql="loss + alpha * (torch.logsumexp(q, dim=-1) - qa).mean()"),
    wrong("cql", LOSS, "alpha is inside the exponential",
          cql="loss + (torch.logsumexp(alpha * qa, dim=1) - q).mean()"),
    wrong("cql", LOSS, "alpha is inside the exponential",
          cql="loss + alpha * (torch.logsumexp(alpha * qa, dim=1) - q).mean()"),
    wrong("cql", LOSS, "taken twice",
          cql="loss + 2 * alpha * (T * torch.logsumexp(qa / T, dim=1) - q).mean()"),
    wrong("cql", LOSS, "random actions",
          cql=("loss + alpha * (torch.logsumexp(qa.gather(1, torch.randint(5, (len(q), 3))), 1)"
               " - q).mean()")),
    wrong("cql", LOSS, r"entropy term.*weight 0\.03",
          cql=("loss + alpha * (T * torch.logsumexp(qa / T, dim=1) - q).mean()"
               " + 0.03 * (qa.softmax(1) * qa.log_softmax(1)).sum(1).mean()")),
    wrong("cql", LOSS, r"multiplied by 0\.25 besides cql_alpha",
          cql="loss + 0.25 * alpha * (T * torch.logsumexp(qa / T, dim=1) - q).mean()"),
    wrong("cql", LOSS, r"cql_alpha is hard-coded as 5",
          cql="loss + 5.0 * (T * torch.logsumexp(qa / T, dim=1) - q).mean()"),
    wrong("cql", LOSS, "divides", cql="loss + (torch.logsumexp(qa, 1) - q).mean() / alpha"),
    wrong("cql", LOSS, r"logsumexp runs over the batch",
          cql="loss + alpha * (torch.logsumexp(qa, dim=0).mean() - q.mean())"),
    # Advantages and the actor
    wrong("awac", ADVANTAGE, "advantage is 0 in every row", advantage="q_values - q_values"),
    wrong("awac", ADVANTAGE, "returns the weight exp",
          advantage="torch.exp((q_values - values) / self.temperature)"),
    wrong("awac", ADVANTAGE, "sum over actions is missing", baseline=(
        "action_dist.probs.gather(1, actions[:, None])[:, 0] * q_values"
    )),
    wrong("awac", ADVANTAGE, "mean of Q.* over the batch as the baseline",
          baseline="q_values.mean()"),
    wrong("awac", ACTOR, r"capped at 1\b",
          weights="torch.exp(advantages / self.temperature).clamp(max=1.0)"),
    wrong("awac", ADVANTAGE, r"2 A \+", advantage="2 * (q_values - values)"),
    wrong("awac", ACTOR, r"capped at 0\.9",
          weights="torch.exp(advantages / self.temperature).clamp(max=0.9)"),
    wrong("awac", ACTOR, r"max\(A, 0\)",
          weights="torch.exp(advantages.clamp(min=0) / self.temperature)"),
    wrong("awac", ACTOR, "divides the advantage twice",
          weights="torch.exp(advantages / self.temperature ** 2)"),
    wrong("awac", ACTOR, r"temperature is hard-coded as 0\.77",
          weights="torch.exp(advantages / 0.77)"),
    wrong("awac", ACTOR, r"multiplied by 2\.5 in the exponential",
          weights="torch.exp(2.5 * advantages / self.temperature)"),
    wrong("awac", ACTOR, "linear in the advantage", weights="1 + advantages"),
    wrong("awac", ACTOR, "entropy is added",
          actor_loss="-(dist.log_prob(actions) * weights).mean() - dist.entropy().mean()"),
    wrong("awac", ACTOR, "loss has no gradient",
          actor_loss="-(dist.log_prob(actions) * weights).mean().detach()"),
    wrong("iql", "update_v", "rows of the batch are mixed",
          vs="self.value_critic(observations.flip(0)).squeeze(-1)"),
    wrong("iql", "update_q", "error is not squared", q_loss="(target_values - q_values).mean()"),
    wrong("dqn", LOSS, "maximum of each action over the batch",
          next="next_qa_values.max(dim=0).values", q="qa_values.gather(1, action[:, None])",
          target="reward[:, None] + self.discount * (1 - done.float())[:, None] * next_q_values"),
    wrong("dqn", LOSS, f"{BROADCAST}.*target of every row",
          q="qa_values.gather(1, action.unsqueeze(1))",
          loss="((q_values - target_values) ** 2).sum() / batch_size"),
    wrong("dqn", LOSS, r"reward is clipped to \[-0\.1, 0\.1\]", target=(
        "reward.clamp(-0.1, 0.1) + self.discount * (1 - done.float()) * next_q_values"
    )),
    wrong("dqn", LOSS, "never trained", q=(
        "self.target_critic(obs).gather(1, action.unsqueeze(1)).squeeze(1) + 0 * qa_values.sum(1)"
    )),
    wrong("dqn", "get_action", "always takes action",
          acting=DEFAULTS["acting"].replace("argmax(dim=-1).item()", "argmax(dim=0)[0]")),
    wrong("cql", LOSS, "conservative term has no gradient|over the target",
          cql="loss + alpha * (torch.logsumexp(qa, dim=1) - q).mean().detach()"),
    wrong("awac", ACTOR, "another row.s state",
          actor_loss="-(self.actor(observations.flip(0)).log_prob(actions) * weights).mean()"),
    wrong("awac", ACTOR, "softmax runs over the batch",
          actor_loss="-(F.log_softmax(dist.logits, 0).gather(1, actions[:, None])[:, 0] * weights)"
          ".mean()"),
    wrong("awac", ACTOR, "actions other than the data's",
          actor_loss="-(dist.log_prob(dist.sample()) * weights).mean()"),
    # Around a sampled baseline, of which two steps differ
    wrong("awac", "update", "critic is trained (about 2 times|twice)", baseline=SAMPLED_BASELINE,
          awac_steps=DEFAULTS["awac_steps"] + "\n        self.update_critic(" + BATCH + ")"),
    wrong("awac", "update", "actor learns at other states", baseline=SAMPLED_BASELINE,
          awac_steps=DEFAULTS["awac_steps"].replace(
              "update_actor(observations", "update_actor(next_observations")),
    # IQL's V
    wrong("iql", EXPECTILE, "reversed", u="vs - target_qs"),
    wrong("iql", EXPECTILE, r"the expectile is 0\.75, as if hard-coded",
          expectile="(torch.where(u < 0, 0.25, 0.75) * u ** 2).mean()"),
    wrong("iql", EXPECTILE, "squared too",
          expectile="((torch.where(u < 0, 1 - expectile, expectile) * u) ** 2).mean()"),
    wrong("iql", EXPECTILE, "below zero have weight 1",
          expectile="(torch.where(u > 0, expectile, 1.0) * u ** 2).mean()"),
    wrong("iql", "update_v", "Q of every action",
          v_target="qa_values", vs=COLUMN_V),
    wrong("iql", "update_v", r"hard-coded as 0\.66",
          v_loss="self.iql_expectile_loss(0.66, vs, target_values)"),
    wrong("iql", "update_v", "mean of Q", v_target=f"{GATHER}.mean().expand(len(actions))"),
    wrong("iql", ADVANTAGE, "expectile loss",
          iql_advantage=(f"torch.abs(self.expectile - (({GATHER} - {COLUMN_V}[:, 0]) < 0).float())"
                         f" * ({GATHER} - {COLUMN_V}[:, 0]) ** 2")),
]  # fmt: skip


# A mistake in the first method hides those in the others.
HIDES = [{ADVANTAGE, ACTOR, "update"}, {EXPECTILE, "update_v"}, {ACTOR, "update"}, {LOSS, "update"}]


def packed(cases):
    """Put mistakes in several methods of one file, which are to be told apart: fewer checks."""
    packs = []
    for case in cases:
        for pack in packs:
            methods = {one.method for one in pack}
            slots = {slot for one in pack for slot in one.slots}
            if (
                pack[0].agent == case.agent
                and case.method not in methods
                and not slots & set(case.slots)
                and not any(case.method in one and methods & one for one in HIDES)
            ):
                pack.append(case)
                break
        else:
            packs.append([case])
    return packs


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


def check(sandbox, *cases):
    """Check cases together in one file, on inputs that depend on them."""
    rng = np.random.default_rng(sum(ord(letter) for case in cases for letter in str(case)))
    slots = {slot: text for case in cases for slot, text in case.slots.items()}
    agent = cases[0].agent
    return check_file(sandbox, agent, {f"{agent}_agent.py": render(agent, slots)}, rng)


def said(findings):
    return "; ".join(f"{f.method} {f.verdict} {f.text}" for f in findings)


@pytest.mark.parametrize("case", RIGHT, ids=str)
def test_a_right_way_is_accepted(sandbox, case):
    findings = check(sandbox, case)
    assert not any(f.verdict.is_bad for f in findings), said(findings)
    assert any(case.says in f.text for f in findings), said(findings)


@pytest.mark.parametrize("cases", packed(WRONG), ids=lambda pack: " and ".join(map(str, pack)))
def test_a_mistake_is_found_where_it_is_and_named(sandbox, cases):
    findings = check(sandbox, *cases)
    bad = {f.method: f.text for f in findings if f.verdict.is_bad}
    for case in cases:
        assert re.search(case.says, bad.get(case.method, "")), said(findings)
    # One mistake costs once.
    assert len(bad) == len(cases), said(findings)
    assert sum(f.verdict.is_bad for f in findings) == len(cases), said(findings)
