"""Nothing in the tree can be made to run what it reads, and no name leaves its folder.

SECURITY.md lists what is defended and what is not.
"""

import ast
import stat
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_training import EASY, Lab

from cs285.datasets.dataset_files import dataset_path
from cs285.env_configs import load_sweep
from cs285.grading.sandbox.sandbox import Sandbox
from cs285.homework import Stage
from cs285.infrastructure import files
from cs285.infrastructure.errors import UserError
from cs285.infrastructure.files import write_atomically
from cs285.results.run_folders import make_run_folder
from cs285.scripts import training_flags

ROOT = Path(__file__).parent.parent
SOURCES = [
    path
    for folder in ("cs285", "tests", "benchmarks", "tools", ".")
    for path in sorted((ROOT / folder).glob("*.py" if folder == "." else "**/*.py"))
]

# Loaders and calls that run what they are given

UNSAFE = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "pickle._Unpickler", "pickle._loads"),
    *("_pickle.load", "_pickle.loads", "_pickle.Unpickler", "marshal.load", "marshal.loads"),
    *("shelve.open", "dill.load", "dill.loads", "cloudpickle.load", "cloudpickle.loads"),
    *("joblib.load", "pandas.read_pickle", "torch.hub.load", "torch.jit.load"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.load_all"),
    *("eval", "exec", "__import__", "builtins.eval", "builtins.exec", "code.interact"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("tempfile.mktemp", "shutil.unpack_archive", "runpy.run_path", "runpy.run_module"),
    *("importlib.import_module", "importlib.util.spec_from_file_location", "ctypes.CDLL"),
}
UNPACKING = {"extract", "extractall"}
"""Methods of archives that write where a member's name leads; tests unpack what they packed."""
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "_Loader"}
"""`_Loader` is a subclass of SafeLoader; `test_yaml_loaders_are_safe` checks that."""
NETWORK = {"socket", "http", "urllib", "requests", "ftplib", "smtplib", "xmlrpc", "aiohttp"}

ALLOWED = {
    (
        "cs285/grading/sandbox/probe.py",
        "importlib.import_module",
    ): "student code, in a confined child",
    (
        "cs285/grading/sandbox/kernel.py",
        "ctypes.CDLL",
    ): "the C library, to ask for confinement",
    ("tests/sandbox_attacks.py", "ctypes.CDLL"): "the C library, to attack victims of its own",
    ("cs285/compiling/building.py", "ctypes.CDLL"): "what it compiled itself",
    (
        "cs285/grading/sandbox/postponed.py",
        "importlib.import_module",
    ): "a module of PyTorch's compiler, under its own name",
    ("cs285/homework.py", "importlib.import_module"): "the config modules of this package",
    (
        "cs285/grading/solutions/checking.py",
        "importlib.import_module",
    ): "the judges that its own table names",
    ("tests/test_check_solution.py", "importlib.import_module"): "the agents of this package",
    ("cs285/agents/__init__.py", "importlib.import_module"): "the agents of this package",
    (
        "cs285/infrastructure/import_names.py",
        "importlib.import_module",
    ): "a module whose import was asked for under another name",
    (
        "cs285/grading/sandbox/own_modules.py",
        "importlib.import_module",
    ): "student code, in a confined child",
    (
        "cs285/grading/sandbox/own_modules.py",
        "importlib.util.spec_from_file_location",
    ): "student code, in a confined child",
    ("tests/solutions/generator/numbers.py", "exec"): "solutions that the generator wrote",
    ("tests/test_public_starter.py", "importlib.import_module"): "the agents of this package",
    ("cs285/infrastructure/yaml_text.py", "yaml.load"): "one of two loaders, both SafeLoaders",
    ("cs285/lectures/__init__.py", "importlib.import_module"): "the modules of this folder",
    ("cs285/report/sections/__init__.py", "importlib.import_module"): "the modules of this folder",
    ("cs285/results/sinks/__init__.py", "importlib.import_module"): "the modules of this folder",
    ("cs285/results/sinks/wandb.py", "importlib.import_module"): "an extra that may be missing",
    ("benchmarks/worker.py", "importlib.import_module"): "times modules that its caller names",
    ("tests/test_convert_dataset.py", "pickle.load"): "compares with a pickle that the test made",
    ("tests/test_convert_dataset.py", "pickle.loads"): "shows that hostile pickles are hostile",
    ("tests/test_convert_dataset.py", "eval"): "is named in a hostile pickle",
    ("tests/test_pointmass.py", "pickle.loads"): "reads a state that it has just pickled",
}


