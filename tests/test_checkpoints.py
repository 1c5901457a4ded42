"""A checkpoint is read back exactly as it was written, and anything else is refused."""

import json
from contextlib import suppress
from unittest import mock

import numpy as np
import pytest
import safetensors
import torch

from cs285.infrastructure.errors import UserError
from cs285.learning import agent_state
from cs285.training import checkpoints
from cs285.training.checkpoints import load_checkpoint, save_checkpoint
from cs285.training.trainer import same_settings

ODD_ARRAYS = {
    "negative strides": np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    "no axis": np.array(2.5),
    "foreign bytes": np.arange(3, dtype=">i4"),
    "unwritable": np.broadcast_to(np.float32(1.5), (2, 2)),
    "small": np.arange(-2, 2, dtype=np.int8),
    "half": np.array([0.1, np.inf], dtype=np.float16),
}


@pytest.mark.parametrize("name", ODD_ARRAYS)
def test_arrays_of_any_layout_are_restored(tmp_path, name):
    array = ODD_ARRAYS[name]
    save_checkpoint(tmp_path / "a.pt", {"x": array})
    found = load_checkpoint(tmp_path / "a.pt")["x"]
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_numbers_keep_their_types_and_long_lists_of_them_their_values(tmp_path):
    state = {
        "single": np.float32(0.1),
        "flag": np.bool_(True),
        "losses": [0.1, float("nan"), -0.0, float("inf")] * 100_000,
        "counts": (2**62, -3) * 20,
        "huge": [2**70] * 20,
        "mixed": [1, 2.0] * 20,
        "flags": [True, False] * 20,
    }
    save_checkpoint(tmp_path / "a.pt", state)
    found = load_checkpoint(tmp_path / "a.pt")
    for name, value in state.items():
        assert repr(found[name]) == repr(value)  # NaN differs from itself


def test_a_tensor_stands_for_one_list_only(tmp_path):
    """A small file cannot ask for a long list many times."""
    with mock.patch.object(
        checkpoints.json, "dumps", return_value='[{"numbers": 0}, {"numbers": 0}]'
    ):
        save_checkpoint(tmp_path / "a.pt", {"x": [1.0] * 20})
    with pytest.raises(UserError, match="cannot be used"):
        load_checkpoint(tmp_path / "a.pt")
    with mock.patch.object(
        checkpoints.json, "dumps", return_value='{"mapping": [["x", {"numbers": 0}]]}'
    ):
        save_checkpoint(tmp_path / "a.pt", {"x": [1.0] * 20})
    assert load_checkpoint(tmp_path / "a.pt") == {"x": [1.0] * 20}


def test_a_state_is_restored_exactly(tmp_path):
    state = {
        "whole": 2**200,
        "parts": (1.5, None, True, float("inf"), "text"),
        3: [{"nested": np.arange(6.0).reshape(2, 3)[:, ::2]}],
        "view": torch.arange(10)[2:4],
        "scalar": torch.tensor(2.5),
        "none": np.empty((0, 2)),
    }
    save_checkpoint(tmp_path / "a.pt", state)
    found = load_checkpoint(tmp_path / "a.pt")
    assert found.keys() == state.keys()
    assert (found["whole"], found["parts"]) == (2**200, state["parts"])
    np.testing.assert_array_equal(found[3][0]["nested"], [[0, 2], [3, 5]])
    assert found["view"].tolist() == [2, 3]
    assert found["view"].untyped_storage().nbytes() == 16
    assert found["scalar"].shape == ()
    assert found["none"].shape == (0, 2)


@pytest.mark.parametrize("value", [object(), torch.zeros(2, dtype=torch.complex64), {1, 2}])
def test_what_no_checkpoint_can_hold_is_refused_when_it_is_written(tmp_path, value):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "a.pt", {"x": [value]})
    assert not list(tmp_path.iterdir())


