"""A node's name: lasting, and nobody else's."""

import socket
from pathlib import Path

import pytest

from telephony_gateway import identity
from telephony_gateway.errors import ConfigError
from telephony_gateway.identity import node_name


def test_the_name_lasts_over_restarts(tmp_path: Path) -> None:
    with node_name(tmp_path / "data", required=True) as first:
        pass
    with node_name(tmp_path / "data", required=True) as again:
        assert again == first


def test_two_processes_have_two_names(tmp_path: Path) -> None:
    with node_name(tmp_path, required=True) as one, node_name(tmp_path, required=True) as two:
        assert one != two
    with node_name(tmp_path, required=True) as again:
        assert again == one


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="DATA_DIR"), node_name(tmp_path / "file" / "data", required=True):
        pass


def test_too_many_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "MAX_NODES", 1)
    with (
        node_name(tmp_path, required=True),
        pytest.raises(ConfigError, match="DATA_DIR"),
        node_name(tmp_path, required=True),
    ):
        pass


def test_without_a_folder_the_host_gives_the_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with node_name(tmp_path / "file" / "data", required=False) as name:
        assert socket.gethostname() in name
