"""The three scripts refuse bad input: exit status 2, one clear sentence, nothing written."""

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_training import EASY, random_walk

from cs285.datasets.dataset_files import save_dataset
from cs285.homework import Stage
from cs285.scripts import (
    analyse,
    check_solution,
    convert_dataset,
    grade,
    make_gradescope,
    make_report,
    make_student_version,
    make_submission,
    self_check,
    show_results,
    training_flags,
)
from cs285.scripts.arguments import ArgumentParser
from cs285.training import door, preparation

ROOT = Path(__file__).parent.parent
QUICK = ["-neval", "1", "--compile", "off", "-ngpu"]
SETTINGS = {
    "explore": "total_steps: 40\nlearning_starts: 20",
    "offline": "training_steps: 2",
    "finetune": "offline_steps: 2\nonline_steps: 2",
}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with a config for every stage: `explore/run.yaml` and so on."""
    monkeypatch.chdir(tmp_path)
    for stage, steps in SETTINGS.items():
        write_config(Path(stage, "run.yaml"), steps, "dqn" if stage != "explore" else "random")
    return tmp_path


def write_config(path, lines="", algorithm="dqn"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"base_config: {algorithm}\nenv_name: {EASY}\n{lines}\n")
    return path


@pytest.fixture
def call(desk, monkeypatch, capsys):
    """Calls a script in this process; returns its exit status and what it wrote to stderr."""

    def call(stage, *flags):
        command = [f"run_hw5_{stage}.py", *map(str, flags)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            training_flags.main(Stage(stage), "")
        return stopped.value.code, capsys.readouterr().err

    return call


@pytest.fixture
def complaint(call, desk):
    """Calls a script that must refuse its input; returns the one sentence of its error."""

    def complaint(stage, *flags):
        before = sorted(desk.rglob("*"))
        status, said = call(stage, *flags)
        assert status == 2
        assert "Traceback" not in said
        assert sorted(desk.rglob("*")) == before
        return re.fullmatch(r"error: (.*)\n", said)[1]

    return complaint


def save_data(name="pointmass_easy_rnd", size=5):
    """Writes the dataset that the configs of the two learning stages read."""
    Path("datasets").mkdir(exist_ok=True)
    path = Path("datasets", f"{name}_seed1.npz")
    save_dataset(path, random_walk(size, seed=1))
    return path


every_stage = pytest.mark.parametrize("stage", Stage)
reading_stage = pytest.mark.parametrize("stage", ["offline", "finetune"])

# Flags


@every_stage
@pytest.mark.parametrize(
    "flags",
    [
        ["--seed", "-1"],
        ["--seed", "1.5"],
        ["--seed", "one"],
        ["--seed", "1" * 5000],
        ["--seed", "1", "--seeds", "2"],
        ["--seeds"],
        ["-ei", "0"],
        ["-vi", "-3"],
        ["-neval", "0"],
        ["--log_interval", "0"],
        ["--steps_fraction", "0"],
        ["--steps_fraction", "2"],
        ["--steps_fraction", "nan"],
        ["--compile", "maybe"],
        ["--workers", "0"],
        ["--workers", "many"],
        ["-gpu_id", "-1"],
        ["--evaluation_interval", "3"],
        ["-ngpu", "stray"],
    ],
    ids="_".join,
)
def test_bad_flags_are_refused(complaint, stage, flags):
    error = complaint(stage, "-cfg", f"{stage}/run.yaml", *flags)
    assert any(word in error for word in (flags[0], flags[-1]))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--eval_intervall", "9"], "unknown argument --eval_intervall (did you mean `--eval_int"),
        (["--eval_intervall=9"], "unknown argument --eval_intervall (did you mean `--eval_int"),
        (["--seed", "one"], "--seed: must be a whole number of at least 0, not 'one'"),
        (["-ei", "0"], "must be a whole number of at least 1, not '0'"),
        (["--steps_fraction", "0"], "must be a number above 0 and at most 1, not '0'"),
        (["--workers", "all"], "must be auto, or must be a whole number of at least 1, not 'all'"),
    ],
    ids="_".join,
)
def test_messages_about_bad_flags_say_what_would_be_right(complaint, flags, expected):
    assert expected in complaint("offline", "-cfg", "offline/run.yaml", *flags)


def test_a_misspelt_flag_is_reported_before_the_missing_one(complaint):
    assert "(did you mean `--config_file`?)" in complaint("offline", "--confg_file", "a.yaml")


def test_config_files_and_seeds_of_all_flags_count():
    parse = training_flags.make_parser("offline", "").parse_args
    together = parse(["-cfg", "a", "b", "--seeds", "1", "2"])
    assert parse(["-cfg", "a", "--seeds", "1", "-cfg", "b", "--seeds", "2"]) == together


def test_a_config_file_is_required(complaint):
    assert "-cfg" in complaint("explore")


def test_seeds_beyond_32_bits_are_refused(complaint):
    assert "`seed` must be less than" in complaint(
        "explore", "-cfg", "explore/run.yaml", "--seed", 2**32
    )


def test_flags_of_the_assignment_are_known():
    common = "--seed 4 --log_interval 5 --use_reward --dataset_dir d"
    short = f"{common} -cfg a -ei 1 -vi 2 -neval 3 -ngpu -gpu_id 0"
    long = (
        f"{common} --config_file a --eval_interval 1 --visualize_interval 2 "
        "--num_eval_trajectories 3 --no_gpu --which_gpu 0"
    )
    parser = training_flags.make_parser("explore", "")
    arguments = parser.parse_args(short.split())
    assert arguments == parser.parse_args(long.split())
    assert (arguments.eval_interval, arguments.which_gpu, arguments.use_reward) == (1, 0, True)


def test_metrics_are_logged_every_1000_steps_by_default():
    assert training_flags.make_parser("offline", "").parse_args(["-cfg", "a"]).log_interval == 1000


@pytest.mark.parametrize("stage", ["offline", "finetune"])
@pytest.mark.parametrize("algorithm", ["random", "rnd"])
def test_explorers_are_refused_in_the_other_stages(complaint, stage, algorithm):
    config = write_config(Path("other.yaml"), algorithm=algorithm)
    assert "run it with run_hw5_explore.py" in complaint(stage, "-cfg", config)


@pytest.mark.parametrize("algorithm", ["cql", "awac", "iql"])
def test_algorithms_that_learn_from_data_alone_do_not_explore(complaint, algorithm):
    config = write_config(Path("other.yaml"), algorithm=algorithm)
    assert "cannot explore; run it with run_hw5_offline.py or run_hw5_finetune.py" in complaint(
        "explore", "-cfg", config
    )


@pytest.mark.parametrize(
    ("stage", "algorithm"),
    [("explore", "random"), ("explore", "dqn"), ("offline", "dqn"), ("finetune", "dqn")],
)
def test_use_reward_says_where_it_has_no_effect(call, stage, algorithm):
    """A flag of the public starter's scripts; it stops nothing."""
    config = write_config(Path("other.yaml"), "temprature: 1", algorithm=algorithm)
    status, said = call(stage, "-cfg", config, "--use_reward")
    assert (status, "unknown key `temprature`" in said) == (2, True)
    configs = preparation.read_configs(
        Stage(stage), [write_config(Path("other.yaml"), algorithm=algorithm)], use_reward=True
    )
    assert [one.base_config for one in configs] == [algorithm]


