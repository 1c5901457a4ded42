"""Whatever a file contains, its reader accepts it or refuses it in one sentence.

It raises no other error, does not hang, takes little memory and leaves nothing behind.
`tools/fuzz.sh` tries ten times as many cases; `FUZZ_CASES` and `FUZZ_SEED` set their number and
seed. To fuzz another reader, add an entry to `TARGETS`.
"""

import contextlib
import gc
import io
import json
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from test_convert_dataset import collect, dump
from test_datasets import make_dataset
from test_training import EASY

from cs285.datasets.dataset_files import FIELDS, load_dataset, save_dataset
from cs285.env_configs import load_sweep
from cs285.env_configs.loading import make_config
from cs285.envs.planner import plan
from cs285.infrastructure.errors import UserError
from cs285.report.collection import collect as collect_runs
from cs285.report.sections import answer
from cs285.results.run_folders import CHECKPOINT, SWEEP_RECORD, RunFolder
from cs285.results.summaries import format_results, read_summaries
from cs285.scripts.convert_dataset import convert
from cs285.training import programs, sweep_records
from cs285.training.checkpoints import load_checkpoint, save_checkpoint
from cs285.training.options import Options
from cs285.training.preparation import make_run
from cs285.training.stages import Phase
from cs285.training.trainer import Trainer

CASES = int(os.environ.get("FUZZ_CASES", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
SECONDS = 2.0
"""Most processor time that a reader may take for one file, where `a_little_work` takes as usual."""
USUAL_WORK_S = 0.02
MOST_SLOWNESS = 20.0
"""How many times as long it may take on a slow or busy machine, at most."""
MEMORY = 1 << 30
"""Most bytes that it may allocate."""


class Hang(BaseException):
    """Not an `Exception`: readers must not blame it on their file."""


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Limits the address space, where the system can."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def a_little_work() -> float:
    """Returns the processor time that a fixed amount of work takes now."""
    began = time.process_time()
    for k in range(20_000):
        str({k: [k]}).split(":")
    return time.process_time() - began


@contextlib.contextmanager
def little_time() -> Iterator[None]:
    """Raises `Hang` when the limit is exceeded; only then it asks how slow the machine is now.

    Garbage of the whole process is collected outside, so it does not count.
    """
    allowed = SECONDS

    def stop(*_: object) -> None:
        nonlocal allowed
        slowness = min(MOST_SLOWNESS, a_little_work() / USUAL_WORK_S)
        if SECONDS * slowness > allowed:
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS * slowness - allowed)
            allowed = SECONDS * slowness
        else:
            raise Hang(f"took more than {allowed:.1f} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    collects = gc.isenabled()
    gc.disable()
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if collects:
            gc.enable()


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        name: Path of the file.
        read: Reads the file; raises a `UserError` if it refuses it.
        valid: Returns contents of valid files.
        words: Bytes with a meaning in such a file.
        generated: Contents made of typical parts.
        mutate: Changes contents and keeps their checksums correct, so that readers get past these.
    """

    name: str
    read: Callable[[Path], object]
    valid: Callable[[], list[bytes]]
    words: tuple[bytes, ...]
    generated: st.SearchStrategy[bytes]
    mutate: Callable[[np.random.Generator, bytes, list[bytes]], bytes] | None = None


def check(target: Target, folder: Path, content: bytes) -> None:
    """Runs the reader of a target on some contents."""
    path = folder / target.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    outcome = None
    try:
        with little_time():
            target.read(path)
    except (UserError, Hang) as error:
        outcome = error
    assert not isinstance(outcome, Hang)
    if outcome is not None:
        assert "\n" not in str(outcome)
        assert len(str(outcome)) - len(str(path)) < 1_000
        assert not isinstance(outcome.__context__, MemoryError)
    assert [other for other in folder.rglob("*") if other.is_file()] == [path]
    assert path.read_bytes() == content


# Mutations

EXTREMES = [
    struct.pack(form, value)
    for form, values in {
        "<B": (0, 1, 127, 128, 255),
        "<H": (0, 32767, 65535),
        "<I": (0, 1, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
        "<Q": (0, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1),
    }.items()
    for value in values
]


def mutate(rng: np.random.Generator, content: bytes, words: list[bytes]) -> bytes:
    """Changes one to four places of the contents."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        start, length = int(rng.integers(len(data) + 1)), int(2 ** rng.uniform(0, 8))
        word = words[rng.integers(len(words))]
        other = int(rng.integers(len(data) + 1))
        match rng.integers(9):
            case 0 if start < len(data):
                data[start] ^= 1 << int(rng.integers(8))
            case 1:
                data[start : start + length] = rng.bytes(length)
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = data[other : other + length]
            case 4:
                data[start : start + length] = data[other : other + length]
            case 5:
                del data[start:]
            case 6:
                data[start:start] = word
            case 7 | 8:
                data[start : start + len(word)] = word
    return bytes(data)


def mutate_value(rng: np.random.Generator, content: bytes, words: list[bytes]) -> bytes:
    """Replaces the values of some keys of YAML or JSON."""
    lines = content.split(b"\n")
    for _ in range(rng.integers(1, 3)):
        line = int(rng.integers(len(lines)))
        chosen = [words[index] for index in rng.integers(len(words), size=rng.integers(1, 4))]
        lines[line] = lines[line].partition(b":")[0] + b": " + b" ".join(chosen)
    return b"\n".join(lines)


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def mutate_member(rng: np.random.Generator, content: bytes, words: list[bytes]) -> bytes:
    """Changes, drops or renames a member of an archive, with correct checksums."""
    members = unpack(content)
    name = str(rng.choice(list(members)))
    match rng.integers(8):
        case 0:
            del members[name]
        case 1:
            members[str(rng.choice(["../", "x" * 300, "\0", ""])) + name] = members.pop(name)
        case 2:
            members[name] = members[str(rng.choice(list(members)))]
        case 3:  # the header decides most
            header = mutate(rng, members[name][:128], words)
            members[name] = header + members[name][128:]
        case _:
            members[name] = mutate(rng, members[name], words)
    return archive(members, int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])))


