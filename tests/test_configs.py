"""Configs: what a YAML file may contain, and the error for anything else."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cs285.env_configs.base_config import BaseConfig
from cs285.env_configs.loading import MAX_RUNS, load_config, load_sweep
from cs285.homework import algorithms, algorithms_for
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.yaml_text import MAX_BYTES
from cs285.results.run_folders import RunFolder
from cs285.training import preparation

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
STAGES = {"exploration": "explore", "offline": "offline", "finetune": "finetune"}
FILES = sorted(EXPERIMENTS.glob("*/*.yaml"))
ALGORITHMS = ["random", "rnd", "dqn", "cql", "awac", "iql"]


@pytest.fixture
def load(tmp_path):
    """Writes text or bytes to a file and reads it as a config: `load("base_config: cql")`."""

    def load(content, stage="offline", name="run.yaml"):
        (config,) = load_sweep(write(tmp_path / name, content), stage)
        return config

    return load


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def complaint(load, tmp_path):
    """Returns the error for a file: one short line that begins with the file's path."""

    def complaint(content, stage="offline"):
        with pytest.raises(UserError) as caught:
            load(content, stage)
        message = str(caught.value)
        path = str(tmp_path / "run.yaml")
        assert message.startswith(path)
        assert "\n" not in message
        assert len(message) - len(path) < 800
        return message

    return complaint


def text(algorithm="dqn", *lines):
    return "\n".join([f"base_config: {algorithm}", "env_name: PointmassEasy-v0", *lines])


# What a file may contain


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_and_an_environment_are_enough(load, algorithm):
    config = load(text(algorithm))
    assert config.base_config == algorithm
    assert (config.seed, config.batch_size) == (1, 128)


def test_algorithms_are_listed_in_the_order_of_the_homework():
    assert list(algorithms()) == [*ALGORITHMS, *algorithms_for(None)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("3e-4", 3e-4), ("3E-4", 3e-4), ("3.0e-4", 3e-4), (".3e-3", 3e-4), ("1e-1", 0.1), ("1", 1.0)],
)
def test_numbers_are_read_as_people_write_them(load, written, meant):
    assert load(text("dqn", f"learning_rate: {written}")).learning_rate == meant


@pytest.mark.parametrize("written", ["1e3", "1_000", "1_000.0", "1000.0", "1.0e+3"])
def test_whole_numbers_are_read_however_they_are_written(load, written):
    steps = load(text("dqn", f"training_steps: {written}")).training_steps
    assert (steps, type(steps)) == (1000, int)


@pytest.mark.parametrize("name", ["e4", "1e4a", "3e-4x"])
def test_names_that_resemble_numbers_stay_names(load, name):
    assert load(text("dqn", f"exp_name: {name}")).exp_name == name


@pytest.mark.parametrize("stage", ["explore", "offline", "finetune"])
def test_experiments_are_named_after_their_files(load, stage):
    config = load(text("rnd"), stage, "my_run.yaml")
    assert config.exp_name == "my_run"
    assert config.dataset_name == ("my_run" if stage == "explore" else "pointmass_easy_rnd")


def test_the_seed_of_the_command_line_overrides_that_of_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text("dqn", "seed: 4"))
    assert load_config(path, "offline").seed == 4
    assert load_config(path, "offline", {"seed": 7}).seed == 7


CHANGED = [
    *("exp_name: größe", "dataset_name: '7'", "dataset_seed: 0", "seed: 4294967295"),
    *("offline_steps: 3", "online_steps: 4", "batch_size: 5", "discount: 1", "epsilon: 0"),
    *("hidden_size: 7", "num_layers: 1", "learning_rate: 1e-7", "target_update_period: 9"),
    *("use_double_q: false", "clip_grad_norm: 12345678.9", "temperature: 1e-3", "expectile: 0.7"),
    *("actor_hidden_size: 3", "actor_num_layers: 3", "actor_learning_rate: 2.5e-4"),
]