def test_flags_of_the_starter_without_effect_say_so(call):
    save_data()
    flags = ["-nvid", 3, "--use_reward", "-gpu_id", 1, "--dataset_dir", "datasets", *QUICK]
    status, said = call("offline", "-cfg", "offline/run.yaml", *flags)
    assert status == 0
    lines = [line for line in said.splitlines() if " has no effect" in line]
    for line, start in zip(
        lines, ("num_render_trajectories", "which_gpu", "use_reward"), strict=True
    ):
        assert line.startswith(f"--{start} has no effect")


@every_stage
@pytest.mark.parametrize(
    "flags",
    [
        ["--eval_interval", 3, "--num_eval_trajectories", 1, "--num_render_trajectories", 0],
        ["-ei", 3, "-neval", 1, "-nvid", 2, "--seed", 4, "-ngpu", "-gpu_id", 0],
        ["--no_gpu", "--which_gpu", 0, "--log_interval", 1, "--visualize_interval", 5],
        ["-vi", 5, "--use_reward", "--dataset_dir", "d"],
    ],
    ids=lambda flags: str(flags[0]),
)
def test_every_script_takes_all_flags_of_the_starter(stage, flags):
    parser = training_flags.make_parser(stage, "")
    assert parser.parse_args(["-cfg", "a.yaml", *map(str, flags)])


@pytest.mark.parametrize(
    ("asked", "there"), [("finetuning", "finetune"), ("finetune", "finetuning")]
)
def test_both_names_of_the_folder_for_fine_tuning_are_known(call, asked, there):
    save_data()
    write_config(Path(there, "a.yaml"), "total_steps: 4\noffline_steps: 2")
    status, said = call("finetune", "-cfg", f"{asked}/a.yaml", *QUICK)
    assert status == 0
    assert f"{asked}/a.yaml does not exist; reading {there}/a.yaml instead\n" in said
    assert door._stage_of(Path(there, "a.yaml")) is Stage.FINETUNE
    assert "no such config file" in call("finetune", "-cfg", f"{asked}/b.yaml")[1]
    assert "no such config file" in call("offline", "-cfg", "offline/b.yaml")[1]


