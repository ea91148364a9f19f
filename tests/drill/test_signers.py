"""A commit that this host does not trust, met by the real agent: the last plan runs on, and the reason is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drill.test_surroundings import Machine, conditions, machine

__all__ = ["machine"]
pytestmark = pytest.mark.root


def keys(folder: Path, *names: str) -> None:
    for name in names:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)


def sign_with(machine: Machine, name: str) -> None:
    machine.git("config", "gpg.format", "ssh")
    machine.git("config", "user.signingkey", str(machine.folder / name))


def push(machine: Machine, lan: str, sign: bool = True) -> None:
    machine.push(lan)
    machine.git("commit", "-q", "--amend", "--no-edit", "-S" if sign else "--no-gpg-sign")


@pytest.fixture
def trusting(machine: Machine) -> Iterator[Machine]:
    """A host that trusts ada, at a commit of hers."""
    keys(machine.folder, "ada", "eve")
    public = (machine.folder / "ada.pub").read_text()
    (machine.folder / "allowed").write_text(f"ada@example.org {public}")
    machine.configure()
    config = machine.folder / "agent.yaml"
    verify = f", verify: {{allowed_signers: {machine.folder}/allowed}}}}"
    config.write_text(config.read_text().replace("timeout: 20s}", f"timeout: 20s{verify}"))
    sign_with(machine, "ada")
    push(machine, "10.1.0.1/24")
    code, said = machine.run()
    assert code == 0 and '"Verified"' in said, said
    yield machine


def refused(machine: Machine, reason: str, before: str) -> None:
    code, said = machine.run()
    assert code == 1
    assert f"Verified={reason}" in conditions(said)
    assert machine.kernel() == before
    assert "10.1.0.1" in before


def test_unsigned_and_then_signed(trusting: Machine) -> None:
    before = trusting.kernel()
    push(trusting, "10.2.0.1/24", sign=False)
    refused(trusting, "Unsigned", before)
    trusting.git("commit", "-q", "--amend", "--no-edit", "-S")
    assert trusting.run()[0] == 0
    assert "10.2.0.1" in trusting.kernel()


def test_signed_by_somebody_else(trusting: Machine) -> None:
    before = trusting.kernel()
    sign_with(trusting, "eve")
    push(trusting, "10.2.0.1/24")
    refused(trusting, "UnknownSigner", before)


def test_a_good_tip_on_a_bad_commit(trusting: Machine) -> None:
    before = trusting.kernel()
    push(trusting, "10.2.0.1/24", sign=False)
    push(trusting, "10.3.0.1/24")
    refused(trusting, "Unsigned", before)


def test_an_old_commit_shown_again_until_it_is_accepted(trusting: Machine) -> None:
    first = trusting.git("rev-parse", "HEAD")
    push(trusting, "10.2.0.1/24")
    assert trusting.run()[0] == 0
    trusting.git("reset", "-q", "--hard", first)
    before = trusting.kernel()
    code, said = trusting.run()
    assert code == 1 and "Verified=NotDescendant" in conditions(said)
    assert trusting.kernel() == before
    subprocess.run(
        [sys.executable, "-m", "gitwan", "agent", "accept", first, "--config", trusting.folder / "agent.yaml"],
        check=True,
        capture_output=True,
    )
    assert trusting.run()[0] == 0
    assert "10.1.0.1" in trusting.kernel()
