"""Names of run folders, as people and public versions of the homework write them."""

import pytest

from cs285.results.folder_names import parse_folder_name, parse_folder_path, size_in_name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("PointmassMedium-v0_cql0.3", {"cql_alpha": 0.3}),
        ("PointmassMedium-v0_cql20", {"cql_alpha": 20}),
        ("cql2.5_PointmassMedium-v0", {"cql_alpha": 2.5}),
        ("pointmass_easy_cql_alpha0_sd2", {"cql_alpha": 0}),
        ("pointmass_easy_cql_alpha_0_5", {"cql_alpha": 0.5}),
        ("pointmass_easy_cql_a0p25", {"cql_alpha": 0.25}),
        ("pointmass_easy_cql,alpha=4,lr=3e-4,seed=7", {"cql_alpha": 4, "learning_rate": 3e-4}),
        ("pointmass_easy_cql_0.7", {"cql_alpha": 0.7}),
        ("pointmass_easy_cql_7", {}),  # as well the seventh attempt
        ("pointmass_easy_cql_rnd2000", {}),
        ("PointmassEasy-v0_cql0.2_rnd2000", {"cql_alpha": 0.2}),
        ("PointmassHard-v0_awac3.0", {"temperature": 3}),
        ("PointmassHard-v0_awac_lambda0.3_lr0.01", {"temperature": 0.3, "learning_rate": 0.01}),
        ("PointmassHard-v0_iql0.8_temp4.0", {"expectile": 0.8, "temperature": 4}),
        ("PointmassHard-v0_iql0.8_12", {"expectile": 0.8, "temperature": 12}),
        ("PointmassHard-v0_iql0.8_0.2", {"expectile": 0.8, "temperature": 0.2}),
        ("PointmassHard-v0_iql0.8_2", {"expectile": 0.8}),
        ("PointmassHard-v0_iql12.0", {"temperature": 12}),
        ("PointmassHard-v0_iql12.0_0.8", {"expectile": 0.8, "temperature": 12}),
        ("PointmassHard-v0_iqltau0.6", {"expectile": 0.6}),
        ("hard_iql_tau0.6_actor_lr0.01", {"expectile": 0.6, "actor_learning_rate": 0.01}),
        ("hard_iql_expectile=0.6,temperature=5", {"expectile": 0.6, "temperature": 5}),
        ("PointmassEasy-v0_rnd2.0", {"rnd_weight": 2}),
        ("PointmassEasy-v0_rnd2.0_5000", {"rnd_weight": 2}),
        ("pointmass_easy_rnd_5000", {}),
        ("pointmass_easy_rnd5000", {}),
        ("PointmassEasy-v0_dqn", {}),
    ],
)
def test_settings_in_a_name_get_their_keys(name: str, settings: dict[str, float]) -> None:
    for folder in (f"hw5_offline_{name}_09-08-2024_10-11-12", f"q3_hw5_finetune_{name}"):
        assert parse_folder_name(folder).settings == settings


@pytest.mark.parametrize(
    ("name", "seed", "experiment"),
    [
        ("hw5_offline_hard_cql_sd3", 3, "hard_cql"),
        ("hw5_offline_hard_cql0.1_seed3_09-08-2024_10-11-12", 3, "hard_cql0.1"),
        ("hw5_offline_hard_cql,seed=3,lr=0.1", 3, "hard_cql,lr=0.1"),
        ("q2_hw5_offline_hard_cql_s3", None, "hard_cql_s3"),  # elsewhere the size of a layer
        ("q4.3_hw5_offline_hard_cql-seed-12", 12, "hard_cql"),
    ],
)
def test_the_seed_is_not_part_of_the_experiment(
    name: str, seed: int | None, experiment: str
) -> None:
    parsed = parse_folder_name(name)
    assert (parsed.seed, parsed.experiment, parsed.algorithm) == (seed, experiment, "cql")


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("q5_hard_cql", "finetune"),
        ("q1_hard_rnd", "explore"),
        ("q4_hard_rnd_1000", None),
        ("q2_hw5_explore_hard_cql", "explore"),
        ("hw5_finetuning_hard_cql_offline", "finetune"),
        ("hard_cql", None),
    ],
)
def test_the_stage_is_that_of_the_prefix_or_else_of_the_question(
    name: str, stage: str | None
) -> None:
    assert parse_folder_name(name).stage == stage


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("q2/PointmassEasy-v0/cql0.3/seed4", ("offline", "PointmassEasy-v0", "cql", 4)),
        (
            "hw5_finetune_PointmassHard-v0_awac2.0_09-08-2024_10-11-12/version_0",
            ("finetune", "PointmassHard-v0", "awac", None),
        ),
        (
            "everything_iql_hard/hw5_offline_PointmassEasy-v0_cql0.3_09-08-2024_10-11-12",
            ("offline", "PointmassEasy-v0", "cql", None),
        ),
        ("q5/hard_cql", ("finetune", "PointmassHard-v0", "cql", None)),
    ],
)
def test_folders_around_a_run_say_what_its_own_name_does_not(
    path: str, expected: tuple[object, ...]
) -> None:
    parsed = parse_folder_path(path.split("/"))
    assert (parsed.stage, parsed.env_id, parsed.algorithm, parsed.seed) == expected


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("pointmass_hard_rnd_2000", 2_000),
        ("pointmass_hard_cql_rnd5k", 5_000),
        ("pointmass_hard_cql_data20000", 20_000),
        ("PointmassHard-v0_rnd1.0_2000", 2_000),
        ("PointmassHard-v0_rnd100.0", None),
        ("pointmass_hard_rnd", None),
        ("pointmass_hard_rnd_123456789", None),
    ],
)
def test_the_size_of_a_dataset_is_found_in_its_name(name: str, size: int | None) -> None:
    assert size_in_name(name) == size