# Configs


@every_stage
def test_a_missing_config_is_refused(complaint, stage):
    error = complaint(stage, "-cfg", f"{stage}/runs.yaml")
    assert "no such config file (did you mean `run.yaml`?)" in error


@every_stage
def test_an_unreadable_config_is_refused(complaint, stage):
    assert "explore: cannot be read" in complaint(stage, "-cfg", "explore")


@every_stage
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hiden_size: 64", "unknown key `hiden_size` (did you mean `hidden_size`?)"),
        ("batch_size: -5", "`batch_size` must be"),
        ("batch_size: many", "`batch_size` must be"),
        ("base_config: dqm", "key 'base_config' is given twice"),
        ("exp_name: !!python/object/apply:os.mkdir [canary]", "only plain YAML values"),
        ("dataset_name: ../secret", "must be a plain name"),
        ("exp_name: a/b", "must be a plain name"),
        ("]", "line 3"),
    ],
)
def test_bad_configs_are_refused(complaint, stage, line, expected):
    config = write_config(Path("bad.yaml"), line)
    assert expected in complaint(stage, "-cfg", f"{stage}/run.yaml", config)


def test_a_config_of_another_stage_is_refused(complaint):
    assert "is for run_hw5_offline.py" in complaint("explore", "-cfg", "offline/run.yaml")


# Duplicate runs


@every_stage
@pytest.mark.parametrize(
    "flags",
    [
        ["run.yaml", "run.yaml"],
        ["run.yaml", "-cfg", "run.yaml"],
        ["run.yaml", "--seeds", "1", "2", "1"],
    ],
    ids="_".join,
)
def test_the_same_run_is_not_trained_twice(complaint, stage, flags):
    located = [f"{stage}/{flag}" if flag.endswith("yaml") else flag for flag in flags]
    assert "`exp_name` 'run' with seed 1 is requested twice" in complaint(stage, "-cfg", *located)


def test_two_explorations_do_not_write_one_dataset(complaint):
    configs = [write_config(Path(name), "dataset_name: same") for name in ("a.yaml", "b.yaml")]
    assert "`dataset_name` 'same'" in complaint("explore", "-cfg", *configs)


# Datasets


@reading_stage
def test_a_missing_dataset_names_the_command_that_makes_it(complaint, stage):
    error = complaint(stage, "-cfg", f"{stage}/run.yaml", "--seed", 4, "--dataset_dir", "my data")
    assert "there is no dataset pointmass_easy_rnd_seed4.npz in my data" in error
    assert shlex.split(error.split("`")[1]) == [
        *("python", "cs285/scripts/run_hw5_explore.py"),
        *("-cfg", "experiments/exploration/pointmass_easy_rnd.yaml"),
        *("--dataset_dir", "my data", "--seed", "4"),
    ]


@reading_stage
def test_a_missing_folder_of_datasets_is_reported_as_missing(complaint, stage):
    save_data()
    error = complaint(stage, "-cfg", f"{stage}/run.yaml", "--dataset_dir", "datasetz")
    assert "in datasetz, a folder that does not exist (did you mean `datasets`?); make it" in error


@reading_stage
def test_a_file_is_not_a_folder_of_datasets(complaint, stage):
    error = complaint(stage, "-cfg", f"{stage}/run.yaml", "--dataset_dir", save_data())
    assert "is a file; give the folder that contains it" in error


@reading_stage
def test_a_dataset_of_another_environment_is_refused(complaint, stage):
    save_data().rename("datasets/pointmass_hard_rnd_seed1.npz")
    config = write_config(Path("hard.yaml"))
    config.write_text(config.read_text().replace("Easy", "Hard"))
    error = complaint(stage, "-cfg", config)
    assert "collected in 'PointmassEasy-v0', not in 'PointmassHard-v0'" in error


@reading_stage
@pytest.mark.parametrize("kept", [0, 10, 600, -1])
def test_a_truncated_dataset_is_refused_and_left_alone(complaint, stage, kept):
    path = save_data()
    content = path.read_bytes()[:kept]
    path.write_bytes(content)
    assert "damaged, truncated" in complaint(stage, "-cfg", f"{stage}/run.yaml")
    assert path.read_bytes() == content


@reading_stage
def test_an_empty_dataset_is_refused(complaint, stage):
    path = save_data()
    with np.load(path) as arrays:
        empty = {k: arrays[k][:0] if arrays[k].shape else arrays[k] for k in arrays}
    np.savez(path, **empty)
    assert "contains no transitions" in complaint(stage, "-cfg", f"{stage}/run.yaml")


