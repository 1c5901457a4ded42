"""The files of AWAC and IQL."""

from __future__ import annotations

from tests.solutions.generator.q_files import (
    copying,
    critic_step,
    loss_and_more,
    periodic,
    td_loss,
    typed,
)
from tests.solutions.generator.writing import PLURAL, Lines, Writer, block, imports_of

OBS, ACTIONS, REWARDS, NEXT_OBS, DONES = PLURAL
DIST = "action_dist: Optional[torch.distributions.Categorical] = None"


def expectation(how: str, dist: str, values: str, w: Writer, *, column: bool = False) -> str:
    """Return the mean of Q under the actor; `values` must be a name.

    Args:
        how: One of the values of the choices `expectation` and `baseline`.
        dist: The actor's distribution.
        values: `(batch, actions)`.
        w: The file.
        column: Keep the last axis.
    """
    f = w.functional()
    keep = ", keepdim=True" if column else ""
    probabilities = f"{f}.softmax({dist}.logits, dim=-1)"
    flat, kept = {
        "einsum": (
            f'torch.einsum("ba,ba->b", {dist}.probs, {values})',
            f'torch.einsum("ba,ba->b", {dist}.probs, {values}).unsqueeze(-1)',
        ),
        "softmax": (
            f"({probabilities} * {values}).sum(1)",
            f"({probabilities} * {values}).sum(1{keep})",
        ),
        "bmm": (
            f"torch.bmm({dist}.probs.unsqueeze(1), {values}.unsqueeze(2)).view(-1)",
            f"torch.bmm({dist}.probs.unsqueeze(1), {values}.unsqueeze(2)).squeeze(-1)",
        ),
    }.get(
        how,
        (
            f"torch.sum({dist}.probs * {values}, dim=-1)",
            f"torch.sum({dist}.probs * {values}, dim=-1{keep})",
        ),
    )
    return kept if column else flat


# AWAC


def awac_file(w: Writer) -> str:
    """Return `awac_agent.py`."""
    w.method = ""
    members = w.init(
        [
            "observation_shape: Sequence[int]",
            "num_actions: int",
            "make_actor: Callable",
            "make_actor_optimizer: Callable",
            "temperature: float",
            "**kwargs",
        ],
        "observation_shape=observation_shape, num_actions=num_actions, **kwargs",
        [
            "self.actor = make_actor(observation_shape, num_actions)",
            "self.actor_optimizer = make_actor_optimizer(self.actor.parameters())",
            "self.temperature = temperature",
        ],
    )
    members += actor_get_action(w)
    w.method = "compute_critic_loss"
    body = [*td_loss(w, awac_next_value(w), w.names), *loss_and_more(w)]
    members += w.define("compute_critic_loss", typed(*w.names), body, returns="Tuple")
    members += awac_advantage(w)
    members += update_actor(w)
    members += actor_update(w, critic_step(w))
    return w.finish(imports_of(w, "dqn"), "DQNAgent", members)


def actor_get_action(w: Writer) -> Lines:
    """Return acting with the actor, which many leave to DQN's method as the starter does."""
    w.method = "get_action"
    if w["actor_acts"] == "inherited" and not w.kind:
        return []
    acts = w["actor_acts"]
    draw = "dist.probs.argmax(dim=-1)" if acts == "mode" else "dist.sample()"
    draw = w.either(
        draw,
        worst_action="dist.probs.argmin(dim=-1)",
        acts_on_critic="self.critic(observation).argmax(dim=-1)",
        wrong_axis="dist.probs.argmax(dim=0)[:1]",
        always_random="torch.randint(self.num_actions, (1,))",
        ignores_observation="self.actor(torch.zeros_like(observation)).probs.argmax(dim=-1)",
    )
    body = [
        "observation = ptu.from_numpy(np.asarray(observation))[None]",
        *block("with torch.no_grad():", ["dist = self.actor(observation)", f"action = {draw}"]),
    ]
    if acts == "epsilon":
        body += block(
            "if np.random.random() < epsilon:",
            ["action = torch.randint(0, self.num_actions, (1,))"],
        )
    body += ["return int(action.item())"]
    return w.define(
        "get_action", ["observation: np.ndarray", "epsilon: float = 0.02"], body, returns="int"
    )


