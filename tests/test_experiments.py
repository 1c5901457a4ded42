"""The experiment files that the assignment names exist, and contain what their names say."""

import re
from pathlib import Path

import pytest
import yaml

from cs285.env_configs.base_config import BaseConfig
from cs285.env_configs.loading import load_config, load_sweep, make_config
from cs285.homework import algorithms, algorithms_for
from cs285.infrastructure.yaml_text import read_yaml

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "experiments").glob("*/pointmass_*.yaml"))
STAGES = {"exploration": "explore", "offline": "offline", "finetune": "finetune"}
ENVIRONMENTS = {"easy": "Easy", "medium": "Medium", "hard": "Hard", "veryhard": "VeryHard"}
SIZES = (1000, 5000, 10000, 20000)

# The commands of the assignment and of a solution's write-up, without the `python cs285/scripts/`
# that they start with and the flags that name no file.
COMMANDS = """
run_hw5_explore.py -cfg experiments/exploration/pointmass_easy_random.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_medium_random.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_hard_random.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_easy_rnd.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_medium_rnd.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_hard_rnd.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_easy_cql.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_alpha0.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_alpha10.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_alpha1.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_easy_dqn.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_dqn.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_easy_awac.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_awac.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_easy_iql.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_iql.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_medium_rnd_1000.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_medium_rnd_5000.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_medium_rnd_10000.yaml
run_hw5_explore.py -cfg experiments/exploration/pointmass_medium_rnd_20000.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_rnd1000.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_rnd5000.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_rnd10000.yaml
run_hw5_offline.py -cfg experiments/offline/pointmass_medium_cql_rnd20000.yaml
run_hw5_finetune.py -cfg experiments/finetune/pointmass_hard_cql_finetune.yaml
"""

PLAN = {
    "exploration": {
        *(f"{maze}_{agent}" for maze in ENVIRONMENTS for agent in ("random", "rnd")),
        *(f"{maze}_rnd_{size}" for maze in ("medium", "hard") for size in SIZES),
    },
    "offline": {
        *(f"{maze}_{agent}" for maze in ENVIRONMENTS for agent in ("dqn", "cql", "awac", "iql")),
        *(f"{maze}_{agent}" for maze in ("medium", "hard") for agent in algorithms_for(None)),
        *(f"medium_cql_alpha{alpha}" for alpha in ("0", "0.1", "0.5", "1", "2", "5", "10")),
        *(f"{maze}_cql_rnd{size}" for maze in ("medium", "hard") for size in SIZES),
    },
    "finetune": {
        *(f"hard_{agent}_finetune" for agent in ("dqn", "cql", "awac", "iql")),
        *(f"veryhard_{agent}_finetune" for agent in ("cql", "iql")),
    },
}


def load(file: Path) -> BaseConfig:
    return load_config(file, STAGES[file.parent.name])


each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_every_command_of_the_assignment_has_its_files() -> None:
    commands = re.findall(r"(\S+) -cfg (\S+)", COMMANDS)
    paths = [path for script, config in commands for path in (f"cs285/scripts/{script}", config)]
    assert len(commands) == 26
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_the_files_are_exactly_the_planned_ones() -> None:
    found = {
        folder: {
            file.stem.removeprefix("pointmass_") for file in FILES if file.parent.name == folder
        }
        for folder in STAGES
    }
    assert found == PLAN


@each_file
def test_names_of_files_match_environment_and_algorithm(file: Path) -> None:
    config = load(file)
    _, maze, *rest = file.stem.split("_")
    assert config.exp_name == file.stem
    assert config.env_name == f"Pointmass{ENVIRONMENTS[maze]}-v0"
    assert rest[: len(config.base_config.split("_"))] == config.base_config.split("_")


@each_file
def test_names_of_files_match_dataset_and_varied_value(file: Path) -> None:
    config = load(file)
    *start, variation = file.stem.split("_")
    explored = f"pointmass_{start[1]}_rnd"
    alpha = re.fullmatch(r"alpha(.+)", variation)
    if file.parent.name == "exploration":
        assert config.dataset_name == file.stem
        usual = 30_000 if config.exp_name == "pointmass_veryhard_rnd" else 10_000
        assert config.total_steps == (int(variation) if variation.isdigit() else usual)
    elif size := re.fullmatch(r"rnd(\d+)", variation):
        assert config.dataset_name == f"{explored}_{size[1]}"
        assert (ROOT / f"experiments/exploration/{config.dataset_name}.yaml").is_file()
    else:
        assert config.dataset_name == explored
    if config.base_config == "cql":
        assert config.model_dump()["cql_alpha"] == (float(alpha[1]) if alpha else 0.1)


@each_file
def test_no_file_repeats_a_default(file: Path) -> None:
    values = read_yaml(file)
    for key in values.keys() - {"base_config", "env_name"}:
        shorter = {other: value for other, value in values.items() if other != key}
        assert make_config(shorter, file, STAGES[file.parent.name]) != load(file), key


@pytest.mark.parametrize(
    ("name", "points"),
    [
        ("medium_cql_alpha", 7),
        ("medium_cql_alpha_temperature", 10),
        ("medium_cql_dataset_size", 4),
        ("hard_cql_dataset_size", 4),
        ("medium_iql", 16),
        ("medium_awac_temperature", 5),
    ],
)
def test_a_sweep_file_is_one_program_over_five_seeds(name: str, points: int) -> None:
    configs = load_sweep(ROOT / f"experiments/offline/sweep_{name}.yaml", "offline")
    assert len({config.exp_name for config in configs}) == points
    assert len(configs) == 5 * points
    assert {config.seed for config in configs} == {1, 2, 3, 4, 5}
    assert len({config.program_key for config in configs}) == 1


def test_readme_states_every_key_with_its_default() -> None:
    table = (ROOT / "README.md").read_text().partition("## Settings")[2]
    rows = re.findall(r"^\| (`.+?) \| (.+?) \| (.+?) \| .+ \|$", table, flags=re.MULTILINE)
    everyone = ", ".join(x for x in algorithms() if x not in algorithms_for(None))
    named = {"all": everyone, "all but random": everyone.removeprefix("random, ")}
    stated = set()
    for keys, owners, defaults in rows:
        for key, default in zip(keys.split(", "), defaults.split(", "), strict=True):
            stated.add(key.strip("`"))
            for algorithm in named.get(owners, owners).split(", "):
                field = algorithms()[algorithm].config.model_fields[key.strip("`")]
                if re.fullmatch("`[^`]+`", default):  # the others are described in words
                    assert yaml.safe_load(default.strip("`")) == field.default, key
    known = {key for one in algorithms().values() for key in one.config.model_fields}
    assert stated == known - {"base_config", "env_name"}
