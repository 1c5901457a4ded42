"""What docs/theory.md claims, against brute force, linear programs, SciPy and enumeration."""

import csv
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import optimize, sparse, stats
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from cs285.analysis.constrained import (
    RESPONSES,
    ActionPenalty,
    Candidate,
    Process,
    StatePenalty,
    best_return,
    bonus_policy,
    constrained_optimum,
    excess,
    penalised_optimum,
)
from cs285.learning.divergences import CHI2, DIVERGENCES, JSD, KL, TVD
from cs285.lectures import bonus as lecture
from cs285.scripts import lectures

ROOT = Path(__file__).parents[1]
EASY, MEDIUM = "PointmassEasy-v0", "PointmassMedium-v0"
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
not_kl = pytest.mark.parametrize("divergence", [TVD, JSD, CHI2], ids=["tvd", "jsd", "chi2"])


def distributions(count, seed, actions=5):
    return np.random.default_rng(seed).dirichlet(np.ones(actions), count)


def on_grid(p, steps):
    """Rounds probabilities to positive multiples: total variation has its kinks there."""
    rounded = np.maximum(np.round(p[:, 1:] * steps), 1) / steps
    return np.concatenate([1 - rounded.sum(axis=1, keepdims=True), rounded], axis=1)


@pytest.fixture(scope="module")
def maze():
    return lecture.process_of(EASY, 2)


