"""RND: a predictor, and the bonus computed from its error."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from cs285.grading.solutions.bench import Call
from cs285.grading.solutions.fitting import Observation, fit
from cs285.grading.solutions.formulas.critics import dqn_bootstrap
from cs285.grading.solutions.formulas.distillation import RND
from cs285.grading.solutions.formulas.targets import solve
from cs285.grading.solutions.judges.actions import VALUES_POLICY, add_acting, judge_values_policy
from cs285.grading.solutions.judges.updates import Updates, add_updates, judge_copying
from cs285.grading.solutions.judging import Judge
from cs285.grading.solutions.verdicts import Verdict
from cs285.grading.solutions.world import shown
from cs285.probing.inputs import Array, Transitions, Weights, close, network_outputs

_RANDOM_STD = 0.5
"""The weights of the starter's `init_network` have a standard deviation of 1, PyTorch's of 0.07."""


@dataclass(frozen=True)
class Bonus:
    """An interpretation of the bonus in the rewards that a critic learned from."""

    text: str
    right: bool = False
    replaces: bool = False
    """Whether it replaces the reward."""


class RNDJudge(Judge):
    """RND: networks, predictor, bonus."""

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(11), self.batch(9)]
        values = [self.transitions(batch) for batch in batches]
        weights = (float(self.rng.uniform(1.4, 1.9)), float(self.rng.uniform(0.5, 0.8)))
        first, second = (self.scalars(rnd_weight=weight) for weight in weights)
        second["discount"] = first["discount"]
        predict = [
            bench.add(first, *[Call("update_rnd", values[0][:1])] * 2),
            bench.add(second, Call("update_rnd", values[1][:1])),
        ]
        updates, weaker = (add_updates(self, scalars, values[0]) for scalars in (first, second))
        acting = add_acting(self, first, VALUES_POLICY)
        if not self.run():
            return
        if not self.failed("update_rnd", *(bench.outcomes[t, 0] for t in predict)):
            self.judge_predictor(predict, batches)
        critic = None
        roles = bench.initial[0] if bench.initial else {}
        if self.failed("update", *(bench.outcomes[t, 0] for t in (*updates, *weaker))):
            pass
        elif not {"rnd/online", "rnd/target"} <= roles.keys():
            self.say(
                "update",
                Verdict.UNJUDGED,
                "found no predictor with a fixed target network",
            )
        else:
            critic = self.judge_bonus(updates, weaker.between, batches[0], weights)
        if self.defines("get_action"):
            judge_values_policy(self, critic or 0, *acting)

    def judge_predictor(self, trials: Sequence[int], batches: Sequence[Transitions]) -> None:
        """Judge the step of the predictor, and that its target network stays fixed."""
        method = "update_rnd"
        seen = self.bench.outcomes[trials[0], 0]
        if "rnd/target" not in seen.after:
            self.wrong(method, "the target network is optimised too, or missing")
            return
        if self.bench.moved(trials[0], 0, "rnd/target"):
            self.wrong(method, "the target network is trained too: it must stay fixed")
            return
        initial = self.bench.initial[0]
        online, target = initial["rnd/online"][0], initial["rnd/target"][0]
        if all(close(a, b, 1e-6) for a, b in zip(online, target, strict=True)):
            self.wrong(method, "the predictor starts as a copy of its target: no error to learn")
            return
        if online[0].std() > _RANDOM_STD > target[0].std():
            text = "the predictor has the random initial weights meant for its target"
            self.wrong("__init__", text)
        observed = self.bench.observe_steps(trials, batches, "rnd/online")
        found = self.judge_fit(method, RND, observed)
        if found is None or found.mistakes or self.bench.outcomes[trials[0], 1].failure:
            return
        again = self.bench.observe_step(trials[0], 1, batches[0], "rnd/online")
        first = observed[0]
        if again is None or first is None or fit(RND, [again], correct_only=True):
            return
        fresh = {"rnd/online": again.derivatives["rnd/online"] - first.derivatives["rnd/online"]}
        if fit(RND, [Observation(again.world, fresh)], correct_only=True):
            self.wrong(method, "gradients accumulate: zero_grad is missing")

    def judge_bonus(
        self,
        updates: Updates,
        weaker: int,
        batch: Transitions,
        weights: tuple[float, float],
    ) -> int | None:
        """Judge the reward that the exploration critic learns from; return that critic's index."""
        method, trial = "update", updates.between
        count = len(self.bench.outcomes[trial, 0].after.get("critic/online", []))
        moved = self.bench.moved(trial, 0, "critic/online")
        readings = [self.read_rewards(trial, batch, k) for k in range(count)]
        fits = [self.fit_bonus(trial, batch, r, weights[0]) for r in readings]
        chosen = next((k for k, one in enumerate(fits) if one.right), None)
        problems, notes = [], []
        if not moved:
            problems.append("the critic is never trained")
        elif chosen is None:
            problems.append(next((one.text for one in fits), "no critic learns from the bonus"))
        else:
            notes.append(fits[chosen].text)
            if count > 1:
                notes.append(f"{count} critics, one of them for exploration")
            before, after = readings[chosen], self.read_rewards(weaker, batch, chosen)
            if before is not None and after is not None:
                ratio = weight_ratio(before, after, batch, fits[chosen])
                if abs(ratio - 1) < 1e-2:  # noqa: PLR2004
                    problems.append("rnd_weight is ignored")
                elif abs(ratio * weights[0] / weights[1] - 1) > 2e-2:  # noqa: PLR2004
                    problems.append(
                        "the bonus is not proportional to rnd_weight: a factor of "
                        f"{weights[1] / weights[0]:.3g} in the weight gives a factor of "
                        f"{ratio:.3g} in the bonus"
                    )
        if not self.bench.moved(trial, 0, "rnd/online") and not self.is_bad("update_rnd"):
            problems.append("the predictor is never trained")
        trains = not problems
        if moved:
            problem, note = judge_copying(self, updates, "critic/target", "critic/online")
            problems += [problem] if problem else []
            notes += [note] if note else []
        notes = [note for note in notes if note]
        if problems:
            self.wrong(method, "; ".join(problems))
            self.findings[-1] = replace(self.findings[-1], of_copying=trains)
        else:
            self.say(method, Verdict.VARIANT if notes else Verdict.CORRECT, "; ".join(notes))
        return chosen

    def read_rewards(self, trial: int, batch: Transitions, index: int) -> Array | None:
        """Solve one critic's step for the rewards that it learned from, `(batch,)`."""
        found = self.bench.derivative(self.bench.step(trial, 0, "critic/online", index), batch)
        if found is None:
            return None
        rows, size = np.arange(len(batch)), len(batch)
        world = self.bench.world(trial, 0, batch, index)
        others = found.copy()
        others[rows, batch.actions] = 0
        if np.abs(others).max() > 1e-3 * np.abs(found).max():
            return None
        taken = world.taken(world.now("critic/online")).detach().numpy()
        targets = taken - found[rows, batch.actions] * size / 2
        future = dqn_bootstrap(world, "").detach().numpy()
        rewards: Array = targets - world.scalars["discount"] * ~batch.dones * future
        return rewards

    def errors(self, trial: int, batch: Transitions) -> Iterator[tuple[str, Array]]:
        """Yield the errors that the bonus may be computed from, each with its name."""
        size = len(batch)
        for when, weights in (
            ("", self.bench.outcomes[trial, 0].before),
            (
                "the predictor learns before the bonus is computed",
                self.bench.outcomes[trial, 0].after,
            ),
        ):
            online, target = self.predictions(batch, weights)
            difference = online - target
            for state, rows in (("", slice(size, None)), ("the bonus is that of s", slice(size))):
                part = difference[rows]
                forms = {
                    "squared error": (part**2).sum(1),
                    "norm of the error": np.sqrt((part**2).sum(1)),
                    "absolute error": np.abs(part).sum(1),
                    "logarithm of the error": np.log((part**2).sum(1)),
                }
                for form, error in forms.items():
                    yield "; ".join(text for text in (form, state, when) if text), error

    def fit_bonus(
        self, trial: int, batch: Transitions, rewards: Array | None, weight: float
    ) -> Bonus:
        """Return the bonus that the rewards contain, or what they contain instead."""
        if rewards is None:
            return Bonus("the critic's step is not that of DQN with any one reward per row")
        if close(rewards, batch.rewards, 2e-3):
            return Bonus("no bonus reaches the critic: it learns from the reward alone")
        added = rewards - batch.rewards
        if any(one.std() < 1e-3 * (1 + abs(one.mean())) for one in (added, rewards)):
            return Bonus(
                "the bonus is the same for every row: a wrong axis, a mean over the batch, or a "
                "broadcast of shapes (B, 1) and (B,); expected one error per row"
            )
        errors = list(self.errors(trial, batch))
        found = relate_bonus(errors, batch.rewards, rewards, weight)
        if not found.right and (named := self.name_bonus(trial, batch, rewards, errors, weight)):
            return Bonus(named)
        return found

    def name_bonus(
        self,
        trial: int,
        batch: Transitions,
        rewards: Array,
        errors: Sequence[tuple[str, Array]],
        rnd_weight: float,
    ) -> str:
        """Name a bonus that is not a function of the errors; empty if it is not known."""
        size = len(batch)
        online, target = self.predictions(batch, self.bench.outcomes[trial, 0].before)
        measures = {
            "the bonus is a signed difference, summed or averaged over features: errors cancel": (
                (online - target).sum(1)
            ),
            "the bonus is the difference of two norms, not the norm of the difference": np.abs(
                np.linalg.norm(online, axis=1) - np.linalg.norm(target, axis=1)
            ),
            "the bonus contains the target's outputs alone, not the error": (target**2).sum(1),
            "the bonus contains the predictor's outputs alone, not the error": (online**2).sum(1),
            "the predictor's and the target's outputs are added, not subtracted": (
                ((online + target) ** 2).sum(1)
            ),
        }
        for text, measure in measures.items():
            forms = (measure, np.abs(measure), np.sqrt(np.abs(measure)))
            for form, rows in itertools.product(forms, (slice(size, None), slice(size))):
                for bonus in (rewards - batch.rewards, rewards):
                    if normalisation(form[rows], bonus, 1.0)[1]:
                        return text
        for name, error in errors:
            for rows in (np.roll(error, 1), np.roll(error, -1), error[::-1]):
                if normalisation(rows, rewards - batch.rewards, 1.0)[1]:
                    return (
                        f"the rows are mixed: the bonus of one row is the error of another ({name})"
                    )
            line = solve([batch.rewards.astype(float), error, np.ones(size)], rewards)
            if line is not None and abs(line[0] - 1) > 1e-2 < line[0] and line[1] > 1e-4:  # noqa: PLR2004
                if abs(line[0] / rnd_weight - 1) < 1e-2:  # noqa: PLR2004
                    return "rnd_weight multiplies the reward instead of the bonus"
                return (
                    f"the reward is multiplied by {line[0]:.4g}, together with the bonus: their "
                    "sum is normalised, so rnd_weight does not weight the bonus"
                )
        return ""

    def predictions(self, batch: Transitions, weights: Weights) -> tuple[Array, Array]:
        """Return the outputs `(2 batch, outputs)` of the predictor and of its target."""
        features = self.inputs.features(batch.states)
        online, target = (weights[role][0] for role in ("rnd/online", "rnd/target"))
        return network_outputs(features, online), network_outputs(features, target)


