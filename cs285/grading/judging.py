"""Verdicts on the methods of the six agents, from numbers that came out of the child."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cs285.grading import formulas
from cs285.grading.bench import Bench, Call, Fit, Observation, Seen, fit
from cs285.grading.formulas import Formula
from cs285.grading.world import (
    NUM_ACTIONS,
    Array,
    Transitions,
    World,
    close,
    shown,
)

CORRECT, VARIANT, WRONG, CRASHES, UNSOLVED, MISSING, UNJUDGED = (
    "correct",
    "accepted variant",
    "wrong",
    "crashes",
    "unsolved",
    "missing",
    "not judged",
)
BAD = (WRONG, CRASHES, UNSOLVED, MISSING)

CRITIC_MAKERS = ("make_critic", "make_optimizer", "make_lr_schedule")
ACTOR_MAKERS = (*CRITIC_MAKERS, "make_actor", "make_actor_optimizer")
VALUE_MAKERS = (*ACTOR_MAKERS, "make_value_critic", "make_value_critic_optimizer")
RND_MAKERS = (
    *CRITIC_MAKERS,
    "make_rnd_network",
    "make_rnd_network_optimizer",
    "make_target_rnd_network",
)
PERIOD = 7
SIGMAS = 6.0
"""How far chance may lead a sampled quantity astray: once in half a billion."""


@dataclass(frozen=True)
class Finding:
    """The verdict on one method."""

    method: str
    verdict: str
    text: str = ""


@dataclass(frozen=True)
class Source:
    """What the text of an agent file says about its class, without running it."""

    text: str
    class_name: str

    @property
    def methods(self) -> dict[str, ast.FunctionDef]:
        """Methods that the class itself defines.

        Raises:
            SyntaxError: If the file is no Python.
        """
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.ClassDef) and node.name == self.class_name:
                return {f.name: f for f in node.body if isinstance(f, ast.FunctionDef)}
        return {}

    def placeholder(self, method: str) -> str:
        """Return what a method still holds: `...`, `NotImplementedError` or nothing."""
        node = self.methods.get(method)
        if node is None:
            return ""
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and part.value is Ellipsis:
                if not self._indexes(node, part):
                    return "..."
            elif isinstance(part, ast.Raise) and "NotImplementedError" in ast.dump(part):
                return "NotImplementedError"
        return ""

    @staticmethod
    def _indexes(method: ast.FunctionDef, constant: ast.Constant) -> bool:
        """Tell whether an ellipsis is an index, as in `values[..., None]`, or an annotation."""
        kinds = (ast.Subscript, ast.arg, ast.AnnAssign)
        return any(
            constant in ast.walk(part.slice if isinstance(part, ast.Subscript) else part)
            for part in ast.walk(method)
            if isinstance(part, kinds)
            and not (isinstance(part, ast.AnnAssign) and part.value is constant)
        )

    def todo(self, method: str) -> bool:
        """Tell whether a TODO is left inside a method."""
        node = self.methods.get(method)
        if node is None:
            return False
        lines = self.text.splitlines()[node.lineno - 1 : node.end_lineno]
        return any("TODO" in line for line in lines)


class Judge:
    """Judges one class over one choice of files that it builds on.

    Args:
        source: The class under judgement.
        make_bench: Makes an empty bench for it.
        rng: Source of batches and scalars.
        own_parent: It builds on the student's own parent, which may be wrong and is judged apart.
    """

    def __init__(
        self,
        source: Source,
        make_bench: Callable[[], Bench],
        rng: np.random.Generator,
        *,
        own_parent: bool = False,
    ) -> None:
        self.source = source
        self.make_bench = make_bench
        self.rng = rng
        self.own_parent = own_parent
        self.bench = make_bench()
        self.inputs = self.bench.inputs
        self.findings: list[Finding] = []

    def judge(self) -> None:
        """Run the class and add the findings."""
        raise NotImplementedError

    # Small helpers

    def scalars(self, **more: Any) -> dict[str, Any]:
        """Draw the scalars of `DQNAgent` and add others."""
        return {
            "discount": float(self.rng.uniform(0.6, 0.85)),
            "target_update_period": PERIOD,
            "use_double_q": True,
            "clip_grad_norm": None,
            **more,
        }

    def say(self, method: str, verdict: str, text: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(method, verdict, text))

    def failed(self, method: str, *calls: Seen) -> bool:
        """Report the first error among the calls that judge a method, if there is one."""
        error = next((seen.error for seen in calls if seen.error), None)
        if error is None:
            return False
        where = str(error.get("function", ""))
        if where != method and where in self.source.methods and where != "__init__":
            self.say(method, UNJUDGED, f"{where} fails first")
            self._report_error(where, error)
        else:
            self._report_error(method, error)
        return True

    def _report_error(self, method: str, error: Mapping[str, Any]) -> None:
        if self.is_bad(method):
            return
        kind, message = str(error.get("type", "")), str(error.get("message", ""))
        blamed = str(error.get("function", method))
        if kind == "AttributeError" and message.endswith(f"no attribute '{method}'"):
            self.say(method, MISSING, "the class has no such method")
        elif kind == "NotImplementedError" or self.source.placeholder(blamed):
            left = self.source.placeholder(blamed) or "NotImplementedError"
            self.say(method, UNSOLVED, f"`{left}` is still there")
        elif self.source.todo(blamed) and blamed == method:
            self.say(method, UNSOLVED, f"a TODO is left, and it raises {kind}: {message}")
        else:
            line = f" (line {error['line']})" if error.get("line") else ""
            self.say(method, CRASHES, f"{kind}: {message}{line}" if kind else message)

    def is_bad(self, method: str) -> bool:
        """Tell whether a method was already found at fault."""
        return any(f.method == method and f.verdict in BAD for f in self.findings)

    def conclude(self, method: str, found: Fit | None, *, ignored: set[str] | None = None) -> None:
        """Turn a fit into a finding; without one the caller has said why."""
        if found is None:
            return
        mistakes = found.mistakes
        if self.own_parent and ignored and set(found.choices) <= ignored:
            mistakes = []
        if mistakes:
            self.wrong(method, "; ".join(mistakes))
        elif found.variants:
            self.say(method, VARIANT, "; ".join(found.variants))
        else:
            self.say(method, CORRECT)

    def wrong(self, method: str, text: str) -> None:
        """Report numbers that are not right; a placeholder left in the method explains them."""
        if left := self.source.placeholder(method):
            self.say(method, UNSOLVED, f"`{left}` is still there")
        elif self.source.todo(method):
            self.say(method, WRONG, f"{text} (a TODO is left in the method)")
        else:
            self.say(method, WRONG, text)

    def defines(self, method: str) -> bool:
        """Tell whether the student's class defines a method itself."""
        return method in self.source.methods

    def batch(self, size: int = 7) -> Transitions:
        """Draw a batch."""
        return self.inputs.draw_batch(size)

    def transitions(self, batch: Transitions) -> tuple[Array, ...]:
        """Return the five arguments of an update."""
        return (
            batch.observations,
            batch.actions,
            batch.rewards,
            batch.next_observations,
            batch.dones,
        )

    # Losses that come back, and steps that follow a loss

    def loss_observation(self, trial: int, call: int, batch: Transitions) -> Observation | None:
        """Read a `loss` call: the loss and the derivatives by the online critic."""
        seen = self.bench.seen[trial, call]
        if "critic/online" not in seen.gradients:
            return None
        found = self.bench.derivative(seen.gradients["critic/online"][0], batch)
        loss = seen.result[0] if isinstance(seen.result, list) else seen.result
        if found is None or not isinstance(loss, np.ndarray) or loss.size != 1:
            return None
        world = self.bench.world(trial, call, batch)
        return Observation(world, {"critic/online": found}, float(loss.ravel()[0]))

    def step_observation(
        self, trial: int, call: int, batch: Transitions, role: str
    ) -> Observation | None:
        """Read a call that updates: the derivatives by the network that moved."""
        if role not in self.bench.seen[trial, call].after:
            return None
        found = self.bench.derivative(self.bench.step(trial, call, role), batch)
        return (
            None
            if found is None
            else Observation(self.bench.world(trial, call, batch), {role: found})
        )

    def judge_fit(
        self,
        method: str,
        formula: Formula,
        observations: Sequence[Observation | None],
        *,
        ignored: set[str] | None = None,
    ) -> Fit | None:
        """Fit observations of one method and report; return what they fit."""
        present = [seen for seen in observations if seen is not None]
        if len(present) < len(observations):
            self.wrong(
                method, "the weights move along a gradient that no loss on this batch explains"
            )
            return None
        if all(np.abs(d).max() == 0 for seen in present for d in seen.derivatives.values()):
            roles = ", ".join(
                sorted({role.split("/")[0] for s in present for role in s.derivatives})
            )
            self.wrong(method, f"no gradient: the parameters of the {roles} are never trained")
            return None
        found = fit(formula, present)
        if found is None and any(seen.loss is not None for seen in present):
            # A loss may hold something that has no gradient and so trains nothing.
            silent = [Observation(seen.world, seen.derivatives) for seen in present]
            found = fit(formula, silent)
            if found is not None and not found.mistakes:
                found = Fit(
                    found.choices,
                    [*found.variants, "the number returned differs, its gradient does not"],
                    [],
                )
        if found is None:
            self.wrong(method, self.difference(formula, present[0]))
        self.conclude(method, found, ignored=ignored)
        return found

    def difference(self, formula: Formula, seen: Observation) -> str:
        """Write expected and got for one observation."""
        loss = formula.loss(seen.world)
        role, found = next(iter(seen.derivatives.items()))
        expected = torch.autograd.grad(loss, seen.world.leaves[role])[0].numpy()
        rows = np.abs(expected).max(axis=1) > 0
        text = (
            f"derivative by the {role.split('/')[0]}'s outputs: expected "
            f"{shown(expected[rows])}, got {shown(found[rows])}"
        )
        if seen.loss is not None:
            text = f"loss: expected {loss.item():.5g}, got {seen.loss:.5g}; {text}"
        return text

    def moved(self, trial: int, call: int, role: str) -> bool:
        """Tell whether a call changed a network."""
        seen = self.bench.seen[trial, call]
        pairs = zip(seen.before.get(role, []), seen.after.get(role, []), strict=False)
        return any(
            not close(a, b, 1e-6)
            for before, after in pairs
            for a, b in zip(before, after, strict=True)
        )

    def same(self, first: tuple[int, int], second: tuple[int, int], role: str) -> bool:
        """Tell whether two calls left a network with the same weights."""
        a = self.bench.seen[first].after.get(role, [])
        b = self.bench.seen[second].after.get(role, [])
        return len(a) == len(b) and all(
            close(x, y, 1e-4)
            for one, other in zip(a, b, strict=True)
            for x, y in zip(one, other, strict=True)
        )

    def judge_update(
        self,
        trial: int,
        copying: int,
        oracles: Sequence[tuple[int, int]],
        trained: Mapping[str, str],
        copies: Mapping[str, str],
    ) -> None:
        """Judge `update` by the student's own single steps: their effect, and the copying.

        Args:
            trial: A trial whose first call is an update at a step that copies nothing.
            copying: A trial whose first call is an update at a multiple of the period.
            oracles: Calls after which the networks are as after a right update.
            trained: Networks that an update trains, role to name.
            copies: Networks that the period copies, target role to online role.
        """
        bench = self.bench
        if self.failed("update", bench.seen[trial, 0], bench.seen[copying, 0]):
            return
        problems: list[str] = []
        notes: list[str] = []
        usable = [one for one in oracles if bench.seen[one].error is None]
        if not any(all(self.same((trial, 0), one, role) for role in trained) for one in usable):
            for role, name in trained.items():
                if (
                    usable
                    and any(self.moved(*one, role) for one in usable)
                    and not self.moved(trial, 0, role)
                ):
                    problems.append(f"the {name} is never updated")
            if not problems and usable and not self._each_step_is_sound(trial, usable, trained):
                differs = [
                    name
                    for role, name in trained.items()
                    if not any(self.same((trial, 0), one, role) for one in usable)
                ]
                problems.append(
                    f"its effect on the {' and the '.join(differs) or 'networks'} is not that of "
                    "the class's own single steps on this batch, in any order"
                )
        for target, online in copies.items():
            if self.is_bad(f"update_target_{'value_' if 'value' in target else ''}critic"):
                continue
            problem, note = self._copying(trial, copying, target, online)
            problems += [problem] if problem else []
            notes += [note] if note else []
        if problems:
            self.wrong("update", "; ".join(dict.fromkeys(problems)))
        elif notes:
            self.say("update", VARIANT, "; ".join(dict.fromkeys(notes)))
        else:
            self.say("update", CORRECT)

    def _each_step_is_sound(
        self, trial: int, oracles: Sequence[tuple[int, int]], trained: Mapping[str, str]
    ) -> bool:
        """Tell whether every network ended as after one of the orders, perhaps not the same."""
        return all(any(self.same((trial, 0), one, role) for one in oracles) for role in trained)

    def _copying(self, plain: int, copying: int, target: str, online: str) -> tuple[str, str]:
        seen, at_period = self.bench.seen[plain, 0], self.bench.seen[copying, 0]
        name = "target V" if target.startswith("value") else "target critic"
        if target not in seen.after or target not in at_period.after:
            return "", ""
        before, after = at_period.before[target][0][0], at_period.after[target][0][0]
        new, old = at_period.after[online][0][0], at_period.before[online][0][0]
        if self.moved(plain, 0, target):
            return self._copied_too_often(seen, target, online, name, stays=close(after, before))
        if close(after, new, 1e-5):
            return "", ""
        if close(after, old, 1e-5):
            return "", f"the {name} is copied before the step instead of after it"
        if close(after, before, 1e-6):
            return f"the {name} is never copied, parameters stay as they were", ""
        return f"the {name} is something else than the critic after the copy", ""

    @staticmethod
    def _copied_too_often(
        seen: Seen, target: str, online: str, name: str, *, stays: bool
    ) -> tuple[str, str]:
        """Describe a target network that moved at a step between two copies."""
        if close(seen.after[target][0][0], seen.after[online][0][0], 1e-5):
            if stays:
                return f"the {name} is copied at every step but the multiples of the period", ""
            return f"the {name} is copied at every step, whatever the period", ""
        direction = seen.after[online][0][0] - seen.before[target][0][0]
        shift = seen.after[target][0][0] - seen.before[target][0][0]
        tau = float((shift * direction).sum() / (direction**2).sum())
        return f"the {name} moves at every step (by {tau:.3g} of the way), not once a period", ""

    def judge_copy(self, method: str, trial: int, target: str, online: str) -> None:
        """Judge a method that copies one network to another."""
        seen = self.bench.seen[trial, 0]
        if self.failed(method, seen):
            return
        if target not in seen.after or online not in seen.after:
            self.say(method, UNJUDGED, "no target network was found")
        elif self.moved(trial, 0, online):
            self.wrong(method, "it changes the online network: the copy goes the wrong way round")
        elif not self.moved(trial, 0, target):
            self.wrong(method, "parameters are never copied: the target network stays as it was")
        elif all(
            close(a, b, 1e-5)
            for a, b in zip(seen.after[target][0], seen.after[online][0], strict=True)
        ):
            self.say(method, CORRECT)
        else:
            self.wrong(method, "the target network is not equal to the online one afterwards")

    # Acting

    def judge_values_policy(self, critic: int, trial: int, observations: Array) -> None:
        """Judge an epsilon-greedy `get_action`: calls at epsilon 0, 1/4 and 1."""
        bench = self.bench
        calls = [bench.seen[trial, k] for k in range(3)]
        if self.failed("get_action", *calls):
            return
        greedy, some, all_random = (np.asarray(seen.result).astype(int) for seen in calls)
        if any(a.min() < 0 or a.max() >= NUM_ACTIONS for a in (greedy, some, all_random)):
            self.wrong("get_action", "an action outside 0 to 4")
            return
        values = self._outputs("critic/online", critic, observations)
        rules = {
            "": values.argmax(1),
            "the least valued action: a minimum in place of the maximum": values.argmin(1),
        }
        if "critic/target" in calls[0].before:
            target = self._outputs("critic/target", critic, observations)
            rules["wrong network: the target critic's best action"] = target.argmax(1)
        chosen = next((t for t, a in rules.items() if (greedy == a[:, None]).all()), None)
        best = values.argmax(1)[:, None]
        if chosen is None:
            share = float((greedy == best).mean())
            if (all_random == best).all():
                self.wrong("get_action", "epsilon the wrong way round: greedy at epsilon 1")
                return
            text = f"at epsilon 0 it takes the best action in {share:.0%} of cases only"
            if abs(share - 1 / NUM_ACTIONS) < SIGMAS * 0.4 / math.sqrt(greedy.size):
                text += ": it acts at random"
            self.wrong("get_action", text)
        elif chosen:
            self.wrong("get_action", chosen)
        else:
            self._judge_exploration(some, all_random, best)

    def _judge_exploration(self, some: Array, all_random: Array, best: Array) -> None:
        def within(found: Array, probability: float) -> bool:
            deviation = math.sqrt(probability * (1 - probability) / found.size)
            return abs(float((found == best).mean()) - probability) < SIGMAS * deviation

        fifth = 1 / NUM_ACTIONS
        if (some == best).all() and (all_random == best).all():
            self.wrong("get_action", "epsilon is ignored: it never explores")
        elif within(some, 0.25 * fifth + 0.75) and within(all_random, fifth):
            self.say("get_action", CORRECT)
        elif within(some, 0.75) and not (all_random == best).any():
            self.say("get_action", VARIANT, "a random action is never the greedy one")
        elif within(some, 0.75 * fifth + 0.25):
            self.wrong("get_action", "epsilon the wrong way round: greedy with probability epsilon")
        else:
            self.wrong(
                "get_action",
                f"at epsilon 0.25 the best action comes in {float((some == best).mean()):.0%} of "
                f"cases (expected 80%), at epsilon 1 in {float((all_random == best).mean()):.0%} "
                "(expected 20%)",
            )

    def _outputs(self, role: str, index: int, observations: Array) -> Array:
        weight, bias = self.bench.weights[role][index]
        phi = self.inputs.features(observations)
        outputs: Array = phi @ np.concatenate([weight, bias[:, None]], axis=1).astype(float).T
        return outputs

    def judge_actor_policy(self, trial: int, observations: Array) -> None:
        """Judge `get_action` of an agent with an actor: calls at epsilon 0 and 1/4."""
        calls = [self.bench.seen[trial, k] for k in range(2)]
        if self.failed("get_action", *calls):
            return
        greedy, exploring = (np.asarray(seen.result).astype(int) for seen in calls)
        logits = self._outputs("actor/online", 0, observations)
        values = self._outputs("critic/online", 0, observations)
        target = self._outputs("critic/target", 0, observations)
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        mode = logits.argmax(1)[:, None]
        if (greedy == mode).all():
            self._judge_actor_exploration(exploring, mode, probabilities)
        elif self._sampled(greedy, probabilities):
            self.say("get_action", VARIANT, "a sample of the actor, also in evaluation")
        elif (greedy == values.argmax(1)[:, None]).all() and not self.defines("get_action"):
            text = "acts on argmax Q: the actor is trained but never used"
            self.say("get_action", VARIANT, f"{text} (`get_action` is inherited from DQN)")
        else:
            share = float((greedy == mode).mean())
            readings = (
                (values.argmax(1), "acts on argmax Q: the actor is trained but never used"),
                (target.argmax(1), "acts on argmax of the target critic, not with the actor"),
                (logits.argmin(1), "takes the actor's least likely action"),
            )
            text = next((t for a, t in readings if (greedy == a[:, None]).all()), "")
            if self._sampled(greedy, np.full_like(probabilities, 1 / NUM_ACTIONS)):
                text = "acts at random, whatever the actor says"
            self.wrong(
                "get_action",
                text
                or f"in evaluation it takes the actor's likeliest action in {share:.0%} of cases "
                "only, and is no sample of the actor either",
            )

    def _judge_actor_exploration(self, exploring: Array, mode: Array, probabilities: Array) -> None:
        if (exploring == mode).all():
            self.say("get_action", VARIANT, "the actor's likeliest action, also while exploring")
        elif self._sampled(exploring, probabilities) and not self._likelier_mixed(
            exploring, mode, probabilities
        ):
            self.say("get_action", CORRECT)
        else:
            self._say_mixed(exploring, mode)

    @staticmethod
    def _likelier_mixed(actions: Array, mode: Array, probabilities: Array) -> bool:
        """Tell whether epsilon-greedy on the mode explains actions better than sampling does."""
        mixed = np.where(actions == mode, 0.75 + 0.25 / NUM_ACTIONS, 0.25 / NUM_ACTIONS)
        sampled = np.take_along_axis(probabilities, actions, 1)
        return bool(np.log(mixed).sum() > np.log(np.maximum(sampled, 1e-12)).sum())

    def _say_mixed(self, exploring: Array, mode: Array) -> None:
        share = float((exploring == mode).mean())
        expected = 0.75 + 0.25 / NUM_ACTIONS
        deviation = math.sqrt(expected * (1 - expected) / exploring.size)
        if abs(share - expected) < SIGMAS * deviation:
            self.say("get_action", VARIANT, "epsilon-greedy on the actor's likeliest action")
        else:
            self.say("get_action", VARIANT, "another way to explore around the actor's mode")

    @staticmethod
    def _sampled(actions: Array, probabilities: Array) -> bool:
        """Tell whether rows of actions may be samples of rows of probabilities."""
        surprise = -np.log(np.maximum(np.take_along_axis(probabilities, actions, 1), 1e-12))
        logs = -np.log(np.maximum(probabilities, 1e-12))
        mean = (probabilities * logs).sum(1)
        variance = (probabilities * logs**2).sum(1) - mean**2
        n = actions.shape[1]
        counts = np.stack([(actions == a).mean(1) for a in range(NUM_ACTIONS)], 1)
        spread = np.sqrt(probabilities * (1 - probabilities) / n)
        apart = np.abs(counts - probabilities).max() > (SIGMAS * spread + 2 / n).max()
        z = (surprise.sum() - n * mean.sum()) / math.sqrt(n * variance.sum() + 1e-9)
        return abs(z) < SIGMAS and not apart

    def draw_observations(self, count: int = 9) -> Array:
        """Draw observations to act on, whose best and second action are well apart."""
        kept: list[Array] = []
        roles = ("critic/online", "critic/target", "actor/online")
        while len(kept) < count:
            row = self.rng.random((1, 2)).astype(np.float32)
            tops = [np.sort(self._outputs(role, 0, row)[0]) for role in roles]
            if all(top[-1] - top[-2] > 0.05 for top in tops):  # noqa: PLR2004 - beyond rounding
                kept.append(row)
        return np.concatenate(kept)


