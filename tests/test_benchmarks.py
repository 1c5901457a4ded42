"""The benchmark's contenders are faithful, its arithmetic is right, its failures become rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cs285.env_configs.loading import make_config
from cs285.training.runs import make_agent

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def config_of(algorithm, **values):
    # Contenders see observations unscaled.
    plain = {"base_config": algorithm, "env_name": "PointmassMedium-v0", "input_scale": None}
    values = {**plain, **values}
    if algorithm == "rnd":
        values |= {"rnd_hidden_size": 400, "rnd_num_layers": 2, "rnd_dim": 5}
    return make_config(values, Path("test.yaml"), "offline")


# A pass through 2x64 with 2 inputs and 5 outputs at batch 128; its gradients of weights are as
# much again, those of the inputs of its last two layers 2 * 128 * (64 * 64 + 64 * 5).
CRITIC = 2 * 128 * (2 * 64 + 64 * 64 + 64 * 5)
CRITIC_GRADIENTS = CRITIC + 2 * 128 * (64 * 64 + 64 * 5)
VALUE = 2 * 128 * (2 * 64 + 64 * 64 + 64 * 1)
VALUE_GRADIENTS = VALUE + 2 * 128 * (64 * 64 + 64 * 1)
ACTOR = 2 * 128 * (2 * 128 + 128 * 128 + 128 * 5)
ACTOR_GRADIENTS = ACTOR + 2 * 128 * (128 * 128 + 128 * 5)
RND = 2 * 128 * (2 * 400 + 400 * 400 + 400 * 5)
RND_GRADIENTS = RND + 2 * 128 * (400 * 400 + 400 * 5)
DOUBLE_DQN = 3 * CRITIC + CRITIC_GRADIENTS


@pytest.mark.parametrize(
    ("algorithm", "by_hand", "millions"),
    [
        ("dqn", DOUBLE_DQN, 5.8),
        ("cql", DOUBLE_DQN, 5.8),
        ("awac", 3 * CRITIC + CRITIC_GRADIENTS + 2 * ACTOR + ACTOR_GRADIENTS, 23.4),
        (
            "iql",
            2 * CRITIC + CRITIC_GRADIENTS + 3 * VALUE + VALUE_GRADIENTS + ACTOR + ACTOR_GRADIENTS,
            23.3,
        ),
        ("rnd", DOUBLE_DQN + 2 * RND + RND_GRADIENTS, 172.3),
    ],
)
def test_operations_of_an_update_equal_the_count_by_hand(algorithm, by_hand, millions):
    from flops import update_flops

    counted = update_flops(config_of(algorithm).model_dump())
    assert counted == by_hand
    assert counted / 1e6 == pytest.approx(millions, abs=0.05)


def test_operations_follow_the_config():
    from flops import update_flops

    single = config_of("cql", use_double_q=False).model_dump()
    assert update_flops(single) == DOUBLE_DQN - CRITIC
    kept = update_flops(config_of("rnd").model_dump(), caches_targets=True)
    assert kept == DOUBLE_DQN + RND + RND_GRADIENTS
    larger = config_of("cql", batch_size=256).model_dump()
    assert update_flops(larger) == 2 * DOUBLE_DQN


NETWORKS = {
    "dqn": ["critic", "target_critic"],
    "cql": ["critic", "target_critic"],
    "awac": ["critic", "target_critic", "actor"],
    "iql": ["critic", "actor", "value_critic", "target_value_critic"],
    "rnd": ["critic", "target_critic", "rnd_net", "rnd_target_net"],
}


@pytest.fixture(params=NETWORKS)
def both(request):
    """Our agent and the starter-style one with equal weights, and target networks that differ."""
    from contenders.starter import AGENTS

    config = config_of(request.param, target_update_period=2, discount=0.9)
    ours, theirs = make_agent(config), AGENTS[request.param](config.model_dump())
    torch.manual_seed(0)
    with torch.no_grad():
        for name in NETWORKS[request.param]:
            for parameter in getattr(ours, name).parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            weights = list(getattr(ours, name).state_dict().values())
            network = getattr(theirs, name)
            network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    return request.param, ours, theirs


def test_starter_style_agent_has_the_same_losses(both, make_batch):
    algorithm, ours, theirs = both
    batch = make_batch(128)
    losses = {"compute_critic_loss": batch}
    if algorithm in {"awac", "iql"}:
        losses["compute_actor_loss"] = batch[:2]
    if algorithm == "iql":
        losses["compute_value_loss"] = batch[:2]
    if algorithm == "rnd":
        losses["compute_errors"] = batch[:1]
    for name, inputs in losses.items():
        expected, found = getattr(ours, name)(*inputs), getattr(theirs, name)(*inputs)
        expected, found = (x[0] if isinstance(x, tuple) else x for x in (expected, found))
        torch.testing.assert_close(found, expected, msg=name)


def test_starter_style_agent_takes_the_same_steps(both, make_batch):
    algorithm, ours, theirs = both
    for step in range(1, 4):
        ours.update(*make_batch(128, seed=step), step)
        theirs.update(*make_batch(128, seed=step), step=step)
    for name in NETWORKS[algorithm]:
        networks = (getattr(agent, name).parameters() for agent in (ours, theirs))
        for expected, found in zip(*networks, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_contenders_take_turns_and_one_that_fails_leaves_a_reason():
    from measure import ContenderError, interleave

    turns = []

    def take(name):
        turns.append(name)
        if name == "b" and len(turns) > 3:
            raise ContenderError("out of memory")
        return float(len(turns))

    takes = {name: lambda name=name: take(name) for name in "abc"}
    timings = interleave(takes, repeats=3)
    assert "".join(turns) == "abcabcac"
    assert timings["b"].problem == "out of memory"
    assert timings["a"].values == [1, 4, 7]
    assert timings["a"].median == 4


def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path):
    from measure import ContenderError, Worker, end_group

    (tmp_path / "d3rlpy.py").write_text("raise ModuleNotFoundError(name='d3rlpy')")
    worker = Worker(sys.executable, "d3rlpy", tmp_path / "log", {"PYTHONPATH": str(tmp_path)})
    try:
        with pytest.raises(ContenderError, match=r"not measured \(pip install .*bench"):
            worker.ask(case="a", prepare={})
    finally:
        end_group(worker.process)


def test_a_process_that_fails_is_reported_with_its_last_words():
    from measure import ContenderError, run

    with pytest.raises(ContenderError, match="exit status 3: farewell"):
        run([sys.executable, "-c", "print('farewell'); raise SystemExit(3)"])


def test_targets_compare_what_was_measured_with_what_was_promised():
    from measure import Timing
    from sections import Row
    from targets import Results, Target

    rows = [
        Row("a", "starter", "s", Timing([9.0, 10.0, 30.0])),
        Row("a", "ours, S=1", "s", Timing([1.9, 2.0, 2.1])),
        Row("a", "broken", "s", Timing([1.0], problem="exit status 1")),
    ]
    results = Results(rows)
    faster = Target("times starter", 5, lambda found: found.ratio("a", "starter", "ours"))
    assert faster.row(results) == {
        "target": "times starter",
        "measured": 5.0,
        "bound": "at least 5",
        "met": True,
    }
    slow = Target("seconds", 1.5, lambda found: found.median("a", "ours"), at_most=True)
    assert slow.row(results)["met"] is False
    unknown = Target("seconds", 1.5, lambda found: found.median("a", "broken"))
    assert unknown.row(results)["met"] is None


def test_command_writes_a_table_and_a_json_file(tmp_path):
    out = tmp_path / "results.json"
    command = [sys.executable, BENCHMARKS / "run.py", "--quick", "--only", "matmul", "gpu"]
    done = subprocess.run(
        [*command, "--repeats", "1", "--out", out], capture_output=True, text=True, check=True
    )
    report = json.loads(out.read_text())
    assert report["machine"]["torch"] == torch.__version__
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["1024x1024x1024"]["median"] > 0
    assert rows["1024x1024x1024"]["unit"] == "GFLOP/s"
    if not torch.cuda.is_available():
        assert rows["S=1024"]["problem"] == "not measured: no GPU"
    assert {target["met"] for target in report["targets"]} == {None}
    assert "1024x1024x1024" in done.stdout
