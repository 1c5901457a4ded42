"""The classes that students write, and the makers that they are given, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

CLASSES: Mapping[str, str] = {
    "random": "RandomAgent",
    "dqn": "DQNAgent",
    "rnd": "RNDAgent",
    "cql": "CQLAgent",
    "awac": "AWACAgent",
    "iql": "IQLAgent",
}
"""Class names by algorithm, in the order in which students write them."""
FINETUNE = "finetune"
"""The function that students write in addition to the classes."""

_CRITIC = ("make_critic", "make_optimizer", "make_lr_schedule")
_ACTOR = (*_CRITIC, "make_actor", "make_actor_optimizer")
_RND = ("make_rnd_network", "make_rnd_network_optimizer", "make_target_rnd_network")
MAKERS: Mapping[str, tuple[str, ...]] = {
    "random": (),
    "dqn": _CRITIC,
    "rnd": (*_CRITIC, *_RND),
    "cql": _CRITIC,
    "awac": _ACTOR,
    "iql": (*_ACTOR, "make_value_critic", "make_value_critic_optimizer"),
}
"""The arguments of each constructor that make networks and optimisers, by algorithm."""