class RandomJudge(Judge):
    """Uniform actions; an update that does nothing."""

    def judge(self) -> None:
        """Add the findings."""
        observations = self.rng.random((6, 2)).astype(np.float32)
        batch = self.batch()
        acting = self.bench.add(
            {},
            Call("get_action", (observations,), "actions", repeats=60),
            Call("get_action", (observations,), "actions", epsilon=0.3, repeats=20),
        )
        learning = self.bench.add({}, Call("update", (*self.transitions(batch), 1)))
        self.bench.run()
        seen = self.bench.seen[acting, 0]
        if not self.failed("get_action", seen, self.bench.seen[acting, 1]):
            actions = np.asarray(seen.result).astype(int)
            counts = np.bincount(np.clip(actions.ravel(), 0, NUM_ACTIONS), minlength=6)
            expected = actions.size / NUM_ACTIONS
            bound = SIGMAS * math.sqrt(expected * (1 - 1 / NUM_ACTIONS))
            if actions.min() < 0 or actions.max() >= NUM_ACTIONS:
                self.wrong("get_action", "an action outside 0 to 4")
            elif (counts[:NUM_ACTIONS] == 0).any():
                never = ", ".join(str(a) for a in range(NUM_ACTIONS) if not counts[a])
                self.wrong("get_action", f"never takes action {never}")
            elif np.abs(counts[:NUM_ACTIONS] - expected).max() > bound:
                self.wrong(
                    "get_action",
                    f"actions are not equally likely: counts {counts[:NUM_ACTIONS].tolist()} "
                    f"of {actions.size}",
                )
            else:
                self.say("get_action", CORRECT)
        if not self.failed("update", self.bench.seen[learning, 0]):
            self.say("update", CORRECT)