@cache
def program(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(tree: ast.Module) -> dict[str, str]:
    """Maps names in a program to what they were imported as: `np` to `numpy`."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                found |= {name.asname: name.name for name in names if name.asname}
            case ast.ImportFrom(str(module), names):
                found |= {name.asname or name.name: f"{module}.{name.name}" for name in names}
    return found


def unsafe_uses(tree: ast.Module) -> set[str]:
    """Returns uses in a program that could run their input or unpack it anywhere."""
    imported = imports(tree)

    def full_name(node: ast.AST) -> str:
        match node:
            case ast.Name(name):
                return imported.get(name, name)
            case ast.Attribute(owner, name):
                return f"{full_name(owner)}.{name}"
        return ""

    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name() | ast.Attribute() if (name := full_name(node)) in UNSAFE:
                found.add(name)
            case ast.Attribute(_, name) if name in UNPACKING:
                found.add(name)
            case ast.ImportFrom("subprocess" | "os" | "pickle" | "builtins", [ast.alias("*")]):
                found.add("*")
            case ast.Call(function, positional, named):
                options = {option.arg: option.value for option in named}
                given = {full_name(value) for value in [*positional, *options.values()]}
                texts = {name: ast.unparse(value) for name, value in options.items()}
                found |= unsafe_options(full_name(function), given, texts)
    return found


def unsafe_options(function: str, given: set[str], options: dict[str | None, str]) -> set[str]:
    """Returns what makes a call unsafe."""
    loads_pickles = function.endswith(("load", "read_array"))
    unsafe = {
        "torch.load": function == "torch.load" and options.get("weights_only") != "True",
        "yaml.load": function == "yaml.load" and not given & SAFE_LOADERS,
        "allow_pickle": loads_pickles and options.get("allow_pickle", "False") != "False",
        "shell": options.get("shell", "False") != "False",
    }
    return {name for name, is_so in unsafe.items() if is_so}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import pickle; pickle.load(f)", "pickle.load"),
        ("import pickle as p; p.loads(b)", "pickle.loads"),
        ("from pickle import loads as read; read(b)", "pickle.loads"),
        ("from pickle import Unpickler\nclass U(Unpickler): ...", "pickle.Unpickler"),
        ("import pickle; read = pickle.loads", "pickle.loads"),
        ("import torch; torch.load(f)", "torch.load"),
        ("import torch; torch.load(f, weights_only=False)", "torch.load"),
        ("import torch; torch.load(f, weights_only=flag)", "torch.load"),
        ("import yaml; yaml.load(f)", "yaml.load"),
        ("import yaml; yaml.load(f, Loader=yaml.UnsafeLoader)", "yaml.UnsafeLoader"),
        ("import numpy as np; np.load(f, allow_pickle=True)", "allow_pickle"),
        ("eval(text)", "eval"),
        ("import builtins; builtins.exec(text)", "builtins.exec"),
        ("import os; os.system(text)", "os.system"),
        ("import subprocess; subprocess.run(text, shell=True)", "shell"),
        ("from subprocess import run; run(text, shell=1)", "shell"),
        ("from os import *; system(text)", "*"),
        ("import importlib; importlib.import_module(text)", "importlib.import_module"),
        ("import ctypes; ctypes.CDLL(path)", "ctypes.CDLL"),
        ("import tempfile; tempfile.mktemp()", "tempfile.mktemp"),
        ("import tarfile; tarfile.open(f).extractall(path)", "extractall"),
    ],
)
def test_unsafe_uses_are_seen(text, found):
    assert found in unsafe_uses(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "import torch; torch.load(f, weights_only=True)",
        "import yaml; yaml.load(f, yaml.SafeLoader); yaml.safe_load(f)",
        "import numpy as np; np.load(f); np.load(f, allow_pickle=False)",
        "import json; json.loads(text); model.eval(); module.load(f)",
        "import subprocess; subprocess.run([a, b]); subprocess.run([a], shell=False)",
        "import pickle; pickle.dumps(x)",
        "import numpy as np; np.save(f, x, allow_pickle=True)",
    ],
)
def test_safe_uses_are_accepted(text):
    assert unsafe_uses(ast.parse(text)) == set()


def test_the_tree_has_no_unsafe_uses_except_those_with_a_reason():
    assert len(SOURCES) > 100
    found = {
        (path.relative_to(ROOT).as_posix(), use)
        for path in SOURCES
        for use in unsafe_uses(program(path))
        if not (use in UNPACKING and path.is_relative_to(ROOT / "tests"))
    }
    assert found == set(ALLOWED)


def test_yaml_loaders_are_safe():
    """Everything named a loader inherits from SafeLoader."""
    bases = {
        (node.name, *map(ast.unparse, node.bases))
        for path in SOURCES
        for node in ast.walk(program(path))
        if isinstance(node, ast.ClassDef) and "Loader" in node.name
    }
    assert bases == {("_Loader", "yaml.SafeLoader"), ("_LoaderWithoutAliases", "_Loader")}


def test_the_package_opens_no_connections():
    for path in (path for path in SOURCES if path.is_relative_to(ROOT / "cs285")):
        for node in ast.walk(program(path)):
            match node:
                case ast.Import(names):
                    modules = {name.name.split(".")[0] for name in names}
                case ast.ImportFrom(str(module)):
                    modules = {module.split(".")[0]}
                case _:
                    continue
            assert not NETWORK & modules, path


# Names

HOSTILE_NAMES = {
    "parent": "../outside",
    "far away": "a/../../../outside",
    "absolute": "/tmp/outside",
    "of another system": "..\\outside",
    "drive": "\\\\host\\share",
    "zero byte": "name\0.png",
    "line": "name\nsecond",
    "escape sequence": "name\x1b[2J",
    "other direction": "name\u202egnp",
    "hidden": ".ssh",
    "dots": "..",
    "dot": ".",
    "nothing": "",
    "space": " ",
    "long": "x" * 201,
    "long in bytes": "ü" * 101,
    "very long": "x" * 40_000,
    "folder": "name/",
}
KEYS = ["exp_name", "dataset_name", "env_name", "base_config"]
STAGES = ["explore", "offline", "finetune"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_names_that_could_lead_elsewhere_are_refused_before_anything_is_made(
    tmp_path, stage, key, name
):
    config = tmp_path / "run.yaml"
    values = {"base_config": "dqn", "env_name": EASY, "exp_name": "name", key: name}
    config.write_text(yaml.safe_dump(values))
    for sweep in ({}, {"sweep": {key: [name, "other"]}}):
        alone = {other: value for other, value in values.items() if other != key or not sweep}
        config.write_text(yaml.safe_dump(alone | sweep))
        flags = ["-cfg", str(config), "-ngpu", "--data_dir", str(tmp_path / "data")]
        arguments = training_flags.make_parser(stage, "").parse_args(flags)
        with pytest.raises(UserError, match=key):
            training_flags.run(Stage(stage), arguments)
    assert list(tmp_path.iterdir()) == [config]


@pytest.mark.parametrize("file", [".yaml", "a\nb.yaml", "x" * 201 + ".yaml", "a\\b.yaml"])
def test_the_name_of_a_config_file_is_checked_like_any_other(tmp_path, file):
    (tmp_path / file).write_text(f"base_config: dqn\nenv_name: {EASY}\n")
    with pytest.raises(UserError, match="exp_name"):
        load_sweep(tmp_path / file, "explore")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.characters(codec="utf-8") | st.sampled_from("./\\~$ \0"), max_size=30))
def test_accepted_names_stay_in_their_folder(tmp_path, name):
    path = tmp_path / "run.yaml"
    values = {"base_config": "dqn", "env_name": EASY, "exp_name": name, "dataset_name": name}
    path.write_text(yaml.safe_dump(values))
    try:
        (config,) = load_sweep(path, "explore")
    except UserError:
        return
    data = tmp_path / "data"
    made = make_run_folder(data, "hw5_explore", config.exp_name).path
    assert made.resolve().parent == data.resolve()
    assert made.name.startswith(f"hw5_explore_{name}_2")
    dataset = dataset_path(data, config.dataset_name, 1)
    dataset.touch()
    assert dataset.resolve().parent == data.resolve()
    assert sorted(data.iterdir()) == sorted([made, dataset])
    made.rmdir()
    dataset.unlink()


@pytest.mark.parametrize("name", ["$(touch canary)", "-rf", "~", "CON", "a;b|c&d", "%s{0}", "*"])
def test_names_that_mean_something_to_a_shell_are_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    lab = Lab(tmp_path)
    config = lab.config("explore", "random", "run", exp_name=name, dataset_name=name, total_steps=2)
    (folder,) = lab.run("explore", config)
    assert folder.parent == tmp_path / "data"
    assert folder.name.startswith(f"hw5_explore_{name}_sd1_")
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [f"{name}_seed1.npz"]
    made = {path.name for path in tmp_path.iterdir()}
    assert made <= {"data", "datasets", "pictures", "run.yaml"}


# Temporary files


def test_a_temporary_file_follows_no_link(tmp_path, monkeypatch):
    """Not even if somebody has guessed its name."""
    victim, target = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "guessed")
    (tmp_path / ".guessed.tmp").symlink_to(victim)
    with pytest.raises(UserError, match="file exists"):
        write_atomically(target, lambda file: file.write(b"new"))
    assert victim.read_bytes() == b"precious"
    assert not target.exists()


def test_names_of_temporary_files_cannot_be_guessed(tmp_path):
    seen = set()
    for _ in range(20):
        write_atomically(
            tmp_path / "file", lambda file: seen.add(Path(file.name).name.split(".")[1])
        )
    assert len(seen) == 20
    assert all(len(name) == 16 for name in seen)


def test_only_the_owner_can_open_the_folder_of_student_code():
    with Sandbox() as sandbox:
        assert stat.S_IMODE(sandbox._folder.stat().st_mode) == stat.S_IRWXU
