"""Maps of agents, the figures made of them, and `analyse.py`."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from analysed_runs import add_agent, always, make_run_folder, reload, save_walk
from matplotlib.figure import Figure
from PIL import Image
from test_exact import EASY, evaluated, heading, one_hot

from cs285.analysis import panels
from cs285.analysis.exact import Data
from cs285.analysis.maps import RunMaps, Squares, best_of, counts_of, density_of, maps_of
from cs285.envs.mazes import MAZES, observe
from cs285.report import microscope
from cs285.report.plots import style
from cs285.scripts import analyse

MAZE = MAZES[EASY]
DOWN = 4


@pytest.fixture(scope="module")
def truth():
    """The exact evaluation of a fair policy on Easy."""
    return evaluated(EASY, heading(MAZE))


@pytest.fixture(scope="module")
def run(truth):
    """A run whose agent believes every action to be worth 2 more than it is."""
    data = Data(observe(MAZE, np.array([(0.5, 0.5)] * 3 + [(9.9, 9.9)])), np.array([2, 2, 4, 0]))
    model = truth.chain.model

    def learned(observations):
        found = model.interpolation(observations) @ truth.action_values
        return (found + 2.0).astype(np.float32)

    evaluation = evaluated(EASY, heading(MAZE), values=learned, data=data)
    return RunMaps(
        name="a run", maze=MAZE, discount=0.95, best=best_of(model, 0.95),
        density=density_of(MAZE, data), counts=counts_of(MAZE, data),
        moments=(maps_of(100, evaluation, heading(MAZE), learned),), curves={},
    )  # fmt: skip


def at(array, row, column):
    """The entry of an array over squares at a position."""
    n = len(array) // MAZE.height
    return array[int(row * n), int(column * n)]


def axes():
    return Figure().add_subplot()


def test_amounts_are_spread_over_rectangles_by_area():
    squares = Squares(MAZE, 2)
    lower, upper = np.array([[0.25, 0.0], [0.5, 9.5]]), np.array([[1.0, 0.5], [1.0, 10.0]])
    spread = squares.distribute(lower, upper, np.array([3.0, 5.0]))
    expected = np.zeros((20, 20))
    expected[0, 0], expected[1, 0], expected[1, 19] = 1.0, 2.0, 5.0  # a third is above 0.5
    np.testing.assert_allclose(spread[squares.free], expected[squares.free])
    assert np.isnan(spread[~squares.free]).all()


def test_learned_values_that_are_2_too_high_differ_by_2_everywhere(run):
    free = ~np.isnan(run.last.exact)
    assert free.mean() == pytest.approx(0.36)  # of the cells of Easy
    np.testing.assert_allclose((run.last.learned - run.last.exact)[free], 2.0, atol=1e-4)
    errors = run.errors(run.last)
    assert errors.shape == (10, 10, 5)
    np.testing.assert_allclose(errors[~MAZE.walls], 2.0, atol=1e-4)


def test_values_of_the_policy_are_those_of_its_actions(run, truth):
    """The policy is certain: it goes right in the corridor and down beyond."""
    start = truth.chain.model.interpolation(observe(MAZE, np.array([MAZE.start])))
    assert at(run.last.values, *MAZE.start) == pytest.approx(
        (start @ truth.action_values)[0, 2], abs=0.1
    )
    assert at(run.last.values, 5.0, 9.0) == at(run.last.exact, 5.0, 9.0)[DOWN]


def test_occupancy_sums_to_the_length_of_an_episode(run, truth):
    length = truth.chain.expected_length
    assert np.nansum(run.last.occupancy) == pytest.approx(length)
    assert run.visits(run.last)[~MAZE.walls].sum() == pytest.approx(length)


def test_data_is_counted_by_cell_and_action(run):
    expected = np.zeros((10, 10, 5))
    expected[0, 0, 2], expected[0, 0, 4], expected[9, 9, 0] = 2, 1, 1
    np.testing.assert_array_equal(run.counts, expected)
    assert at(run.density, 0.5, 0.5) == 3
    assert np.nansum(run.density) == 4


def test_nothing_is_lost_where_the_policy_is_best_and_much_where_it_runs_away(run, truth):
    def backwards(observations):
        return one_hot(np.full(len(observations), 1))

    best = run.last.__class__(
        0, None, run.last.exact, np.eye(5)[np.nan_to_num(run.best).argmax(-1)],
        run.last.occupancy, {},
    )  # fmt: skip
    assert np.nanmax(run.loss(best)) == 0
    away = maps_of(0, evaluated(EASY, backwards), backwards, None)
    # One step back and one less forward: two steps, of which the discount leaves a part.
    assert 0.8 < at(run.loss(away), 1.0, 5.0) < 2.0


def test_panels_show_the_maps(run):
    limits = panels.limits_of([run])
    for draw, expected in (
        (panels.draw_learned, run.last.largest_learned),
        (panels.draw_exact, run.last.values),
        (panels.draw_difference, run.last.largest_learned - run.last.values),
        (panels.draw_policy, run.loss(run.last)),
    ):
        ax = axes()
        draw(ax, run, run.last, limits)
        shown = ax.images[0].get_array().filled(np.nan)
        np.testing.assert_array_equal(shown, expected)
    assert limits.difference > 1.9


def test_arrows_point_where_the_policy_goes(run):
    ax = axes()
    panels.draw_policy(ax, run, run.last, panels.limits_of([run]))
    best, own = [found for found in ax.collections if hasattr(found, "U")]
    x, _ = own.get_offsets().T
    right = x < 0.87
    assert (own.U[right] > 0).all()
    assert (own.V[right] == 0).all()
    # y is row / height, and its axis points down.
    assert (own.V[x > 0.88] > 0).all()
    assert ax.get_ylim() == (1, 0)
    x, y = best.get_offsets().T
    assert (best.V[(x > 0.9) & (y < 0.7)] > 0).all()


def test_an_agent_without_estimates_or_data_is_drawn_with_a_remark(run):
    maps = run.last.__class__(
        5, None, run.last.exact, run.last.policy, run.last.occupancy, run.last.numbers
    )
    bare = RunMaps("bare", MAZE, 0.95, run.best, None, None, (maps,), {})
    with style():
        microscope.plots_of([bare])[0].figure().draw_without_rendering()
    ax = axes()
    panels.draw_learned(ax, bare, maps, panels.limits_of([bare]))
    assert any("no values" in text.get_text() for text in ax.texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two finished runs, the first with two snapshots, and their dataset."""
    folder = tmp_path_factory.mktemp("runs")
    first = make_run_folder(folder / "hw5_offline_first", change=always(DOWN))
    for step, action in ((100, 0), (200, 2), (300, DOWN)):
        add_agent(first, reload(first), always(action), step)
    make_run_folder(folder / "hw5_offline_second", "iql", seed=2)
    save_walk(folder / "datasets")
    return folder


