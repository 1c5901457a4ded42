"""All caches are in one folder, which one variable changes."""

from pathlib import Path

import pytest

from cs285.envs import planner
from cs285.envs.mazes import get_maze
from cs285.infrastructure.caches import cache_folder

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
    assert planner._cache_path(get_maze("PointmassEasy-v0")).parent == tmp_path


@linux
def test_without_a_home_nothing_is_written_to_the_working_folder(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    with pytest.raises(RuntimeError):
        cache_folder()
    assert not Path("~").exists()