class DQNJudge(Judge):
    """DQN: acting, loss, step, copy, update."""

    formula = formulas.DQN

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(), self.batch(9)]
        double = self.scalars()
        single = self.scalars(use_double_q=False)
        values = [self.transitions(batch) for batch in batches]
        loss = [
            bench.add(double, Call("compute_critic_loss", values[0], "loss")),
            bench.add(single, Call("compute_critic_loss", values[1], "loss")),
        ]
        twice = bench.add(
            double, Call("update_critic", values[0]), Call("update_critic", values[0])
        )
        after = bench.add(
            double, Call("update_critic", values[0]), Call("compute_critic_loss", values[0], "loss")
        )
        clipped = bench.add({**double, "clip_grad_norm": 0.01}, Call("update_critic", values[0]))
        copy = bench.add(double, Call("update_target_critic"))
        update = bench.add(double, Call("update", (*values[0], 3 * PERIOD + 2)))
        copying = bench.add(double, Call("update", (*values[0], 4 * PERIOD)))
        observations = self.draw_observations()
        acting = bench.add(
            double,
            Call("get_action", (observations,), "actions", epsilon=0.0, repeats=6),
            Call("get_action", (observations,), "actions", epsilon=0.25, repeats=40),
            Call("get_action", (observations,), "actions", epsilon=1.0, repeats=40),
        )
        bench.run()
        self.judge_values_policy(0, acting, observations)
        seen = [bench.seen[trial, 0] for trial in loss]
        if not self.failed("compute_critic_loss", *seen):
            observed = [self.loss_observation(t, 0, b) for t, b in zip(loss, batches, strict=True)]
            self.judge_fit("compute_critic_loss", self.formula, observed)
            self.judge_variables(loss[0], batches[0])
        self.judge_step(twice, after, clipped, loss[0])
        self.judge_copy("update_target_critic", copy, "critic/target", "critic/online")
        self.judge_update(
            update,
            copying,
            [(twice, 0)],
            {"critic/online": "critic"},
            {"critic/target": "critic/online"},
        )

    def judge_variables(self, trial: int, batch: Transitions) -> None:
        """Check the values that `compute_critic_loss` hands to its children."""
        result = self.bench.seen[trial, 0].result
        variables = result[2] if isinstance(result, list) and len(result) > 2 else None  # noqa: PLR2004
        world = self.bench.world(trial, 0, batch)
        values = world.now("critic/online")
        wanted = {"qa_values": values, "q_values": world.taken(values)}
        for name, expected in wanted.items():
            found = variables.get(name) if isinstance(variables, dict) else None
            if not isinstance(found, np.ndarray):
                self.wrong("compute_critic_loss", f"its variables lack `{name}`")
            elif not close(found.ravel(), expected.detach().numpy().ravel()):
                self.wrong(
                    "compute_critic_loss",
                    f"its variable `{name}`: expected {shown(expected.detach().numpy())}, got "
                    f"{shown(found)}",
                )

    def judge_step(self, twice: int, after: int, clipped: int, loss: int) -> None:
        """Judge `update_critic` by the gradient of the student's own loss."""
        bench, method = self.bench, "update_critic"
        if self.failed(method, bench.seen[twice, 0], bench.seen[twice, 1]):
            return
        first, second = (bench.step(twice, k, "critic/online")[0] for k in range(2))
        if not self.moved(twice, 0, "critic/online"):
            self.wrong(method, "the parameters are never trained: no step is taken")
            return
        sources = (bench.seen[loss, 0], bench.seen[after, 1])
        if any(seen.error or "critic/online" not in seen.gradients for seen in sources):
            self.say(method, UNJUDGED, "compute_critic_loss fails first")
            return
        g1, g2 = (seen.gradients["critic/online"][0][0] for seen in sources)
        if close(first, -g1):
            self.wrong(method, "flipped sign: the loss is maximised")
        elif not close(first, g1):
            self.wrong(
                method,
                f"the step is not the gradient of its own loss: expected {shown(g1)}, "
                f"got {shown(first)}",
            )
        elif close(second, g1 + g2):
            self.wrong(method, "gradients accumulate: zero_grad is missing")
        elif not close(second, g2):
            self.wrong(method, f"the second step: expected {shown(g2)}, got {shown(second)}")
        else:
            self.judge_clipping(clipped, first)

    def judge_clipping(self, clipped: int, gradient: Array) -> None:
        """Judge what `clip_grad_norm` does to a step."""
        method = "update_critic"
        if self.failed(method, self.bench.seen[clipped, 0]):
            return
        weight, bias = self.bench.step(clipped, 0, "critic/online")
        norm = math.sqrt(float((weight**2).sum() + (bias**2).sum()))
        # Weights near 1 carry a step of 0.005 to four digits only.
        if abs(norm - 0.01) < 3e-4:  # noqa: PLR2004
            self.say(method, CORRECT)
        elif close(weight, gradient):
            self.wrong(method, "clip_grad_norm is ignored, or comes after the step")
        else:
            self.wrong(method, f"clip_grad_norm 0.01 leaves a gradient of norm {norm:.3g}")


