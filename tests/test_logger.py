"""TensorBoard's reader finds what a run logged, and figures do not pile up."""

import io
import json
import math
import subprocess
import sys
import weakref
from gc import collect

import numpy as np
import pytest
import torch
import yaml
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cs285.datasets import versions as versions_module
from cs285.datasets.versions import git_revision, versions
from cs285.results.run_folders import RunFolder
from cs285.results.sinks import Logger


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()


def test_tensorboard_reads_every_scalar_under_its_tag_and_step(tmp_path):
    with Logger(RunFolder(tmp_path)) as logger:
        for step in range(0, 3000, 1000):
            logger.scalars({"eval_return": -step / 100, "eval/return_std": 0.5}, step)
            logger.scalars({"critic_loss": step}, step)
    events = read(tmp_path)
    assert set(events.Tags()["scalars"]) == {"eval_return", "eval/return_std", "critic_loss"}
    returns = [(event.step, event.value) for event in events.Scalars("eval_return")]
    assert returns == [(0, 0.0), (1000, -10.0), (2000, -20.0)]
    assert [event.value for event in events.Scalars("critic_loss")] == [0, 1000, 2000]


def test_scalars_may_be_tensors_arrays_and_nan(tmp_path):
    with Logger(RunFolder(tmp_path)) as logger:
        values = {"q_values": torch.tensor(1.5), "q_loss": np.float32(2.5), "v_loss": math.nan}
        logger.scalars(values, 1)
    events = read(tmp_path)
    assert events.Scalars("q_values")[0].value == 1.5
    assert events.Scalars("q_loss")[0].value == 2.5
    assert math.isnan(events.Scalars("v_loss")[0].value)


def test_flushed_scalars_are_readable_while_the_run_continues(tmp_path):
    with Logger(RunFolder(tmp_path)) as logger:
        logger.scalars({"epsilon": 0.25}, 7)
        logger.flush()
        (event,) = read(tmp_path).Scalars("epsilon")
        assert (event.step, event.value) == (7, 0.25)


def test_events_reach_the_disk_when_the_run_fails(tmp_path):
    def failing_run():
        with Logger(RunFolder(tmp_path)) as logger:
            logger.scalars({"epsilon": 0.25}, 7)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_run()
    assert read(tmp_path).Scalars("epsilon")[0].value == 0.25


def test_run_folder_holds_event_file_config_and_summary_and_nothing_nested(tmp_path):
    with Logger(RunFolder(tmp_path)) as logger:
        logger.scalars({"eval_return": 1.0, "eval/return_max": 1.0}, 0)
        logger.figure(Figure(), "trajectories_eval", 0)
    RunFolder(tmp_path).write_config({"seed": 1})
    RunFolder(tmp_path).write_summary({"final_return": -20.0})
    config, event_file, summary = sorted(tmp_path.iterdir())
    assert (config.name, summary.name) == ("config.yaml", "summary.json")
    assert event_file.name.startswith("events.out.tfevents.")


def test_logged_figure_is_a_picture_of_its_size(tmp_path):
    figure = Figure(figsize=(3, 2), dpi=50, facecolor="#ff0000")
    with Logger(RunFolder(tmp_path)) as logger:
        logger.figure(figure, "exploration_trajectories_eval", 500)
    (event,) = read(tmp_path).Images("exploration_trajectories_eval")
    image = Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB")
    assert event.step == 500
    assert image.size == (150, 100)
    assert image.getpixel((75, 50)) == (255, 0, 0)


def test_logged_figures_do_not_pile_up(tmp_path):
    plt.close("all")
    alive = []
    with Logger(RunFolder(tmp_path)) as logger:
        for step in range(5):
            for figure in (plt.figure(), Figure()):
                figure.add_subplot().plot([0, 1])
                logger.figure(figure, "trajectories_eval", step)
                alive.append(weakref.ref(figure))
            assert plt.get_fignums() == []
        del figure
        collect()
        assert [reference() for reference in alive] == [None] * 10


def test_written_config_reads_back_equal_and_in_order(tmp_path):
    config = {"exp_name": "größe", "cql_alpha": 0.1, "lr": 3e-4, "sizes": [64, 64], "clip": None}
    RunFolder(tmp_path).write_config(config)
    loaded = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert loaded == config
    assert list(loaded) == list(config)


def test_summary_is_strict_json_with_null_for_numbers_that_are_not_finite(tmp_path):
    summary = {"final": -20.5, "best": math.nan, "by_seed": [1, (math.inf, -math.inf)], "git": None}
    RunFolder(tmp_path).write_summary({"runs": 0})
    RunFolder(tmp_path).write_summary(summary)
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "final": -20.5,
        "best": None,
        "by_seed": [1, [None, None]],
        "git": None,
    }
    assert "NaN" not in text
    assert "Infinity" not in text


def test_versions_match_the_imported_packages():
    found = versions()
    assert set(found) == {"python", "torch", "numpy", "gymnasium", "cs285"}
    assert found["python"] == sys.version.split()[0]
    assert found["numpy"] == np.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


@pytest.fixture
def code_in(tmp_path, monkeypatch):
    monkeypatch.setattr(versions_module, "__file__", str(tmp_path / "logger.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def test_git_revision_is_the_short_hash_of_the_commit(code_in):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=code_in, check=True, capture_output=True, text=True
        ).stdout

    git("init")
    git("commit", "--allow-empty", "--message", "first")
    assert git("rev-parse", "HEAD").startswith(git_revision())
    assert len(git_revision()) >= 7


def test_git_revision_is_none_outside_a_repository(code_in):
    assert git_revision() is None


def test_git_revision_is_none_in_a_repository_without_commits(code_in):
    subprocess.run(["git", "init"], cwd=code_in, check=True, capture_output=True)
    assert git_revision() is None


def test_git_revision_is_none_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


def test_importing_the_logger_imports_neither_tensorboard_nor_matplotlib():
    program = (
        "import sys, cs285.results.sinks, cs285.results.figures;"
        "print([m for m in ('tensorboard', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