def relate_bonus(
    errors: Sequence[tuple[str, Array]], rewards: Array, found: Array, weight: float
) -> Bonus:
    """Relate the rewards that a critic learned from to the predictor's errors, given by name."""
    added = found - rewards
    readings: list[tuple[str, str, float, bool]] = []
    for relate in (partial(normalisation, weight=weight), monotony):
        related = [
            (name, *relate(error, bonus), replaces)
            for bonus, replaces in ((added, False), (found, True))
            for name, error in errors
        ]
        for name, how, slope, replaces in related:
            if slope > 0:
                ending = "; the bonus replaces the reward" if replaces else ""
                return Bonus(f"{how} {name}{ending}", right=True, replaces=replaces)
        readings += related
        for name, error in errors:
            how, slope = relate(error, found / weight - rewards)
            if slope > 0:
                return Bonus(
                    f"rnd_weight multiplies the reward too, not the bonus alone ({how} {name})"
                )
    for name, _, slope, _ in readings:
        if slope < 0:
            return Bonus(f"flipped sign: the bonus falls as the error grows ({name})")
    _, error = errors[0]
    return Bonus(
        "bonus divided by rnd_weight: expected a rising function of the errors "
        f"{shown(error)}, got {shown(added / weight)}"
    )


def weight_ratio(first: Array, second: Array, batch: Transitions, bonus: Bonus) -> float:
    """Return the factor between the bonuses at two values of `rnd_weight`."""
    reward = 0.0 if bonus.replaces else batch.rewards
    one, other = first - reward, second - reward
    return float((other * one).sum() / (one * one).sum())