_TD_CHOICES = {
    "bootstrap", "mask", "shape", "discount", "state", "reward", "error", "reduction", "scale",
    "values", "detach",
}  # fmt: skip


class CQLJudge(Judge):
    """CQL: the conservative term on DQN's loss."""

    formula = formulas.CQL

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        alpha = float(self.rng.uniform(0.4, 0.8))
        batches = [self.batch(), self.batch(9), self.batch()]
        settings = [
            self.scalars(cql_alpha=alpha, cql_temperature=1.0),
            self.scalars(cql_alpha=2 * alpha, cql_temperature=1.0, use_double_q=False),
            self.scalars(cql_alpha=alpha, cql_temperature=float(self.rng.uniform(1.7, 2.6))),
        ]
        trials = [
            bench.add(s, Call("compute_critic_loss", self.transitions(b), "loss"))
            for s, b in zip(settings, batches, strict=True)
        ]
        values = self.transitions(batches[0])
        step = bench.add(settings[0], Call("update_critic", values))
        update = bench.add(settings[0], Call("update", (*values, 3 * PERIOD + 2)))
        copying = bench.add(settings[0], Call("update", (*values, 4 * PERIOD)))
        bench.run()
        method = "compute_critic_loss"
        if not self.failed(method, *(bench.seen[trial, 0] for trial in trials)):
            observed = [
                self.loss_observation(t, 0, b) for t, b in zip(trials, batches, strict=True)
            ]
            if not self.plain_at_one(method, observed):
                self.judge_fit(method, self.formula, observed, ignored=_TD_CHOICES)
        if self.defines("update_critic"):
            self.judge_own_step(step, trials[0])
        self.judge_update(
            update,
            copying,
            [(step, 0)],
            {"critic/online": "critic"},
            {"critic/target": "critic/online"},
        )

    def plain_at_one(self, method: str, observed: Sequence[Observation | None]) -> bool:
        """Report numbers that are right at temperature 1 and fit nothing known at another."""
        at_one = [seen for seen in observed[:2] if seen is not None]
        other = [seen for seen in observed[2:] if seen is not None]
        if len(at_one) + len(other) < len(observed):
            return False
        if not fit(self.formula, at_one, correct_only=True):
            return False
        if fit(self.formula, other, correct_only=True):
            return False
        self.say(method, VARIANT, "the same at temperature 1, scaled otherwise at others")
        return True

    def judge_own_step(self, step: int, loss: int) -> None:
        """Judge a step of the student's own by the gradient of the student's own loss."""
        if self.failed("update_critic", self.bench.seen[step, 0]) or self.bench.seen[loss, 0].error:
            return
        found = self.bench.step(step, 0, "critic/online")[0]
        gradient = self.bench.seen[loss, 0].gradients["critic/online"][0][0]
        if close(found, gradient):
            self.say("update_critic", CORRECT)
        else:
            self.wrong(
                "update_critic",
                f"the step is not the gradient of its loss: expected {shown(gradient)}, "
                f"got {shown(found)}",
            )


