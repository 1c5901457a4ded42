"""Adding an algorithm is three new files and no edit: those of the recipe in CONTRIBUTING.md.

A copy of the tree gets reward-weighted regression that way. Every script then knows it.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from recipes import files_of
from test_training import random_walk

from cs285.datasets.dataset_files import save_dataset

ROOT = Path(__file__).parents[1]

FILES = files_of("Add an algorithm")
"""Contents of the three files, by path."""

# Calls scripts one after the other in one process, which saves the time that imports take; a
# script that is to be stopped gets SIGTERM when it has written its first checkpoint. Pictures are
# drawn where a test looks at them. A flag with a star stands for the one path that it matches.
DRIVER = """
import contextlib, glob, importlib, io, json, os, signal, sys
from unittest import mock

def call(script, *flags, stopped=False, draws=True, checks_code=True):
    said = io.StringIO()
    flags = [path for flag in flags for path in (glob.glob(flag) if "*" in flag else [flag])]
    with contextlib.ExitStack() as stack:
        if not checks_code:
            from cs285.grading.hand_ins.hand_in import grade_path
            from cs285.scripts import make_submission
            grade = lambda path: grade_path(path, check_code=False)
            stack.enter_context(mock.patch.object(make_submission, "grade_own", grade))
        if not draws:
            from cs285.training.program_recorder import ProgramRecorder
            from cs285.training.run_recorder import RunRecorder
            stack.enter_context(mock.patch.object(ProgramRecorder, "draw"))
            stack.enter_context(mock.patch.object(RunRecorder, "draw_learning_curve"))
        if stopped:
            from cs285.training import trainer
            save = trainer.save_checkpoint
            def save_and_stop(*arguments):
                save(*arguments)
                os.kill(os.getpid(), signal.SIGTERM)
            stack.enter_context(mock.patch.object(trainer, "save_checkpoint", save_and_stop))
        stack.enter_context(mock.patch.object(sys, "argv", [script, *flags]))
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        module = importlib.import_module(f"cs285.scripts.{script}")
        try:
            if script.startswith("run_hw5_"):
                import runpy
                runpy.run_path(module.__file__, run_name="__main__")
                status = 0
            else:
                status = module.main(list(flags))
        except SystemExit as error:
            status = error.code or 0
    return status, said.getvalue()

