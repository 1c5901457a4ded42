"""Right solutions in other styles, none of which may be called wrong.

`says` names an accepted variant.
"""

from tests.solutions import Patched


def _variant(name, agent, says, *replacements, style="student"):
    pairs = tuple(zip(replacements[::2], replacements[1::2], strict=True))
    return Patched(name, agent, "", says, pairs, style, "")


DQN_Q = "q_values = qa_values.gather(1, action.unsqueeze(1)).squeeze(1)"
AWAC_Q = "qa_values.gather(1, actions[:, None]).squeeze(1)"
AWAC_NEXT = "(distribution.probs * self.target_critic(next_observations)).sum(dim=-1)"
AWAC_BASELINE = "(action_dist.probs * qa_values).sum(dim=-1)"
NEXT_ACTION = "distribution.sample()[:, None]"
SAMPLED_BASELINE = "qa_values.gather(1, action_dist.sample()[:, None]).squeeze(1)"
WEIGHTS = "torch.exp(advantages / self.temperature)"
IQL_Q = "self.critic(observations).gather(1, actions.unsqueeze(1)).squeeze(-1)"
NORMALISED = "bonus = (bonus - bonus.mean()) / (bonus.std() + 1e-6)"
COPY = "self.target_critic.load_state_dict(self.critic.state_dict())"
BONUS = "rewards = rewards + self.rnd_weight * bonus"
SOFT = 'soft_maximum = t * torch.logsumexp(variables["qa_values"] / t, dim=1)'
TERM = '(soft_maximum - variables["q_values"]).mean()'
DQN_TARGET = "reward + self.discount * ~done * next_q_values"
DQN_NEXT = "next_q_values = next_qa_values.gather(1, next_action.unsqueeze(1)).squeeze(1)"