def awac_next_value(w: Writer) -> Lines:
    """Return statements for the mean of the next Q under the actor, exact or sampled."""
    obs, action, _, next_obs, _ = w.names
    values, following, best = w.name("next_qa_values"), w.name("next_qs"), w.name("next_action")
    wide = w.column != w.wrong("broadcast_next")
    keep = ", keepdim=True" if wide else ""
    network = "self.target_critic" if w["awac_next"] == "target" else "self.critic"
    state = w.either(next_obs, state_now=obs)
    acted = w.either(next_obs, actor_of_now=obs, state_now=obs)
    lines = [f"dist = self.actor({acted})", f"{values} = {network}({state})"]
    if w.wrong("double_next"):
        return [
            *lines,
            f"{best} = self.critic({next_obs}).argmax(dim=1)",
            f"{following} = {w.picked(values, best, column=wide)}",
        ]
    if w.wrong("mode_next", "uniform_sample_next"):
        draw = "dist.probs.argmax(dim=-1)"
        if w.wrong("uniform_sample_next"):
            draw = f"torch.randint({values}.shape[1], ({values}.shape[0],))"
        return [*lines, f"{best} = {draw}", f"{following} = {w.picked(values, best, column=wide)}"]
    wrong = {
        "max_next": w.largest(values, column=wide),
        "mean_next": f"{values}.mean(dim=1{keep})",
        "sum_next": f"{values}.sum(dim=1{keep})",
        "logits_next": f"(dist.logits * {values}).sum(dim=1{keep})",
        "log_next": f"(dist.probs.log() * {values}).sum(dim=1{keep})",
        "mean_product_next": f"(dist.probs * {values}).mean(dim=1{keep})",
        "data_action_next": w.picked(values, action, column=wide),
        "entropy_next": f"(dist.probs * ({values} - dist.probs.log())).sum(dim=1{keep})",
    }.get(w.kind)
    if wrong:
        return [*lines, f"{following} = {wrong}"]
    if w["expectation"] == "sampled":
        return [
            *lines,
            f"{best} = dist.sample()",
            f"{following} = {w.picked(values, best, column=wide)}",
        ]
    return [
        *lines,
        f"{following} = {expectation(w['expectation'], 'dist', values, w, column=wide)}",
    ]


def without_gradient(w: Writer, name: str, arguments: Lines, body: Lines, result: str) -> Lines:
    """Return a method that computes an advantage, with no gradient if this style cuts it there."""
    how = w["advantage_gradient"]
    if how == "block":
        body = [*block("with torch.no_grad():", body), f"return {result}"]
    elif how == "detach_result":
        body = [*body, f"return {result}.detach()"]
    else:
        body = [*body, f"return {result}"]
    decorator = "@torch.no_grad()" if how == "decorator" else ""
    return w.define(name, arguments, body, decorator=decorator)