def normalisation(error: Array, bonus: Array, weight: float) -> tuple[str, float]:
    """Return the name and slope of a bonus that is affine in the errors, clipped or not; else 0."""
    if bonus.std() < 1e-3 * (1 + abs(bonus.mean())):
        return "", 0.0
    ends = [np.abs(bonus - end) < 1e-3 for end in (bonus.min(), bonus.max())]  # noqa: PLR2004
    # A value at an end is clipped if others share it, and otherwise may be.
    shared = np.any([end for end in ends if end.sum() > 1] or [np.zeros_like(ends[0])], axis=0)
    tries = ((np.ones(len(bonus), bool), ""), (~shared, "clipped "), (~np.any(ends, 0), "clipped "))
    for rows, clipped in tries:
        if rows.sum() < 3:  # noqa: PLR2004 - two numbers are fitted
            continue
        slope, offset = np.polyfit(error[rows], bonus[rows], 1)
        rest = bonus[rows] - slope * error[rows] - offset
        if np.abs(rest).max() > 5e-3 * bonus[rows].std():
            continue
        if clipped:
            mapped = slope * error + offset
            bounded = np.clip(mapped, bonus.min(), bonus.max())
            if np.abs(bounded - bonus).max() > 5e-3 * bonus.std():
                continue
        kind = "running-normalised"
        if abs(offset) < 1e-3 * abs(slope) * error.mean():
            kind = "raw" if abs(slope / weight - 1) < 1e-2 else "scaled"  # noqa: PLR2004
        elif abs(bonus.mean()) < 1e-3 * bonus.std():
            kind = "z-scored"
        elif abs(bonus.min()) < 1e-3 * bonus.max():
            kind = "min-max"
        return clipped + kind, float(slope)
    return "", 0.0


def monotony(error: Array, bonus: Array) -> tuple[str, float]:
    """Return the name and sign of a bonus that keeps or reverses the errors' order; else 0."""
    steps = np.diff(bonus[np.argsort(error)])
    rounding = 1e-3 * np.ptp(bonus)
    for sign in (1.0, -1.0):
        # Clipping makes values equal; three steps in the same direction are not chance.
        if (sign * steps >= -rounding).all() and (sign * steps > rounding).sum() >= 3:  # noqa: PLR2004
            return "a rising function of the", sign
    return "", 0.0
