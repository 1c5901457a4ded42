"""The files of the random agent, DQN and CQL; the temporal-difference loss that others share."""

from __future__ import annotations

from tests.solutions.generator.writing import (
    PLURAL,
    Lines,
    Writer,
    block,
    imports_of,
)

TENSORS = "torch.Tensor"


def typed(*names: str) -> Lines:
    """Return parameters that are tensors."""
    return [f"{name}: {TENSORS}" for name in names]


def random_file(w: Writer) -> str:
    """Return `random_agent.py`."""
    w.method = "get_action"
    n = "self.num_actions"
    draw = {
        "randint": f"np.random.randint({n})",
        "array": f"np.random.randint(0, {n}, size=1)",
        "torch": f"torch.randint({n}, (1,)).item()",
        "random": f"random.randrange({n})",
        "choice": f"np.random.choice({n})",
    }[w["random_draw"]]
    action = w.either(
        draw,
        off_by_one=f"np.random.randint({n} - 1)",
        starts_at_one=f"random.randint(1, {n} - 1)",
        too_many=f"np.random.randint(0, {n} + 1)",
        constant="0",
        uneven=f"min(np.random.randint({n}), np.random.randint({n}))",
        same_seed=f"np.random.default_rng(0).integers({n})",
        of_observation=f"int(np.abs(np.asarray(observation)).sum() * 1000) % {n}",
    )
    body = [*w.todo("Return a random action"), f"return {action}"]
    members = [
        *w.init(
            ["observation_shape: Sequence[int]", "num_actions: int"],
            "",
            ["self.observation_shape = observation_shape", "self.num_actions = num_actions"],
        ),
        *w.define("get_action", ["observation: np.ndarray", "epsilon: float = 0.0"], body),
        *w.define("update", ["*args", "**kwargs"], ["return {}"]),
    ]
    return w.finish(imports_of(w), "nn.Module", members)


# The temporal-difference loss


def td_loss(
    w: Writer, next_value: Lines, names: tuple[str, ...], *, critic: str = "self.critic"
) -> Lines:
    """Return statements that set the loss of Q(s, a) against a target, without its return.

    Args:
        w: The file.
        next_value: Statements that set the local variable for the next state's value.
        names: Of the five parts of the batch.
        critic: The network that is trained.
    """
    obs, action, reward, next_obs, done = names
    q, qa, y = w.name("q_values"), w.name("qa_values"), w.name("target_values")
    target = [
        *w.todo("compute the target values"),
        *next_value,
        *w.bellman(reward, done, w.name("next_qs"), y),
    ]
    used = y
    if w["gradient"] == "block":
        target = block("with torch.no_grad():", target)
    elif w["gradient"] == "detach":
        target.append(f"{y} = {y}.detach()")
    elif w["gradient"] == "in_loss":
        used = f"{y}.detach()"
    else:
        method = f"_{w.agent}_targets"
        w.extra_methods += w.define(
            method, list(names), [*target, f"return {y}"], decorator="@torch.no_grad()"
        )
        target = [f"{y} = self.{method}({', '.join(names)})"]
    columns = []
    if w.column:
        columns += [] if w.wrong("broadcast_reward") else [f"{reward} = {reward}.unsqueeze(1)"]
        columns += [] if w.wrong("broadcast_done") else [f"{done} = {done}[:, None]"]
    network = w.either(critic, q_of_target="self.target_critic")
    state = w.either(obs, q_of_next_state=next_obs)
    current = [f"{qa} = {network}({state})"]
    if w.wrong("action_of_next"):
        current += [f"{action} = self.target_critic({next_obs}).argmax(dim=1)"]
    wide = w.column != w.wrong("broadcast_q")
    if w.wrong("q_largest"):
        current += [f"{q} = {w.largest(qa, column=w.column)}"]
    else:
        current += [f"{q} = {w.picked(qa, action, column=wide)}"]
    if w.wrong("q_detached"):
        current += [f"{q} = {q}.detach()"]
    if w.wrong("done_everywhere"):
        current += [f"{q} = {w.alive(done)} * {q}"]
    trained = [
        *w.todo("train the critic with the target"),
        *current,
        *w.checked(q, y),
        f"loss = {w.squares(q, used)}",
    ]
    if w.wrong("loss_without_grad"):
        trained = block("with torch.no_grad():", trained)
    return [*columns, *target, *trained]