VARIANTS = [
    *[
        _variant(f"{name}: as handed in", name, "")
        for name in ("random", "dqn", "cql", "awac", "iql", "rnd")
    ],
    *[
        _variant(f"{name}: the reference", name, "", style="reference")
        for name in ("random", "dqn", "cql", "awac", "iql", "rnd")
    ],
    # DQN
    _variant(
        "dqn: one-hot",
        "dqn",
        "",
        DQN_Q,
        "q_values = (qa_values * nn.functional.one_hot(action, self.num_actions)).sum(1)",
    ),
    _variant(
        "dqn: einsum",
        "dqn",
        "",
        DQN_Q,
        "hot = torch.eye(self.num_actions)[action]\n"
        '        q_values = torch.einsum("ba,ba->b", qa_values, hot)',
    ),
    _variant(
        "dqn: fancy index",
        "dqn",
        "",
        DQN_Q,
        "q_values = qa_values[torch.arange(batch_size), action]",
    ),
    _variant(
        "dqn: where done",
        "dqn",
        "",
        DQN_TARGET,
        "torch.where(done, reward, reward + self.discount * next_q_values)",
    ),
    _variant(
        "dqn: in place",
        "dqn",
        "",
        "            target_values = " + DQN_TARGET,
        "            next_q_values[done] = 0\n"
        "            next_q_values.mul_(self.discount).add_(reward)\n"
        "            target_values = next_q_values",
    ),
    _variant(
        "dqn: loop over rows",
        "dqn",
        "",
        DQN_NEXT,
        "next_q_values = torch.stack([q[a] for q, a in zip(next_qa_values, next_action)])",
    ),
    _variant(
        "dqn: numpy target",
        "dqn",
        "",
        "            target_values = " + DQN_TARGET,
        "            n = next_q_values.numpy()\n"
        "            target_values = torch.tensor(reward.numpy() + self.discount"
        " * (1 - done.numpy()) * n)",
    ),
    _variant(
        "dqn: detach instead of no_grad",
        "dqn",
        "",
        "with torch.no_grad():\n            next_qa_values = self.target_critic(next_obs)",
        "if True:\n            next_qa_values = self.target_critic(next_obs).detach()",
    ),
    _variant(
        "dqn: loss by hand",
        "dqn",
        "",
        "loss = self.critic_loss(q_values, target_values)",
        "loss = torch.mean(torch.square(target_values - q_values))",
    ),
    _variant(
        "dqn: columns throughout",
        "dqn",
        "",
        "loss = self.critic_loss(q_values, target_values)",
        "loss = self.critic_loss(q_values[:, None], target_values[:, None])",
    ),
    _variant(
        "dqn: half",
        "dqn",
        "half of the squared error",
        "loss = self.critic_loss(q_values, target_values)",
        "loss = 0.5 * self.critic_loss(q_values, target_values)",
    ),
    _variant(
        "dqn: other names",
        "dqn",
        "",
        "self.target_critic",
        "self.lagging",
        "self.lr_scheduler",
        "self.schedule",
        "self.critic_optimizer",
        "self.opt",
    ),
    _variant(
        "dqn: deep copy",
        "dqn",
        "",
        "self.target_critic = make_critic(observation_shape, num_actions)",
        "import copy\n        self.target_critic = copy.deepcopy(self.critic)",
    ),
    _variant(
        "dqn: copies parameter by parameter",
        "dqn",
        "",
        "self.target_critic.load_state_dict(self.critic.state_dict())",
        "for t, p in zip(self.target_critic.parameters(),"
        " self.critic.parameters()):\n            t.data.copy_(p.data)",
    ),
    _variant(
        "dqn: copies first",
        "dqn",
        "before the step",
        "        metrics = self.update_critic(observations, actions, rewards,"
        " next_observations, dones)\n"
        "        if step % self.target_update_period == 0:\n"
        "            self.update_target_critic()\n",
        "        if step % self.target_update_period == 0:\n"
        "            self.update_target_critic()\n"
        "        metrics = self.update_critic(observations, actions, rewards,"
        " next_observations, dones)\n",
    ),
    _variant(
        "dqn: more metrics, another default",
        "dqn",
        "",
        "clip_grad_norm=None,\n    ):",
        "clip_grad_norm=None,\n        tau=1.0,\n    ):",
        '"critic_loss": loss.item(),',
        '"critic_loss": loss.item(), "note": "text", "td": q_values - target_values,',
    ),
    _variant(
        "dqn: a TODO left above right code",
        "dqn",
        "",
        "        (batch_size,) = reward.shape",
        "        # TODO(student): compute the loss\n        (batch_size,) = reward.shape",
    ),
    _variant(
        "dqn: ellipsis as an index",
        "dqn",
        "",
        DQN_Q,
        "q_values = qa_values.gather(1, action[..., None])[..., 0]",
    ),
    # CQL
    _variant(
        "cql: no factor T", "cql", "without the factor T", SOFT, SOFT.replace("t * torch", "torch")
    ),
    _variant(
        "cql: T inverted",
        "cql",
        "the same at T = 1",
        SOFT,
        'soft_maximum = torch.logsumexp(variables["qa_values"] * t, dim=1) / t',
    ),
    _variant(
        "cql: log sum exp by hand",
        "cql",
        "",
        SOFT,
        'soft_maximum = t * torch.log(torch.exp(variables["qa_values"] / t).sum(1))',
    ),
    _variant(
        "cql: two means", "cql", "", TERM, '(soft_maximum.mean() - variables["q_values"].mean())'
    ),
    _variant(
        "cql: its own Q",
        "cql",
        "",
        'variables["q_values"]).mean()',
        "self.critic(obs).gather(1, action[:, None])[:, 0]).mean()",
    ),
    _variant(
        "cql: some other scaling by T",
        "cql",
        "temperature 1",
        SOFT,
        SOFT.replace("t * torch", "t**3 * torch"),
    ),
    # AWAC
    _variant(
        "awac: online next",
        "awac",
        "online critic values the next state",
        AWAC_NEXT,
        AWAC_NEXT.replace("target_critic", "critic"),
    ),
    _variant(
        "awac: sampled next",
        "awac",
        "sampled from the actor",
        AWAC_NEXT,
        f"self.target_critic(next_observations).gather(1, {NEXT_ACTION}).squeeze(1)",
    ),
    _variant(
        "awac: sampled next, online",
        "awac",
        "sampled from the actor",
        AWAC_NEXT,
        f"self.critic(next_observations).gather(1, {NEXT_ACTION}).squeeze(1)",
    ),
    _variant(
        "awac: next of ten samples",
        "awac",
        "an average of samples from the actor",
        AWAC_NEXT,
        "self.target_critic(next_observations).gather(1, distribution.sample((10,)).T).mean(1)",
    ),
    _variant(
        "awac: sampled next, and separate draws in an update",
        "awac",
        "sampled from the actor",
        AWAC_NEXT,
        f"self.target_critic(next_observations).gather(1, {NEXT_ACTION}).squeeze(1)",
        "        metrics = self.update_critic(",
        "        entropy = -self.actor(observations).log_prob(self.actor(observations).sample())\n"
        "        metrics = self.update_critic(",
    ),
    _variant(
        "awac: sampled baseline",
        "awac",
        "sampled from the actor",
        AWAC_BASELINE,
        SAMPLED_BASELINE,
    ),
    _variant(
        "awac: baseline of ten samples",
        "awac",
        "an average of samples from the actor",
        AWAC_BASELINE,
        "qa_values.gather(1, action_dist.sample((10,)).T).mean(dim=1)",
    ),
    _variant(
        "awac: sampled baseline of the target critic",
        "awac",
        "sampled from the actor",
        AWAC_BASELINE,
        "self.target_critic(observations).gather(1, action_dist.sample()[:, None]).squeeze(1)",
    ),
    _variant(
        "awac: sampled baseline, capped",
        "awac",
        "on the sampled advantage",
        AWAC_BASELINE,
        SAMPLED_BASELINE,
        WEIGHTS,
        f"{WEIGHTS}.clamp(max=1.2)",
    ),
    _variant(
        "awac: sampled baseline, over the temperature at once",
        "awac",
        "sampled from the actor",
        f"return q_values - {AWAC_BASELINE}",
        f"return (q_values - {SAMPLED_BASELINE}) / self.temperature",
        WEIGHTS,
        "torch.exp(advantages)",
    ),
    _variant(
        "awac: baseline of ten samples, over the temperature at once",
        "awac",
        "an average of samples from the actor",
        f"return q_values - {AWAC_BASELINE}",
        "baseline = qa_values.gather(1, action_dist.sample((10,)).T).mean(dim=1)\n"
        "        return (q_values - baseline) / self.temperature",
        WEIGHTS,
        "torch.exp(advantages)",
    ),
    _variant(
        "awac: sampled baseline, after another draw",
        "awac",
        "sampled from the actor",
        AWAC_BASELINE,
        SAMPLED_BASELINE,
        "            advantages = self.compute_advantage(",
        "            entropy = -distribution.log_prob(distribution.sample())\n"
        "            advantages = self.compute_advantage(",
    ),
    _variant(
        "awac: einsum",
        "awac",
        "",
        AWAC_BASELINE,
        'torch.einsum("ba,ba->b", action_dist.probs, qa_values)',
    ),
    _variant(
        "awac: target advantage",
        "awac",
        "target critic",
        "qa_values = self.critic(observations)\n"
        "        q_values = qa_values.gather(1, actions[:, None]).squeeze(1)\n"
        "        return",
        "qa_values = self.target_critic(observations)\n"
        "        q_values = qa_values.gather(1, actions[:, None]).squeeze(1)\n"
        "        return",
    ),
    _variant("awac: capped", "awac", "capped at 1.5", WEIGHTS, f"{WEIGHTS}.clamp(max=1.5)"),
    _variant(
        "awac: capped exponent",
        "awac",
        "capped at 1.649",
        WEIGHTS,
        "torch.exp((advantages / self.temperature).clamp(max=0.5))",
    ),
    _variant(
        "awac: always samples",
        "awac",
        "also in evaluation",
        "if epsilon > 0 else distribution.probs.argmax(dim=-1)",
        "",
    ),
    _variant(
        "awac: epsilon-greedy on the actor",
        "awac",
        "epsilon-greedy",
        "distribution.sample() if epsilon > 0 else distribution.probs.argmax(dim=-1)",
        "torch.randint(5, (1,)) if torch.rand(()) < epsilon else distribution.probs.argmax(dim=-1)",
    ),
    _variant(
        "awac: starter's acting",
        "awac",
        "inherited from DQN",
        "def get_action",
        "def get_actor_action",
    ),
    _variant(
        "awac: actor first",
        "awac",
        "",
        "        metrics = self.update_critic(observations, actions, rewards,"
        " next_observations, dones)\n"
        '        metrics["actor_loss"] = self.update_actor(observations,'
        " actions)\n",
        "        actor_loss = self.update_actor(observations, actions)\n"
        "        metrics = self.update_critic(observations, actions, rewards,"
        ' next_observations, dones)\n        metrics["actor_loss"] = actor_loss\n',
    ),
    _variant(
        "awac: cross-entropy",
        "awac",
        "",
        "-(distribution.log_prob(actions) * weights).mean()",
        "(torch.nn.functional.cross_entropy(distribution.logits, actions,"
        ' reduction="none") * weights).mean()',
    ),
    _variant(
        "awac: critic not detached in the baseline",
        "awac",
        "",
        "with torch.no_grad():\n"
        "            advantages = self.compute_advantage(observations, actions)\n"
        "            weights = torch.exp(advantages / self.temperature)",
        "advantages = self.compute_advantage(observations, actions).detach()\n"
        "        weights = torch.exp(advantages / self.temperature)",
    ),
    _variant(
        "awac: advantage as a column",
        "awac",
        "shape",
        "return q_values - (action_dist.probs * qa_values).sum(dim=-1)",
        "return (q_values - (action_dist.probs * qa_values).sum(dim=-1))[:, None]",
        "torch.exp(advantages / self.temperature)",
        "torch.exp(advantages[:, 0] / self.temperature)",
    ),
    # IQL
    _variant(
        "iql: where",
        "iql",
        "",
        "torch.abs(expectile - (u < 0).float()) * u**2",
        "torch.where(u > 0, expectile, 1 - expectile) * u.pow(2)",
    ),
    _variant(
        "iql: one loss a row",
        "iql",
        "averaged by the caller",
        "u**2).mean()",
        "u**2)",
        "vs, q_values)\n",
        "vs, q_values).mean()\n",
    ),
    _variant(
        "iql: online V",
        "iql",
        "online V",
        "self.target_value_critic(next_observations)",
        "self.value_critic(next_observations)",
    ),
    _variant(
        "iql: V from the target critic",
        "iql",
        "target critic",
        f"with torch.no_grad():\n            q_values = {IQL_Q}",
        "with torch.no_grad():\n"
        f"            q_values = {IQL_Q.replace('critic(', 'target_critic(')}",
    ),
    _variant(
        "iql: target V in the advantage",
        "iql",
        "target V",
        "return q_values - self.value_critic(observations)",
        "return q_values - self.target_value_critic(observations)",
    ),
    _variant("iql: squeezes the starter's column", "iql", "", ".squeeze(-1)", ".squeeze(1)"),
    _variant(
        "iql: V first",
        "iql",
        "",
        "            **self.update_q(observations, actions, rewards,"
        " next_observations, dones),\n"
        "            **self.update_v(observations, actions),\n",
        "            **self.update_v(observations, actions),\n"
        "            **self.update_q(observations, actions, rewards,"
        " next_observations, dones),\n",
    ),
    # RND
    _variant("rnd: raw", "rnd", "raw norm", NORMALISED, "pass"),
    _variant(
        "rnd: min-max",
        "rnd",
        "min-max norm",
        NORMALISED,
        "bonus = (bonus - bonus.min()) / (bonus.max() - bonus.min())",
    ),
    _variant(
        "rnd: clipped",
        "rnd",
        "clipped",
        NORMALISED,
        f"{NORMALISED}.clamp(-1.0, 1.0)",
        "+ 1e-6).clamp",
        "+ 1e-6)\n            bonus = bonus.clamp",
    ),
    _variant(
        "rnd: running statistics",
        "rnd",
        "running-normalised",
        NORMALISED,
        'self.mean = 0.9 * getattr(self, "mean", 0.3) + 0.1 * bonus.mean()\n'
        "            bonus = (bonus - self.mean) / 0.7",
    ),
    _variant(
        "rnd: bonus at s",
        "rnd",
        "that of s",
        "bonus = self.errors(next_observations)",
        "bonus = self.errors(observations)",
    ),
    _variant(
        "rnd: learns at s'",
        "rnd",
        "",
        "self.update_rnd(observations)",
        "self.update_rnd(next_observations)",
    ),
    _variant(
        "rnd: squared",
        "rnd",
        "squared error",
        ".norm(dim=-1)",
        ".pow(2).mean(dim=-1)",
        "self.errors(obs).square().mean()",
        "self.errors(obs).mean()",
    ),
    _variant(
        "rnd: norm as the loss",
        "rnd",
        "norm of the error",
        "self.errors(obs).square().mean()",
        "self.errors(obs).mean()",
    ),
    _variant(
        "rnd: bonus in place of the reward",
        "rnd",
        "replaces the reward",
        BONUS,
        "rewards = self.rnd_weight * bonus",
    ),
    _variant(
        "rnd: learns before its bonus",
        "rnd",
        "learns before",
        "        with torch.no_grad():\n            bonus = self.errors(next",
        "        rnd_loss = self.update_rnd(observations)\n"
        "        with torch.no_grad():\n            bonus = self.errors(next",
        'metrics["rnd_loss"] = self.update_rnd(observations)',
        'metrics["rnd_loss"] = rnd_loss',
    ),
    _variant(
        "rnd: two critics",
        "rnd",
        "2 critics",
        "        self.rnd_weight = rnd_weight\n",
        "        self.rnd_weight = rnd_weight\n"
        "        self.exploit = DQNAgent(observation_shape, num_actions, **kwargs)\n",
        "            rewards = rewards + self.rnd_weight * bonus\n        metrics = super()",
        "            plain, rewards = rewards, self.rnd_weight * bonus\n"
        "        self.exploit.update(observations, actions, plain,"
        " next_observations, dones, step)\n"
        "        metrics = super()",
    ),
    # Other habits
    _variant(
        "dqn: makers by keyword",
        "dqn",
        "",
        "make_critic(observation_shape, num_actions)",
        "make_critic(observation_shape=observation_shape, num_actions=num_actions)",
    ),
    _variant(
        "dqn: a new deep copy at every period",
        "dqn",
        "",
        COPY,
        "import copy\n"
        "        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)",
    ),
    _variant(
        "dqn: a target that is no module of the agent",
        "dqn",
        "",
        "self.target_critic = make_critic(observation_shape, num_actions)",
        "import copy\n        self.target = [copy.deepcopy(self.critic)]",
        "self.target_critic(next_obs)",
        "self.target[0](next_obs)",
        "self.target_critic.load_state_dict",
        "self.target[0].load_state_dict",
    ),
    _variant(
        "dqn: gradients by torch.func",
        "dqn",
        "",
        "        self.critic_optimizer.zero_grad()\n        loss.backward()\n",
        "        names = dict(self.critic.named_parameters())\n"
        "        fixed = dict(self.critic.named_buffers())\n"
        "        with torch.no_grad():\n"
        "            following = self.target_critic(next_obs)\n"
        "            best = self.critic(next_obs) if self.use_double_q else following\n"
        "            best = following.take_along_dim(best.argmax(1, keepdim=True), 1)[:, 0]\n"
        "        def f(weights):\n"
        "            q = torch.func.functional_call(self.critic, (weights, fixed), (obs,))\n"
        "            q = torch.take_along_dim(q, action[:, None], 1)[:, 0]\n"
        "            return (q - reward - self.discount * ~done * best).square().mean()\n"
        "        slopes = torch.func.grad(f)({k: w.detach() for k, w in names.items()})\n"
        "        for name, weights in names.items():\n"
        "            weights.grad = slopes[name]\n",
    ),
    _variant(
        "dqn: gradients cleared after the step",
        "dqn",
        "",
        "        self.critic_optimizer.zero_grad()\n",
        "",
        "        self.critic_optimizer.step()\n",
        "        self.critic_optimizer.step()\n"
        "        self.critic_optimizer.zero_grad(set_to_none=False)\n",
    ),
    _variant(
        "dqn: copies one step earlier",
        "dqn",
        "once a period",
        "step % self.target_update_period",
        "(step + 1) % self.target_update_period",
    ),
    _variant(
        "iql: counts its updates itself",
        "iql",
        "once a period",
        "        if step % self.target_update_period == 0:",
        "        self.count = getattr(self, 'count', 0) + 1\n"
        "        if self.count % self.target_update_period == 0:",
    ),
    _variant(
        "dqn: a discount in a buffer",
        "dqn",
        "",
        "self.discount = discount",
        "self.register_buffer('discount', torch.tensor(discount))",
    ),
    _variant(
        "dqn: acts by numpy",
        "dqn",
        "",
        "return ptu.to_numpy(values.argmax(dim=1)).squeeze(0).item()",
        "return np.argmax(ptu.to_numpy(values), axis=1)[0]",
        "return int(torch.randint(self.num_actions, (1,)).item())",
        "return np.random.default_rng().integers(self.num_actions)",
    ),
    _variant(
        "dqn: a Huber loss",
        "dqn",
        "a Huber loss",
        "nn.MSELoss()",
        "nn.SmoothL1Loss()",
    ),
    _variant(
        "dqn: a Huber loss that is never linear",
        "dqn",
        "",
        "loss = self.critic_loss(q_values, target_values)",
        "loss = 2 * nn.functional.huber_loss(q_values, target_values, delta=1e6)",
    ),
    _variant(
        "dqn: a dataclass for the batch",
        "dqn",
        "",
        "class DQNAgent(nn.Module):",
        "import dataclasses\n\n\n"
        "@dataclasses.dataclass(slots=True, frozen=True)\n"
        "class Batch:\n"
        "    reward: torch.Tensor\n"
        "    done: torch.Tensor\n\n\n"
        "class DQNAgent(nn.Module):",
        DQN_TARGET,
        "[b := Batch(reward, done), b.reward.addcmul("
        "self.discount * (~b.done).float(), next_q_values)][1]",
    ),
    _variant(
        "dqn: one more head",
        "dqn",
        "its gradient is right",
        "make_optimizer(self.critic.parameters())",
        "make_optimizer([*self.critic.parameters(), *self.head.parameters()])",
        "        self.critic = make_critic",
        "        self.head = nn.Linear(2, 1)\n        self.critic = make_critic",
        "loss = self.critic_loss(q_values, target_values)",
        "loss = self.critic_loss(q_values, target_values)"
        " + (self.head(obs)[:, 0] - reward).square().mean()",
    ),
    _variant(
        "dqn: groups of parameters",
        "dqn",
        "",
        "make_optimizer(self.critic.parameters())",
        "make_optimizer(params=[{'params': self.critic.parameters()}])",
    ),
    _variant(
        "dqn: imports Matplotlib at its top",
        "dqn",
        "",
        "import numpy as np\n",
        "import matplotlib.pyplot as plt\nimport numpy as np\n",
    ),
    _variant(
        "dqn: one forward pass for all states",
        "dqn",
        "",
        "qa_values = self.critic(obs)",
        "qa_values, _ = self.critic(torch.cat([obs, next_obs])).split(batch_size)",
    ),
    _variant(
        "cql: cross-entropy",
        "cql",
        "",
        SOFT,
        'term = t * torch.nn.functional.cross_entropy(variables["qa_values"] / t, action)',
        TERM,
        "term",
    ),
    _variant(
        "cql: in place, alpha in a buffer",
        "cql",
        "",
        "loss = loss + self",
        "loss += self",
        "self.cql_alpha = cql_alpha",
        "self.register_buffer('cql_alpha', torch.as_tensor(cql_alpha))",
    ),
    _variant(
        "awac: always passes its distribution",
        "awac",
        "",
        "action_dist = action_dist or self.actor(observations)\n        ",
        "",
        "self.compute_advantage(observations, actions)",
        "self.compute_advantage(observations, actions, action_dist=distribution)",
    ),
    _variant(
        "awac: sampled baseline of a distribution that it always passes",
        "awac",
        "is sampled from the actor",
        "action_dist = action_dist or self.actor(observations)\n        ",
        "",
        "self.compute_advantage(observations, actions)",
        "self.compute_advantage(observations, actions, distribution)",
        AWAC_BASELINE,
        SAMPLED_BASELINE,
    ),
    _variant(
        "awac: weights by numpy",
        "awac",
        "",
        WEIGHTS,
        "ptu.from_numpy(__import__('numpy').exp(ptu.to_numpy(advantages) / self.temperature))",
    ),
    _variant(
        "awac: a batched product",
        "awac",
        "",
        AWAC_NEXT,
        "torch.bmm(distribution.probs[:, None], "
        "self.target_critic(next_observations)[:, :, None]).squeeze()",
    ),
    _variant(
        "iql: two halves of a parabola",
        "iql",
        "",
        "(torch.abs(expectile - (u < 0).float()) * u**2).mean()",
        "(expectile * u.relu() ** 2 + (1 - expectile) * (-u).relu() ** 2).mean()",
    ),
    _variant(
        "rnd: a bonus that is mostly clipped",
        "rnd",
        "clipped scaled norm",
        NORMALISED,
        "bonus = (bonus / bonus.std()).clamp(max=2.5)",
    ),
    _variant(
        "rnd: a curved bonus",
        "rnd",
        "a rising function of the",
        NORMALISED,
        "bonus = torch.tanh(bonus / 5)",
    ),
    _variant(
        "rnd: the rewards in place",
        "rnd",
        "",
        BONUS,
        "rewards += self.rnd_weight * bonus",
    ),
    _variant(
        "random: a deck of all actions, shuffled",
        "random",
        "",
        "return np.random.randint(self.num_actions)",
        "self.deck = getattr(self, 'deck', []) or [*np.random.permutation(self.num_actions)]\n"
        "        return self.deck.pop()",
    ),
]