def awac_advantage(w: Writer) -> Lines:
    """Return `Q(s, a)` minus the mean of Q under the actor."""
    w.method = "compute_advantage"
    q, qa, v, a = (w.name(one) for one in ("q_values", "qa_values", "values", "advantages"))
    dist, lines = "action_dist", []
    if w["baseline"] == "fresh_dist":
        dist = "dist"
        lines += [f"dist = self.actor({OBS})"]
    else:
        lines += block("if action_dist is None:", [f"action_dist = self.actor({OBS})"])
    lines += [
        *w.todo("compute the advantage of the actions compared to E[Q(s, a)]"),
        f"{qa} = self.critic({OBS})",
        f"{q} = {w.picked(qa, ACTIONS, column=w.wrong('broadcast_q'))}",
    ]
    if w["baseline"] == "sampled" and w.kind in {"", "broadcast_q"}:
        lines += [f"drawn = {dist}.sample()", f"{v} = {w.picked(qa, 'drawn')}"]
    else:
        exact = expectation(w["baseline"], dist, qa, w, column=w.wrong("broadcast_v"))
        exact = w.either(
            exact,
            max_baseline=w.largest(qa),
            mean_baseline=f"{qa}.mean(dim=1)",
            sum_baseline=f"{qa}.sum(dim=1)",
            logits_baseline=f"({dist}.logits * {qa}).sum(dim=1)",
            log_prob_baseline=f"({dist}.log_prob({ACTIONS}) * {q})",
            prob_baseline=f"{dist}.log_prob({ACTIONS}).exp() * {q}",
            zero="0 * " + q + " + " + q,
            batch_baseline=f"{q}.mean()",
        )
        lines += [f"{v} = {exact}"]
    difference = w.either(
        f"{q} - {v}", sign_flipped=f"{v} - {q}", no_baseline=q, value_only=v, added=f"{q} + {v}"
    )
    lines += [f"{a} = {difference}"]
    if w.wrong("normalised"):
        lines += [f"{a} = ({a} - {a}.mean()) / ({a}.std() + 1e-6)"]
    return without_gradient(w, "compute_advantage", [*typed(OBS, ACTIONS), DIST], lines, a)


def update_actor(w: Writer) -> Lines:
    """Return one step of the actor by weighted maximum likelihood."""
    w.method = "update_actor"
    a, f = w.name("advantages"), w.functional()
    passed = w["baseline"] != "fresh_dist" and w.agent == "awac"
    state = w.either(OBS, actor_of_next="torch.flip(observations, [0])")
    dist = [f"dist = self.actor({state})"]
    call = f"self.compute_advantage({OBS}, {ACTIONS}{', dist' if passed else ''})"
    if w["advantage_gradient"] == "detach_use" and not w.wrong("not_detached"):
        call += ".detach()"
    if w["advantage_use"] == "flattened":
        call += ".flatten()"
    if w.wrong("not_detached"):
        # Written anew here, as a call would cut the gradient in most styles.
        qa = w.name("qa_values")
        advantage = [
            f"{qa} = self.critic({OBS})",
            f"{a} = {w.picked(qa, ACTIONS)} - (dist.probs * {qa}).sum(dim=-1)",
        ]
    else:
        advantage = [f"{a} = {call}"]
    if w.wrong("broadcast_advantage"):
        advantage += [f"{a} = {a}.unsqueeze(-1)"]
    temperature = "self.temperature"
    exponent = {"inverse": f"{a} * (1.0 / {temperature})"}.get(
        w["exponential"], f"{a} / {temperature}"
    )
    exponent = w.either(
        exponent,
        temperature_multiplied=f"{a} * {temperature}",
        temperature_ignored=a,
        temperature_squared=f"{a} / {temperature} ** 2",
        temperature_constant=f"{a} / 3.0",
        sign_flipped=f"-{a} / {temperature}",
    )
    weight = f"torch.exp({exponent})"
    if w["exponential"] == "method":
        weight = f"({exponent}).exp()"
    elif w["exponential"] == "clamped":
        weight = f"torch.exp({exponent}).clamp(max=100.0)"
    weight = w.either(
        weight,
        exp_missing=exponent,
        behaviour_cloning=f"torch.ones_like({a})",
        clipped_low=f"torch.exp({exponent}).clamp(max=0.5)",
        clipped_flat=f"torch.exp({exponent}).clamp(max=1.0)",
        positive_only=f"({exponent} > 0).float()",
        sigmoid=f"torch.sigmoid({exponent})",
        shifted=f"torch.exp({exponent}) - 1",
    )
    data = w.either(ACTIONS, own_samples="drawn")
    log_prob = {
        "log_prob": f"dist.log_prob({data})",
        "log_softmax": f"{f}.log_softmax(dist.logits, dim=-1)[torch.arange(len({data})), {data}]",
        "cross_entropy": f'(-{f}.cross_entropy(dist.logits, {data}, reduction="none"))',
        "logits": f"dist.logits.gather(1, {data}.unsqueeze(1)).squeeze(1)",
    }[w["log_prob"]]
    log_prob = w.either(
        log_prob,
        probability=f"dist.log_prob({ACTIONS}).exp()",
        all_actions="torch.log_softmax(dist.logits, dim=-1).sum(dim=-1)",
        log_missing=f"dist.probs.gather(1, {ACTIONS}.unsqueeze(1)).squeeze(1)",
        log_prob_missing="torch.ones_like(dist.probs[:, 0]) * dist.probs.sum(dim=1)",
        batch_softmax=f"torch.log_softmax(dist.logits, dim=0).gather(1, {ACTIONS}.unsqueeze(1))"
        ".squeeze(1)",
    )
    mean = {
        "minus_mean": "-(weights * log_probs).mean()",
        "mean_of_minus": "torch.mean(-log_probs * weights)",
        "sum_by_len": "-torch.sum(log_probs * weights) / len(log_probs)",
    }[w["actor_mean"]]
    loss = w.either(
        mean,
        loss_summed="-(weights * log_probs).sum()",
        loss_positive="(weights * log_probs).mean()",
        separate_means="-(weights.mean() * log_probs.mean())",
        weight_inside="-torch.log(weights * log_probs.exp()).mean()",
        weight_only="-(weights + 0 * log_probs).mean()",
        entropy_added="-(weights * log_probs).mean() - 0.5 * dist.entropy().mean()",
        minus_weight="-(log_probs - weights).mean()",
    )
    lines = [
        *dist,
        *(["drawn = dist.sample()"] if w.wrong("own_samples") else []),
        *w.todo("update the actor using AWAC"),
        *advantage,
        f"weights = {weight}",
        f"log_probs = {log_prob}",
        f"loss = {loss}",
    ]
    if w.wrong("loss_without_grad"):
        lines = block("with torch.no_grad():", lines)
    optimizer = w.either("actor_optimizer", wrong_optimizer="critic_optimizer")
    lines += [*w.descent("loss", optimizer, "actor"), "return loss.item()"]
    return w.define("update_actor", typed(OBS, ACTIONS), lines, returns="float")