print(json.dumps([call(*flags, **options) for flags, options in json.load(sys.stdin)]))
"""

QUICK = ["-neval", "1", "-ei", "1000", "--log_interval", "2", "--workers", "1", "-ngpu"]


class Tree:
    """A copy of the repository.

    Args:
        root: Where it goes.
        files: Contents of further files, by path.
    """

    def __init__(self, root, files):
        self.root = root
        skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in ("cs285", "experiments"):
            shutil.copytree(ROOT / name, root / name, ignore=skipped)
        for name in ("pyproject.toml", "requirements.txt", "setup.py", "LICENSE"):
            shutil.copy(ROOT / name, root / name)
        for name, text in files.items():
            assert not (root / name).exists()
            (root / name).write_text(text)

    def call(self, *calls):
        """Runs scripts with flags; returns the status and the output of each."""
        jobs = [call if isinstance(call[-1], dict) else (call, {}) for call in calls]
        done = subprocess.run(
            [sys.executable, "-B", "-c", DRIVER],
            input=json.dumps(jobs), cwd=self.root, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def files(self):
        found = (path for path in self.root.rglob("*") if "__pycache__" not in path.parts)
        return sorted(path.relative_to(self.root).as_posix() for path in found)


def test_the_recipe_is_an_agent_a_config_and_an_experiment():
    assert [Path(name).parts[:2] for name in FILES] == [
        ("cs285", "agents"), ("cs285", "env_configs"), ("experiments", "offline"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with the three files, in which everything that the tests read has been trained."""
    tree = Tree(tmp_path_factory.mktemp("tree"), FILES)
    (tree.root / "datasets").mkdir()
    for seed in (1, 2):
        path = tree.root / "datasets" / f"pointmass_easy_rnd_seed{seed}.npz"
        save_dataset(path, random_walk(120, seed))
    write = (tree.root / "tune.yaml").write_text
    write("base_config: rwr\nenv_name: PointmassEasy-v0\noffline_steps: 6\nonline_steps: 6\n")
    (tree.root / "sweep.yaml").write_text(
        "base_config: rwr\nenv_name: PointmassEasy-v0\n"
        "sweep: {learning_rate: [0.01, 0.1], seed: [1, 2]}\n"
    )
    (tree.root / "dqn.yaml").write_text(
        "base_config: dqn\nenv_name: PointmassEasy-v0\ntraining_steps: 120\n"
    )
    offline = ["run_hw5_offline", "-cfg", "experiments/offline/pointmass_easy_rwr.yaml"]
    few = ["--steps_fraction", "0.00012"]  # 12 of 100,000
    tune = ["run_hw5_finetune", "-cfg", "tune.yaml"]
    sweep = ["-cfg", "sweep.yaml"]
    part = ["--checkpoint_interval", "4"]

    def at(place):
        return ["--data_dir", place, "--visualization_dir", "pictures"]

    calls = []
    for stage, command in (("offline", [*offline, *few]), ("finetune", tune)):
        command += [*QUICK]
        script = command[0]
        quietly = {"draws": False}
        calls += [
            ([*command, *at(f"{stage}/alone"), "--compile", "off"], quietly),
            ([*command, *at(f"{stage}/compiled"), "--compile", "on"], quietly),
            ([*command, *at(f"{stage}/stopped"), "--compile", "off", *part],
             {"stopped": True} | quietly),
            ([script, *sweep, *QUICK, *at(f"{stage}/sweep"), "--compile", "off",
              "--steps_fraction", "0.0002"], quietly),
        ]  # fmt: skip
    calls += [
        [*offline, *few, *QUICK, *at("data")],
        [*tune, *QUICK, *at("data")],
        ["run_hw5_offline", "-cfg", "dqn.yaml", *few[:1], "0.1", *QUICK, *at("data")],
        ["show_results", "--data_dir", "data"],
        ["make_report", "--data_dir", "data", "--out", "report"],
        (["run_hw5_offline", "--resume", "offline/stopped/*"], quietly),
        (["run_hw5_finetune", "--resume", "finetune/stopped/*"], quietly),
        (["make_submission", "--data_dir", "data", "--out", "submit.zip", "--allow_missing",
          "--json"], {"checks_code": False}),
    ]  # fmt: skip
    statuses = {"--checkpoint_interval": 143, "--allow_missing": 1}  # most runs are missing
    for (script, *flags), (status, said) in zip(
        (call[0] if isinstance(call[-1], dict) else call for call in calls),
        tree.call(*calls),
        strict=True,
    ):
        (expected,) = {statuses.get(flag, 0) for flag in flags} - {0} or {0}
        assert status == expected, (script, flags, said)
        tree.said = getattr(tree, "said", {}) | {script: said}
    return tree


def runs_of(tree, place):
    return sorted((tree.root / place).iterdir())


def weights(folder):
    return torch.load(folder / "agent.pt", weights_only=True)


stages = pytest.mark.parametrize("stage", ["offline", "finetune"])


@stages
def test_it_trains_alone_and_imitates(tree, stage):
    (folder,) = runs_of(tree, f"{stage}/alone")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["algorithm"], summary["status"], summary["total_steps"]) == (
        "rwr", "finished", 12,
    )  # fmt: skip
    assert all(tensor.isfinite().all() for tensor in weights(folder).values())


@stages
def test_it_compiles_to_the_same_weights(tree, stage):
    (alone,), (compiled,) = (runs_of(tree, f"{stage}/{way}") for way in ("alone", "compiled"))
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(compiled)[name], tensor, rtol=1e-4, atol=1e-5)


@stages
def test_it_resumes_exactly(tree, stage):
    (alone,), (resumed,) = (runs_of(tree, f"{stage}/{way}") for way in ("alone", "stopped"))
    assert not list(resumed.glob("checkpoint*"))
    for name, tensor in weights(alone).items():
        assert torch.equal(weights(resumed)[name], tensor), name


@stages
def test_its_sweep_trains_as_one_program(tree, stage):
    folders = runs_of(tree, f"{stage}/sweep")
    assert len(folders) == 4
    (record,) = [
        record
        for record in (json.loads((folder / "sweep.json").read_text()) for folder in folders)
        if "programs" in record
    ]
    assert [sorted(program) for program in record["programs"]] == [[one.name for one in folders]]