def loss_and_more(w: Writer) -> Lines:
    """Return the starter's three results."""
    q, qa, y = w.name("q_values"), w.name("qa_values"), w.name("target_values")
    metrics = {
        "critic_loss": "loss.item()",
        "q_values": f"{q}.mean().item()",
        "target_values": f"{y}.mean().item()",
    }
    values = f'{{"qa_values": {qa}, "q_values": {q}}}'
    return [f"return loss, {w.bundle(metrics)}, {values}"]


def dqn_next_value(w: Writer, names: tuple[str, ...]) -> Lines:
    """Return statements for the next value of (double) DQN."""
    obs, action, _, next_obs, _ = names
    state = w.either(next_obs, state_now=obs)
    network = w.either("self.target_critic", online_next="self.critic")
    values, following, best = w.name("next_qa_values"), w.name("next_qs"), w.name("next_action")
    wide = w.column != w.wrong("broadcast_next")
    first = [f"{values} = {network}({state})"]
    plain = {
        "mean_next": f"{values}.mean(dim=1{', keepdim=True' if wide else ''})",
        "min_next": f"{values}.min(dim=1{', keepdim=True' if wide else ''}).values",
        "sum_next": f"{values}.sum(dim=1{', keepdim=True' if wide else ''})",
        "data_action_next": w.picked(values, action, column=wide),
        "wrong_axis": f"{values}.max(dim=0).values",
        "index_as_value": f"{values}.argmax(dim=1{', keepdim=True' if wide else ''})",
    }.get(w.kind)
    if plain:
        return [*first, f"{following} = {plain}"]
    single = [f"{following} = {w.largest(values, column=wide)}"]
    if w.wrong("double_ignored"):
        return [*first, *single]
    selecting = w.either("self.critic", double_swapped="self.target_critic")
    double = [
        f"{best} = {selecting}({state}).argmax(dim=1)",
        *([f"{values} = self.critic({state})"] if w.wrong("double_swapped") else []),
        f"{following} = {w.picked(values, best, column=wide)}",
    ]
    if w.wrong("double_always"):
        return [*first, *double]
    if w["double"] == "if_else" or w.wrong("double_swapped"):
        return [*first, *block("if self.use_double_q:", double), *block("else:", single)]
    if w["double"] == "ternary":
        return [
            *first,
            f"selector = {selecting}({state}) if self.use_double_q else {values}",
            f"{best} = selector.argmax(dim=-1)",
            f"{following} = {w.picked(values, best, column=wide)}",
        ]
    return [*first, *single, *block("if self.use_double_q:", double)]


def given_update_critic(w: Writer) -> Lines:
    """Return DQN's `update_critic`, which the starter gives."""
    w.method = "update_critic"
    body = [
        f"loss, metrics, _ = self.compute_critic_loss({', '.join(w.names)})",
        *w.descent("loss", "critic_optimizer", "critic", clip=True),
        "self.lr_scheduler.step()",
        "return metrics",
    ]
    return w.define("update_critic", typed(*w.names), body, returns="dict")


def copying(w: Writer, name: str, source: str, target: str) -> Lines:
    """Return a method that copies one network to another."""
    w.method = name
    if w.wrong("copied_backwards"):
        source, target = target, source
    body = [f"self.{target}.load_state_dict(self.{source}.state_dict())"]
    if w["copy"] == "zip":
        pairs = f"zip(self.{target}.parameters(), self.{source}.parameters())"
        body = block(f"for slow, fast in {pairs}:", ["slow.data.copy_(fast.data)"])
    if w.wrong("copies_nothing"):
        body = [f"self.{target}.load_state_dict(self.{target}.state_dict())"]
    if w.wrong("copied_softly"):
        pairs = f"zip(self.{target}.parameters(), self.{source}.parameters())"
        body = block(f"for slow, fast in {pairs}:", ["slow.data.lerp_(fast.data, 0.005)"])
    if w.wrong("copied_partly"):
        pairs = f"list(zip(self.{target}.parameters(), self.{source}.parameters()))[:1]"
        body = block(f"for slow, fast in {pairs}:", ["slow.data.copy_(fast.data)"])
    return w.define(name, [], body)