def actor_update(w: Writer, critics: Lines) -> Lines:
    """Return `update` of AWAC or IQL."""
    w.method = "update"
    actor = ["actor_loss = self.update_actor(observations, actions)"]
    add = ['metrics["actor_loss"] = actor_loss']
    if w.wrong("actor_never_trained"):
        actor, add = [], []
    elif w.wrong("actor_trained_twice"):
        actor *= 2
    elif w.wrong("actor_on_next"):
        actor = ["actor_loss = self.update_actor(next_observations, actions)"]
    if w.wrong("critic_never_trained"):
        critics = ["metrics = {}"]
    elif w.wrong("critic_trained_twice"):
        critics = [*critics, *critics]
    calls = ["self.update_target_critic()"]
    if w.agent == "iql" and w["v_target"] == "target":
        calls += [] if w.wrong("v_target_never_copied") else ["self.update_target_value_critic()"]
    body = [
        *critics,
        "# Update the actor.",
        *actor,
        *add,
        "# Update target networks.",
        *periodic(w, calls),
        "return metrics",
    ]
    return w.define("update", [*typed(*PLURAL), "step: int"], body, returns="dict")


# IQL


def iql_file(w: Writer) -> str:
    """Return `iql_agent.py`."""
    w.method = ""
    lagging = w["v_target"] == "target"
    made = "make_value_critic(observation_shape)"
    if w["v_shape"] == "wrapped":
        made = f"nn.Sequential({made}, nn.Flatten(0))"
    optimizer = "make_value_critic_optimizer(self.value_critic.parameters())"
    second = "copy.deepcopy(self.value_critic)" if w["targets"] == "deepcopy" else made
    members = w.init(
        [
            "observation_shape: Sequence[int]",
            "num_actions: int",
            "make_value_critic: Callable",
            "make_value_critic_optimizer: Callable",
            "expectile: float",
            "**kwargs",
        ],
        "observation_shape, num_actions, **kwargs",
        [
            f"self.value_critic = {made}",
            *([f"self.target_value_critic = {second}"] if lagging else []),
            f"self.value_critic_optimizer = {optimizer}",
            "self.expectile = expectile",
            *(["self.update_target_value_critic()"] if lagging else []),
        ],
    )
    if w["v_shape"] == "helper":
        members += w.define(
            "_v", ["network", "states"], ["return network(states).squeeze(-1)"], doc="V(s)."
        )
    members += iql_advantage(w)
    if w["iql_actor"] == "overridden" or "update_actor" in w.mistakes:
        members += update_actor(w)
    members += update_q(w)
    members += expectile_loss(w)
    members += update_v(w)
    critics = [f"metrics = self.update_critic({', '.join(PLURAL)})"]
    if w["steps"] == "inherited":
        members += joint_update(w)
    else:
        critics = [
            f"metrics = self.update_q({', '.join(PLURAL)})",
            f"metrics.update(self.update_v({OBS}, {ACTIONS}))",
        ]
    if lagging:
        name = "update_target_value_critic"
        members += copying(w, name, "value_critic", "target_value_critic")
    members += actor_update(w, critics)
    return w.finish(imports_of(w, "awac"), "AWACAgent", members)


