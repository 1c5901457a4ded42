"""Writes one agent file in one style: signatures, layout, and expressions that several files share.

A mistake has a place, its method, and a kind. Wherever a kind can be made, the writer is asked for
the wrong text beside the right one, so that a mistake is made in the style of the file around it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence

from tests.solutions.generator.styles import Style

Lines = list[str]

LOCALS = {
    "starter": {},
    "short": {
        "qa_values": "qa",
        "q_values": "q",
        "next_qa_values": "nqa",
        "next_qs": "nq",
        "target_values": "y",
        "next_action": "a2",
        "advantages": "adv",
        "values": "v",
        "vs": "v",
    },
    "verbose": {
        "qa_values": "all_current_q_values",
        "q_values": "q_of_taken_actions",
        "next_qa_values": "all_next_q_values",
        "next_qs": "value_of_next_state",
        "target_values": "bellman_targets",
        "next_action": "best_next_action",
        "advantages": "advantage_estimates",
        "values": "state_values",
        "vs": "predicted_state_values",
    },
}

ARGUMENTS = {
    "starter": ("obs", "action", "reward", "next_obs", "done"),
    "plural": ("observations", "actions", "rewards", "next_observations", "dones"),
    "hungarian": ("ob_no", "ac_na", "re_n", "next_ob_no", "terminal_n"),
}
PLURAL = ARGUMENTS["plural"]

OWN_ATTRIBUTES = {
    "value_critic": "v_net",
    "target_value_critic": "v_net_slow",
    "value_critic_optimizer": "v_opt",
    "rnd_net": "predictor",
    "rnd_target_net": "random_net",
    "rnd_optimizer": "rnd_net_optimizer",
}
"""Attributes that only the file that makes them uses."""
SHARED_ATTRIBUTES = {
    "critic": "q_net",
    "target_critic": "q_net_slow",
    "critic_optimizer": "q_opt",
    "actor": "policy",
    "actor_optimizer": "policy_opt",
    "temperature": "lam",
}


def attribute_names(style: Style) -> dict[str, str]:
    """Return the starter's attributes that this style calls otherwise, with its names."""
    return {
        "starter": {},
        "own_renamed": OWN_ATTRIBUTES,
        "all_renamed": OWN_ATTRIBUTES | SHARED_ATTRIBUTES,
    }[style["attributes"]]


def indent(lines: Iterable[str], depth: int = 1) -> Lines:
    """Indent lines that are not empty."""
    return [f"{'    ' * depth}{line}" if line else "" for line in lines]


def block(head: str, lines: Sequence[str]) -> Lines:
    """Return a compound statement."""
    return [head, *indent(lines)]


HELPERS = {
    "chosen": (("values", "actions"), "Q of the actions that were taken."),
    "alive": (("flags",), "1 where the episode goes on, 0 where it has ended."),
}
"""Helpers that a file may define as methods or functions, or import from a module of its own."""
HELPER_MODULE = "agent_tools"