def small(states=2, actions=2, seed=0, discount=0.9):
    """A random process whose episodes end with probability 0.1 to 0.3 per step."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(states), (states, actions))
    transitions *= rng.uniform(0.7, 0.9, (states, actions, 1))
    return Process(
        transitions,
        rng.normal(size=(states, actions)),
        np.eye(states)[0],
        on_grid(rng.dirichlet(np.full(actions, 2.0), states), 500),
        discount,
    )


# The divergences


def test_divergences_are_those_of_scipy():
    p, q = distributions(20, 1), distributions(20, 2)
    np.testing.assert_allclose(KL.between(p, q), rel_entr(p, q).sum(1))
    np.testing.assert_allclose(TVD.between(p, q), np.abs(p - q).sum(1) / 2)
    # The handout's f gives twice what is usually called Jensen-Shannon divergence.
    np.testing.assert_allclose(JSD.between(p, q), 2 * jensenshannon(p, q, axis=1) ** 2)
    np.testing.assert_allclose(
        CHI2.between(p, q), [stats.chisquare(a, b).statistic for a, b in zip(p, q, strict=True)]
    )


@every_divergence
def test_tensors_give_the_same_and_have_gradients(divergence):
    p, q = distributions(20, 1), distributions(20, 2)
    tensors = torch.tensor(p, requires_grad=True), torch.tensor(q)
    for function in ("between", "bonus", "bounded_bonus", "marginal_bonus"):
        found = getattr(divergence, function)(*tensors)
        np.testing.assert_allclose(found.detach(), getattr(divergence, function)(p, q))
    (gradient,) = torch.autograd.grad(divergence.between(*tensors).sum(), tensors[0])
    np.testing.assert_allclose(gradient, divergence.slope(p / q))


@every_divergence
def test_the_mean_of_every_bonus_is_minus_the_divergence(divergence):
    p, q = distributions(20, 1), distributions(20, 2)
    for bonus in (divergence.bonus, divergence.bounded_bonus, divergence.marginal_bonus):
        np.testing.assert_allclose((p * bonus(p, q)).sum(1), -divergence.between(p, q))


@not_kl
def test_the_mean_misses_the_actions_that_are_never_taken(divergence):
    """All that the bonus can see is what the policy does: `q f(0)` of the rest is missing."""
    q = np.array([0.1, 0.2, 0.3, 0.4])
    sure = np.array([0.0, 0.0, 0.0, 1.0])
    seen = -divergence.bonus(sure[3:], q[3:])[0]
    missing = {"tvd": 0.5, "jsd": np.log(2), "chi2": 1.0}[divergence.name] * 0.6
    assert divergence.between(sure, q) - seen == pytest.approx(missing)
    if divergence is TVD:
        assert seen == pytest.approx(divergence.between(sure, q) / 2)
    corrected = -divergence.bounded_bonus(sure[3:], q[3:])[0]
    assert corrected == pytest.approx(divergence.between(sure, q))


def test_the_bonuses_are_the_formulas_of_the_page():
    p, q = distributions(20, 1), distributions(20, 2)
    np.testing.assert_allclose(KL.bonus(p, q), np.log(q) - np.log(p))
    np.testing.assert_allclose(TVD.bonus(p, q), -np.abs(1 - q / p) / 2)
    m = (p + q) / 2
    np.testing.assert_allclose(JSD.bonus(p, q), -np.log(p / m) - q / p * np.log(q / m))
    np.testing.assert_allclose(CHI2.bonus(p, q), -((p - q) ** 2) / (p * q))
    np.testing.assert_allclose(KL.bounded_bonus(p, q), KL.bonus(p, q))
    np.testing.assert_allclose(TVD.bounded_bonus(p, q), -np.maximum(1 - q / p, 0), atol=1e-12)
    np.testing.assert_allclose(CHI2.bounded_bonus(p, q), 1 - p / q)
    x = p / q
    np.testing.assert_allclose(JSD.bounded_bonus(p, q), (1 + 1 / x) * np.log(1 + x) - np.log(4 * x))


@every_divergence
def test_the_marginal_bonus_is_minus_the_derivative_by_visits(divergence):
    """Against finite differences of `d D(d_a / d, q)` with `d = sum_a d_a`."""
    visits, q = 3 * distributions(20, 1), distributions(20, 2)

    def cost(visits):
        total = visits.sum(1)
        return total * divergence.between(visits / total[:, None], q)

    bonus = divergence.marginal_bonus(visits / 3, q)
    for action in range(5):
        step = 1e-6 * np.eye(5)[action]
        slope = (cost(visits + step) - cost(visits - step)) / 2e-6
        np.testing.assert_allclose(bonus[:, action], -slope, rtol=1e-5, atol=1e-6)
    same = np.allclose(divergence.bonus(visits / 3, q), bonus)
    assert same == (divergence is KL)


def simplex(steps):
    """All distributions over three actions whose probabilities are multiples of 1/steps."""
    first, second = np.indices((steps + 1, steps + 1)).reshape(2, -1) / steps
    grid = np.stack([first, second, 1 - first - second], axis=1)
    return np.maximum(grid[grid[:, 2] > -1e-9], 0.0)


@every_divergence
def test_responses_are_the_best_of_a_fine_grid(divergence):
    values, q = np.random.default_rng(3).normal(size=(20, 3)), distributions(20, 4, actions=3)
    q = on_grid(0.9 * q + 0.1 / 3, 300)
    candidates = simplex(300)
    for multiplier in (0.1, 0.5, 2.0):
        p = RESPONSES[divergence.name](values, q, multiplier)
        np.testing.assert_allclose(p.sum(1), 1.0)
        assert p.min() >= 0
        found = (p * values).sum(1) - multiplier * divergence.between(p, q)
        for k in range(20):
            others = candidates @ values[k] - multiplier * divergence.between(candidates, q[k])
            assert -1e-9 < found[k] - others.max() < 2e-3


# Whole policies


def every_policy(process, steps):
    """Returns and divergences of a grid of policies with two states and two actions."""
    share = np.arange(steps + 1) / steps
    first, second = (x.ravel() for x in np.meshgrid(share, share))
    policies = np.stack([[first, 1 - first], [second, 1 - second]]).transpose(2, 0, 1)
    chains = np.einsum("ksa,sat->kst", policies, process.transitions)
    visits = np.linalg.solve(
        np.eye(2) - process.discount * chains.transpose(0, 2, 1), process.start[:, None]
    )[..., 0]
    rewards = (policies * process.rewards).sum(2)
    return policies, visits, (visits * rewards).sum(1)


@every_divergence
def test_optima_of_a_small_process_are_those_of_a_grid_of_all_policies(divergence):
    for seed in range(2):
        process = small(seed=seed)
        policies, visits, returns = every_policy(process, 500)
        costs = (visits * divergence.between(policies, process.behaviour)).sum(1)
        penalty = ActionPenalty(divergence)
        for multiplier in (0.1, 0.6):
            best = penalised_optimum(process, penalty, multiplier)
            assert -1e-9 < best.objective - (returns - multiplier * costs).max() < 1e-3
        for limit in (0.2,):
            found, bound = constrained_optimum(process, penalty, limit)
            assert found.divergence < limit * (1 + 1e-6)
            within = returns[costs <= limit].max()
            assert within - 1e-9 < bound
            assert -1e-3 * limit - 1e-9 < found.expected_return - within < 2e-2
            assert bound - found.expected_return < 1e-3 * limit


def test_a_limit_that_no_policy_meets_is_refused():
    with pytest.raises(ValueError, match="must be positive, not 0"):
        constrained_optimum(small(), ActionPenalty(KL), 0)
    with pytest.raises(ValueError, match="1e-30, must be at least"):
        constrained_optimum(small(), ActionPenalty(KL), 1e-30)


def flows(process):
    """Returns the equations that visits `d(s, a)` obey: matrix and right side."""
    states, actions = process.rewards.shape
    leaving = sparse.kron(sparse.eye_array(states), np.ones((1, actions)))
    arriving = sparse.csr_array(process.transitions.reshape(-1, states)).T
    return leaving - process.discount * arriving, process.start


def linear_program(process, cost, limit):
    """Returns the largest return of visits with a linear cost below the limit, by HiGHS."""
    flow, start = flows(process)
    solved = optimize.linprog(
        -process.rewards.ravel(),
        A_ub=cost.reshape(1, -1),
        b_ub=[limit],
        A_eq=flow,
        b_eq=start,
        method="highs-ipm",
    )
    assert solved.status == 0
    return -solved.fun


@every_divergence
def test_no_policy_within_the_limit_beats_the_penalised_optimum_of_a_maze(maze, divergence):
    penalty = ActionPenalty(divergence)
    for multiplier in (0.03, 0.1, 0.3, 1.0, 3.0):
        best = penalised_optimum(maze, penalty, multiplier)
        assert abs(excess(best, penalty.marginal_bonus(best))) < 1e-9


@every_divergence
def test_a_linear_program_agrees(maze, divergence):
    """`D` is convex in the visits, so its tangent at the optimum bounds it from below."""
    penalty = ActionPenalty(divergence)
    best = penalised_optimum(maze, penalty, 0.5)
    bound = linear_program(maze, -penalty.marginal_bonus(best), best.divergence)
    assert bound == pytest.approx(best.expected_return, abs=1e-5)


def test_the_constrained_optimum_of_total_variation_is_that_of_a_linear_program():
    """Over visits `d(s, a)` and `u >= |d(s, a) - q d(s)| / 2`, whose sum is the divergence."""
    process = small(20, 4, seed=7)
    states, actions = process.rewards.shape
    size = states * actions
    totals = sparse.kron(sparse.eye_array(states), np.ones((actions, actions)))
    moved = sparse.eye_array(size) - sparse.diags_array(process.behaviour.ravel()) @ totals
    flow, start = flows(process)
    jumps = 0
    for limit in np.linspace(0.2, 2.0, 10):
        solved = optimize.linprog(
            np.concatenate([-process.rewards.ravel(), np.zeros(size)]),
            A_ub=sparse.vstack(
                [
                    sparse.hstack([moved / 2, -sparse.eye_array(size)]),
                    sparse.hstack([-moved / 2, -sparse.eye_array(size)]),
                    np.concatenate([np.zeros(size), np.ones(size)])[None],
                ]
            ),
            b_ub=[*np.zeros(2 * size), limit],
            A_eq=sparse.hstack([flow, sparse.csr_array((states, size))]),
            b_eq=start,
        )
        found, bound = constrained_optimum(process, ActionPenalty(TVD), limit)
        assert found.expected_return == pytest.approx(-solved.fun, abs=1e-6)
        assert bound == pytest.approx(-solved.fun, abs=1e-6)
        assert found.divergence < limit * (1 + 1e-6)
        own = penalised_optimum(process, ActionPenalty(TVD), found.multiplier)
        jumps += own.divergence < limit - 1e-6
    assert jumps  # no multiplier meets such a limit, so visits are mixed


# The bonus in the reward


def learned(process, bonus, divergence, multiplier, rate):
    policy, _ = bonus_policy(process, bonus, multiplier, rate)
    return Candidate(process, ActionPenalty(divergence), policy, multiplier)


def test_with_kl_the_bonus_in_the_reward_leads_to_the_optimum(maze):
    for multiplier in (0.1, 1.0):
        best = penalised_optimum(maze, ActionPenalty(KL), multiplier)
        found = learned(maze, KL.bonus, KL, multiplier, rate=1.0)
        assert abs(best.objective - found.objective) < 1e-7
        assert abs(excess(best, KL.bonus(best.policy, maze.behaviour))) < 1e-7


def test_frozen_at_the_optimum_every_action_is_as_good_as_any_other(maze):
    """So the best policy for that reward is not unique: one that chooses at will loses a lot."""
    best = penalised_optimum(maze, ActionPenalty(KL), 0.3)
    rewards = maze.rewards + 0.3 * KL.bonus(best.policy, maze.behaviour)
    values = rewards + maze.discount * maze.following(best.state_values)
    assert np.ptp(values, axis=1).max() < 1e-8
    rng = np.random.default_rng(0)
    arbitrary = np.eye(5)[rng.integers(5, size=len(values))]
    modified = maze.start @ maze.values(arbitrary, (arbitrary * rewards).sum(1))
    assert modified == pytest.approx(best.objective, abs=1e-7)
    assert best.objective - Candidate(maze, best.penalty, arbitrary, 0.3).objective > 5


@pytest.mark.parametrize("divergence", [JSD, CHI2], ids=["jsd", "chi2"])
def test_with_other_divergences_only_the_marginal_bonus_does(divergence):
    maze, rate = small(20, 4, seed=7), 0.1
    best = penalised_optimum(maze, ActionPenalty(divergence), 1.0)
    right = learned(maze, divergence.marginal_bonus, divergence, 1.0, rate)
    assert abs(best.objective - right.objective) < 1e-5
    wrong = learned(maze, divergence.bounded_bonus, divergence, 1.0, rate)
    assert best.objective - wrong.objective > 0.01
    assert excess(best, divergence.bonus(np.maximum(best.policy, 1e-12), maze.behaviour)) > 0.1


def test_with_chi_square_the_bounded_bonus_halves_the_pull_in_one_state():
    """Where nothing follows, the fixed point is the optimum of half the multiplier."""
    process = replace(small(3, 4, seed=5), discount=0.0, start=np.full(3, 1 / 3))
    found = learned(process, CHI2.bounded_bonus, CHI2, 2.0, rate=0.1)
    half = penalised_optimum(process, ActionPenalty(CHI2), 1.0)
    np.testing.assert_allclose(found.policy, half.policy, atol=1e-6)


def test_the_bonus_frozen_at_the_behaviour_policy_is_none(maze):
    for divergence in DIVERGENCES.values():
        bonus = divergence.bonus(maze.behaviour, maze.behaviour)
        assert best_return(maze, maze.rewards + bonus) == pytest.approx(
            best_return(maze, maze.rewards)
        )


# Trajectories of states


def layered(process, horizon):
    """The process with the step as a part of the state; it ends with the last state."""
    states, actions = process.rewards.shape
    transitions = np.zeros((horizon, states, actions, horizon, states))
    for step in range(horizon - 1):
        transitions[step, :, :, step + 1] = process.transitions
    size = horizon * states
    start = np.zeros(size)
    start[:states] = process.start
    return Process(
        transitions.reshape(size, actions, size),
        np.tile(process.rewards, (horizon, 1)),
        start,
        np.tile(process.behaviour, (horizon, 1)),
        1.0,
    )


def without_end(process):
    """The process with transitions that sum to 1."""
    sums = process.transitions.sum(axis=2, keepdims=True)
    return replace(process, transitions=process.transitions / sums)


def trajectory_probabilities(process, policy, horizon):
    """Probabilities of all `(s_1, ..., s_H)`, from a sum over all sequences of actions."""
    states, actions = process.rewards.shape
    found = []
    for places in itertools.product(range(states), repeat=horizon):
        total = 0.0
        for chosen in itertools.product(range(actions), repeat=horizon - 1):
            chance = process.start[places[0]]
            for t, action in enumerate(chosen):
                chance *= policy[t, places[t], action]
                chance *= process.transitions[places[t], action, places[t + 1]]
            total += chance
        found.append(total)
    return np.array(found)


def test_the_divergence_of_trajectories_is_that_of_all_trajectories():
    horizon = 4
    process = replace(without_end(small(3, 3, seed=1)), start=np.array([0.5, 0.3, 0.2]))
    policy = distributions(horizon * 3, 6, actions=3)
    mine = trajectory_probabilities(process, policy.reshape(horizon, 3, 3), horizon)
    theirs = trajectory_probabilities(process, np.tile(process.behaviour, (horizon, 1, 1)), horizon)
    assert mine.sum() == pytest.approx(1)
    long = layered(process, horizon)
    states, actions = (
        Candidate(long, StatePenalty(), policy),
        Candidate(long, ActionPenalty(KL), policy),
    )
    assert states.divergence == pytest.approx(rel_entr(mine, theirs).sum(), abs=1e-12)
    bonus = StatePenalty().bonus(long, policy)
    assert long.start @ long.values(policy, (policy * bonus).sum(1)) == pytest.approx(
        -states.divergence
    )
    # In the last state, an action cannot matter to the trajectory any more.
    last = np.arange(3 * (horizon - 1), 3 * horizon)
    inner = actions.divergence - actions.visits[last] @ actions.divergences[last]
    assert states.divergence < inner


def test_its_optimum_is_that_of_a_grid_of_all_policies():
    """Two states, two actions, two decisions that matter: three probabilities."""
    process = without_end(small(2, 2, seed=2))
    long, penalty = layered(process, 3), StatePenalty()
    x, y, z = (p.ravel() / 50 for p in np.indices((51, 51, 51)))
    for multiplier in (0.2, 1.0):
        best = penalised_optimum(long, penalty, multiplier)
        assert excess(best, penalty.marginal_bonus(best)) < 1e-4
        last = process.rewards.max(1)
        first, second = (
            np.stack([p, 1 - p], axis=-1)[..., None]
            for p in (np.stack([x, x], axis=1), np.stack([y, z], axis=1))
        )
        step = [(policy * process.transitions).sum(2) for policy in (first, second)]
        base = (process.behaviour[..., None] * process.transitions).sum(1)
        begin = process.start[:, None, None]
        joint = begin * step[0][:, :, :, None] * step[1][:, None]
        theirs = begin * base[:, :, None] * base
        earned = [(policy[..., 0] * process.rewards).sum(2) for policy in (first, second)]
        arrived = process.start @ step[0]
        objectives = earned[0] @ process.start + (arrived * earned[1]).sum(1)
        objectives += joint.sum((1, 2)) @ last
        objectives -= multiplier * rel_entr(joint, theirs).sum((1, 2, 3))
        assert -1e-4 < best.objective - objectives.max() < 2e-3


def test_a_behaviour_policy_that_changes_between_episodes_is_none_of_the_formula():
    """Half of the episodes of the data by each of two policies: no Markov policy does that."""
    horizon, states = 4, 3
    process = replace(without_end(small(states, 3, seed=1)), start=np.array([0.5, 0.3, 0.2]))
    one, two = np.array([[0.8, 0.1, 0.1]] * states), np.array([[0.1, 0.1, 0.8]] * states)
    each = [
        trajectory_probabilities(process, np.tile(policy, (horizon, 1, 1)), horizon)
        for policy in (one, two)
    ]
    data = (each[0] + each[1]) / 2
    # What cloning finds: the mean of the policies, by their visits to each state at each step.
    long = layered(process, horizon)
    visits = [
        long.visits(np.tile(policy, (horizon, 1)))[:, None] * np.tile(policy, (horizon, 1))
        for policy in (one, two)
    ]
    cloned = (visits[0] + visits[1]) / (visits[0] + visits[1]).sum(1, keepdims=True)
    learned = Candidate(replace(long, behaviour=cloned), StatePenalty(), np.tile(one, (horizon, 1)))
    true = rel_entr(each[0], data).sum()
    assert true == pytest.approx(0.2245, abs=5e-5)
    assert learned.divergence == pytest.approx(0.2516, abs=5e-5)


def test_steps_that_are_too_large_never_settle():
    process = small(20, 4, seed=7)
    assert bonus_policy(process, KL.bonus, 0.3, rate=1.0)[1] < 1e-9
    assert bonus_policy(process, KL.bonus, 0.3, rate=3.0)[1] > 0.5


# The lecture, and the numbers of the page


def page_rows():
    """Returns the rows of the page's table: maze, divergence and numbers."""
    titles = {d.title: name for name, d in DIVERGENCES.items()}
    found = []
    for line in (ROOT / "docs" / "theory.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in {"Easy", "Medium"}:
            numbers = [float(cell.replace("\N{MINUS SIGN}", "-").lstrip("<")) for cell in cells[2:]]
            found.append((f"Pointmass{cells[0]}-v0", titles[cells[1]], *numbers))
    return found


@pytest.fixture(scope="module")
def medium():
    return lecture.process_of(MEDIUM)


def test_the_optima_of_the_page(medium):
    processes = {EASY: lecture.process_of(EASY), MEDIUM: medium}
    assert len(page_rows()) == 2 * 4 * 3
    for env_id, name, multiplier, returned, divergence, frozen, *_ in page_rows():
        if env_id == EASY and multiplier < 1:  # the larger grid takes longer
            continue
        process, penalty = processes[env_id], ActionPenalty(DIVERGENCES[name])
        best = penalised_optimum(process, penalty, multiplier)
        assert returned == pytest.approx(best.expected_return, abs=0.006)
        assert divergence == pytest.approx(lecture.per_step(best), abs=0.0006)
        held = DIVERGENCES[name].bonus(np.maximum(best.policy, 1e-12), process.behaviour)
        assert frozen == pytest.approx(excess(best, held), abs=0.006)
        assert abs(excess(best, penalty.marginal_bonus(best))) < 1e-9


def test_what_learning_leads_to_on_the_page(medium):
    for env_id, name, multiplier, *numbers in page_rows():
        if (env_id, name, multiplier) not in {(MEDIUM, "kl", 0.3), (MEDIUM, "jsd", 0.3)}:
            continue
        row = lecture.action_row(env_id, medium, name, multiplier)
        found = (
            row.learned_loss, row.learned_shortfall, row.bounded_loss, row.bounded_shortfall,
            row.marginal_loss,
        )  # fmt: skip
        assert numbers[3:] == pytest.approx(found, abs=0.006)
        if name == "kl":
            assert abs(row.learned_loss) < 2e-8


def test_trajectories_on_the_page(maze):
    penalty = StatePenalty()
    best = penalised_optimum(maze, penalty, 1.0, most=25)
    page = (ROOT / "docs" / "theory.md").read_text()
    says = re.search(r"divergence of (\S+) per step in states and (\S+) in actions", page)
    assert float(says[1]) == pytest.approx(lecture.per_step(best), abs=0.0006)
    assert float(says[2]) == pytest.approx(lecture.action_kl(best), abs=0.0006)
    assert excess(best, penalty.marginal_bonus(best)) < 0.002


def test_the_lecture_writes_figure_and_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lecture, "process_of", lambda env_id: small(20, 4, seed=7))
    monkeypatch.setattr(lecture, "ENVIRONMENTS", (EASY,))
    monkeypatch.setattr(lecture, "DIVERGENCES", {"kl": KL, "chi2": CHI2})
    monkeypatch.setattr(lecture, "MULTIPLIERS", (0.5, 1.0))
    monkeypatch.setattr(lecture, "STATE_MULTIPLIERS", (1.0,))
    monkeypatch.setattr(lecture, "CURVE", 3)
    assert lectures.main(["bonus", "--out", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "bonus.csv",
        "bonus.pdf",
        "bonus.png",
    }
    with (tmp_path / "new" / "bonus.csv").open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * 2 + 1
    row = next(r for r in found if (r["divergence"], r["multiplier"]) == ("chi2", "1.0"))
    best = penalised_optimum(small(20, 4, seed=7), ActionPenalty(CHI2), 1.0)
    assert float(row["optimum"]) == pytest.approx(best.expected_return)
    assert float(row["optimum_divergence"]) == pytest.approx((1 - 0.9) * best.divergence)
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(found)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["bonsu"], "invalid choice: 'bonsu'"), ([], "required: name"), (["bonus", "--ot"], "--ot")],
)
def test_the_script_refuses_bad_input(arguments, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        lectures.main(arguments)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert lectures.main(["bonus", "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
