"""A checkpoint comes back as it was written, and nothing else is taken for one."""

import zipfile
from contextlib import suppress
from unittest import mock

import numpy as np
import pytest
import torch

from cs285.infrastructure import agent_state
from cs285.infrastructure.checkpoints import load_checkpoint, save_checkpoint
from cs285.infrastructure.errors import UserError


def test_a_state_comes_back_as_it_was(tmp_path):
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


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x40t", b"K\x41t"),  # a storage of one element more than there are
        (b"X\3\0\0\0cpu", b"X\4\0\0\0cuda"),
        (b"torch\nFloatStorage", b"torch\nDoubleStorage"),
        (b"collections\nOrderedDict", b"builtins\nbytearray"),
    ],
)
def test_a_forged_layout_is_refused_before_pytorch_sees_it(tmp_path, old, new):
    path, forged = tmp_path / "a.pt", tmp_path / "b.pt"
    save_checkpoint(path, {"x": torch.zeros(64)})
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(forged, "w") as after:
        for info in before.infolist():
            content = before.read(info)
            assert old in content or not info.filename.endswith("data.pkl")
            after.writestr(info.filename, content.replace(old, new))
    with (
        mock.patch.object(torch, "load") as load,
        pytest.raises(UserError, match="cannot be used"),
    ):
        load_checkpoint(forged)
    load.assert_not_called()


def test_no_damaged_byte_ends_in_a_traceback(tmp_path):
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
def test_what_a_checkpoint_would_cut_off_or_forget_is_told(shares):
    agent = torch.nn.Module()
    agent.net = torch.nn.Linear(2, 2)
    agent.own = list(agent.net.parameters()) if shares else Counting()
    with pytest.raises(TypeError, match="own"):
        agent_state.get_state(agent)