def checkpoint_of(header: dict[str, Any], data: bytes = b"") -> bytes:
    """Builds a checkpoint, with the checksum of its text and of its tensors in order."""
    metadata = header.get("__metadata__")
    if isinstance(metadata, dict) and "checksum" in metadata:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            found = zlib.crc32(metadata["state"].encode())
            for number in range(len(header) - 1):
                found = zlib.crc32(data[slice(*header[str(number)]["data_offsets"])], found)
            metadata["checksum"] = f"{found:08x}"
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def mutate_checkpoint(rng: np.random.Generator, content: bytes, words: list[bytes]) -> bytes:
    """Changes the text, the data or what describes a tensor, with a correct checksum."""
    size = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:size]), content[size:]
    name = str(rng.choice(sorted(header.keys() - {"__metadata__"})))
    claims = [0, 1, -1, 2**31, 2**40, 2**63, 2**64, 1.5, None, "x", [], {}]
    claim = claims[rng.integers(len(claims))]
    match rng.integers(6):
        case 0:
            data = mutate(rng, data, words)
        case 1:
            header[name][str(rng.choice(["dtype", "shape", "data_offsets"]))] = claim
        case 2:
            place = str(rng.choice(["shape", "data_offsets"]))
            values = header[name][place]
            header[name][place] = [claim if rng.random() < 0.5 else value for value in values]
        case 3:
            header[str(rng.choice(["x", "-1", "1e3", "__metadata__"]))] = header.pop(name)
        case _:
            text = mutate(rng, header["__metadata__"]["state"].encode(), words)
            header["__metadata__"]["state"] = text.decode(errors="replace")
    return checkpoint_of(header, data)


def stateful(state: str) -> bytes:
    """Makes a checkpoint with this text and no tensors."""
    return checkpoint_of({"__metadata__": {"format": "2", "state": state, "checksum": ""}})


def record(payload: bytes, claimed: int | None = None) -> bytes:
    """Frames an event with correct checksums."""
    header = struct.pack("<Q", len(payload) if claimed is None else claimed)
    checksums = (struct.pack("<I", masked_crc32c(part)) for part in (header, payload))
    return header + next(checksums) + payload + next(checksums)


