"""The mistakes: where each can be made, and words that a TA would accept for it.

The words are alternatives, written without a look at the checker's own sentences: a report names a
mistake rightly if it is told of the method in which it was made and one of them occurs in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def both(*patterns: str) -> str:
    """Return a pattern that needs all of these, in any order."""
    return "".join(f"(?=.*(?:{pattern}))" for pattern in patterns)


@dataclass(frozen=True)
class Mistake:
    """One kind of mistake in one method of one file."""

    agent: str
    method: str
    kind: str
    words: tuple[str, ...]
    """Regular expressions, any of which is a right name."""
    also: tuple[str, ...] = ()
    """Other methods that a report may blame for it as well or instead."""
    verdict: str = ""
    """The only right verdict, if one of several bad ones is right."""

    @property
    def name(self) -> str:
        return f"{self.agent}.{self.method}: {self.kind}"

    def is_named_by(self, text: str) -> bool:
        """Return whether a report says what the mistake is."""
        return any(re.search(one, text, re.IGNORECASE | re.DOTALL) for one in self.words)


DONE = r"\bdones?\b|terminal|terminated|1 ?- ?d\b|mask"
SHAPE = (
    r"broadcast|\((batch|B|n|\d+), ?(batch|B|n|\d+)\)|shape"
    r"|every pair|all pairs"
)
NEVER = (
    r"never|not trained|no (gradient )?step|does not (train|change|move|step)|unchanged"
    r"|stays? (the same|as)|untrained|is not updated|without a step|not called|is missing"
)
SUMMED = r"\bsum|batch size|number of rows|times too (large|big)|scale"
NO_GRAD = r"gradient|no_grad|detach|never|not trained|does not require grad"
DISCOUNT = r"discount|gamma"
REVERSED = (
    r"invert|revers|opposite|swapp|flipp|wrong way|other way|sign|minus|negat|backward"
    r"|exchanged|interchanged"
)
CONSTANT = (
    r"constant|fixed|hard-?coded|does not depend|ignor|same (number|value)|instead of|in place of"
)

TD_WORDS: dict[str, tuple[str, ...]] = {
    "done_missing": (both(DONE, r"missing|ignor|not|no |future"),),
    "done_inverted": (both(DONE, rf"{REVERSED}|only|\bd\b"),),
    "done_on_reward": (both(DONE, "reward|whole target"),),
    "done_everywhere": (
        both(DONE, r"both|Q\(s, ?a\)|whole|side|reward|prediction|also|everything"),
    ),
    "discount_missing": (both(DISCOUNT, r"missing|ignor|not|without|1\b|no "),),
    "discount_constant": (both(DISCOUNT, CONSTANT + r"|0\.9"),),
    "discount_squared": (both(DISCOUNT, r"squar|twice|\^ ?2|\*\* ?2|²"),),
    "discount_on_reward": (both(DISCOUNT, "reward|whole|everything"),),
    "reward_missing": (both("reward", r"missing|ignor|not|without|0|no "),),
    "reward_scaled": (both("reward", r"scal|factor|multipl|times|0\.1|clip|\d"),),
    "reward_clipped": (both("reward", r"clip|cap|clamp|scal|normal|bound|chang"),),
    "reward_negated": (both("reward", rf"{REVERSED}|subtract"),),
    "reward_normalised": (both("reward", r"normal|standard|mean|scal|centr|batch"),),
    "future_subtracted": (rf"{REVERSED}|subtract|r - ",),
    "target_averaged": (r"average|mean (over|of)|batch|other rows|same target|mix|constant",),
    "target_rolled": (r"other rows?|another row|batch|shift|roll|mix|neighbour|order|permut",),
    "target_normalised": (r"normal|standard|batch|mix|other rows|scal",),
    "loss_summed": (SUMMED,),
    "loss_absolute": (r"absolute|l1|not squared|\babs",),
    "loss_negative": (rf"{REVERSED}|maximi|ascent|ascend",),
    "loss_not_squared": (r"squar|linear|signed",),
    "loss_without_grad": (NO_GRAD,),
    "broadcast_q": (SHAPE,),
    "broadcast_next": (SHAPE,),
    "broadcast_reward": (SHAPE,),
    "broadcast_done": (SHAPE,),
    "q_of_target": (r"target|\bQt\b|online|wrong network|never trained|no gradient",),
    "q_of_next_state": (r"next|s'|wrong state|state",),
    "q_largest": (r"max|largest|greedy|action",),
    "action_of_next": (r"action|argmax|max",),
    "q_detached": (NO_GRAD,),
    "state_now": (r"next|s'|wrong state|\bat s\b|current|state",),
}
"""Mistakes of every temporal-difference loss."""

DQN_WORDS: dict[str, tuple[str, ...]] = {
    "online_next": (r"online|network|target",),
    "mean_next": (r"mean|average",),
    "min_next": (r"\bmin|smallest|lowest",),
    "sum_next": (r"\bsum",),
    "data_action_next": (r"action|sarsa|max|data",),
    "wrong_axis": (r"axis|dim|batch|shape|size|rows",),
    "index_as_value": (r"index|argmax|action|number of",),
    "double_ignored": (both("double", r"ignor|not|without|no |single|plain|max|although|though"),),
    "double_always": (both("double", r"always|though|ignor|without|off|not|although|even"),),
    "double_swapped": (
        both("double|network|target|online", rf"{REVERSED}|exchang|network|online"),
    ),
}

AWAC_WORDS: dict[str, tuple[str, ...]] = {
    "max_next": (r"max|largest|greedy|dqn",),
    "mode_next": (r"mode|argmax|likeliest|most (likely|probable)|greedy",),
    "mean_next": (r"mean|average|uniform",),
    "sum_next": (r"\bsum",),
    "logits_next": (r"logit|log",),
    "log_next": (r"log",),
    "mean_product_next": (r"mean|divided|1/|factor|number of actions|average",),
    "data_action_next": (r"action|sarsa|data",),
    "entropy_next": (r"entropy|log|bonus|soft",),
    "double_next": (r"double|argmax|max|greedy|online",),
    "uniform_sample_next": (r"uniform|random|not from the actor|actor's|distribution|mean",),
    "actor_of_now": (r"state|s'|next",),
}

STEP_WORDS: dict[str, tuple[str, ...]] = {
    "zero_grad_missing": (r"zero_grad|accumul|earlier gradient|add up|previous|gradients? of",),
    "never_stepped": (NEVER,),
    "zeroed_before_step": (rf"{NEVER}|zero_grad",),
    "never_backward": (rf"{NEVER}|backward",),
    "ascends": (rf"{REVERSED}|maximi|ascent|ascend|away",),
}
"""Mistakes in a step of an optimiser."""

COPY_WORDS: dict[str, tuple[str, ...]] = {
    "copied_backwards": (rf"{REVERSED}|online|from the target|into",),
    "copies_nothing": (rf"{NEVER}|not cop|nothing|differ",),
    "copied_softly": (r"soft|polyak|part|average|mix|blend|not (a )?cop|differ|not equal",),
    "copied_partly": (r"part|some|not all|only|first|incomplete|differ|not equal",),
}

PERIOD_WORDS: dict[str, tuple[str, ...]] = {
    "never_copied": (both(r"cop|target", NEVER + "|not cop"),),
    "always_copied": (both(r"cop|target", r"every|always|each|period|too often|all"),),
    "copied_at_other_steps": (both(r"cop|target", r"other|period|not|revers|invert|every|except"),),
    "copied_once": (both(r"cop|target", NEVER + "|not cop"),),
}

ADVANTAGE_WORDS: dict[str, tuple[str, ...]] = {
    "sign_flipped": (rf"{REVERSED}|V - Q|- ?A",),
    "no_baseline": (r"baseline|Q\(s, ?a\)|without|missing|not subtract|only Q|alone|\bV\b",),
    "value_only": (r"\bV\b|value|Q\(s, ?a\)|missing|only",),
    "max_baseline": (r"max|largest",),
    "mean_baseline": (r"mean|average|uniform|equal",),
}

ACTOR_WORDS: dict[str, tuple[str, ...]] = {
    "temperature_multiplied": (both("temperature|lambda", r"multipl|times|\*|invers|product"),),
    "temperature_ignored": (both("temperature|lambda", r"ignor|missing|not|without|1\b|no "),),
    "temperature_squared": (both("temperature|lambda", r"squar|twice|\^ ?2|\*\* ?2|²"),),
    "temperature_constant": (both("temperature|lambda", CONSTANT + r"|\d"),),
    "sign_flipped": (rf"{REVERSED}|- ?A",),
    "exp_missing": (r"exp",),
    "behaviour_cloning": (r"clon|weight|advantage (is )?(ignored|missing)|imitat|without",),
    "clipped_low": (r"clip|clamp|cap|at most|bound|limit|max|weight",),
    "clipped_flat": (r"clip|clamp|cap|at most|bound|limit|max|weight",),
    "positive_only": (r"weight|exp|indicator|positive|binary|0 or 1|step",),
    "sigmoid": (r"sigmoid|exp|weight",),
    "shifted": (r"exp|weight|minus|- 1",),
    "own_samples": (r"sampl|own|data|drawn|other|action",),
    "probability": (r"log",),
    "log_missing": (r"log",),
    "all_actions": (r"\ball\b|every|action|sum|log",),
    "log_prob_missing": (r"log|never|no gradient|not trained|actor",),
    "batch_softmax": (r"axis|batch|dim|softmax|rows|log|normal",),
    "actor_of_next": (r"state|s'|next|other|observation|log",),
    "not_detached": (r"detach|gradient|no_grad|through",),
    "broadcast_advantage": (SHAPE,),
    "loss_summed": (SUMMED,),
    "loss_positive": (rf"{REVERSED}|maximi|ascen|away",),
    "separate_means": (r"mean|product|separat|average|weight",),
    "weight_inside": (r"log|weight|clon|inside|no effect|ignored",),
    "weight_only": (r"log|weight|never|no gradient|not trained",),
    "entropy_added": (r"entropy|log|expected",),
    "minus_weight": (r"clon|weight|added|subtract|multipl|product",),
    "loss_without_grad": (NO_GRAD,),
    "wrong_optimizer": (rf"optimi[sz]er|{NEVER}",),
    **STEP_WORDS,
}

IQL_VALUE_WORDS: dict[str, tuple[str, ...]] = {
    "max_q_next": (r"max",),
    "awac_next": (r"actor|awac|expect|policy|sum|mean|pi\b|distribution",),
    "data_action_next": (r"action|Q|data|V",),
}

EXPECTILE_WORDS: dict[str, tuple[str, ...]] = {
    "reversed": (rf"{REVERSED}|1 - (tau|expectile)|wrong branch",),
    "symmetric": (r"expectile|tau|symmetric|squared|ignored|0\.5",),
    "expectile_constant": (both("expectile|tau", CONSTANT + r"|\d"),),
    "one_sided": (r"side|zero|0|branch|half|negative|only|1 - (tau|expectile)|weight",),
    "negative_weight": (r"absolute|\babs|sign|\|",),
    "no_abs": (r"absolute|\babs|sign|\|",),
    "linear": (r"squar|linear|absolute|quantile|pinball|u\^?2",),
    "not_squared": (r"squar|linear|absolute|quantile|pinball|u\^?2",),
    "cubed": (r"squar|cub|power",),
    "difference_reversed": (rf"{REVERSED}|V - Q",),
    "loss_summed": (SUMMED,),
    "loss_negative": (rf"{REVERSED}|maximi|ascen",),
    "weight_squared": (r"squar|weight",),
    "weights_averaged": (r"weight|mean|separat|average|product|expectile|tau",),
    "broadcast_v": (SHAPE,),
}

V_WORDS: dict[str, tuple[str, ...]] = {
    "broadcast_v": (SHAPE,),
    "broadcast_q": (SHAPE,),
    "max_q": (r"max|largest",),
    "mean_q": (r"mean|average",),
    "actor_q": (r"actor|policy|pi\b|expect|awac",),
    "v_at_other_rows": (r"state|row|other|batch|order|mix",),
    "arguments_swapped": (rf"{REVERSED}|argument|order",),
    "expectile_flipped": (rf"{REVERSED}|1 - (tau|expectile)|expectile",),
    "expectile_constant": (both("expectile|tau", CONSTANT + r"|\d"),),
    "v_detached": (NO_GRAD,),
    "plain_squares": (r"expectile|squared|mse|symmetric|tau",),
    "loss_without_grad": (NO_GRAD,),
    "wrong_optimizer": (rf"optimi[sz]er|{NEVER}",),
    **STEP_WORDS,
}

CQL_WORDS: dict[str, tuple[str, ...]] = {
    "term_missing": (r"term|missing|not|dqn|conservat|without",),
    "alpha_ignored": (both("alpha", r"ignor|missing|not|without|1\b|no "),),
    "alpha_constant": (both("alpha", CONSTANT + r"|\d"),),
    "alpha_inside": (both("alpha", r"inside|exponent|in the|within|under|log"),),
    "alpha_squared": (both("alpha", r"squar|twice|²|\^ ?2|\*\* ?2"),),
    "alpha_on_all": (both("alpha", r"whole|all|loss|td|bellman|everything|both|also|squared"),),
    "alpha_on_td": (both("alpha", r"td|bellman|loss|dqn|wrong|squared"),),
    "alpha_on_lse": (both("alpha", r"only|part|log|Q\(s, ?a\)|half|one"),),
    "term_twice": (r"twice|2|doubl|two times",),
    "term_subtracted": (rf"{REVERSED}|subtract",),
    "sign_flipped": (rf"{REVERSED}|subtract",),
    "replaces_td": (r"td|bellman|squared|dqn|missing|only",),
    "lse_only": (r"Q\(s, ?a\)|data|half|missing|only|push",),
    "data_only": (r"log|half|missing|only|sum",),
    "sum_for_mean": (SUMMED,),
    "mean_for_lse": (r"mean|average|log-?sum",),
    "max_for_lse": (r"max|log-?sum",),
    "log_missing": (r"log",),
    "exp_missing": (r"exp|log-?sum",),
    "wrong_axis": (r"axis|dim|batch|rows",),
    "swapped": (rf"{REVERSED}|exchang|q_values|qa_values|all actions|mixed up|confus|axis|batch",),
    "entropy_added": (r"entropy|soft|log",),
    "random_actions": (r"random|sampl|some|subset|uniform|action",),
    "mean_of_data": (r"mean|average|Q\(s, ?a\)|data|action",),
    "term_of_target": (r"target|network|online|gradient",),
    "term_at_next": (r"next|s'|state",),
    "detached": (r"detach|gradient|no_grad|not trained|no effect|weight -?(0|\d\.?\d*e-)",),
}

ACTING_WORDS: dict[str, tuple[str, ...]] = {
    "epsilon_inverted": (both("epsilon", rf"{REVERSED}|1 - epsilon"),),
    "epsilon_ignored": (both("epsilon", r"ignor|not|never|no "),),
    "epsilon_constant": (both("epsilon", CONSTANT + r"|\d|not"),),
    "always_random": (r"random|always|uniform|ignor|never",),
    "worst_action": (r"worst|argmin|min|lowest|smallest|least",),
    "acts_on_target": (r"target|network|online",),
    "acts_on_critic": (r"critic|actor|argmax Q|Q\b",),
    "wrong_axis": (r"axis|always|same|constant|dim|batch|not the|one action|ignor",),
    "samples_softmax": (r"only \d+ ?%|sampl|softmax|random|boltzmann|not (always|the)|chance",),
    "off_by_one": (r"never|last|action|range|likely",),
    "starts_at_one": (r"never|first|action|range|likely",),
    "too_many": (r"range|action|outside|valid|between|exist",),
    "ignores_observation": (
        r"observation|state|always|ignor|same|constant|actor|mode|distribution|chance|prob",
    ),
    "constant": (r"TODO without code|always|same|constant|never|only|likely|random|uniform",),
    "uneven": (r"likely|uniform|uneven|probab|often|equal",),
    "same_seed": (r"always|same|constant|never|only|likely|random|uniform",),
    "of_observation": (r"always|same|observation|constant|never|likely|random|uniform",),
}

RND_ERROR_WORDS: dict[str, tuple[str, ...]] = {
    "errors_cancel": (r"cancel|sign|squar|sum|absolute|negative|error|fall|rising",),
    "target_missing": (r"target|error|difference|fall|rising",),
    "predictor_missing": (r"predict|error|difference|never|gradient|fall|rising|trained",),
    "predictor_twice": (r"target|same|zero|constant|never|trained|gradient|missing|ignor|bonus",),
    "errors_added": (r"sum|added|sign|minus|plus|difference|error|rising|fall",),
    "of_other_rows": (r"row|batch|other|mix|order|error|state",),
}


_TO_WRITE: dict[str, tuple[str, ...]] = {
    "random": ("get_action",),
    "dqn": ("get_action", "compute_critic_loss", "update"),
    "cql": ("compute_critic_loss",),
    "awac": ("compute_critic_loss", "compute_advantage", "update_actor"),
    "iql": ("compute_advantage", "update_q", "iql_expectile_loss", "update_v"),
    "rnd": ("update_rnd", "update"),
}
"""The methods that the starter leaves to the student."""


def _gaps() -> list[Mistake]:
    """Return methods that are not written, or written and crashing with the TODO still there."""
    return [
        Mistake(agent, method, kind, (".*",), verdict=verdict)
        for agent, methods in _TO_WRITE.items()
        for method in methods
        for kind, verdict in (("unsolved", "unsolved"), ("name_error", "crashes"))
    ]


def _all(
    agent: str, method: str, words: dict[str, tuple[str, ...]], also: tuple[str, ...] = ()
) -> list[Mistake]:
    return [Mistake(agent, method, kind, texts, also) for kind, texts in words.items()]


def _some(words: dict[str, tuple[str, ...]], *kinds: str) -> dict[str, tuple[str, ...]]:
    return {kind: words[kind] for kind in kinds}


_UPDATE = {
    "critic_never_trained": (both("critic|Q", NEVER),),
    "critic_trained_twice": (r"twice|two|more than once|differ|2",),
}
_ACTOR_UPDATE = {
    **_UPDATE,
    "actor_never_trained": (both("actor", NEVER),),
    "actor_trained_twice": (r"twice|two|more than once|differ|2",),
    "actor_on_next": (both("actor", r"differ|next|state|s'|other|observations"),),
    **PERIOD_WORDS,
}

MISTAKES: tuple[Mistake, ...] = (
    *_all(
        "random",
        "get_action",
        _some(
            ACTING_WORDS,
            *("off_by_one", "starts_at_one", "too_many", "constant", "uneven", "same_seed"),
            "of_observation",
        ),
    ),
    *_all(
        "dqn",
        "get_action",
        _some(
            ACTING_WORDS,
            *("epsilon_inverted", "epsilon_ignored", "epsilon_constant", "always_random"),
            *("worst_action", "acts_on_target", "wrong_axis", "samples_softmax"),
            *("off_by_one", "starts_at_one", "too_many"),
        ),
    ),
    *_all("dqn", "compute_critic_loss", TD_WORDS | DQN_WORDS),
    *_all("dqn", "update_critic", STEP_WORDS),
    *_all("dqn", "update_target_critic", COPY_WORDS),
    *_all(
        "dqn",
        "update",
        {
            **_UPDATE,
            "states_swapped": (both("critic|Q", r"differ|next|state|s'|swap|order"),),
            **PERIOD_WORDS,
        },
    ),
    *_all(
        "cql",
        "compute_critic_loss",
        CQL_WORDS
        | _some(
            TD_WORDS | DQN_WORDS,
            *("done_missing", "discount_missing", "online_next", "double_ignored", "state_now"),
            *("broadcast_q", "broadcast_next", "broadcast_reward", "loss_summed"),
        ),
    ),
    *_all(
        "awac",
        "get_action",
        _some(
            ACTING_WORDS,
            *("worst_action", "acts_on_critic", "wrong_axis", "always_random"),
            "ignores_observation",
        ),
    ),
    *_all("awac", "compute_critic_loss", TD_WORDS | AWAC_WORDS),
    *_all(
        "awac",
        "compute_advantage",
        {
            **ADVANTAGE_WORDS,
            "added": (rf"{REVERSED}|added|\+|sum",),
            "sum_baseline": (r"sum|baseline",),
            "logits_baseline": (r"logit|log|baseline",),
            "log_prob_baseline": (r"log|baseline",),
            "prob_baseline": (r"only|taken|pi\(a|prob|baseline|action",),
            "zero": (r"zero|0|always|constant|same|baseline",),
            "batch_baseline": (r"batch|mean|rows|baseline",),
            "broadcast_q": (SHAPE,),
            "broadcast_v": (SHAPE,),
            "normalised": (r"normal|standard|batch|mean|scal|other rows",),
        },
        also=("update_actor",),
    ),
    *_all("awac", "update_actor", ACTOR_WORDS),
    *_all("awac", "update", _ACTOR_UPDATE),
    *_all(
        "iql",
        "compute_advantage",
        {
            **ADVANTAGE_WORDS,
            "awac_baseline": (r"awac|actor|expect|policy|pi\b|sum",),
            "zero": (r"zero|0|always|constant|same|baseline",),
            "broadcast_q": (SHAPE,),
            "broadcast_v": (SHAPE,),
            "column_advantage": (SHAPE,),
        },
        also=("update_actor",),
    ),
    *_all("iql", "update_q", TD_WORDS | IQL_VALUE_WORDS | STEP_WORDS),
    *_all("iql", "iql_expectile_loss", EXPECTILE_WORDS, also=("update_v",)),
    *_all("iql", "update_v", V_WORDS, also=("iql_expectile_loss",)),
    # V and Q learn from losses of their own: a gradient into them does no harm.
    *_all(
        "iql",
        "update_actor",
        {kind: words for kind, words in ACTOR_WORDS.items() if kind != "not_detached"},
    ),
    *_all("iql", "update_target_value_critic", COPY_WORDS),
    *_all(
        "iql",
        "update_critic",
        {
            "v_never_trained": (both(r"\bV\b|value", NEVER),),
            "q_never_trained": (both(r"\bQ\b|critic", NEVER),),
            "v_on_next": (both(r"\bV\b|value", r"differ|next|state|s'|other"),),
        },
        also=("update",),
    ),
    *_all(
        "iql",
        "update",
        {**_ACTOR_UPDATE, "v_target_never_copied": (both(r"cop|target|V", NEVER + "|not cop"),)},
    ),
    *_all(
        "rnd",
        "update_rnd",
        {
            **RND_ERROR_WORDS,
            "loss_detached": (NO_GRAD + r"|predictor",),
            "loss_summed": (SUMMED,),
            "loss_huber": (r"huber|smooth|l1",),
            "loss_signed": (r"cancel|sign|squar|absolute|negative",),
            "wrong_axis": (r"axis|dim|batch|rows",),
            "batch_averaged": (r"batch|mean|average|rows|cancel",),
            "loss_without_grad": (NO_GRAD,),
            "wrong_optimizer": (rf"optimi[sz]er|{NEVER}",),
            **STEP_WORDS,
        },
    ),
    *_all(
        "rnd",
        "update",
        {
            **RND_ERROR_WORDS,
            "bonus_averaged": (r"same|constant|mean|every row|all rows|no bonus",),
            "bonus_inverted": (rf"{REVERSED}|fall|decreas|invers",),
            "bonus_ignored": (both("bonus", r"no |ignor|missing|not|never|without"),),
            "bonus_negated": (rf"{REVERSED}|fall|decreas|subtract",),
            "bonus_too_late": (both("bonus", r"no |ignor|missing|not|never|without|late"),),
            "broadcast_bonus": (rf"{SHAPE}|no bonus|same|constant|mean|every row|all rows|mix",),
            "weight_constant": (both("weight", r"ignor|constant|not|no |factor|missing"),),
            "weight_squared": (both("weight", r"squar|factor|not|proport|linear"),),
            "weight_added": (both("weight", r"factor|added|not|multipl|proport|ignor"),),
            "weight_missing": (both("weight", r"ignor|constant|not|no |factor|missing"),),
            "weight_on_all": (both("weight", r"reward|all|whole|everything|factor"),),
            "critic_never_trained": (both("critic|Q", NEVER),),
            "predictor_never_trained": (both("predictor|rnd", NEVER),),
            "never_copied": (both(r"cop|target", NEVER + "|not cop"),),
        },
    ),
    *_gaps(),
)


def mistakes_of(agent: str) -> tuple[Mistake, ...]:
    """Return the mistakes of one file."""
    return tuple(one for one in MISTAKES if one.agent == agent)
