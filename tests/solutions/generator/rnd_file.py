"""The file of random network distillation."""

from __future__ import annotations

from tests.solutions.generator.q_files import typed
from tests.solutions.generator.writing import PLURAL, Lines, Writer, block, imports_of

OBS, ACTIONS, REWARDS, NEXT_OBS, DONES = PLURAL


def errors(w: Writer, state: str) -> str:
    """Return the prediction error `(batch,)` of the named states."""
    predicted, wanted = f"self.rnd_net({state})", f"self.rnd_target_net({state})"
    f = w.functional()
    right = {
        "norm": f"torch.norm({predicted} - {wanted}, dim=-1)",
        "squared_sum": f"({predicted} - {wanted}).pow(2).sum(dim=1)",
        "squared_mean": f"torch.mean(torch.square({predicted} - {wanted}), dim=1)",
        "mse_none": f'{f}.mse_loss({predicted}, {wanted}, reduction="none").mean(dim=-1)',
    }[w["rnd_error"]]
    return w.either(
        right,
        errors_cancel=f"({predicted} - {wanted}).sum(dim=1)",
        target_missing=f"{predicted}.pow(2).sum(dim=1)",
        predictor_missing=f"{wanted}.pow(2).sum(dim=1)",
        predictor_twice=f"({predicted} - {predicted}).pow(2).sum(dim=1)",
        errors_added=f"({predicted} + {wanted}).pow(2).sum(dim=1)",
        of_other_rows=f"({predicted} - {wanted}.roll(1, 0)).pow(2).sum(dim=1)",
    )


def rnd_file(w: Writer) -> str:
    """Return `rnd_agent.py`."""
    w.method = ""
    members = w.init(
        [
            "observation_shape: Sequence[int]",
            "num_actions: int",
            "make_rnd_network: Callable",
            "make_rnd_network_optimizer: Callable",
            "make_target_rnd_network: Callable",
            "rnd_weight: float",
            "**kwargs",
        ],
        "observation_shape=observation_shape, num_actions=num_actions, **kwargs",
        [
            "self.rnd_weight = rnd_weight",
            "self.rnd_net = make_rnd_network(observation_shape)",
            "self.rnd_target_net = make_target_rnd_network(observation_shape)",
            *block(
                "for parameter in self.rnd_target_net.parameters():",
                ["parameter.requires_grad_(False)"],
            ),
            "self.rnd_optimizer = make_rnd_network_optimizer(self.rnd_net.parameters())",
        ],
    )
    members += update_rnd(w)
    members += update(w)
    members += w.define("num_aux_plots", [], ["return 1"], returns="int")
    members += w.define("plot_aux", ["axes"], ["axes[0].set_title('RND error')"])
    return w.finish(imports_of(w, "dqn"), "DQNAgent", members)


def update_rnd(w: Writer) -> Lines:
    """Return one step of the predictor."""
    w.method = "update_rnd"
    f = w.functional()
    predicted, wanted = "self.rnd_net(obs)", "self.rnd_target_net(obs)"
    lines = w.todo("update the RND network")
    whole = {
        "loss_detached": f"{f}.mse_loss({predicted}.detach(), {wanted})",
        "loss_summed": f"({predicted} - {wanted}).pow(2).sum()",
        "loss_huber": f"{f}.smooth_l1_loss({predicted}, {wanted})",
        "loss_signed": f"({predicted} - {wanted}).mean()",
        "wrong_axis": f"torch.norm({predicted} - {wanted}, dim=0).mean()",
        "batch_averaged": f"({predicted}.mean(dim=0) - {wanted}.mean(dim=0)).pow(2).sum()",
    }.get(w.kind)
    if whole:
        lines += [f"loss = {whole}"]
    elif w["rnd_error"] == "mse_none" and not w.kind:
        lines += [f"loss = {f}.mse_loss({predicted}, {wanted})"]
    else:
        lines += [f"error = {errors(w, 'obs')}", "loss = error.mean()"]
    if w.wrong("loss_without_grad"):
        lines = block("with torch.no_grad():", lines)
    optimizer = w.either("rnd_optimizer", wrong_optimizer="critic_optimizer")
    lines += [*w.descent("loss", optimizer, "rnd_net"), "return loss.item()"]
    return w.define("update_rnd", ["obs: torch.Tensor"], lines, returns="float")


def update(w: Writer) -> Lines:
    """Return the update of the critic on the bonus, and of the predictor."""
    w.method = "update"
    state = NEXT_OBS if w["rnd_state"] == "next" else OBS
    bonus = errors(w, state)
    scaled = {
        "z_score": ["bonus = (bonus - bonus.mean()) / (bonus.std() + 1e-8)"],
        "none": [],
        "by_deviation": ["bonus = bonus / (bonus.std() + 1e-8)"],
        "min_max": ["bonus = (bonus - bonus.min()) / (bonus.max() - bonus.min() + 1e-8)"],
    }[w["rnd_scale"]]
    if w.wrong("bonus_averaged"):
        scaled = ["bonus = bonus.mean().expand_as(bonus)"]
    elif w.wrong("bonus_inverted"):
        scaled = ["bonus = 1.0 / (bonus + 0.1)"]
    weight = w.either("self.rnd_weight", weight_constant="1.0", weight_squared="self.rnd_weight**2")
    kept = "" if w["rnd_rewards"] == "replaced" else f"{REWARDS} + "
    total = f"{kept}{weight} * bonus"
    total = w.either(
        total,
        bonus_ignored=REWARDS,
        bonus_negated=f"{kept}-{weight} * bonus",
        weight_added=f"{REWARDS} + self.rnd_weight + bonus",
        weight_missing=f"{kept}bonus",
        broadcast_bonus=f"({REWARDS} + {weight} * bonus.unsqueeze(1)).mean(dim=0)",
        weight_on_all=f"self.rnd_weight * ({REWARDS} + bonus)",
    )
    rewarding = block(
        "with torch.no_grad():",
        [
            *w.todo("Compute RND bonus for batch and modify rewards"),
            f"bonus = {bonus}",
            *scaled,
            *w.checked("bonus", REWARDS),
            f"{REWARDS} = {total}",
        ],
    )
    parts = ", ".join(PLURAL)
    critic = [f"metrics = super().update({parts}, step)"]
    if w["rnd_step"] == "update_critic":
        critic = [
            f"metrics = self.update_critic({parts})",
            *block("if step % self.target_update_period == 0:", ["self.update_target_critic()"]),
        ]
    if w.wrong("critic_never_trained"):
        critic = ["metrics = {}"]
    elif w.wrong("bonus_too_late"):
        critic, rewarding = [*critic, *rewarding], []
    elif w.wrong("never_copied"):
        critic = [f"metrics = self.update_critic({parts})"]
    predictor = [f'metrics["rnd_loss"] = self.update_rnd({state})']
    if w["rnd_order"] == "before":
        predictor = [f"rnd_loss = self.update_rnd({state})"]
    if w.wrong("predictor_never_trained"):
        predictor = []
    body = (
        [*predictor, *rewarding, *critic, "return metrics"]
        if w["rnd_order"] == "before"
        else [*rewarding, *critic, *predictor, "return metrics"]
    )
    return w.define("update", [*typed(*PLURAL), "step: int"], body, returns="dict")