def value_of(w: Writer, network: str, state: str, *, raw: bool = False) -> str:
    """Return V of a state in the shape that this style has it, `(batch, 1)` if `raw`."""
    v = f"self.{network}({state})"
    if raw:
        return f"{v}.reshape(-1, 1)" if w["v_shape"] == "wrapped" else v
    return {
        "squeeze_last": f"{v}.squeeze(-1)",
        "squeeze_one": f"{v}.squeeze(dim=1)",
        "squeeze_bare": f"{v}.squeeze()",
        "index": f"{v}[:, 0]",
        "view": f"{v}.view(-1)",
        "flatten": f"torch.flatten({v})",
        "reshape": f"{v}.reshape({state}.shape[0])",
        "helper": f"self._v(self.{network}, {state})",
        "in_loss": f"{v}.squeeze(1)",
        "column": v,
        "wrapped": v,
    }[w["v_shape"]]


def column_advantage_is_right(w: Writer) -> bool:
    """Return whether the actor's step takes an advantage of shape `(batch, 1)`."""
    own = w["iql_actor"] == "overridden" or w["context"] == "tree"
    return own and w["advantage_use"] == "flattened"


def iql_advantage(w: Writer) -> Lines:
    """Return `Q(s, a) - V(s)`."""
    w.method = "compute_advantage"
    q, qa, v, a = (w.name(one) for one in ("q_values", "qa_values", "vs", "advantages"))
    column = w["v_shape"] == "column"
    qa_line = f"{qa} = self.critic({OBS})"
    wide = (column and not w.wrong("broadcast_q")) or w.wrong("column_advantage")
    raw = column or w.wrong("broadcast_v", "column_advantage")
    q_line = f"{q} = {w.picked(qa, ACTIONS, column=wide)}"
    value = value_of(w, "value_critic", OBS, raw=raw)
    value = w.either(
        value,
        max_baseline=w.largest(qa, column=wide),
        mean_baseline=f"{qa}.mean(dim=1{', keepdim=True' if wide else ''})",
        awac_baseline=f"(self.actor({OBS}).probs * {qa}).sum(1{', keepdim=True' if wide else ''})",
        zero=q,
    )
    difference = w.either(
        f"{q} - {v}", sign_flipped=f"{v} - {q}", no_baseline=q, value_only=f"-{v}"
    )
    lines = [
        *w.todo("Compute advantage with IQL"),
        qa_line,
        q_line,
        f"{v} = {value}",
        *w.checked(q, v),
        f"{a} = {difference}",
    ]
    if column and not column_advantage_is_right(w) and not w.wrong("column_advantage"):
        lines += [f"{a} = {a}.squeeze(-1)"]
    return without_gradient(w, "compute_advantage", [*typed(OBS, ACTIONS), DIST], lines, a)