class AWACJudge(Judge):
    """AWAC: acting, critic loss, advantage, actor, update."""

    actor_formula = formulas.AWAC_ACTOR
    advantage_rule = staticmethod(formulas.awac_advantage)
    advantages: Mapping[str, str] = formulas.AWAC_ADVANTAGES
    networks: Mapping[str, str] = formulas.TARGET_ADVANTAGE

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(), self.batch(9)]
        first = self.scalars(temperature=float(self.rng.uniform(1.3, 1.8)))
        second = self.scalars(temperature=float(self.rng.uniform(0.6, 0.8)), use_double_q=False)
        values = [self.transitions(batch) for batch in batches]
        losses = [
            bench.add(first, Call("compute_critic_loss", values[0], "loss")),
            bench.add(second, Call("compute_critic_loss", values[1], "loss")),
        ]
        again = bench.add(first, Call("compute_critic_loss", values[0], "loss"), seed=2)
        update = bench.add(first, Call("update", (*values[0], 3 * PERIOD + 2)))
        copying = bench.add(first, Call("update", (*values[0], 4 * PERIOD)))
        critic, actor = Call("update_critic", values[0]), Call("update_actor", values[0][:2])
        oracles = [(bench.add(first, critic, actor), 1), (bench.add(first, actor, critic), 1)]
        self.add_actor_trials(batches, first, second)
        observations = self.draw_observations()
        acting = self.add_acting(first, observations)
        bench.run()
        if not self.inherits_acting:
            self.judge_actor_policy(acting, observations)
        method = "compute_critic_loss"
        if not self.failed(method, *(bench.seen[t, 0] for t in (*losses, again))):
            if self.differs(losses[0], again, "critic/online"):
                self.judge_sampled_critic(batches[0], first)
            else:
                observed = [
                    self.loss_observation(t, 0, b) for t, b in zip(losses, batches, strict=True)
                ]
                self.judge_fit(method, formulas.AWAC_CRITIC, observed)
        self.judge_actor(batches, first)
        self.judge_update(
            update,
            copying,
            oracles,
            {"critic/online": "critic", "actor/online": "actor"},
            {"critic/target": "critic/online"},
        )

    @property
    def inherits_acting(self) -> bool:
        """Tell whether acting is judged with the parent."""
        return False

    def add_acting(self, scalars: Mapping[str, Any], observations: Array) -> int:
        """Add the trial that `judge_actor_policy` reads."""
        return self.bench.add(
            scalars,
            Call("get_action", (observations,), "actions", epsilon=0.0, repeats=40),
            Call("get_action", (observations,), "actions", epsilon=0.25, repeats=40),
        )

    def add_actor_trials(
        self,
        batches: Sequence[Transitions],
        first: Mapping[str, Any],
        second: Mapping[str, Any],
    ) -> None:
        """Add what `judge_actor` reads."""
        values = [self.transitions(batch)[:2] for batch in batches]
        once = Call("update_actor", values[0])
        self.actor_trials = [
            self.bench.add(first, once, once),
            self.bench.add(second, Call("update_actor", values[1])),
        ]
        self.actor_again = self.bench.add(first, once, seed=2)
        advantage = Call("compute_advantage", values[0])
        self.advantage_trials = [self.bench.add(first, advantage, seed=seed) for seed in (1, 2)]

    def judge_actor(self, batches: Sequence[Transitions], scalars: Mapping[str, Any]) -> None:
        """Judge `compute_advantage` and `update_actor`."""
        bench = self.bench
        seen = [bench.seen[trial, 0] for trial in self.advantage_trials]
        if not self.failed("compute_advantage", *seen):
            self.judge_advantage(batches[0], scalars)
        trials, method = self.actor_trials, "update_actor"
        if self.failed(method, *(bench.seen[t, 0] for t in (*trials, self.actor_again))):
            return
        if self.differs_after(trials[0], self.actor_again, "actor/online"):
            self.judge_sampled_actor(batches[0], scalars)
            return
        observed = [
            self.step_observation(t, 0, b, "actor/online")
            for t, b in zip(trials, batches, strict=True)
        ]
        if self.is_bad("compute_advantage"):
            self.judge_actor_apart(observed[0])
            return
        found = self.capped_fit(observed)
        if found is None:
            found = self.judge_fit(method, self.actor_formula, observed)
        if found is not None and not found.mistakes:
            self.judge_second_step(method, trials[0], "actor/online")

    def judge_actor_apart(self, seen: Observation | None) -> None:
        """Judge the actor's step by the wrong advantages that the class computes itself."""
        method = "update_actor"
        result = self.bench.seen[self.advantage_trials[0], 0].result
        if (
            seen is not None
            and isinstance(result, np.ndarray)
            and result.size == len(seen.world.batch)
        ):
            own = torch.tensor(result.ravel())

            def loss(w: World, **choices: Any) -> torch.Tensor:
                return formulas.actor_loss(w, lambda *_: own, **choices)

            mistakes = {k: v for k, v in self.actor_formula.mistakes.items() if k != "advantage"}
            found = fit(Formula(loss, {}, mistakes), [seen])
            if found is not None:
                self.conclude(method, found)
                return
        self.say(method, UNJUDGED, "compute_advantage is wrong")

    def capped_fit(self, observed: Sequence[Observation | None]) -> Fit | None:
        """Recognise a cap on the exponential, which the assignment leaves open, and report it."""
        present = [seen for seen in observed if seen is not None]
        if len(present) < len(observed) or fit(self.actor_formula, present, correct_only=True):
            return None
        cap = max(float(self.row_weights(seen).max()) for seen in present)
        if cap <= 1:
            return None
        found = fit(self.actor_formula, present, {"cap": cap}, correct_only=True)
        if found is None:
            return None
        variants = [*found.variants, f"the exponential is capped at {cap:.4g}"]
        capped = Fit(found.choices, variants, [])
        self.conclude("update_actor", capped)
        return capped

    def row_weights(self, seen: Observation) -> Array:
        """Read the weight of every row off the derivative by the logit of its action."""
        size = len(seen.world.batch)
        rows = np.arange(size)
        actions = seen.world.batch.actions
        found = seen.derivatives["actor/online"][:size][rows, actions]
        policy = seen.world.policy().detach().numpy()[rows, actions]
        weights: Array = -found * size / (1 - policy)
        return weights

    def judge_second_step(self, method: str, trial: int, role: str) -> None:
        """Find gradients of an earlier step in a later one."""
        if self.bench.seen[trial, 1].error:
            return
        first, second = (self.bench.step(trial, k, role)[0] for k in range(2))
        expected = self.expected_second(trial, role)
        if expected is not None and close(second, expected + first) and not close(second, expected):
            self.wrong(method, "gradients accumulate: zero_grad is missing")

    def expected_second(self, trial: int, role: str) -> Array | None:
        """Return the gradient that a second step on the same batch should follow."""
        call = self.bench.trials[trial][2][1]
        fresh = self.make_bench()
        fresh.weights = self.bench.seen[trial, 1].before
        number = fresh.add(self.bench.trials[trial][0], call)
        fresh.run()
        if fresh.seen[number, 0].error:
            return None
        return fresh.step(number, 0, role)[0]

    def judge_advantage(self, batch: Transitions, scalars: Mapping[str, Any]) -> None:
        """Judge what `compute_advantage` returns."""
        method = "compute_advantage"
        first, second = (self.bench.seen[trial, 0].result for trial in self.advantage_trials)
        if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
            self.wrong(method, "it returns no tensor")
            return
        size = len(batch)
        if first.size == size * size:
            self.wrong(
                method, "(B, 1) against (B,): it returns an advantage for every pair of rows"
            )
            return
        if first.size != size:
            self.wrong(method, f"expected shape ({size},), got {first.shape}")
            return
        found = first.ravel()
        if not close(found, second.ravel(), 1e-4):
            self.judge_sampled_advantage(batch, scalars)
            return
        world = self.bench.world(self.advantage_trials[0], 0, batch)
        self.name_advantage(world, found, "" if first.shape == (size,) else f"shape {first.shape}")

    def name_advantage(self, world: World, found: Array, note: str) -> None:
        """Say which advantage numbers are."""
        method = "compute_advantage"
        kinds = {"": "", **self.advantages}
        readings = (
            (mistake, text, self.advantage_rule(world, kind, network).detach().numpy())
            for network, text in {"online": "", **self.networks}.items()
            for kind, mistake in kinds.items()
        )
        mistake, text, _ = next(
            (reading for reading in readings if close(found, reading[2])), (None, "", found)
        )
        if mistake is None and close(found, self.scaled_advantage(world)):
            self.say(method, VARIANT, "it returns A / temperature")
        elif mistake is None:
            expected = self.advantage_rule(world).detach().numpy()
            self.wrong(method, f"expected {shown(expected)}, got {shown(found)}")
        elif mistake:
            self.wrong(method, "; ".join(part for part in (mistake, text) if part))
        else:
            notes = "; ".join(part for part in (text, note) if part)
            self.say(method, VARIANT if notes else CORRECT, notes)

    def scaled_advantage(self, world: World) -> Array:
        """Return A / temperature, which some divide here and not in the weight."""
        scaled: Array = self.advantage_rule(world).detach().numpy() / world.scalars["temperature"]
        return scaled

    # Solutions that sample where the reference takes an expectation

    def differs(self, first: int, second: int, role: str) -> bool:
        """Tell whether two seeds gave two gradients."""
        a, b = (self.bench.seen[trial, 0].gradients.get(role) for trial in (first, second))
        return bool(a and b and not close(a[0][0], b[0][0], 1e-4))

    def differs_after(self, first: int, second: int, role: str) -> bool:
        """Tell whether two seeds led to two sets of weights."""
        return not self.same((first, 0), (second, 0), role)

    def sample(self, scalars: Mapping[str, Any], call: Call, count: int = 60) -> Bench:
        """Repeat a call with many seeds."""
        bench = self.make_bench()
        for seed in range(count):
            bench.add(scalars, call, seed=seed + 10)
        bench.run()
        return bench

    def judge_samples(
        self, method: str, samples: Array, values: Array, policy: Array, name: str
    ) -> None:
        """Judge samples `(draws, batch)` of an expectation of values under a policy."""
        mean = (policy * values).sum(1)
        spread = np.sqrt((policy * (values - mean[:, None]) ** 2).sum(1))
        low, high = values.min(1) - 1e-2, values.max(1) + 1e-2
        draws = len(samples)
        z = (samples.mean(0) - mean) / (spread / math.sqrt(draws) + 1e-3)
        inside = ((samples >= low) & (samples <= high)).all()
        # A sum of squares of normal numbers has a long tail: twice the usual distance.
        bound = len(z) + 2 * SIGMAS * math.sqrt(2 * len(z))
        if inside and float((z**2).sum()) < bound:
            self.say(method, VARIANT, f"{name} is sampled from the actor, not summed exactly")
        else:
            self.wrong(
                method,
                f"{name} is sampled, but not from the actor's distribution: expected a mean of "
                f"{shown(mean)}, got {shown(samples.mean(0))}",
            )

    def judge_sampled_critic(self, batch: Transitions, scalars: Mapping[str, Any]) -> None:
        """Judge a critic loss that draws the next action."""
        method = "compute_critic_loss"
        bench = self.sample(scalars, Call("compute_critic_loss", self.transitions(batch), "loss"))
        rows = np.arange(len(batch))
        draws = []
        for trial in range(len(bench.trials)):
            seen = bench.seen[trial, 0]
            if self.failed(method, seen):
                return
            world = bench.world(trial, 0, batch)
            found = bench.derivative(seen.gradients["critic/online"][0], batch)
            if found is None:
                self.wrong(method, "a gradient that no loss on this batch explains")
                return
            taken = world.taken(world.now("critic/online")).detach().numpy()
            targets = taken - found[: len(batch)][rows, batch.actions] * len(batch) / 2
            draws.append(targets)
        targets = np.array(draws)
        done = batch.dones
        if not close(
            targets[:, done], np.broadcast_to(batch.rewards[done], targets[:, done].shape), 1e-2
        ):
            self.wrong(method, "(1 - d) is missing: terminated states are given a future")
            return
        samples = (targets - batch.rewards)[:, ~done] / scalars["discount"]
        policy = world.policy(next_state=True).detach().numpy()[~done]
        candidates = [
            world.next(role).detach().numpy()[~done] for role in ("critic/target", "critic/online")
        ]
        before = len(self.findings)
        for values in reversed(candidates):
            del self.findings[before:]
            self.judge_samples(method, samples, values, policy, "the next action")
            if self.findings[-1].verdict == VARIANT:
                return

    def judge_sampled_advantage(self, batch: Transitions, scalars: Mapping[str, Any]) -> None:
        """Judge an advantage that draws the action of its baseline."""
        method = "compute_advantage"
        bench = self.sample(scalars, Call(method, self.transitions(batch)[:2]))
        if self.failed(method, *bench.seen.values()):
            return
        world = bench.world(0, 0, batch)
        found = np.array([bench.seen[t, 0].result.ravel() for t in range(len(bench.trials))])
        self.judge_baseline(method, world, found)

    def judge_baseline(self, method: str, world: World, advantages: Array) -> None:
        """Judge sampled advantages `(draws, batch)` by the baseline that they hold."""
        policy = world.policy().detach().numpy()
        before = len(self.findings)
        for role in ("critic/target", "critic/online"):
            values = world.now(role)
            samples = world.taken(values).detach().numpy() - advantages
            del self.findings[before:]
            self.judge_samples(method, samples, values.detach().numpy(), policy, "the baseline")
            if self.findings[-1].verdict == VARIANT:
                return

    def judge_sampled_actor(self, batch: Transitions, scalars: Mapping[str, Any]) -> None:
        """Judge an actor's step whose advantage is sampled."""
        method = "update_actor"
        bench = self.sample(scalars, Call(method, self.transitions(batch)[:2]))
        if self.failed(method, *bench.seen.values()):
            return
        world = bench.world(0, 0, batch)
        weights = []
        for trial in range(len(bench.trials)):
            found = bench.derivative(bench.step(trial, 0, "actor/online"), batch)
            if found is None:
                self.wrong(method, "a gradient that no loss on this batch explains")
                return
            weights.append(self.row_weights(Observation(world, {"actor/online": found})))
        drawn = np.array(weights)
        if (drawn <= 0).any():
            self.wrong(method, "weights that are not positive: the exponential or a sign is wrong")
            return
        self.judge_baseline(method, world, np.log(drawn) * scalars["temperature"])