def periodic(w: Writer, calls: Lines) -> Lines:
    """Return the copying once per period at the end of `update`, or a mistake in it."""
    if w.wrong("never_copied"):
        return []
    if w.wrong("always_copied"):
        return calls
    test = w.either(
        "step % self.target_update_period == 0",
        copied_at_other_steps="step % self.target_update_period",
        copied_once="step == self.target_update_period * 10**6",
    )
    return block(f"if {test}:", calls)


def dqn_file(w: Writer) -> str:
    """Return `dqn_agent.py`."""
    w.method = ""
    copied = "copy.deepcopy(self.critic)"
    made = "make_critic(observation_shape, num_actions)"
    deep = w["targets"] == "deepcopy"
    members = w.init(
        [
            "observation_shape: Sequence[int]",
            "num_actions: int",
            "make_critic: Callable",
            "make_optimizer: Callable",
            "make_lr_schedule: Callable",
            "discount: float",
            "target_update_period: int",
            "use_double_q: bool = False",
            "clip_grad_norm: Optional[float] = None",
        ],
        "",
        [
            f"self.critic = {made}",
            f"self.target_critic = {copied if deep else made}",
            "self.critic_optimizer = make_optimizer(self.critic.parameters())",
            "self.lr_scheduler = make_lr_schedule(self.critic_optimizer)",
            "self.observation_shape = observation_shape",
            "self.num_actions = num_actions",
            "self.discount = discount",
            "self.target_update_period = target_update_period",
            "self.clip_grad_norm = clip_grad_norm",
            "self.use_double_q = use_double_q",
            "self.critic_loss = nn.MSELoss()",
            "self.update_target_critic()",
        ],
    )
    members += dqn_get_action(w)
    w.method = "compute_critic_loss"
    body = [*td_loss(w, dqn_next_value(w, w.names), w.names), *loss_and_more(w)]
    doc = "Compute the loss for the DQN critic."
    members += w.define("compute_critic_loss", typed(*w.names), body, doc=doc, returns="Tuple")
    members += given_update_critic(w)
    members += copying(w, "update_target_critic", "critic", "target_critic")
    members += dqn_update(w)
    return w.finish(imports_of(w), "nn.Module", members)


def dqn_get_action(w: Writer) -> Lines:
    """Return epsilon-greedy acting."""
    w.method = "get_action"
    network = w.either("self.critic", acts_on_target="self.target_critic")
    best = w.either(
        f"{network}(observation).argmax(dim=-1)",
        worst_action=f"{network}(observation).argmin(dim=-1)",
        wrong_axis=f"{network}(observation).argmax(dim=0)[:1]",
        samples_softmax=f"torch.distributions.Categorical(logits={network}(observation)).sample()",
    )
    highest = w.either(
        "self.num_actions", off_by_one="self.num_actions - 1", too_many="self.num_actions + 1"
    )
    test = w.either(
        "np.random.rand() < epsilon",
        epsilon_inverted="np.random.rand() > epsilon",
        epsilon_ignored="False",
        epsilon_constant="np.random.rand() < 0.1",
        always_random="True",
    )
    if w["greedy"] == "torch_rand" and not w.kind.startswith(("epsilon", "always")):
        test = "torch.rand(()).item() < epsilon"
    prepared = ["observation = ptu.from_numpy(np.asarray(observation))[None]"]
    todo = w.todo("get the action from the critic using an epsilon-greedy strategy")
    if w["greedy"] == "early_return":
        low = "1" if w.wrong("starts_at_one") else "0"
        body = [
            *todo,
            *block(f"if {test}:", [f"return int(np.random.randint({low}, {highest}))"]),
            *prepared,
            *block("with torch.no_grad():", [f"return {best}.item()"]),
        ]
    else:
        low = "1, " if w.wrong("starts_at_one") else ""
        body = [
            *prepared,
            *todo,
            *block(f"if {test}:", [f"action = torch.randint({low}{highest}, (1,))"]),
            *block("else:", [f"action = {best}"]),
            "return ptu.to_numpy(action).squeeze(0).item()",
        ]
    return w.define(
        "get_action", ["observation: np.ndarray", "epsilon: float = 0.02"], body, returns="int"
    )