def update_q(w: Writer) -> Lines:
    """Return one step of Q on the value of the next state."""
    w.method = "update_q"
    network = "target_value_critic" if w["v_target"] == "target" else "value_critic"
    state = w.either(NEXT_OBS, state_now=OBS)
    following, values = w.name("next_qs"), w.name("next_qa_values")
    column = w["v_shape"] == "column"
    keep = ", keepdim=True" if column else ""
    raw = column or w.wrong("broadcast_next")
    lines = []
    if w.wrong("max_q_next", "awac_next", "data_action_next"):
        lines = [f"{values} = self.target_critic({NEXT_OBS})"]
    value = w.either(
        value_of(w, network, state, raw=raw),
        max_q_next=f"{values}.max(dim=1{keep}).values",
        awac_next=f"(self.actor({NEXT_OBS}).probs * {values}).sum(dim=1{keep})",
        data_action_next=w.picked(values, ACTIONS, column=column),
    )
    if column and w.wrong("broadcast_next"):
        value = f"self.{network}({NEXT_OBS}).squeeze(1)"
    lines += [f"{following} = {value}"]
    body = td_loss(w, lines, PLURAL)
    optimizer = w.either("critic_optimizer", wrong_optimizer="value_critic_optimizer")
    q = w.name("q_values")
    metrics = w.bundle({"q_loss": "loss.item()", "q_values": f"{q}.mean().item()"})
    body += [*w.descent("loss", optimizer, "critic", clip=True)]
    if not w.kind or "step" not in w.kind:
        body += ["self.lr_scheduler.step()"]
    body += [f"return {metrics}"]
    return w.define("update_q", typed(*PLURAL), body, returns="dict")


def expectile_loss(w: Writer) -> Lines:
    """Return the static expectile loss."""
    w.method = "iql_expectile_loss"
    lines = w.todo("Compute loss for updating Q based on expectile loss")
    if w["v_shape"] == "in_loss" and not w.wrong("broadcast_v"):
        lines += ["vs = vs.squeeze(1)"]
    elif w.wrong("broadcast_v"):
        lines += ["vs = vs.reshape(-1, 1)", "target_qs = target_qs.reshape(-1)"]
    low, high = "1 - expectile", "expectile"
    if w.wrong("reversed"):
        low, high = high, low
    elif w.wrong("symmetric"):
        low, high = "0.5", "0.5"
    elif w.wrong("expectile_constant"):
        low, high = "0.2", "0.8"
    elif w.wrong("one_sided"):
        low = "0.0"
    elif w.wrong("negative_weight"):
        low = "-(1 - expectile)"
    elif w.wrong("no_abs"):
        low, high = "expectile - 1", "expectile"
    square = w.either("u.pow(2)", linear="u.abs()", not_squared="u", cubed="u.abs().pow(3)")
    difference = w.either("target_qs - vs", difference_reversed="vs - target_qs")
    lines += [f"u = {difference}"]
    pushed = {
        "where": [f"weight = torch.where(u < 0, {low}, {high})"],
        "abs": ["weight = torch.abs(expectile - (u <= 0).float())"],
        "relu": [f"weight = ({high}) * (u > 0).float() + ({low}) * (u <= 0).float()"],
        "weights": [
            f"weight = torch.full_like(u, 1.0) * ({high})",
            f"weight[u < 0] = {low}",
        ],
        "mask_sum": [
            "negative = (u < 0).to(u.dtype)",
            f"weight = ({high}) * (1 - negative) + ({low}) * negative",
        ],
    }[w["expectile"]]
    if w["expectile"] == "abs":
        inner = w.either(
            "torch.abs(expectile - (u <= 0).float())",
            reversed="torch.abs(expectile - (u > 0).float())",
            symmetric="torch.abs(0.5 - (u <= 0).float())",
            expectile_constant="torch.abs(0.8 - (u <= 0).float())",
            no_abs="(expectile - (u <= 0).float())",
            one_sided="expectile * (u > 0).float()",
            negative_weight="(expectile - (u <= 0).float())",
        )
        pushed = [f"weight = {inner}"]
    final = w.either(
        f"(weight * {square}).mean()",
        loss_summed=f"(weight * {square}).sum()",
        loss_negative=f"-(weight * {square}).mean()",
        weight_squared=f"(weight * {square}).pow(2).mean()",
        weights_averaged=f"weight.mean() * {square}.mean()",
    )
    lines += [*pushed, f"return {final}"]
    arguments = ["expectile: float", "vs: torch.Tensor", "target_qs: torch.Tensor"]
    return w.define("iql_expectile_loss", arguments, lines, decorator="@staticmethod")