@pytest.mark.parametrize("file", [*FILES, None], ids=lambda file: file.stem if file else "changed")
def test_a_saved_config_loads_again_to_an_equal_one(tmp_path, file):
    if file is None:
        file = tmp_path / "finetune" / "changed.yaml"
        file.parent.mkdir()
        file.write_text(text("iql", *CHANGED))
    stage = STAGES[file.parent.name]
    folder = RunFolder(tmp_path)
    for config in load_sweep(file, stage, {"seed": 5}):
        folder.write_config(preparation.make_run(stage, config, None).info.settings)
        assert load_config(tmp_path / "config.yaml", stage) == config


# Keys and values that are not valid


@pytest.mark.parametrize(
    ("algorithm", "line", "suggestion"),
    [
        ("cql", "cql_alhpa: 1.0", "cql_alpha"),
        ("iql", "expectil: 0.9", "expectile"),
        ("dqn", "batchsize: 128", "batch_size"),
        ("rnd", "rnd_wieght: 1.0", "rnd_weight"),
    ],
)
def test_a_misspelt_key_gets_a_suggestion(complaint, algorithm, line, suggestion):
    message = complaint(text(algorithm, line))
    assert f"unknown key `{line.split(':')[0]}` (did you mean `{suggestion}`?)" in message


@pytest.mark.parametrize(
    ("key", "owners"),
    [("cql_alpha", "cql"), ("expectile", "iql"), ("temperature", "awac, iql, awr and sarsa")],
)
def test_a_key_of_other_algorithms_is_an_error_that_names_them(complaint, key, owners):
    message = complaint(text("dqn", f"{key}: 0.5"))
    assert message.endswith(f"unknown key `{key}`, which is for {owners}")


def test_many_unknown_keys_are_summed_up(complaint):
    message = complaint(text("dqn", *(f"thing{k}: 1" for k in range(1000))))
    assert message.endswith("; and 995 more")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("base_config: cqll", "unknown `base_config` 'cqll' (did you mean `cql`?)"),
        ("base_config: [cql]", "unknown `base_config` ['cql']"),
        ("base_config: 3", "unknown `base_config` 3"),
        ("base_config:", "`base_config` is missing"),
        ("seed: 1", "`base_config` is missing"),
    ],
)
def test_an_unknown_algorithm_is_an_error_that_lists_the_known_ones(complaint, line, expected):
    message = complaint(line)
    assert expected in message
    assert "random, rnd, dqn, cql, awac, iql" in message


def test_an_unknown_environment_gets_a_suggestion(complaint):
    message = complaint("base_config: cql\nenv_name: PointmasEasy-v0")
    assert "did you mean `PointmassEasy-v0`?" in message
    assert "PointmassVeryHard-v0" in message


def test_a_missing_environment_is_named(complaint):
    assert "`env_name` is missing" in complaint("base_config: cql")


BAD_VALUES = {
    "dqn": [
        *("seed: -1", "seed: 4294967296", "seed: 1.5", "seed: true", "seed: one", "seed:"),
        *("dataset_seed: -1", "exp_name: 5", "exp_name:", "dataset_name: []"),
        *("batch_size: 0", "batch_size: -128", "batch_size: 128.5", "batch_size: 1000000000"),
        *(
            "training_steps: 0",
            "training_steps: -5",
            "training_steps: 1e-5",
            "training_steps: 1e300",
            "training_steps: many",
        ),
        *("discount: -0.1", "discount: 1.1", "discount: high", "discount: .nan"),
        *("epsilon: -0.1", "epsilon: 1.5", "epsilon: true"),
        *("hidden_size: 0", "hidden_size: -64", "num_layers: 0", "num_layers: 1000"),
        *("learning_rate: 0", "learning_rate: -1e-3", "learning_rate: 2", "learning_rate: '1e-3'"),
        *("target_update_period: 0", "use_double_q: 1", "use_double_q: 'yes'"),
        *("clip_grad_norm: 0", "clip_grad_norm: -1", "clip_grad_norm: .inf", "env_name: 3"),
    ],
    "cql": ["cql_alpha: -1", "cql_alpha: .nan", "cql_alpha:", "cql_temperature: 0"],
    "awac": ["temperature: 0", "temperature: -1", "actor_hidden_size: 0", "actor_num_layers: 0"],
    "iql": ["expectile: 0", "expectile: 1", "expectile: -0.5", "actor_learning_rate: 0"],
    "rnd": ["rnd_weight: -1", "rnd_dim: 0", "rnd_hidden_size: -400", "rnd_num_layers: 0"],
}