def call(capsys, *arguments):
    status = analyse.main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_script_draws_every_run_all_side_by_side_and_curves(folder, tmp_path, capsys):
    runs = [folder / "hw5_offline_first", folder / "hw5_offline_second"]
    flags = ["--out", tmp_path / "out", "--dataset_dir", folder / "datasets"]
    status, out, err = call(capsys, *runs, *flags, "--checkpoints", 2, "--formats", "png")
    assert (status, err) == (0, "")
    for name in ("run1", "run2", "side_by_side", "training"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert min(picture.size) > 300
    assert "a_dqn, seed 1: step 300, exact return" in out
    assert "a_iql, seed 2: step 300" in out


def test_snapshots_come_in_order_and_are_thinned_evenly(folder):
    (run,) = microscope.examine([folder / "hw5_offline_first"], folder / "datasets", 8)
    assert [maps.step for maps in run.moments] == [100, 200, 300]
    # Each agent believes one action to be worth 1 and all others nothing.
    believed = [at(maps.learned, 1.0, 1.0) for maps in run.moments]
    np.testing.assert_array_equal(believed, np.eye(5)[[0, 2, DOWN]])
    assert run.last.numbers["overestimation"] > 1
    assert len(run.counts[~MAZE.walls]) == 36
    assert run.counts.sum() == 400
    pairs = [(step, None) for step in range(100, 1_000, 100)]
    for most in (1, 2, 4):
        steps = [step for step, _ in microscope._thinned(pairs, most)]
        assert len(steps) == most
        assert steps[-1] == 900
        assert all(one < other for one, other in pairwise(steps))


def test_curves_show_what_the_run_logged_and_a_point_for_each_agent(run):
    logged = {"expected_return": np.array([[50.0, 100.0], [-40.0, -14.0]])}
    ax = axes()
    panels.draw_training(ax, [replace(run, curves=logged)], ["red"], "expected_return", "title")
    line, points = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), [[50, -40], [100, -14]])
    expected = [[100, run.last.numbers["expected_return"]]]
    np.testing.assert_array_equal(points.get_xydata(), expected)


def test_one_snapshot_can_be_analysed_alone(folder):
    path = folder / "hw5_offline_first" / "agent_step00000200.pt"
    (run,) = microscope.examine([path], folder / "datasets", 8)
    assert [maps.step for maps in run.moments] == [200]
    assert at(run.last.policy, 1.0, 1.0).tolist() == [0, 0, 1, 0, 0]


def test_without_the_dataset_all_else_is_shown(folder, tmp_path, capsys):
    flags = ["--out", tmp_path, "--dataset_dir", tmp_path, "--formats", "pdf"]
    status, _, err = call(capsys, folder / "hw5_offline_second", *flags)
    assert status == 0
    assert "there is no dataset walk_seed2.npz" in err
    assert not list(tmp_path.glob("*.png"))
    assert (tmp_path / "run1.pdf").read_bytes().startswith(b"%PDF")


def broken(agent):
    next(agent.parameters()).fill_(torch.nan)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path / "nowhere", "does not exist"),
        (lambda path: path, "is not a run folder"),
        (
            lambda path: make_run_folder(path / "hw5_offline_x", env_id="CartPole-v1"),
            "CartPole-v1 has no exact planner, because",
        ),
        (lambda path: make_run_folder(path / "hw5_offline_x", change=broken), "not finite numbers"),
        (
            lambda path: make_run_folder(path / "hw5_offline_x", "iql", change=broken),
            "not finite numbers",
        ),
        (lambda path: of_another_shape(path / "hw5_offline_x"), "do not fit the agent"),
        (
            lambda path: without_agent(path / "hw5_offline_x"),
            "a run saves its agent when it finishes",
        ),
        (lambda path: damaged(path / "hw5_offline_x"), "is damaged, or not an agent"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, make, expected):
    run = make(tmp_path)
    status, out, err = call(capsys, run, "--out", tmp_path / "out", "--dataset_dir", tmp_path)
    assert (status, out) == (2, "")
    errors = [line for line in err.splitlines() if "--dataset_dir names the folder" not in line]
    assert len(errors) == 1
    assert re.match(rf"error: .*{expected}", errors[0])
    assert not (tmp_path / "out").exists()


def of_another_shape(path):
    make_run_folder(path, hidden_size=16)
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("hidden_size: 16", "hidden_size: 8"))
    return path


def without_agent(path):
    make_run_folder(path)
    (path / "agent.pt").unlink()
    return path


def damaged(path):
    make_run_folder(path)
    (path / "agent.pt").write_bytes(b"PK\x03\x04 not an agent")
    return path