def test_one_missing_dataset_of_several_stops_all_runs(complaint):
    save_data()
    error = complaint("offline", "-cfg", "offline/run.yaml", "--seeds", 1, 2)
    assert "pointmass_easy_rnd_seed2.npz" in error


# Folders


@pytest.mark.parametrize("flag", ["--data_dir", "--dataset_dir", "--visualization_dir"])
@pytest.mark.parametrize("below", ["", "/deeper"])
def test_an_unwritable_folder_is_refused(call, desk, flag, below):
    Path("taken").write_text("a file")
    status, said = call("explore", "-cfg", "explore/run.yaml", flag, f"taken{below}")
    assert status == 2
    assert re.fullmatch(r"error: cannot write to the folder taken.*\n", said)
    assert Path("taken").read_text() == "a file"
    configs = {desk / stage / "run.yaml" for stage in Stage}
    assert {path for path in desk.rglob("*") if path.is_file()} == configs | {desk / "taken"}


def test_a_folder_of_the_kernel_is_refused(complaint):
    assert "cannot write" in complaint("explore", "-cfg", "explore/run.yaml", "--data_dir", "/proc")


# As processes


def run(command, folder):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_process_ends_with_status_2_and_a_sentence(desk):
    script = ROOT / "cs285" / "scripts" / "run_hw5_finetune.py"
    done = run([sys.executable, script, "-cfg", "missing.yaml"], desk)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: missing.yaml: no such config file\n"


def test_the_command_that_an_error_names_makes_the_missing_dataset(call, desk):
    """In a folder like the repository, but with an exploration of few steps."""
    (desk / "cs285").symlink_to(ROOT / "cs285")
    explored = desk / "experiments" / "exploration" / "pointmass_easy_rnd.yaml"
    explored.parent.mkdir(parents=True)
    write_config(explored, "total_steps: 20", algorithm="rnd")
    offline = ["offline", "-cfg", "offline/run.yaml", "--dataset_dir", "my data", *QUICK]
    status, said = call(*offline)
    assert status == 2
    done = run(["bash", "-c", said.split("`")[1]], desk)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in Path("my data").iterdir()] == ["pointmass_easy_rnd_seed1.npz"]
    assert call(*offline)[0] == 0
    names = sorted(folder.name.rsplit("_", 2)[0] for folder in Path("data").iterdir())
    assert names == ["hw5_explore_pointmass_easy_rnd_sd1", "hw5_offline_run_sd1"]


TOOLS = [
    *(check_solution, convert_dataset, grade, make_gradescope, make_report, make_student_version),
    *(analyse, make_submission, self_check, show_results),
]
every_script = pytest.mark.parametrize("script", [*Stage, *TOOLS], ids=lambda it: str(it)[-30:])


@pytest.fixture
def start(call, capsys):
    """Calls any script with flags that argparse handles; returns the status and stderr."""

    def start(script, *flags):
        if script in list(Stage):
            return call(script, *flags)
        with pytest.raises(SystemExit) as stopped:
            script.main(flags)
        return stopped.value.code, capsys.readouterr().err

    return start


@every_script
def test_help_explains_every_flag_and_shows_its_default(start, monkeypatch, script):
    parsers = []

    def keep(parser):
        parsers.append(parser)

    monkeypatch.setattr(ArgumentParser, "print_help", keep)
    assert start(script, "--help")[0] == 0
    (parser,) = parsers
    shown = parser.format_help()
    for action in parser._actions:
        assert action.help
        if action.option_strings and action.default not in {None, argparse.SUPPRESS}:
            assert f"(default: {action.default})" in " ".join(shown.split())


HELP = """
import contextlib, io, runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    print(script, "--help" in shown.getvalue(), "torch" in sys.modules)
"""


def test_no_help_waits_for_pytorch():
    files = [
        *(ROOT / "cs285" / "scripts" / stage.script for stage in Stage),
        *(Path(tool.__file__) for tool in TOOLS),
    ]
    done = subprocess.run(
        [sys.executable, "-c", HELP, *files], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{file} True False" for file in files]


@every_script
def test_an_unknown_flag_is_one_sentence(start, script):
    status, said = start(script, "--helpp")
    assert status == 2
    assert re.fullmatch(r"error: unknown argument --helpp \(did you mean `--help`\?\); .*\n", said)


@pytest.mark.parametrize("made", ["report", "analysis", "submit.zip", "autograder.zip", "grades"])
def test_what_scripts_write_by_default_stays_out_of_the_repository(made):
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert any(line.strip("/") == made for line in ignored)


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "from cs285.scripts.arguments import run; run(lambda: print('x' * 1_000_000))"
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        os.read(read, 10)
        os.close(read)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