@pytest.mark.parametrize(
    ("algorithm", "line"), [(name, line) for name, lines in BAD_VALUES.items() for line in lines]
)
def test_values_of_a_wrong_type_or_out_of_range_are_named(complaint, algorithm, line):
    assert f"`{line.split(':')[0]}` must be " in complaint(
        f"base_config: {algorithm}\n{line}"
        if line.startswith("env_name")
        else text(algorithm, line)
    )


@pytest.mark.parametrize("key", ["exp_name", "dataset_name"])
@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/b", r"a\\b", ".hidden", "", " "])
def test_names_with_a_path_are_refused(complaint, key, name):
    message = complaint(text("dqn", f'{key}: "{name}"'))
    assert f"`{key}`" in message
    assert "must be a plain name" in message


STEP_KEYS = {
    "explore": ["total_steps", "learning_starts"],
    "offline": ["training_steps"],
    "finetune": ["offline_steps", "online_steps"],
}


@pytest.mark.parametrize("stage", STEP_KEYS)
@pytest.mark.parametrize("owner", STEP_KEYS)
def test_steps_of_another_stage_are_an_error_that_names_its_script(load, complaint, stage, owner):
    for key in STEP_KEYS[owner]:
        if stage == owner:
            assert load(text("dqn", f"{key}: 7"), stage).model_dump()[key] == 7
        else:
            message = complaint(text("dqn", f"{key}: 7"), stage)
            assert f"`{key}` is for run_hw5_{owner}.py" in message
            assert all(f"`{right}`" in message for right in STEP_KEYS[stage])


# Sweeps


def test_a_sweep_is_the_product_of_its_lists(tmp_path):
    lines = ["exp_name: x", "sweep:", "  cql_alpha: [0.5, 2]", "  seed: [3, 4]"]
    configs = load_sweep(write(tmp_path / "run.yaml", text("cql", *lines)), "offline")
    assert [(config.exp_name, config.cql_alpha, config.seed) for config in configs] == [
        *(("x_cql_alpha0.5", 0.5, 3), ("x_cql_alpha0.5", 0.5, 4)),
        *(("x_cql_alpha2", 2.0, 3), ("x_cql_alpha2", 2.0, 4)),
    ]


def test_the_seed_of_the_command_line_replaces_the_seeds_of_a_sweep(tmp_path):
    path = write(tmp_path / "run.yaml", text("dqn", "sweep: {seed: [1, 2, 3]}"))
    assert [config.seed for config in load_sweep(path, "offline")] == [1, 2, 3]
    assert [config.seed for config in load_sweep(path, "offline", {"seed": 7})] == [7]


