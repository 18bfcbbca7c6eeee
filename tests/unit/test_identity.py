"""A node's name: lasting, and nobody else's."""

from pathlib import Path

import pytest

from telephony_gateway import identity
from telephony_gateway.errors import ConfigError
from telephony_gateway.identity import node_name


def test_the_name_lasts_over_restarts(tmp_path: Path) -> None:
    with node_name(tmp_path / "data") as first:
        pass
    with node_name(tmp_path / "data") as again:
        assert again == first


def test_two_processes_have_two_names(tmp_path: Path) -> None:
    with node_name(tmp_path) as one, node_name(tmp_path) as two:
        assert one != two
    with node_name(tmp_path) as again:
        assert again == one


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="DATA_DIR"), node_name(tmp_path / "file" / "data"):
        pass


def test_too_many_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_NODES", 1)
    with node_name(tmp_path), pytest.raises(ConfigError, match="DATA_DIR"), node_name(tmp_path):
        pass