class Writer:
    """The text of one agent file.

    Args:
        agent: The algorithm of the file.
        style: How to write it.
        mistakes: The kind of the mistake in each wrong method.
    """

    def __init__(self, agent: str, style: Style, mistakes: Mapping[str, str]) -> None:
        self.agent = agent
        self.style = style
        self.mistakes = mistakes
        self.method = ""
        self.helpers: dict[str, None] = {}
        self.extra_methods: Lines = []

    # What is asked for

    def __getitem__(self, choice: str) -> str:
        return self.style[choice]

    @property
    def kind(self) -> str:
        """The mistake in the method that is being written, if any."""
        return self.mistakes.get(self.method, "")

    def wrong(self, *kinds: str) -> bool:
        """Return whether one of these mistakes is to be made here."""
        return self.kind in kinds

    def either(self, right: str, **wrong: str) -> str:
        """Return the right text or that of the mistake."""
        return wrong.get(self.kind, right)

    def name(self, starter: str) -> str:
        """Return what this style calls a local variable."""
        return LOCALS[self["locals"]].get(starter, starter)

    @property
    def names(self) -> tuple[str, str, str, str, str]:
        """What this style calls the five parts of a batch in `compute_critic_loss`."""
        return ARGUMENTS[self["arguments"]]

    # Small texts

    def todo(self, text: str) -> Lines:
        """Return a comment: the starter's, which many leave in, or the student's own."""
        return {"todo": [f"# TODO(student): {text}"], "own": [f"# {text}"], "none": []}[
            self["comments"]
        ]

    def checked(self, one: str, other: str) -> Lines:
        """Return the starter's assertion on shapes, where a mistake does not break it."""
        usual = self["asserts"] == "yes" and not self.kind
        return [f"assert {one}.shape == {other}.shape"] if usual else []

    def define(
        self,
        name: str,
        arguments: Sequence[str],
        body: Sequence[str],
        *,
        doc: str = "",
        returns: str = "",
        decorator: str = "",
    ) -> Lines:
        """Return a method; arguments may have the form `name: type = default`."""
        parameters = list(arguments)
        if self["hints"] == "no":
            parameters = [re.sub(r":[^=]*(?= =|$)", "", one) for one in parameters]
            parameters = [one.replace(" = ", "=") if ":" not in one else one for one in parameters]
            returns = ""
        if self["extra_arguments"] == "yes" and name in {"get_action", "update_actor"}:
            parameters.append("verbose=False")
        if self.mistakes.get(name) == "unsolved":
            body = self.gap()
        elif self.mistakes.get(name) == "name_error":
            body = ["# TODO(student): compute this", "number = count_of_rows", *body]
        static = decorator == "@staticmethod"
        head = f"def {name}({', '.join([*([] if static else ['self']), *parameters])})"
        lines = [f'"""{doc}"""'] if doc and self["docstrings"] == "yes" else []
        return [
            *([decorator] if decorator else []),
            f"{head} -> {returns}:" if returns else f"{head}:",
            *indent([*lines, *body]),
            "",
        ]

    def gap(self) -> Lines:
        """Return the body of a method that is not written."""
        return {
            "placeholder": ["# TODO(student): compute this", "result = ...", "return result"],
            "ellipsis": ["# TODO(student): compute this", "..."],
            "not_implemented": ["raise NotImplementedError"],
            "pass": ["# TODO(student): compute this", "pass"],
        }[self["gaps"]]

    def init(self, arguments: Sequence[str], parent_arguments: str, body: Sequence[str]) -> Lines:
        """Return a constructor that calls its parent's first."""
        class_name = CLASS_NAMES[self.agent]
        parent = "super()" if self["super"] == "plain" else f"super({class_name}, self)"
        parameters = list(arguments)
        if self["extra_arguments"] == "yes":
            last = parameters.pop() if parameters[-1].startswith("**") else None
            parameters.append("log_every: int = 100")
            parameters += [last] if last else []
        if self["hints"] == "no":
            parameters = [
                re.sub(r":[^=]*(?= =|$)", "", one).replace(" = ", "=") for one in parameters
            ]
        return [
            "def __init__(",
            *indent([f"{one}," for one in ["self", *parameters]]),
            "):",
            *indent([f"{parent}.__init__({parent_arguments})", *body]),
            "",
        ]

    def helper(self, name: str, *arguments: str) -> str:
        """Return a call of a helper."""
        self.helpers[name] = None
        prefix = "self._" if self["helpers"] == "methods" else ""
        return f"{prefix}{name}({', '.join(arguments)})"

    def helper_code(self, name: str) -> Lines:
        """Return the body of a helper."""
        if name == "chosen":
            return [f"return {self.picked('values', 'actions', own=False)}"]
        return [f"return {self.alive('flags', own=False)}"]

    def functional(self) -> str:
        """Return what `torch.nn.functional` is called here."""
        return self["functional"]

    # Expressions

    @property
    def column(self) -> bool:
        """Whether the temporal-difference loss has shapes `(batch, 1)` throughout."""
        if self.agent == "iql":
            return self["v_shape"] == "column"
        return self["td_shape"] == "column"

    def picked(self, values: str, actions: str, *, column: bool = False, own: bool = True) -> str:
        """Return Q of some actions; `values` and `actions` must be names.

        Args:
            values: `(batch, actions)`.
            actions: `(batch,)`.
            column: Keep the last axis.
            own: May call a helper.
        """
        plain = own and not column and self.method != "iql_expectile_loss"
        if plain and self["helpers"] != "none":
            return self.helper("chosen", values, actions)
        hot = f"{self.functional()}.one_hot({actions}, {values}.shape[-1])"
        flat, kept = {
            "gather": (
                f"{values}.gather(1, {actions}.unsqueeze(1)).squeeze(1)",
                f"{values}.gather(1, {actions}.unsqueeze(1))",
            ),
            "gather_last": (
                f"torch.gather({values}, -1, {actions}.unsqueeze(-1)).squeeze(-1)",
                f"torch.gather({values}, -1, {actions}.unsqueeze(-1))",
            ),
            "gather_view": (
                f"{values}.gather(1, {actions}.view(-1, 1)).view(-1)",
                f"{values}.gather(1, {actions}.view(-1, 1))",
            ),
            "gather_index": (
                f"{values}.gather(dim=1, index={actions}.long()[:, None])[:, 0]",
                f"{values}.gather(dim=1, index={actions}.long()[:, None])",
            ),
            "arange": (
                f"{values}[torch.arange({actions}.shape[0]), {actions}]",
                f"{values}[torch.arange({actions}.shape[0]), {actions}].unsqueeze(1)",
            ),
            "one_hot": (
                f"({values} * {hot}).sum(dim=-1)",
                f"({values} * {hot}).sum(dim=-1, keepdim=True)",
            ),
            "take_along": (
                f"torch.take_along_dim({values}, {actions}[:, None], dim=1).flatten()",
                f"torch.take_along_dim({values}, {actions}[:, None], dim=1)",
            ),
            "einsum": (
                f'torch.einsum("ba,ba->b", {values}, {hot}.float())',
                f'torch.einsum("ba,ba->b", {values}, {hot}.float())[:, None]',
            ),
        }[self["pick"]]
        return kept if column else flat

    def largest(self, values: str, *, column: bool = False) -> str:
        """Return the largest Q of every row; `values` must be a name."""
        keep = ", keepdim=True" if column else ""
        return {
            "values": f"{values}.max(dim=1{keep}).values",
            "index": f"torch.max({values}, dim=-1{keep})[0]",
            "amax": f"torch.amax({values}, dim=1{keep})",
            "argmax": f"{values}.gather(1, {values}.argmax(dim=1, keepdim=True))"
            + ("" if column else ".squeeze(1)"),
        }[self["max"]]

    def alive(self, done: str, *, own: bool = True) -> str:
        """Return `1 - d` as a factor, from a helper unless that is not `own`."""
        if own and self["helpers"] != "none":
            return self.helper("alive", done)
        return {
            "float": f"(1 - {done}.float())",
            "tilde": f"(~{done})",
            "int": f"(1 - {done}.int())",
            "logical_not": f"torch.logical_not({done})",
            "equals": f"({done} == 0)",
        }.get(self["mask"], f"(1.0 - {done}.to(torch.float32))")

    def future(self, done: str, following: str) -> tuple[Lines, str]:
        """Return statements and an expression for `(1 - d)` times the next value.

        Args:
            done: A name.
            following: The name of the next value.
        """
        if self.wrong("done_missing", "done_on_reward", "done_everywhere"):
            return [], following
        if self.wrong("done_inverted"):
            return [], f"{done}.float() * {following}"
        if self["mask"] == "where":
            zeros = f"torch.zeros_like({following})"
            return [], f"torch.where({done}, {zeros}, {following})"
        if self["mask"] == "masked_fill":
            return [], f"{following}.masked_fill({done}, 0.0)"
        if self["mask"] == "assign" and not self.wrong("broadcast_next", "broadcast_done"):
            return [f"{following} = {following}.clone()", f"{following}[{done}] = 0.0"], following
        return [], f"{self.alive(done)} * {following}"

    def bellman(self, reward: str, done: str, following: str, into: str) -> Lines:
        """Return statements that set `into` to the target of the temporal-difference loss.

        Args:
            reward: A name, as `done` and `following`, the next value.
            done: Whether the state is terminal.
            following: The next value.
            into: The name of the result.
        """
        lines, later = self.future(done, following)
        discount = self.either(
            "self.discount",
            discount_constant="0.9",
            discount_squared="self.discount ** 2",
        )
        bonus = self.either(
            reward,
            reward_missing=f"torch.zeros_like({reward})",
            reward_scaled=f"0.1 * {reward}",
            reward_clipped=f"{reward}.clamp(-0.1, 0.1)",
            reward_negated=f"(-{reward})",
            reward_normalised=f"({reward} - {reward}.mean()) / ({reward}.std() + 1e-6)",
        )
        sign = self.either("+", future_subtracted="-")
        term = self.either(f"{discount} * {later}", discount_missing=later)
        if self.wrong("done_on_reward", "done_everywhere"):
            total = [f"{into} = {self.alive(done)} * ({bonus} + {term})"]
        elif self.wrong("discount_on_reward"):
            total = [f"{into} = {discount} * ({bonus} + {later})"]
        elif self["bootstrap"] == "product_last" and not self.wrong("discount_missing"):
            total = [f"{into} = {bonus} {sign} ({later}) * {discount}"]
        elif self["bootstrap"] == "two_lines":
            total = [f"future = {term}", f"{into} = {bonus} {sign} future"]
        elif self["bootstrap"] == "in_place" and not self.kind.startswith("broadcast"):
            total = [f"{into} = {term}", f"{into} = {sign}{into}", f"{into} += {bonus}"]
        else:
            total = [f"{into} = {bonus} {sign} {term}"]
        mixed = {
            "target_averaged": [f"{into} = {into}.mean().expand_as({into})"],
            "target_rolled": [f"{into} = torch.roll({into}, 1, 0)"],
            "target_normalised": [f"{into} = ({into} - {into}.mean()) / ({into}.std() + 1e-6)"],
        }.get(self.kind, [])
        return [*lines, *total, *mixed]

    def squares(self, one: str, other: str) -> str:
        """Return the mean squared difference of two names, or a mistake in it."""
        f = self.functional()
        right = {
            "attribute": f"self.critic_loss({one}, {other})",
            "mse_loss": f"{f}.mse_loss({one}, {other})",
            "pow": f"({one} - {other}).pow(2).mean()",
            "square": f"torch.square({one} - {other}).mean()",
            "stars": f"(({other} - {one}) ** 2).mean()",
            "module": f"nn.MSELoss()({one}, {other})",
            "mean": f"torch.mean(({one} - {other}) ** 2)",
            "sum_by_len": f"(({one} - {other}) ** 2).sum() / len({one})",
        }[self["squares"]]
        return self.either(
            right,
            loss_summed=f"(({one} - {other}) ** 2).sum()",
            loss_absolute=f"({one} - {other}).abs().mean()",
            loss_negative=f"-{right}",
            loss_not_squared=f"({other} - {one}).mean()",
        )

    def descent(self, loss: str, optimizer: str, network: str, *, clip: bool = False) -> Lines:
        """Return one step of an optimiser on a loss, or a mistake in it."""
        norm = 'self.clip_grad_norm or float("inf")'
        parameters = f"self.{network}.parameters()"
        clipping = [f"grad_norm = nn.utils.clip_grad_norm_({parameters}, {norm})"]
        sign = self.either(f"{loss}", ascends=f"(-{loss})")
        lines = [
            f"self.{optimizer}.zero_grad()",
            f"{sign}.backward()",
            *(clipping if clip else []),
            f"self.{optimizer}.step()",
        ]
        if self.wrong("zero_grad_missing"):
            lines = lines[1:]
        elif self.wrong("never_stepped"):
            lines = lines[:-1]
        elif self.wrong("zeroed_before_step"):
            lines = [*lines[1:-1], lines[0], lines[-1]]
        elif self.wrong("never_backward"):
            lines = [line for line in lines if "backward" not in line]
        return lines

    def bundle(self, pairs: Mapping[str, str]) -> str:
        """Return a dict of metrics: the starter's, none, or one more."""
        shown = {"full": pairs, "none": {}, "extra": {**pairs, "mine": "0.0"}}[self["metrics"]]
        return "{" + ", ".join(f'"{key}": {value}' for key, value in shown.items()) + "}"

    # The file

    def finish(self, imports: Sequence[str], parent: str, body: Sequence[str]) -> str:
        """Return the text of the file."""
        lines = [*imports, "", ""]
        members = list(body)
        for name in self.helpers:
            (arguments, doc), code = HELPERS[name], self.helper_code(name)
            if self["helpers"] == "module":
                lines.insert(-2, f"from cs285.agents.{HELPER_MODULE} import {name}")
            elif self["helpers"] == "functions":
                head = f"def {name}({', '.join(arguments)}):"
                lines += [head, *indent([f'"""{doc}"""', *code]), "", ""]
            else:
                members += self.define(f"_{name}", arguments, code, doc=doc)
        members += self.extra_methods
        lines += [f"class {CLASS_NAMES[self.agent]}({parent}):", *indent(members)]
        text = "\n".join(lines).rstrip() + "\n"
        for starter, own in attribute_names(self.style).items():
            text = re.sub(rf"\bself\.{starter}\b", f"self.{own}", text)
        return laid_out(text, self.style)