def test_a_sweep_is_not_one_config(tmp_path):
    path = write(tmp_path / "run.yaml", text("dqn", "sweep: {seed: [1, 2, 3]}"))
    with pytest.raises(UserError, match="sweep of 3 runs"):
        load_config(path, "offline")


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("3", "must map keys to lists"),
        ("", "must map keys to lists"),
        ("[seed]", "must map keys to lists"),
        ("{seed: 1}", "needs a list"),
        ("{seed: []}", "needs a list"),
        ("{seed: [[1]]}", "not lists or mappings"),
        ("{seed: [1, 1]}", "lists a value of `seed` twice"),
        ("{seeds: [1, 2]}", "cannot sweep over 'seeds' (did you mean `seed`?)"),
        ('{"a\\nb": [1]}', "cannot sweep over"),
        ("{exp_name: [a, b]}", "cannot sweep over 'exp_name'"),
        ("{batch_size: [1, 2]}", "both in the file and in its `sweep`"),
        ("{seed: [1, -1]}", "`seed` must be"),
        ("{training_steps: [1, 2], total_steps: [1]}", "is for run_hw5_explore.py"),
        (f"{{seed: {list(range(50))}, hidden_size: {list(range(1, 50))}}}", f"{MAX_RUNS:,}"),
    ],
)
def test_unusable_sweeps_are_refused(complaint, sweep, expected):
    assert expected in complaint(text("dqn", "batch_size: 3", f"sweep: {sweep}"))


# Files that are not configs


def test_a_missing_file_gets_a_suggestion():
    with pytest.raises(UserError, match=r"no such config file \(did you mean `pointmass_easy_cql"):
        load_config(EXPERIMENTS / "offline" / "pointmas_easy_cql.yaml", "offline")


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        load_config(tmp_path / "missing" / "run.yaml", "offline")


def test_a_folder_is_not_a_config(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_config(tmp_path, "offline")


@pytest.mark.parametrize("content", ["", "# nothing", "- a\n- b", "just words", "3", "1: 2", "---"])
def test_a_file_without_keys_is_refused(complaint, content):
    assert "must hold `key: value` lines" in complaint(content)


def test_a_file_that_is_not_text_is_refused(complaint):
    assert "is not UTF-8" in complaint(text().encode() + b"\nexp_name: \xff\xfe")
    assert "not allowed" in complaint(text("dqn", "exp_name: a\x00"))


@pytest.mark.parametrize("content", ["a: [1", "a: 'b", "a: b: c", "\tseed: 1", "a: *x"])
def test_broken_yaml_is_an_error_that_names_its_line(complaint, content):
    assert re.search(r": line [34]: \w", complaint(text("dqn", content + "\n")))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("\tseed: 1", "line 3: a tab; indent with spaces"),
        ("sweep:\n\tseed: [1]", "line 4: a tab; indent with spaces"),
        ("seed 1", "line 3: a colon is missing"),
        ("seed 1\nbatch_size: 4", "line 3: a colon is missing"),
        ("exp_name: a: b", "line 3: a colon too many"),
    ],
)
def test_common_slips_are_named_in_plain_words(complaint, line, expected):
    assert expected in complaint(text("dqn", line) + "\n")


def test_two_documents_in_one_file_are_refused(complaint):
    assert "line 3: expected a single document" in complaint(text("dqn", "---", "seed: 1"))


@pytest.mark.parametrize("second", ["seed: 2", "seed: 1", "'seed': 1"])
def test_a_key_that_is_given_twice_is_an_error(complaint, second):
    message = complaint(text("dqn", "seed: 1", "batch_size: 4", second))
    assert "line 5: key 'seed' is given twice" in message


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:pathlib.Path.touch",
        "!!python/object/new:os.mkdir",
        "!!python/object/apply:os.mkdir",
        "!!python/name:os.mkdir",
        "!!python/object:os.mkdir",
    ],
)
def test_python_objects_are_refused_and_nothing_is_run(complaint, tmp_path, tag):
    canary = tmp_path / "canary"
    message = complaint(text("dqn", f"exp_name: {tag} ['{canary}']"))
    assert "only plain YAML values are read" in message
    assert not canary.exists()


@pytest.mark.parametrize("value", ["!!bool x", "!!int ''", "!!timestamp x", "!!map x", "!!float x"])
def test_a_value_that_contradicts_its_tag_is_refused(complaint, value):
    assert "contradicts its tag" in complaint(text("dqn", f"seed: {value}"))


