"""The compiled update is the traced one, up to rounding."""

import pytest
import torch

from cs285.infrastructure.compiling import trace
from cs285.infrastructure.ensemble import Ensemble


@pytest.mark.parametrize("algorithm", ["dqn", "cql", "awac", "iql", "rnd"])
def test_a_compiled_update_learns_what_the_traced_one_learns(make_agent, make_batch, algorithm):
    traced, compiled = (
        Ensemble([make_agent(algorithm, seed=seed) for seed in (1, 2)], compiles=compiles)
        for compiles in (False, True)
    )
    for step in range(1, 11):
        batch = make_batch(2, 16, seed=step)
        expected, found = traced.update(batch, step), compiled.update(batch, step)
        assert found.keys() == expected.keys()
        for tag, value in expected.items():
            torch.testing.assert_close(found[tag], value, atol=1e-4, rtol=1e-4)
    for name, value in traced.state.items():
        torch.testing.assert_close(compiled.state[name], value, atol=1e-4, rtol=1e-4)


def test_tracing_does_equal_operations_once_and_changes_its_inputs_in_place():
    def step(weights, inputs):
        before = torch.exp(inputs * weights).sum()
        again = torch.exp(inputs * weights).mean()
        weights.add_(1)
        after = torch.exp(inputs * weights).sum()
        return [before, again, after]

    weights, inputs = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    graph = trace(step, [weights.clone(), inputs])
    exponentials = [node for node in graph.graph.nodes if node.target is torch.ops.aten.exp.default]
    assert len(exponentials) == 2  # of the weights before and after, not a third
    ours, theirs = weights.clone(), weights.clone()
    for found, expected in zip(graph(ours, inputs), step(theirs, inputs), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours, theirs)
