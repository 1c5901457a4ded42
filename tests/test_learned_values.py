"""The report's section on what agents have learned beside what is true."""

import re

import numpy as np
import pytest
from analysed_runs import always, make_run_folder
from test_training import EASY

from cs285.homework import Stage
from cs285.report.collection import Collection, Experiment, Run
from cs285.report.sections.learned_values import learned_values
from cs285.results.event_files import Curve

UP = 3


def experiment(folder, algorithm, env_id=EASY):
    curve = Curve(np.array([300]), np.array([-50.0]))
    run = Run(
        name=folder.name, stage=Stage.OFFLINE, experiment=f"a_{algorithm}", algorithm=algorithm,
        env_id=env_id, seed=1, settings={}, curves={"eval_return": curve}, picture=None, notes=(),
        folder=folder,
    )  # fmt: skip
    return Experiment(f"a_{algorithm}", (run,))


def test_agents_are_shown_and_told_in_numbers(tmp_path):
    """On Easy, who always goes up never arrives; these agents believe that to be worth 1."""
    dqn = make_run_folder(tmp_path / "hw5_offline_dqn", change=always(UP))
    cql = make_run_folder(tmp_path / "hw5_offline_cql", "cql", change=always(UP))
    lost = make_run_folder(tmp_path / "hw5_offline_lost", "iql")
    (lost / "agent.pt").write_bytes(b"damaged")
    gone = make_run_folder(tmp_path / "hw5_offline_gone", "awac")
    (gone / "agent.pt").unlink()
    found = learned_values(
        Collection(
            tuple(
                experiment(folder, name)
                for folder, name in ((dqn, "dqn"), (cql, "cql"), (lost, "iql"), (gone, "awac"))
            ),
            (),
        )
    )
    (section,) = found
    assert [text.split()[0] for text in section.findings] == ["DQN", "CQL"]
    assert len(section.plot.panels) == 8
    returns = [float(re.search(r"return of .(\d+\.\d)", text)[1]) for text in section.findings]
    assert returns == pytest.approx([50.0, 50.0], abs=0.5)
    # Under the discount 0.98, a reward of -1 in every step is worth -50.
    too_high = float(re.search(r"are (\d+\.\d+) too high", section.findings[0])[1])
    assert too_high == pytest.approx(51.0, abs=0.5)


def test_without_agents_there_is_no_section(tmp_path):
    folder = make_run_folder(tmp_path / "hw5_offline_dqn")
    (folder / "agent.pt").unlink()
    assert learned_values(Collection((experiment(folder, "dqn"),), ())) == []
    cartpole = make_run_folder(tmp_path / "hw5_offline_pole", env_id="CartPole-v1")
    members = (experiment(cartpole, "dqn", "CartPole-v1"),)
    assert learned_values(Collection(members, ())) == []