def test_an_endless_file_is_not_read_to_its_end(complaint):
    message = complaint(text("dqn", "# " + "x" * 10 * MAX_BYTES))
    assert "larger than" in message


@pytest.mark.parametrize("content", ["[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000])
def test_deep_nesting_is_refused(complaint, content):
    assert "nested too deeply" in complaint(content)


def bomb(levels=12):
    """Returns nine aliases per level: a short text that stands for 9^12 items."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels + 1):
        aliases = ", ".join([f"*l{level - 1}"] * 9)
        lines.append(f"l{level}: &l{level} [{aliases}]")
    return lines, f"*l{levels}"


@pytest.mark.parametrize("key", ["seed", "exp_name", "dataset_name", "clip_grad_norm"])
def test_aliases_do_not_blow_up_in_a_value(complaint, key):
    lines, name = bomb()
    complaint(text("dqn", *lines, f"{key}: {name}"))
    complaint(text("dqn", *lines, f"{key}: {name}", "sweep: {discount: [0.5, 0.9]}"))


@pytest.mark.parametrize("key", ["base_config", "env_name"])
def test_aliases_do_not_blow_up_in_a_name(complaint, key):
    lines, name = bomb()
    others = {"base_config": "dqn", "env_name": "PointmassEasy-v0", key: name}
    complaint("\n".join([*lines, *(f"{key}: {value}" for key, value in others.items())]))


def test_numbers_of_thousands_of_digits_are_refused(complaint):
    for number in ("0x" + "f" * 9000, "9" * 9000, "0b" + "1" * 30_000):
        assert "digits" in complaint(text("dqn", f"seed: {number}"))


# Any content

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["PointmassEasy-v0", *ALGORITHMS, "../x"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=8,
)
KEYS = {key for one in algorithms().values() for key in one.config.model_fields}
REQUIRED = {"base_config": st.sampled_from(ALGORITHMS), "env_name": st.just("PointmassEasy-v0")}
OPTIONAL = st.dictionaries(st.sampled_from(sorted(KEYS - REQUIRED.keys())), VALUES, max_size=4)
SWEEPS = st.fixed_dictionaries(
    {},
    optional={"sweep": VALUES | st.dictionaries(st.sampled_from(sorted(KEYS)), VALUES, max_size=2)},
)
MAPPINGS = st.tuples(st.fixed_dictionaries(REQUIRED), OPTIONAL, SWEEPS).map(
    lambda parts: parts[0] | parts[1] | parts[2]
)
SYMBOLS = list("[]{}?:,-&*!|>'\"%@`#\n \t")
WORDS = [
    "!!int ",
    "!!bool ",
    "!!set ",
    "!!timestamp ",
    "&a ",
    "*a ",
    "<<: ",
    "seed",
    "0x_",
    "---\n",
]
FRAGMENTS = st.lists(st.sampled_from(SYMBOLS + WORDS), max_size=12).map("".join)


@settings(deadline=None, max_examples=300)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(str.encode),
        FRAGMENTS.map(str.encode),
        FRAGMENTS.map(lambda fragment: f"{text()}\nseed: {fragment}".encode()),
        (VALUES | MAPPINGS).map(lambda value: yaml.safe_dump(value).encode()),
    ),
    stage=st.sampled_from(["explore", "offline", "finetune"]),
)
@example(content=f"{text()}\nseed: 1:{'1:' * 400}1.5".encode(), stage="offline")
@example(content=f'{text()}\n"a\\nb": 1'.encode(), stage="offline")
def test_any_file_is_a_config_or_gets_one_clear_line(tmp_path_factory, content, stage):
    path = tmp_path_factory.getbasetemp() / "anything.yaml"
    path.write_bytes(content)
    try:
        configs = load_sweep(path, stage)
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert all(isinstance(config, BaseConfig) for config in configs)
    assert "\n" not in message