def helper_module(style: Style) -> str:
    """Return the student's own module of helpers."""
    writer = Writer("dqn", style, {})
    lines = ["import torch", *functional_imports(writer), ""]
    for name, (arguments, doc) in HELPERS.items():
        body = indent([f'"""{doc}"""', *writer.helper_code(name)])
        lines += ["", f"def {name}({', '.join(arguments)}):", *body, ""]
    return laid_out("\n".join(lines), style)


def laid_out(text: str, style: Style) -> str:
    """Return the text with the indentation and the line endings of a style."""
    layout = style["layout"]
    if layout == "unparsed" and style["comments"] == "none":
        text = ast.unparse(ast.parse(text)) + "\n"
    elif layout in {"two_spaces", "tabs"}:
        unit = "  " if layout == "two_spaces" else "\t"
        text = re.sub(
            r"^((?: {4})+)", lambda found: unit * (len(found[1]) // 4), text, flags=re.MULTILINE
        )
    return text.replace("\n", "\r\n") if style["newlines"] == "crlf" else text


CLASS_NAMES = {
    "random": "RandomAgent",
    "dqn": "DQNAgent",
    "cql": "CQLAgent",
    "awac": "AWACAgent",
    "iql": "IQLAgent",
    "rnd": "RNDAgent",
}


def functional_imports(writer: Writer) -> Lines:
    """Return the imports of `torch.nn` and its functions."""
    return {
        "F": ["import torch.nn.functional as F", "from torch import nn"],
        "nn.functional": ["from torch import nn"],
        "torch.nn.functional": ["import torch.nn.functional", "import torch.nn as nn"],
    }[writer["functional"]]


def imports_of(writer: Writer, *modules: str) -> Lines:
    """Return the imports at the top of a file, which include those of other agents."""
    return [
        "import copy",
        "import random",
        "from typing import Callable, Optional, Sequence, Tuple",
        "",
        "import numpy as np",
        "import torch",
        *functional_imports(writer),
        "",
        "import cs285.infrastructure.pytorch_util as ptu",
        *(f"from cs285.agents.{one}_agent import {CLASS_NAMES[one]}" for one in modules),
    ]
