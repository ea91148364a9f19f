"""What is kept over restarts."""

from __future__ import annotations

import stat
from pathlib import Path

from reconciler.loops.exits.memory import Kept, Memory, remembered
from schema.plan import Peer, SecretRef, Wireguard
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


def test_a_restore_knows_the_tunnels_before_anything_else_does(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "pia")
    memory.keep([Kept("wg-pia-1", LONDON, True, 0.2), Kept("wg-gone", LONDON, True, None)], None)
    found = remembered(tmp_path, [an_exit()])
    assert [one.dev for one in found if isinstance(one, Peer)] == ["wg-pia-1"]
    (device,) = (one for one in found if isinstance(one, Wireguard))
    assert device.private_key.fingerprint == memory.public_key()
    assert remembered(tmp_path, [an_exit(name="other")]) == []
