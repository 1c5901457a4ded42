"""All caches are in one folder, which one variable changes."""

from pathlib import Path

import numpy as np
import pytest

from cs285.infrastructure.caches import cache_folder, read_arrays, write_arrays

linux = pytest.mark.skipif("sys.platform != 'linux'", reason="other systems have other folders")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("CS285_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@linux
def test_the_cache_is_where_version_1_had_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "cs285"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other" / "cs285"


def test_one_variable_moves_everything(monkeypatch, tmp_path):
    monkeypatch.setenv("CS285_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    write_arrays("some.npz", {"a": np.arange(3)})
    assert [path.name for path in tmp_path.iterdir()] == ["some.npz"]
    arrays = read_arrays("some.npz", ["a"])
    assert arrays is not None
    assert arrays["a"].tolist() == [0, 1, 2]
    assert read_arrays("some.npz", ["a", "b"]) is None
    assert read_arrays("other.npz", ["a"]) is None


@linux
def test_without_a_home_nothing_is_written_to_the_working_folder(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    with pytest.raises(RuntimeError):
        cache_folder()
    assert not Path("~").exists()