def forge(path, change):
    """Rewrites the header of a checkpoint by `change(header)`; the bytes of its tensors stay."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def enlarge(header):
    header["0"]["shape"] = [2**40]


def overlap(header):
    header["1"]["data_offsets"] = header["0"]["data_offsets"]


def leave_bytes_over(header):
    del header["1"]


def change_type(header):
    header["0"]["dtype"] = "F64"


def name_a_tensor(header):
    header["one"] = header.pop("1")


def change_version(header):
    header["__metadata__"]["format"] = "3"


def change_text(header):
    metadata = header["__metadata__"]
    metadata["state"] = metadata["state"].replace("step", "stop")


def forget_the_text(header):
    del header["__metadata__"]["state"]


CHANGES = (
    *(enlarge, overlap, leave_bytes_over, change_type, name_a_tensor, change_version),
    *(change_text, forget_the_text),
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_forged_header_is_refused(tmp_path, change):
    path = tmp_path / "a"
    state = {"step": 5, "x": torch.zeros(64), "y": torch.ones(64)}
    save_checkpoint(path, state)
    forge(path, lambda header: None)
    assert (
        load_checkpoint(path)["step"] == 5
    )  # so only the change can be the reason for refusing it below
    forge(path, change)
    with pytest.raises(UserError, match="cannot be used"):
        load_checkpoint(path)


def test_a_long_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a"
    path.write_bytes((10**9).to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.truncate(2 * 10**9)  # takes no space on the disk
    with (
        mock.patch.object(safetensors, "safe_open") as safe_open,
        pytest.raises(UserError, match="cannot be used"),
    ):
        load_checkpoint(path)
    safe_open.assert_not_called()


def test_a_changed_byte_of_a_tensor_is_noticed(tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, {"x": torch.arange(1000)})
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be used"):
        load_checkpoint(path)


def test_a_loaded_tensor_can_be_changed_without_changing_the_file(tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, {"x": torch.zeros(3)})
    load_checkpoint(path)["x"] += 1
    assert load_checkpoint(path)["x"].tolist() == [0, 0, 0]


def test_a_damaged_byte_never_ends_in_a_traceback(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"x": torch.arange(5), "y": [1, "two"]})
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 150):
        content = bytearray(whole)
        content[position] ^= 1 << rng.integers(8)
        path.write_bytes(content if rng.random() < 0.5 else content[:position])
        with suppress(UserError):
            load_checkpoint(path)


class Counting:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1


@pytest.mark.parametrize("shares", [True, False])
def test_what_a_checkpoint_would_cut_off_or_forget_is_refused(shares):
    agent = torch.nn.Module()
    agent.net = torch.nn.Linear(2, 2)
    agent.own = list(agent.net.parameters()) if shares else Counting()
    with pytest.raises(TypeError, match="own"):
        agent_state.get_state(agent)


def test_what_has_no_plain_layout_is_refused(tmp_path):
    endless = []
    endless.append(endless)
    for value in (torch.eye(2).to_sparse(), endless):
        with pytest.raises(TypeError):
            save_checkpoint(tmp_path / "a.pt", {"x": value})
    assert not list(tmp_path.iterdir())


def test_arrays_with_nan_still_share_their_memory():
    def make():
        agent = torch.nn.Module()
        agent.seen = np.full(4, np.nan)
        agent.newest = agent.seen[2:]
        return agent

    written = make()
    written.seen[0] = 1
    read = make()
    agent_state.set_state(read, agent_state.get_state(written))
    read.seen[3] = 5
    assert read.newest[1] == 5


class Loose:
    """An agent that a student may write: not a module, attributes of any kind."""

    def __init__(self):
        self.net = torch.nn.Linear(2, 2)
        self.optimizer = torch.optim.Adam(self.net.parameters())
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha])
        self.legacy = np.random.RandomState(1)
        self.visits = np.zeros(3)[::-1]
        self.mean = self.best = torch.zeros(2)
        self.seen = torch.zeros(0, 2)
        self.count = np.array(0.0)
        self.limits = np.broadcast_to(np.zeros(1), (3,))
        self.norm = None
        self.first = torch.ones(1)

    def learn(self):
        loss = (self.net(torch.ones(2)).sum() + self.log_alpha.sum()).square()
        for optimizer in (self.optimizer, self.alpha_optimizer):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (self.optimizer, self.alpha_optimizer):
            optimizer.step()
        self.seen = torch.cat([self.seen, torch.rand(1, 2)])
        self.visits = self.visits + self.legacy.rand(3)
        self.mean = self.mean + self.seen.mean(0)
        self.count = self.count + 1
        self.limits = self.visits.astype(np.float32)
        self.norm = np.float32(1.1) * (self.norm or np.float32(1))
        self.history = [*getattr(self, "history", []), loss.item()]
        if hasattr(self, "first"):
            del self.first


def test_attributes_may_change_shape_and_kind_appear_and_disappear(tmp_path):
    torch.manual_seed(0)
    calm, other = Loose(), Loose()
    born = agent_state.outline(calm)
    for _ in range(20):
        calm.learn()
    save_checkpoint(tmp_path / "a.pt", agent_state.get_state(calm, born))
    agent_state.set_state(other, load_checkpoint(tmp_path / "a.pt"))
    for agent in (calm, other):
        torch.manual_seed(1)
        agent.learn()
    assert vars(other).keys() == vars(calm).keys()
    assert not hasattr(other, "first")
    for name, value in vars(calm).items():
        if isinstance(value, torch.Tensor | np.ndarray):
            assert (value.dtype, value.shape) == (vars(other)[name].dtype, vars(other)[name].shape)
            np.testing.assert_array_equal(vars(other)[name].tolist(), value.tolist(), name)
    assert other.net.weight.tolist() == calm.net.weight.tolist()
    assert (other.history, type(other.norm)) == (calm.history, np.float32)
    assert other.norm == calm.norm
    assert other.log_alpha is other.alpha_optimizer.param_groups[0]["params"][0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: setattr(x, "critic", torch.nn.Linear(2, 1)), "critic"),
        (lambda x: setattr(x, "norm", torch.optim.SGD(x.net.parameters())), "norm"),
        (lambda x: setattr(x, "net", torch.nn.Linear(3, 2)), "net.weight"),
        (lambda x: setattr(x, "log_alpha", torch.zeros(2, requires_grad=True)), "log_alpha"),
        (lambda x: setattr(x, "learn", x.optimizer.step), "learn"),
        (lambda x: delattr(x, "net"), "net"),
    ],
)
def test_what_a_new_agent_could_not_restore_is_reported_when_it_is_written(change, expected):
    agent = Loose()
    born = agent_state.outline(agent)
    agent_state.get_state(agent, born)
    change(agent)
    with pytest.raises(TypeError, match=rf"Loose\.{expected}.* is not what it was"):
        agent_state.get_state(agent, born)


def test_an_agent_with_slots_is_reported():
    class Slotted:
        __slots__ = ("count",)

    agent = Slotted()
    with pytest.raises(TypeError):
        agent_state.get_state(agent, agent_state.outline(agent))


def test_a_masked_array_is_more_than_its_numbers():
    agent = Loose()
    agent.visits = np.ma.masked_array([1, 2], [False, True])
    with pytest.raises(TypeError, match="visits is a MaskedArray"):
        agent_state.get_state(agent)


def test_settings_of_an_older_checkpoint_lack_what_was_added_later():
    now = {"learning_rate": 0.1, "value_learning_rate": None}
    assert same_settings([{"learning_rate": 0.1}], [now])
    assert same_settings([now], [now])
    assert not same_settings([{"learning_rate": 0.2}], [now])
    assert not same_settings([{"learning_rate": 0.1}], [now | {"value_learning_rate": 0.3}])
    assert not same_settings([{"learning_rate": 0.1, "dropped": None}], [now])
    assert not same_settings([now], [now, now])