def v_and_target(w: Writer) -> tuple[str, Lines, str]:
    """Return the expression for V(s), statements for its target, and the target as it is used."""
    column = w["v_shape"] == "column"
    raw = column or w["v_shape"] == "in_loss" or w.wrong("broadcast_v")
    wide = column != w.wrong("broadcast_q")
    q, qa = w.name("q_values"), w.name("qa_values")
    state = w.either(OBS, v_at_other_rows="torch.flip(observations, [0])")
    value = value_of(w, "value_critic", state, raw=raw)
    if column and w.wrong("broadcast_v"):
        value = f"self.value_critic({OBS}).squeeze(-1)"
    keep = ", keepdim=True" if wide else ""
    target_q = w.either(
        w.picked(qa, ACTIONS, column=wide),
        max_q=w.largest(qa, column=wide),
        mean_q=f"{qa}.mean(dim=1{keep})",
        actor_q=f"(self.actor({OBS}).probs * {qa}).sum(dim=1{keep})",
    )
    target = [
        *w.todo("Compute target values for V(s)"),
        f"{qa} = self.{w['v_regresses']}({OBS})",
        f"{q} = {target_q}",
    ]
    if w["gradient"] == "in_loss":
        return value, target, f"{q}.detach()"
    if w["gradient"] == "detach":
        return value, [*target, f"{q} = {q}.detach()"], q
    return value, block("with torch.no_grad():", target), q


def update_v(w: Writer) -> Lines:
    """Return one step of V on Q(s, a)."""
    w.method = "update_v"
    v = w.name("vs")
    value, target, used = v_and_target(w)
    expectile = w.either(
        "self.expectile", expectile_flipped="1 - self.expectile", expectile_constant="0.8"
    )
    arguments = w.either(f"{v}, {used}", arguments_swapped=f"{used}, {v}")
    loss = w.either(
        f"self.iql_expectile_loss({expectile}, {arguments})",
        plain_squares=f"torch.mean(({v}.reshape(-1) - {used}.reshape(-1)) ** 2)",
    )
    fitted = [
        *w.todo("Update V(s) using the loss from the IQL paper"),
        f"{v} = {value}{w.either('', v_detached='.detach()')}",
        f"loss = {loss}",
    ]
    if w.wrong("loss_without_grad"):
        fitted = block("with torch.no_grad():", fitted)
    optimizer = w.either("value_critic_optimizer", wrong_optimizer="critic_optimizer")
    metrics = w.bundle({"v_loss": "loss.item()", "vs": f"{v}.mean().item()"})
    body = [
        *target,
        *fitted,
        *w.descent("loss", optimizer, "value_critic", clip=True),
        f"return {metrics}",
    ]
    return w.define("update_v", typed(OBS, ACTIONS), body, returns="dict")


def joint_update(w: Writer) -> Lines:
    """Return the update of Q and V together."""
    w.method = "update_critic"
    q_line = [f"metrics = self.update_q({', '.join(PLURAL)})"]
    v_line = [f"metrics.update(self.update_v({OBS}, {ACTIONS}))"]
    if w.wrong("v_never_trained"):
        v_line = []
    if w.wrong("q_never_trained"):
        q_line = ["metrics = {}"]
    if w.wrong("v_on_next"):
        v_line = [f"metrics.update(self.update_v({NEXT_OBS}, {ACTIONS}))"]
    body = [*q_line, *v_line, "return metrics"]
    return w.define("update_critic", typed(*PLURAL), body, returns="dict")