def critic_step(w: Writer) -> Lines:
    """Return what `update` does to train the critic: a call, or the step written out."""
    # A mistake in a method that is never called would be none.
    if w["steps"] == "inherited" or "update_critic" in w.mistakes:
        return [f"metrics = self.update_critic({', '.join(PLURAL)})"]
    norm = 'self.clip_grad_norm or float("inf")'
    return [
        f"loss, metrics, _ = self.compute_critic_loss({', '.join(PLURAL)})",
        "self.critic_optimizer.zero_grad()",
        "loss.backward()",
        f"nn.utils.clip_grad_norm_(self.critic.parameters(), {norm})",
        "self.critic_optimizer.step()",
        "self.lr_scheduler.step()",
    ]


def dqn_update(w: Writer) -> Lines:
    """Return the update of the critic and its target."""
    w.method = "update"
    metrics = critic_step(w)
    if w.wrong("critic_never_trained"):
        metrics = ["metrics = {}"]
    if w.wrong("critic_trained_twice"):
        metrics *= 2
    if w.wrong("states_swapped"):
        metrics = [
            "metrics = self.update_critic(next_observations, actions, rewards, observations, dones)"
        ]
    body = [
        *w.todo("update the critic, and the target if needed"),
        *metrics,
        *periodic(w, ["self.update_target_critic()"]),
        "return metrics",
    ]
    return w.define("update", [*typed(*PLURAL), "step: int"], body, returns="dict")


# CQL


def cql_file(w: Writer) -> str:
    """Return `cql_agent.py`."""
    w.method = ""
    members = w.init(
        [
            "observation_shape: Sequence[int]",
            "num_actions: int",
            "cql_alpha: float",
            "cql_temperature: float = 1.0",
            "**kwargs",
        ],
        "observation_shape, num_actions, **kwargs",
        ["self.cql_alpha = cql_alpha", "self.cql_temperature = cql_temperature"],
    )
    w.method = "compute_critic_loss"
    members += w.define(
        "compute_critic_loss",
        typed(*w.names),
        cql_loss(w),
        doc="Compute the loss for CQL + DQN.",
        returns="Tuple",
    )
    return w.finish(imports_of(w, "dqn"), "DQNAgent", members)


