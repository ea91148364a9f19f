"""What is kept over restarts."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from reconciler.loops.exits.memory import Kept, Memory, remembered
from schema.plan import Peer, SecretRef, Wireguard
from tests.unit.reconciler.loops.exits.providers.test_properties import JSON
from tests.unit.reconciler.loops.exits.samples import KEY, an_exit, gateway, session

LONDON = session(gateway("uk/london401"))


def test_a_key_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "pia")
    assert memory.public_key() == memory.public_key()
    assert stat.S_IMODE((tmp_path / "exits" / "pia" / "private.key").stat().st_mode) == 0o600


def test_the_key_is_the_one_that_the_plan_names_or_the_exits_own(tmp_path: Path) -> None:
    memory, own = Memory(tmp_path, "pia"), SecretRef(secret="private-key", fingerprint=KEY)
    assert memory.key(an_exit()) == SecretRef(secret="exit:pia", fingerprint=memory.public_key())
    other = Memory(tmp_path, "own")
    assert other.key(an_exit(key=own)) == own
    assert not other.folder.exists(), "a key that nobody needs is not made"


def test_tunnels_come_back_as_they_were(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "pia")
    kept = [Kept("wg-pia-1", LONDON, True, 0.2), Kept("wg-pia-2", LONDON, False, None)]
    memory.keep(kept, "uk/london401")
    assert memory.tunnels() == (kept, "uk/london401")


def test_what_cannot_be_read_is_as_good_as_nothing(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "pia")
    assert memory.tunnels() == ([], None)
    memory.folder.mkdir(parents=True)
    for text in ("", "{}", '{"tunnels": [{"dev": "wg-pia"}]}', '{"tunnels": [{"dev": 1, "session": {"gateway": 3}}]}'):
        (memory.folder / "tunnels.json").write_text(text)
        assert memory.tunnels() == ([], None)


BAD = {
    "addresses": [[], ["10.64.0.5/abc"], ["10.64.0.5/99"], ["0.0.0.0/0"], "10.64.0.5/32", [1], None],
    "public_key": ["short", KEY[:-2] + "1=", 1, None],
    "endpoint": ["198.51.100.1", "198.51.100.1:x", "gateway.example:1", "198.51.100.1:99999", 1, ""],
    "dns": [["10.64.0"], ["10.64.0.1/x"], [None], "x"],
    "keepalive": [-1, "x", 65536],
    "gateway": [None, {}, {"id": 1}],
    "expires": ["x", []],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_a_tunnel_that_cannot_be_made_is_left_out_and_the_agent_starts(
    tmp_path: Path, field: str, value: object
) -> None:
    memory = Memory(tmp_path, "pia")
    memory.keep([Kept("wg-pia-1", LONDON, True, 0.2), Kept("wg-pia-2", LONDON, True, 0.2)], "uk/london401")
    file = memory.folder / "tunnels.json"
    kept = json.loads(file.read_text())
    kept["tunnels"][0]["session"][field] = value
    file.write_text(json.dumps(kept))
    assert [one.dev for one in memory.tunnels()[0]] == ["wg-pia-2"]
    assert {one.dev for one in remembered(tmp_path, [an_exit()]) if isinstance(one, Peer)} == {"wg-pia-2"}


@given(JSON)
def test_whatever_stands_there_is_read(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder), "pia")
        memory.folder.mkdir(parents=True)
        for whole in (value, {"tunnels": value, "pinned": value}, {"tunnels": [value], "pinned": value}):
            (memory.folder / "tunnels.json").write_text(json.dumps(whole))
            tunnels, pinned = memory.tunnels()
            assert tunnels == [] and (pinned is None or isinstance(pinned, str))
            assert remembered(Path(folder), [an_exit()]) == []


def test_a_key_that_cannot_be_read_keeps_no_agent_from_starting(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "pia")
    memory.keep([Kept("wg-pia-1", LONDON, True, 0.2)], None)
    (memory.folder / "private.key").mkdir()
    assert remembered(tmp_path, [an_exit()]) == []


def test_a_restore_knows_the_tunnels_before_anything_else_does(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "pia")
    memory.keep([Kept("wg-pia-1", LONDON, True, 0.2), Kept("wg-gone", LONDON, True, None)], None)
    found = remembered(tmp_path, [an_exit()])
    assert [one.dev for one in found if isinstance(one, Peer)] == ["wg-pia-1"]
    (device,) = (one for one in found if isinstance(one, Wireguard))
    assert device.private_key.fingerprint == memory.public_key()
    assert remembered(tmp_path, [an_exit(name="other")]) == []