def mutate_record(rng: np.random.Generator, content: bytes, words: list[bytes]) -> bytes:
    """Changes events, or the lengths that they claim, with correct checksums."""
    payloads, rest = [], content
    while rest:
        (length,) = struct.unpack("<Q", rest[:8])
        payloads.append(rest[12 : 12 + length])
        rest = rest[16 + length :]
    chosen = int(rng.integers(len(payloads)))
    claimed = None
    match rng.integers(6):
        case 0:
            claimed = int(rng.choice([0, 1, 10**6, 10**9, 10**10, 2**40, 2**62, 2**63 - 1]))
        case 1:
            payloads.append(payloads[chosen])
        case _:
            payloads[chosen] = mutate(rng, payloads[chosen], words)
    return b"".join(
        record(payload, claimed if index == chosen else None)
        for index, payload in enumerate(payloads)
    )


# Targets

YAML = """\
base_config: iql
env_name: PointmassEasy-v0
exp_name: name
learning_rate: 3e-4
use_double_q: true
clip_grad_norm: null
sweep:
  expectile: [0.7, 0.9]
  seed: [1, 2]
"""
YAML_WORDS = (
    *b"&a *a *b : - ? | > = # [ ] { } , ' << ../ /etc/passwd sweep: seed: %YAML 2001-01-01".split(),
    *b".inf .nan 1e999 -1 1:1:1:1 !!int !!bool !!binary !!set !!timestamp !!python/name:os".split(),
    *(b"\n", b"\t", b"---\n", b": ", b"- ", b"<<: *a\n", b"!!x ", b"\0", b"\xff"),
    *(b"0x" + b"f" * 5000, b"9" * 5000, b"[" * 500, b"x" * 1000),
)
NUMPY_WORDS = (
    *b"'|O' '<U999999999' '|V8' '<f8' '<f4' '|b1' (99999999999999,) (-1,) () (2,2**60) NaN".split(),
    *(b"[('a', 'O')]", b"'fortran_order': True", b"\x93NUMPY\x02\x00", b"[" * 3000, b"{", b"\0"),
)
PICKLE_WORDS = (
    *(bytes([code]) for code in b".(02N\x88})]t\x85\x86\x87subR\x81\x93\x94ioQP"),
    *(b"h\x00", b"h\x01", b"q\x00", b"j\0\0\0\x7f", b"K\x01", b"M\xff\xff", b"\x8a\xff", b"C\xff"),
    *(b"cos\nsystem\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"\x8c\xff", b"\x8c\x02O8"),
    *(code + b"\xff\xff\xff\xff\xff\0\0\0" for code in (b"\x8d", b"\x8e", b"\x95", b"\x96")),
)
CHECKPOINT_WORDS = (
    *b"tensor array scalar numbers mapping tuple F32 F64 I64 BOOL dtype shape".split(),
    *(b'"', b"[", b"]", b"{", b"}", b": ", b", ", b"0", b"-1", b"1e999", b"9" * 5000, b"[" * 3000),
)
EVENT_WORDS = (
    *(b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x05", b"\x22", b"\x2a", b"\xff", b"\x80" * 11),
    *(b"\x15\0\0\xc0\x7f", b"\x15\0\0\x80\x7f", b"\x10" + b"\xff" * 9 + b"\x01", b"critic_loss"),
)
JSON_WORDS = (
    *b'null true NaN Infinity 1e999 -1 { } [ ] " , \\ud800 \\u0000 0001-01-01T00:00+23:59'.split(),
    *(b"9" * 5000, b"[" * 3000),
)

TAGS = ("eval_return", "critic_loss")
PICTURE = "exploration_trajectories_eval"
RUN_FOLDER = "data/hw5_offline_easy_cql_sd1_2026-01-31_12-00-00"
SETTINGS = (
    b"base_config: cql\nenv_name: PointmassEasy-v0\nexp_name: x\nseed: 1\ncql_alpha: 0.5\n"
    b"training_steps: 30\ndataset_name: easy_rnd1000\n"
)
SUMMARY = (
    b'{"script": "offline", "exp_name": "x", "env_name": "PointmassEasy-v0", "algorithm": "cql", '
    b'"seed": 1, "status": "finished", "started": "2026-01-31T09:00:00+00:00", "total_steps": 30, '
    b'"wall_time_s": 2.5, "final_return": -14.5, "optimal_return": -13.4, "coverage": 0.5}'
)


@cache
def valid_dataset() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "valid.npz"
        save_dataset(path, make_dataset(30))
        return [path.read_bytes()]


def valid_pickles() -> list[bytes]:
    return [dump(collect(20)[0], protocol) for protocol in (3, 4, 5)]


def scalar_event(step: int, tag: str, value: float) -> bytes:
    return Event(
        step=step, summary={"value": [{"tag": tag, "simple_value": value}]}
    ).SerializeToString()


def valid_events() -> list[bytes]:
    image = {"encoded_image_string": b"\x89PNG\r\n\x1a\n" + bytes(50), "height": 1, "width": 1}
    picture = Event(step=40, summary={"value": [{"tag": PICTURE, "image": image}]})
    payloads = [scalar_event(step, TAGS[0], -step) for step in (10, 20, 30)]
    return [b"".join(map(record, [*payloads, picture.SerializeToString()]))]


def read_conversion(path: Path) -> None:
    """Converts a pickle; the result must be a valid dataset."""
    new = path.with_suffix(".npz")
    convert(path, new, EASY)
    load_dataset(new, EASY)
    new.unlink()


def read_log(path: Path) -> None:
    log = RunFolder(path.parent).read_log(TAGS, [PICTURE])
    assert not any("Memory" in problem for problem in log.problems)


@contextlib.contextmanager
def rest_of_the_run(path: Path) -> Iterator[Path]:
    """Writes the other files of a run next to this one; yields the folder of all runs."""
    others = {
        path.with_name("events.out.tfevents.1.host"): valid_events()[0],
        path.with_name("config.yaml"): SETTINGS,
        path.with_name("summary.json"): SUMMARY,
    }
    del others[path]
    for other, content in others.items():
        other.write_bytes(content)
    try:
        yield path.parent.parent
    finally:
        for other in others:
            other.unlink()


def read_settings(path: Path) -> None:
    with rest_of_the_run(path) as data_dir:
        answer(collect_runs(data_dir))


def read_summary(path: Path) -> None:
    with rest_of_the_run(path) as data_dir:
        summaries, _ = read_summaries(data_dir)
        format_results(summaries)
        collect_runs(data_dir)


PHASES = [Phase("offline", 30, interacts=False)]
OPTIONS = Options(Path("data"), Path("datasets"), Path("pictures"), 10, 10, 10, 1)


def small_run(folder: Path) -> programs.Run:
    values = {"base_config": "cql", "env_name": EASY, "exp_name": "x", "seed": 1, "hidden_size": 8}
    values |= {"batch_size": 4, "training_steps": 30}
    config = make_config(values, Path("x.yaml"), "offline")
    return replace(make_run("offline", config, None), folder=RunFolder(folder))


@cache
def valid_checkpoint() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        run = replace(small_run(Path(folder)), dataset=make_dataset(30))
        trainer = Trainer(programs.Program([run], PHASES), OPTIONS)
        trainer.step += trainer._learn(3)
        save_checkpoint(trainer.checkpoint_path, trainer.get_state())
        return trainer.checkpoint_path.read_bytes()


@cache
def valid_state() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CHECKPOINT
        path.write_bytes(valid_checkpoint())
        return load_checkpoint(path)


def restore(path: Path) -> None:
    program = programs.Program([small_run(path.parent)], PHASES)
    assert programs._resume(program, OPTIONS, path).step in range(1, 30)


def with_changes(changes: dict[tuple[str, ...], Any]) -> bytes:
    """Returns a checkpoint with some other values in its state."""
    state = valid_state()
    state = {k: dict(v) if isinstance(v, dict) else v for k, v in state.items()}
    for place in sorted(changes, key=len, reverse=True):  # inner values first
        (state[place[0]] if len(place) == 2 else state)[place[-1]] = changes[place]
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / CHECKPOINT, state)
        return (Path(folder) / CHECKPOINT).read_bytes()


def places() -> list[tuple[str, ...]]:
    """Returns the keys of the state, and those of the mappings in it."""
    state = valid_state()
    return [(k,) for k in state] + [
        (k, name) for k, value in state.items() if isinstance(value, dict) for name in value
    ]


SWEEP = sweep_records.Sweep(
    stage="offline",
    options=replace(OPTIONS, data_dir=Path()),
    workers=1,
    device="cpu",
    programs=[[Path(RUN_FOLDER).name]],
).model_dump_json(indent=1)


def read_sweep(path: Path) -> None:
    assert sweep_records.read(path.parent).options.eval_interval > 0


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
PLAIN = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(SCALARS, SCALARS, max_size=1)


def changed(valid: dict[str, Any], dump: Callable[[Any], str]) -> st.SearchStrategy[bytes]:
    """Returns texts of a mapping with some values replaced."""
    changes = st.dictionaries(st.sampled_from([*valid]) | st.text(max_size=8), PLAIN, max_size=4)
    return changes.map(lambda values: dump(valid | values).encode("utf-8", "surrogatepass"))


def npy(descr: str, shape: tuple[int, ...], data: bytes, *, by_column: bool) -> bytes:
    header = repr({"descr": descr, "fortran_order": by_column, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


ARRAYS = st.builds(
    npy,
    st.sampled_from(["<f4", "<f8", "<i8", "|b1", "|O", "<U9", "<M8[s]", "|V0", "f4, O", "3f4"]),
    st.lists(st.sampled_from([0, 1, 2, 30, -1, 2**31, 2**62, 2**64]), max_size=3).map(tuple),
    st.sampled_from([0, 30, 60, 120, 240]).map(bytes) | st.binary(max_size=240),
    by_column=st.booleans(),
)
EVENTS = st.builds(
    scalar_event,
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(TAGS) | st.text(st.characters(codec="utf-8"), max_size=5),
    st.floats(width=32),
) | st.binary(max_size=30)

TARGETS = {
    "config": Target(
        "run.yaml",
        partial(load_sweep, stage="offline"),
        lambda: [YAML.encode()],
        YAML_WORDS,
        changed(yaml.safe_load(YAML), yaml.safe_dump),
        mutate_value,
    ),
    "dataset": Target(
        "data.npz",
        partial(load_dataset, env_id=EASY),
        valid_dataset,
        NUMPY_WORDS,
        st.dictionaries(st.sampled_from([*FIELDS, "manifest"]), ARRAYS, min_size=1).map(
            lambda arrays: archive(
                unpack(valid_dataset()[0]) | {f"{k}.npy": v for k, v in arrays.items()}
            )
        ),
        mutate_member,
    ),
    "pickle": Target(
        "old.pkl",
        read_conversion,
        valid_pickles,
        PICKLE_WORDS,
        st.lists(st.sampled_from(PICKLE_WORDS) | st.binary(max_size=4)).map(b"".join),
    ),
    "event file": Target(
        "events.out.tfevents.1.host",
        read_log,
        valid_events,
        EVENT_WORDS,
        st.lists(EVENTS.map(record) | st.binary(max_size=20)).map(b"".join),
        mutate_record,
    ),
    "settings of a run": Target(
        f"{RUN_FOLDER}/config.yaml",
        read_settings,
        lambda: [SETTINGS],
        YAML_WORDS,
        changed(yaml.safe_load(SETTINGS), yaml.safe_dump),
        mutate_value,
    ),
    "summary of a run": Target(
        f"{RUN_FOLDER}/summary.json",
        read_summary,
        lambda: [SUMMARY],
        JSON_WORDS,
        changed(json.loads(SUMMARY), json.dumps),
    ),
    "checkpoint": Target(
        f"{RUN_FOLDER}/{CHECKPOINT}",
        restore,
        lambda: [valid_checkpoint()],
        CHECKPOINT_WORDS,
        st.deferred(
            lambda: st.dictionaries(st.sampled_from(places()), PLAIN, min_size=1, max_size=3)
        ).map(with_changes),
        mutate_checkpoint,
    ),
    "record of a sweep": Target(
        f"{RUN_FOLDER}/{SWEEP_RECORD}",
        read_sweep,
        lambda: [SWEEP.encode()],
        JSON_WORDS,
        changed(json.loads(SWEEP), json.dumps),
        mutate_value,
    ),
}
SHARE = -(-CASES // (2 * len(TARGETS)))


@pytest.fixture(scope="module", autouse=True)
def _planned():
    """Computes the optimum for the report, which is slow once and then comes from the cache."""
    plan(EASY)


every_target = pytest.mark.parametrize("kind", TARGETS)


@cache
def read_valid_files(kind: str) -> None:
    """Reads them without limits; once is enough."""
    with tempfile.TemporaryDirectory() as folder:
        for content in TARGETS[kind].valid():
            path = Path(folder) / TARGETS[kind].name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            TARGETS[kind].read(path)


@pytest.fixture
def target(kind):
    """A target that has read a file already: the first one also takes the time of imports."""
    read_valid_files(kind)
    return TARGETS[kind]


@every_target
def test_valid_files_are_read(kind):
    read_valid_files(kind)


MERGES = "l0: &l0 {x: 1}\n" + "".join(
    f"l{level}: &l{level} {{<<: [{', '.join([f'*l{level - 1}'] * 9)}]}}\n" for level in range(1, 13)
)


FOUND = [
    ("event file", record(b"", claimed=2**33)),
    ("settings of a run", b"training_steps: !!bool x"),
    ("settings of a run", b"training_steps: !!timestamp x"),
    ("settings of a run", b"training_steps: 0x" + b"f" * 9000),
    ("settings of a run", b"0x" + b"f" * 9000 + b": 1"),
    ("settings of a run", MERGES.encode()),
    ("settings of a run", b"seed: " + b"[" * 40_000),
    ("config", b"base_config: dqn\nenv_name: " + b"x" * 40_000),
    ("config", b"seed: !!bool " + b"9" * 40_000),
    ("config", b"base_config: dqn\nenv_name: PointmassEasy-v0\n" + b"x" * 500 + b": 1"),
    ("config", b"seed: *" + b"x" * 40_000),
    ("pickle", b"F" + b"x" * 40_000 + b"\n."),
    ("checkpoint", (10**12).to_bytes(8, "little") + b"{" * 1000),
    ("checkpoint", (3_000_000).to_bytes(8, "little") + b"[" * 3_000_000),
    ("checkpoint", stateful("[" + "[]," * 330_000 + "0]")),
    ("checkpoint", stateful("[" * 900_000)),
    ("record of a sweep", b"[" * 100_000),
]


@pytest.mark.parametrize(("kind", "content"), FOUND)
def test_bugs_that_were_found_stay_fixed(target, content, tmp_path):
    with little_memory():
        check(target, tmp_path, content)


def raise_an_error(path):
    return {}[path]


def say_too_much(path):
    raise UserError("one line\nand another")


def never_end(path):
    while True:
        path.exists()


def take_memory(path):
    try:
        np.ones(MEMORY // 4)
    except Exception as error:
        raise UserError("cannot be used") from error


def leave_something(path):
    path.with_suffix(".tmp").touch()


def change_the_file(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "read",
    [raise_an_error, say_too_much, never_end, leave_something, change_the_file]
    + [take_memory] * (sys.platform == "linux"),
)
def test_careless_readers_are_caught(monkeypatch, tmp_path, read):
    monkeypatch.setattr(sys.modules[__name__], "SECONDS", 0.1)
    target = replace(TARGETS["config"], read=read)
    with little_memory(), pytest.raises((AssertionError, KeyError)):
        check(target, tmp_path, b"anything")


def test_a_slow_machine_has_more_time_but_not_all(monkeypatch, tmp_path):
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "SECONDS", 0.1)

    def take_a_while(path):
        began = time.process_time()
        while time.process_time() < began + 0.3:
            sum(range(1_000))

    slowness = 1.0
    monkeypatch.setattr(module, "a_little_work", lambda: slowness * USUAL_WORK_S)
    with pytest.raises(AssertionError, match="Hang"):
        check(replace(TARGETS["config"], read=take_a_while), tmp_path, b"anything")
    slowness = 4.0
    check(replace(TARGETS["config"], read=take_a_while), tmp_path, b"anything")
    with pytest.raises(AssertionError, match="Hang"):
        check(replace(TARGETS["config"], read=never_end), tmp_path, b"anything")


@every_target
def test_changed_files_are_read_or_refused(kind, target, tmp_path):
    contents, words = target.valid(), [*target.words, *EXTREMES]
    with little_memory():
        for case in range(SHARE):
            rng = np.random.default_rng([SEED, case])
            content = contents[case % len(contents)]
            change = target.mutate if target.mutate and case % 3 else mutate
            content = change(rng, content, words)
            try:
                check(target, tmp_path, content)
            except Exception as error:
                error.add_note(f"{kind}, case {case} of FUZZ_SEED={SEED}: {content!r}")
                raise


@every_target
def test_generated_files_are_read_or_refused(target, tmp_path):
    @seed(SEED)
    @settings(max_examples=SHARE, deadline=None, database=None)
    @given(target.generated)
    def every_content(content):
        check(target, tmp_path, content)

    with little_memory():
        every_content()