class IQLJudge(AWACJudge):
    """IQL: Q, V and its expectile, advantage, update."""

    actor_formula = formulas.IQL_ACTOR
    advantage_rule = staticmethod(formulas.iql_advantage)
    advantages = formulas.IQL_ADVANTAGES
    networks = formulas.TARGET_VALUES

    @property
    def inherits_acting(self) -> bool:
        """Tell whether acting is judged with the parent."""
        return not self.defines("get_action")

    def judge(self) -> None:
        """Add the findings."""
        bench = self.bench
        batches = [self.batch(), self.batch(9)]
        tau = float(self.rng.choice([self.rng.uniform(0.55, 0.66), self.rng.uniform(0.83, 0.87)]))
        first = self.scalars(temperature=float(self.rng.uniform(1.3, 1.8)), expectile=tau)
        second = self.scalars(
            temperature=float(self.rng.uniform(0.6, 0.8)), expectile=0.62, use_double_q=False
        )
        values = [self.transitions(batch) for batch in batches]
        regress_q = [
            bench.add(first, *[Call("update_q", values[0])] * 2),
            bench.add(second, Call("update_q", values[1])),
        ]
        regress_v = [
            bench.add(first, *[Call("update_v", values[0][:2])] * 2),
            bench.add(second, Call("update_v", values[1][:2])),
        ]
        vs, qs = (self.rng.normal(size=9).astype(np.float32) for _ in range(2))
        static = bench.add(first, Call("iql_expectile_loss", (tau, vs, qs), "leaves"))
        copy = bench.add(first, Call("update_target_value_critic"))
        update = bench.add(first, Call("update", (*values[0], 3 * PERIOD + 2)))
        copying = bench.add(first, Call("update", (*values[0], 4 * PERIOD)))
        steps = (
            Call("update_q", values[0]),
            Call("update_v", values[0][:2]),
            Call("update_actor", values[0][:2]),
        )
        oracles = [(bench.add(first, *order), 2) for order in itertools.permutations(steps)]
        self.add_actor_trials(batches, first, second)
        observations = self.draw_observations()
        acting = self.add_acting(first, observations)
        bench.run()
        if self.defines("get_action"):
            self.judge_actor_policy(acting, observations)
        self.judge_regression("update_q", formulas.IQL_CRITIC, regress_q, batches, "critic/online")
        expectile_is_right = self.judge_expectile(static, tau, vs, qs)
        self.judge_regression(
            "update_v",
            formulas.IQL_VALUE,
            regress_v,
            batches,
            "value/online",
            excused=not expectile_is_right,
        )
        self.judge_actor(batches, first)
        if self.defines("update_target_value_critic"):
            self.judge_copy("update_target_value_critic", copy, "value/target", "value/online")
        self.judge_update(
            update,
            copying,
            oracles,
            {"critic/online": "critic", "value/online": "V", "actor/online": "actor"},
            {"critic/target": "critic/online", "value/target": "value/online"},
        )

    def judge_actor(self, batches: Sequence[Transitions], scalars: Mapping[str, Any]) -> None:
        """Judge `compute_advantage`, and the actor's step where the class has its own."""
        super().judge_actor(batches, scalars)
        if not self.defines("update_actor"):
            self.findings = [f for f in self.findings if f.method != "update_actor"]

    def judge_regression(
        self,
        method: str,
        formula: Formula,
        trials: Sequence[int],
        batches: Sequence[Transitions],
        role: str,
        *,
        excused: bool = False,
    ) -> None:
        """Judge a method that takes a gradient step on one network."""
        seen = self.bench.seen
        if self.failed(method, *(seen[t, 0] for t in trials)):
            return
        observed = [
            self.step_observation(t, 0, b, role) for t, b in zip(trials, batches, strict=True)
        ]
        count = len(self.findings)
        found = self.judge_fit(method, formula, observed)
        if found is not None and not found.mistakes:
            self.judge_second_step(method, trials[0], role)
        if excused and found is not None and found.mistakes and set(found.choices) <= {
            "expectile", "power", "reduction", "scale"
        }:  # fmt: skip
            del self.findings[count:]
            self.say(method, UNJUDGED, "iql_expectile_loss, which it calls, is wrong")

    def judge_expectile(self, trial: int, tau: float, vs: Array, qs: Array) -> bool:
        """Judge the static loss on plain numbers; tell whether it is right."""
        method = "iql_expectile_loss"
        seen = self.bench.seen[trial, 0]
        if self.failed(method, seen):
            return False
        leaves = {
            name: torch.tensor(data, dtype=torch.float64, requires_grad=True)
            for name, data in (("vs", vs), ("qs", qs))
        }
        world = World(self.batch(9), leaves, {"expectile": tau})
        result, gradients = seen.result, seen.gradients
        if not isinstance(result, np.ndarray) or not isinstance(gradients, list):
            self.wrong(method, "it returns no tensor")
            return False
        slope = gradients[0]
        if not isinstance(slope, np.ndarray):
            self.wrong(method, "no gradient reaches V")
            return False
        per_row = result.size == len(vs)
        if per_row:
            result, slope = result.mean(), slope / len(vs)
        elif result.size != 1:
            self.wrong(method, f"expected one number, got shape {result.shape}")
            return False
        observed = Observation(world, {"vs": slope}, float(np.ravel(result)[0]))
        found = self.judge_fit(method, formulas.EXPECTILE, [observed])
        right = found is not None and not found.mistakes
        if right and per_row:
            self.findings[-1] = Finding(method, VARIANT, "one loss a row, averaged by the caller")
        return right


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
        update = bench.add(first, Call("update", (*values[0], 3 * PERIOD + 2)))
        weaker = bench.add(second, Call("update", (*values[0], 3 * PERIOD + 2)))
        copying = bench.add(first, Call("update", (*values[0], 4 * PERIOD)))
        observations = self.draw_observations()
        acting = bench.add(
            first,
            Call("get_action", (observations,), "actions", epsilon=0.0, repeats=6),
            Call("get_action", (observations,), "actions", epsilon=0.25, repeats=40),
            Call("get_action", (observations,), "actions", epsilon=1.0, repeats=40),
        )
        bench.run()
        if not self.failed("update_rnd", *(bench.seen[t, 0] for t in predict)):
            self.judge_predictor(predict, batches)
        critic = None
        roles = bench.initial[0] if bench.initial else {}
        if self.failed("update", *(bench.seen[t, 0] for t in (update, weaker, copying))):
            pass
        elif not {"rnd/online", "rnd/target"} <= roles.keys():
            self.say("update", UNJUDGED, "no pair of a predictor and its fixed target was found")
        else:
            critic = self.judge_bonus(update, weaker, copying, batches[0], weights)
        if self.defines("get_action"):
            self.judge_values_policy(critic or 0, acting, observations)

    def judge_predictor(self, trials: Sequence[int], batches: Sequence[Transitions]) -> None:
        """Judge the step of the predictor, and that its target stays what it is."""
        method = "update_rnd"
        seen = self.bench.seen[trials[0], 0]
        if "rnd/target" not in seen.after:
            self.wrong(method, "the target network is optimised too, or there is none")
            return
        if self.moved(trials[0], 0, "rnd/target"):
            self.wrong(method, "the target network is trained too: it must stay as it is")
            return
        initial = self.bench.initial[0]
        online, target = initial["rnd/online"][0], initial["rnd/target"][0]
        if all(close(a, b, 1e-6) for a, b in zip(online, target, strict=True)):
            self.wrong(method, "the predictor starts as a copy of its target: no error to learn")
            return
        observed = [
            self.step_observation(t, 0, b, "rnd/online")
            for t, b in zip(trials, batches, strict=True)
        ]
        found = self.judge_fit(method, formulas.RND, observed)
        if found is None or found.mistakes or self.bench.seen[trials[0], 1].error:
            return
        again = self.step_observation(trials[0], 1, batches[0], "rnd/online")
        first = observed[0]
        if again is None or first is None or fit(formulas.RND, [again], correct_only=True):
            return
        fresh = {"rnd/online": again.derivatives["rnd/online"] - first.derivatives["rnd/online"]}
        if fit(formulas.RND, [Observation(again.world, fresh)], correct_only=True):
            self.wrong(method, "gradients accumulate: zero_grad is missing")

    def judge_bonus(
        self,
        trial: int,
        weaker: int,
        copying: int,
        batch: Transitions,
        weights: tuple[float, float],
    ) -> int | None:
        """Judge what reward the exploration critic learns from; return which critic that is."""
        method = "update"
        count = len(self.bench.seen[trial, 0].after.get("critic/online", []))
        moved = self.moved(trial, 0, "critic/online")
        readings = [self.read_rewards(trial, batch, k) for k in range(count)]
        fits = [self.fit_bonus(trial, batch, r, weights[0]) for r in readings]
        chosen = next((k for k, (right, _) in enumerate(fits) if right), None)
        problems, notes = [], []
        if not moved:
            problems.append("the critic is never trained")
        elif chosen is None:
            problems.append(next((t for _, t in fits if t), "no critic learns from the bonus"))
        else:
            notes.append(fits[chosen][1])
            if count > 1:
                notes.append(f"{count} critics, one of them for exploration")
            before, after = readings[chosen], self.read_rewards(weaker, batch, chosen)
            if before is not None and after is not None:
                ratio = self.weight_ratio(before, after, batch)
                if abs(ratio - 1) < 1e-2:  # noqa: PLR2004
                    problems.append("rnd_weight is ignored")
                elif abs(ratio * weights[0] / weights[1] - 1) > 2e-2:  # noqa: PLR2004
                    problems.append(
                        f"the bonus is not proportional to rnd_weight: a weight of "
                        f"{weights[1] / weights[0]:.3g} times gives {ratio:.3g} times the bonus"
                    )
        if not self.moved(trial, 0, "rnd/online") and not self.is_bad("update_rnd"):
            problems.append("the predictor is never trained")
        if moved:
            problem, note = self._copying(trial, copying, "critic/target", "critic/online")
            problems += [problem] if problem else []
            notes += [note] if note else []
        notes = [note for note in notes if note]
        if problems:
            self.wrong(method, "; ".join(problems))
        else:
            self.say(method, VARIANT if notes else CORRECT, "; ".join(notes))
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
        future = formulas.dqn_bootstrap(world, "").detach().numpy()
        rewards: Array = targets - world.scalars["discount"] * ~batch.dones * future
        return rewards

    def weight_ratio(self, first: Array, second: Array, batch: Transitions) -> float:
        """Return by what factor the bonus changed between two weights of it."""
        if self.replaces:
            return float((second * first).sum() / (first * first).sum())
        one, other = first - batch.rewards, second - batch.rewards
        return float((other * one).sum() / (one * one).sum())

    replaces = False

    def errors(self, trial: int, batch: Transitions) -> Iterator[tuple[str, Array]]:
        """Yield what the bonus may be made of, with the names of the deviations."""
        size = len(batch)
        for when, weights in (
            ("", self.bench.seen[trial, 0].before),
            ("the predictor learns before the bonus is taken", self.bench.seen[trial, 0].after),
        ):
            phi = self.inputs.features(batch.states)
            outputs = []
            for role in ("rnd/online", "rnd/target"):
                weight, bias = weights[role][0]
                outputs.append(phi @ np.concatenate([weight, bias[:, None]], 1).astype(float).T)
            difference = outputs[0] - outputs[1]
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
    ) -> tuple[bool, str]:
        """Tell whether rewards hold a bonus, and which, or what they hold instead."""
        if rewards is None:
            return False, "the critic's step is not that of DQN on a reward for every row"
        if close(rewards, batch.rewards, 2e-3):
            return False, "no bonus reaches the critic: it learns from the reward alone"
        negative = ""
        for replaces in (False, True):
            bonus = rewards if replaces else rewards - batch.rewards
            if bonus.std() < 1e-3 * (1 + abs(bonus.mean())):
                if not replaces:
                    return False, (
                        "the bonus is the same for every row (wrong axis or a broadcast): expected "
                        "one error a row"
                    )
                continue
            for name, error in self.errors(trial, batch):
                how, slope = self.normalisation(error, bonus, weight)
                if how and slope > 0:
                    self.replaces = replaces
                    ending = "; the bonus replaces the reward" if replaces else ""
                    return True, f"{how} {name}{ending}"
                if how:
                    negative = f"flipped sign: the bonus falls as the error grows ({name})"
        if negative:
            return False, negative
        _, error = next(iter(self.errors(trial, batch)))
        return False, (
            f"bonus over rnd_weight: expected a rising function of the errors {shown(error)}, got "
            f"{shown((rewards - batch.rewards) / weight)}"
        )

    @staticmethod
    def normalisation(error: Array, bonus: Array, weight: float) -> tuple[str, float]:
        """Recognise an affine map of the errors, clipped or not: its name and its slope."""
        inside = (bonus > bonus.min() + 1e-3) & (bonus < bonus.max() - 1e-3)
        for rows, clipped in ((np.ones(len(bonus), bool), ""), (inside, "clipped ")):
            if rows.sum() < 5:  # noqa: PLR2004 - two numbers are fitted
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