def test_it_is_in_the_table_of_results(tree):
    words = [line.split()[:3] for line in tree.said["show_results"].splitlines()]
    assert words.count(["PointmassEasy-v0", "rwr", "pointmass_easy_rwr"]) == 1
    assert words.count(["PointmassEasy-v0", "rwr", "tune"]) == 1
    # After the algorithms of the handout.
    names = [line[1] for line in words if line[:1] == ["PointmassEasy-v0"]]
    assert names == ["dqn", "rwr", "rwr"]


def test_it_has_sections_and_figures_in_the_report(tree):
    page = (tree.root / "report" / "index.html").read_text()
    assert "RWR: offline learning" in page
    assert "RWR: fine-tuning" in page
    assert "On Easy DQN ended at" in page
    assert " and RWR ended at" in page
    assert "no algorithm" not in page
    figures = {path.name for path in (tree.root / "report" / "figures").iterdir()}
    assert {"A.1_rwr.png", "A.1_rwr.pdf", "A.2_finetuning.png"} <= figures
    drawn = [base64.b64decode(data) for data in re.findall(r"svg\+xml;base64,([\w+/=]+)", page)]
    assert sum(b"#225588" in picture for picture in drawn) == 4  # both, wide and narrow


def test_it_is_in_the_hand_in_and_costs_no_points(tree):
    from cs285.grading.hand_ins.hand_in import grade_path

    with zipfile.ZipFile(tree.root / "submit.zip") as archive:
        names = archive.namelist()
        readme = archive.read("README.md").decode()
    assert "cs285/agents/rwr_agent.py" in names
    assert "experiments/offline/pointmass_easy_rwr.yaml" in names
    folders = {name.split("/")[1] for name in names if name.startswith("data/")}
    assert len(folders) == 3
    assert any(name.startswith("q2_hw5_offline_pointmass_easy_rwr_sd1") for name in folders)
    assert any(name.startswith("q5_hw5_finetune_tune_sd1") for name in folders)
    assert readme.count("| PointmassEasy-v0 | RWR | 1 |") == 2
    # A course's grader does not know the algorithm: this one is of the tree without it.
    graded = grade_path(tree.root / "submit.zip", check_code=False)
    for item in graded.items:
        if item.name in {"Names of run folders", "Logs", "Size"}:
            assert item.score == item.maximum, item


def test_it_is_refused_where_it_cannot_run_and_other_algorithms_refuse_its_keys(tree):
    (tree.root / "slip.yaml").write_text(
        "base_config: rwr\nenv_name: PointmassEasy-v0\nlearning_rat: 1\nexpectile: 0.9\n"
    )
    before = tree.files()
    explored, slipped = tree.call(
        ["run_hw5_explore", "-cfg", "experiments/offline/pointmass_easy_rwr.yaml",
         "--data_dir", "nowhere", "--dataset_dir", "nowhere"],
        ["run_hw5_offline", "-cfg", "slip.yaml"],
    )  # fmt: skip
    status, said = explored
    assert status == 2
    assert said == (
        "error: experiments/offline/pointmass_easy_rwr.yaml: `rwr` cannot explore; "
        "run it with run_hw5_offline.py or run_hw5_finetune.py\n"
    )
    status, said = slipped
    assert status == 2
    assert "unknown key `learning_rat` (did you mean `learning_rate`?)" in said
    assert "unknown key `expectile`, which is for iql" in said
    assert tree.files() == before


@pytest.mark.parametrize("same_class_name", [False, True])
def test_an_algorithm_registered_twice_is_one_sentence(tmp_path, same_class_name):
    text = FILES["cs285/env_configs/rwr_config.py"]
    other = text if same_class_name else text.replace("RWRConfig", "OtherConfig")
    tree = Tree(tmp_path / "tree", FILES | {"cs285/env_configs/twin_config.py": other})
    before = tree.files()
    (tree.root / "data").mkdir()
    calls = [
        ["run_hw5_offline", "-cfg", "experiments/offline/pointmass_easy_rwr.yaml"],
        ["make_report", "--data_dir", "experiments", "--out", "report"],
        ["make_submission", "--out", "submit.zip"],
    ]
    for status, said in tree.call(*calls):
        assert status == 2
        assert said == (
            "error: the algorithm `rwr` is registered twice, by cs285.env_configs.rwr_config and "
            "by cs285.env_configs.twin_config; give one of them another name\n"
        )
    assert tree.files() == sorted([*before, "data"])