def cql_loss(w: Writer) -> Lines:
    """Return DQN's loss and the conservative term."""
    q, qa = w.name("q_values"), w.name("qa_values")
    obs, _, _, next_obs, _ = w.names
    temperature = "self.cql_temperature"
    if w["cql_base"] == "super" and w.kind not in TD_IN_CQL:
        first = [
            f"loss, metrics, variables = super().compute_critic_loss({', '.join(w.names)})",
            *w.todo("modify the loss to implement CQL"),
            f'{qa} = variables["qa_values"]',
            f'{q} = variables["q_values"]',
        ]
        last = ["return loss, metrics, variables"]
        column = False  # whatever shape the parent gives, the means do not change
    else:
        first = [*td_loss(w, dqn_next_value(w, w.names), w.names)]
        first += w.todo("modify the loss to implement CQL")
        last = loss_and_more(w)
        column = w.column
    used = w.either(qa, term_of_target="slow", term_at_next="next_q", swapped=q, detached="fixed")
    more = {
        "term_of_target": [f"slow = self.target_critic({obs})"],
        "term_at_next": [f"next_q = self.critic({next_obs})"],
        "detached": [f"fixed = {qa}.detach()", f"{q} = {q}.detach()"],
    }.get(w.kind, [])
    axis = 0 if w.wrong("wrong_axis") else 1
    scaled = w.either(f"{used} / {temperature}", alpha_inside=f"self.cql_alpha * {used}")
    if w.wrong("swapped"):
        # Q(s, a) has no axis of actions: what comes out depends on how the axis is named.
        axis = -1
        scaled = f"{used} / {temperature}"
    lse = {
        "torch": f"torch.logsumexp({scaled}, dim={axis})",
        "method": f"({scaled}).logsumexp(dim={axis})",
        "by_hand": f"torch.log(torch.exp({scaled}).sum(dim={axis}))",
    }[w["lse"]]
    lse = w.either(
        lse,
        mean_for_lse=f"{used}.mean(dim=1)",
        max_for_lse=f"{used}.max(dim=1).values",
        log_missing=f"torch.exp({scaled}).sum(dim=1)",
        exp_missing=f"torch.log(({scaled}).abs().sum(dim=1))",
        entropy_added=f"({lse} + torch.softmax({qa}, 1).mul(torch.log_softmax({qa}, 1)).sum(1))",
        random_actions=f"torch.logsumexp({qa}.gather(1, torch.randint({qa}.shape[1], "
        f"({qa}.shape[0], 2))), dim=1)",
    )
    if w["cql_temperature"] == "scaled":
        lse = f"{temperature} * {lse}"
    if column:
        lse = f"({lse}).unsqueeze(1)"
    pushed = f"{qa}.mean(dim=1)" if w.wrong("swapped") else q
    if w.wrong("mean_of_data"):
        pushed = f"{qa}.mean(dim=1{', keepdim=True' if column else ''})"
    # Without a column the mean of a difference is the difference of the means, in any shape.
    separate = w["cql_base"] == "super"
    term = f"({lse}).mean() - {pushed}.mean()" if separate else f"({lse} - {pushed}).mean()"
    term = w.either(
        term,
        lse_only=f"({lse}).mean()",
        data_only=f"-{q}.mean()",
        sign_flipped=f"{pushed}.mean() - ({lse}).mean()",
        sum_for_mean=f"({lse}).sum() - {pushed}.sum()",
        alpha_inside=f"({lse}).mean() - {pushed}.mean()",
    )
    added = w.either(
        f"loss = loss + self.cql_alpha * ({term})",
        term_missing="loss = loss",
        alpha_ignored=f"loss = loss + ({term})",
        alpha_constant=f"loss = loss + 2.0 * ({term})",
        alpha_inside=f"loss = loss + ({term})",
        alpha_squared=f"loss = loss + self.cql_alpha**2 * ({term})",
        alpha_on_all=f"loss = self.cql_alpha * (loss + ({term}))",
        alpha_on_td=f"loss = self.cql_alpha * loss + ({term})",
        alpha_on_lse=f"loss = loss + self.cql_alpha * ({lse}).mean() - {pushed}.mean()",
        term_twice=f"loss = loss + 2 * self.cql_alpha * ({term})",
        term_subtracted=f"loss = loss - self.cql_alpha * ({term})",
        replaces_td=f"loss = self.cql_alpha * ({term})",
    )
    if w["cql_base"] == "super" and w["locals"] == "verbose" and not w.kind:
        return [
            *first,
            *more,
            f"conservative = {term}",
            "loss += self.cql_alpha * conservative",
            *last,
        ]
    return [*first, *more, added, *last]


TD_IN_CQL = {
    "done_missing",
    "discount_missing",
    "online_next",
    "broadcast_q",
    "broadcast_next",
    "broadcast_reward",
    "double_ignored",
    "loss_summed",
    "state_now",
}
"""Mistakes of DQN that are also made in a CQL that computes everything anew."""
