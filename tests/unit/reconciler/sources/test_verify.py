"""Ways to smuggle a commit, with real git, ssh-keygen and gpg: each is refused with its own reason."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.base.errors import Stalled, Transient
from reconciler.sources.git import Clone, Remote
from reconciler.sources.verify import Signers, Verifier
from reconciler.state.store import Confirmed

YEAR = 365 * 86400.0


def run(*command: str | Path, stdin: str = "", **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Repository:
    """A repository with people who sign, and a host that pins some of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        run("git", "init", "-q", "-b", "main", self.work)
        self.allowed = folder / "allowed_signers"
        self.allowed.write_text("")
        self.mirror = Clone(folder / "repo.git", Remote(f"file://{self.work}"))

    def person(self, name: str, pinned: str | None = "") -> None:
        """A signer; `pinned` are the options of the line that pins the key, None for nobody this host knows."""
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self.folder / name)
        public = (self.folder / f"{name}.pub").read_text()
        if pinned is not None:
            with self.allowed.open("a") as file:
                file.write(f"{name}@example.org {pinned} {public}")

    def commit(self, signer: str | None = None, date: str = "", **files: str) -> str:
        for name, text in (files or {"fabric": str(time.monotonic_ns())}).items():
            (self.work / name).write_text(text)
        self.git("add", "-A")
        words = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.folder / (signer or 'x')}"]
        sign = "-S" if signer else "--no-gpg-sign"
        dates = {"GIT_COMMITTER_DATE": date, "GIT_AUTHOR_DATE": date} if date else {}
        self.git(*words, "commit", "-q", sign, "--allow-empty", "-m", "change", **dates)
        return self.head()

    def git(self, *words: str, **environment: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return run("git", "-C", self.work, *identity, *words, **environment)

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def check(self, confirmed: str | None = None, clock: float | None = None, **options: object) -> None:
        """What the agent does on a host where `confirmed` was confirmed a moment ago."""
        commit = self.mirror.fetch()
        accepted = options.pop("accepted", None)
        at = options.pop("confirmed_at", time.time())
        signers = Signers(**{"allowed_signers": self.allowed, **options})  # type: ignore[arg-type]
        verifier = Verifier(self.mirror, signers, clock=lambda: time.time() if clock is None else clock)
        known = Confirmed("digest", confirmed, float(str(at))) if confirmed else None
        verifier.check(commit, known, str(accepted) if accepted else None)

    def refused(self, reason: str, *arguments: object, **options: object) -> str:
        with pytest.raises(Stalled) as found:
            self.check(*arguments, **options)  # type: ignore[arg-type]
        assert (found.value.condition, found.value.reason) == ("Verified", reason), found.value.message
        return found.value.message


@pytest.fixture
def wan(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    repository.person("ada")
    repository.person("eve", pinned=None)
    return repository


def test_a_commit_of_a_pinned_signer_passes_on_a_first_clone_and_later(wan: Repository) -> None:
    first = wan.commit("ada")
    wan.check()
    wan.commit("ada")
    wan.commit("ada")
    wan.check(first)


# The ways


def test_1_unsigned(wan: Repository) -> None:
    wan.commit()
    wan.refused("Unsigned")


def test_2_signed_by_somebody_else(wan: Repository) -> None:
    wan.commit("eve")
    wan.refused("UnknownSigner")


def test_3_an_expired_key_although_the_committer_dates_the_commit_back(wan: Repository) -> None:
    wan.person("old", pinned='valid-before="20200101"')
    wan.commit("old", date="2019-06-01T00:00:00Z")
    wan.refused("Expired")


def test_3_a_clock_that_was_set_back_does_not_make_an_expired_key_good_again(wan: Repository) -> None:
    first = wan.commit("ada")
    wan.person("old", pinned='valid-before="20250101"')
    wan.commit("old", date="2024-06-01T00:00:00Z")
    wan.refused("Expired", first, clock=1_700_000_000.0)


def test_3_a_key_that_is_not_valid_yet(wan: Repository) -> None:
    wan.person("new", pinned='valid-after="20990101"')
    wan.commit("new")
    wan.refused("Expired")


def test_4_a_revoked_key(wan: Repository) -> None:
    wan.person("gone")
    wan.commit("gone")
    wan.check()
    wan.refused("Revoked", revoked=wan.folder / "gone.pub")


def test_5_a_good_tip_on_a_bad_middle_commit(wan: Repository) -> None:
    first = wan.commit("ada")
    bad = wan.commit("eve")
    wan.commit("ada")
    assert bad[:7] in wan.refused("UnknownSigner", first)


def test_6_a_force_push(wan: Repository) -> None:
    wan.commit("ada")
    confirmed = wan.commit("ada")
    wan.git("reset", "-q", "--hard", "HEAD~1")
    wan.commit("ada", other="content")
    wan.mirror.fetch()
    message = wan.refused("NotDescendant", confirmed)
    assert "gitwan agent accept" in message


def test_7_a_replay_of_an_old_signed_commit(wan: Repository) -> None:
    wan.commit("ada")
    confirmed = wan.commit("ada")
    wan.mirror.fetch()
    wan.git("reset", "-q", "--hard", "HEAD~1")
    wan.refused("NotDescendant", confirmed)


def test_7_the_pin_survives_the_deletion_of_the_clone(wan: Repository) -> None:
    wan.commit("ada")
    confirmed = wan.commit("ada")
    wan.git("reset", "-q", "--hard", "HEAD~1")
    wan.refused("NotDescendant", confirmed)  # a mirror that has never seen the confirmed commit


def test_8_a_signed_tag_on_an_unsigned_commit(wan: Repository) -> None:
    wan.commit()
    key = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={wan.folder / 'ada'}"]
    wan.git(*key, "tag", "-s", "-m", "release", "v1")
    wan.refused("Unsigned")


def test_9_grafts_and_replacements_on_the_server_or_here(wan: Repository) -> None:
    confirmed = wan.commit("ada")
    wan.git("checkout", "-q", "--orphan", "other")
    wan.commit("ada", other="history")
    wan.git("checkout", "-q", "-B", "main")
    wan.git("replace", "--graft", "main", confirmed)
    wan.refused("NotDescendant", confirmed)
    run("git", f"--git-dir={wan.folder / 'repo.git'}", "fetch", "-q", wan.work, "+refs/replace/*:refs/replace/*")
    wan.refused("NotDescendant", confirmed)
    (wan.folder / "repo.git" / "info").mkdir(exist_ok=True)
    (wan.folder / "repo.git" / "info" / "grafts").write_text(f"{wan.head()} {confirmed}\n")
    wan.refused("NotDescendant", confirmed)


def test_10_a_signers_file_in_the_repository_pins_nobody(wan: Repository) -> None:
    public = (wan.folder / "eve.pub").read_text()
    wan.commit("eve", allowed_signers=f"eve@example.org {public}", **{".gitwan": "verify: off"})
    wan.refused("UnknownSigner")


def test_11_a_signature_of_another_commit(wan: Repository) -> None:
    wan.commit("ada")
    good = wan.git("cat-file", "commit", "HEAD") + "\n"
    forged = wan.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=good.replace("change", "chance"))
    wan.git("reset", "-q", "--hard", forged)
    wan.refused("BadSignature")


def test_12_a_signature_made_for_something_else_than_git(wan: Repository) -> None:
    wan.commit("ada")
    raw = wan.git("cat-file", "commit", "HEAD") + "\n"
    head, _, rest = raw.partition("gpgsig ")
    body = rest.split("-----END SSH SIGNATURE-----\n", 1)[1]
    (wan.folder / "payload").write_text(head + body)
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", wan.folder / "ada", wan.folder / "payload")
    armour = (wan.folder / "payload.sig").read_text().rstrip("\n").replace("\n", "\n ")
    forged = wan.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=f"{head}gpgsig {armour}\n{body}")
    wan.git("reset", "-q", "--hard", forged)
    wan.refused("BadSignature")


# History, acceptance, OpenPGP


def test_first_parent_history_asks_for_merges_only(wan: Repository) -> None:
    first = wan.commit("ada")
    wan.git("checkout", "-q", "-b", "branch")
    wan.commit(None, branch="work")
    wan.git("checkout", "-q", "main")
    key = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={wan.folder / 'ada'}"]
    wan.git(*key, "merge", "-q", "--no-ff", "-S", "-m", "merge", "branch")
    wan.check(first, history="first-parent")
    wan.refused("Unsigned", first)


def test_an_accepted_commit_need_not_descend_but_has_to_be_signed(wan: Repository) -> None:
    confirmed = wan.commit("ada")
    wan.mirror.fetch()
    wan.git("checkout", "-q", "--orphan", "other")
    wan.commit("ada", other="x")
    wan.git("checkout", "-q", "-B", "main")
    wan.refused("NotDescendant", confirmed)
    wan.check(confirmed, accepted=wan.head())
    wan.commit("eve")
    wan.refused("UnknownSigner", confirmed, accepted=wan.head())


def test_signers_that_cannot_be_read_are_no_reason_to_trust(wan: Repository) -> None:
    wan.commit("ada")
    wan.allowed.unlink()
    with pytest.raises((Stalled, Transient)):
        wan.check()


@pytest.fixture
def gpg(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    yield home
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)


def openpgp_key(home: Path, name: str, expires: str) -> None:
    run("gpg", "--homedir", home, "--batch", "--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", expires)


def openpgp_commit(wan: Repository, home: Path, name: str) -> None:
    wan.git("-c", f"user.signingkey={name}", "commit", "-q", "-S", "--allow-empty", "-m", "m", GNUPGHOME=str(home))


def test_openpgp_signers(wan: Repository, gpg: Path) -> None:
    openpgp_key(gpg, "ada@example.org", "1y")
    openpgp_key(gpg, "eve@example.org", "never")
    pinned = wan.folder / "ada.asc"
    pinned.write_text(run("gpg", "--homedir", gpg, "--armor", "--export", "ada@example.org") + "\n")
    openpgp_commit(wan, gpg, "ada@example.org")
    wan.check(openpgp=pinned)
    wan.refused("Expired", wan.head() and None, clock=time.time() + 2 * YEAR, openpgp=pinned)
    openpgp_commit(wan, gpg, "eve@example.org")
    wan.refused("UnknownSigner", openpgp=pinned)


def test_a_scheme_without_signers_is_refused(wan: Repository, gpg: Path) -> None:
    openpgp_key(gpg, "ada@example.org", "1y")
    openpgp_commit(wan, gpg, "ada@example.org")
    wan.refused("UnknownSigner")


def test_what_comes_after_an_accepted_commit_is_checked_as_ever(wan: Repository) -> None:
    """One `accept` is for one commit: each one after it has to be signed, and to build on what is confirmed."""
    accepted = wan.commit("ada")
    bad = wan.commit("eve")
    wan.commit("ada")
    assert bad[:7] in wan.refused("UnknownSigner", accepted, accepted=accepted)
    wan.git("reset", "-q", "--hard", accepted)
    wan.commit("ada")
    wan.check(accepted, accepted=accepted)
    confirmed = wan.head()
    wan.git("checkout", "-q", "--orphan", "other")
    wan.commit("ada", other="x")
    wan.git("checkout", "-q", "-B", "main")
    wan.refused("NotDescendant", confirmed, accepted=accepted)


def test_a_thousand_commits_at_once_are_for_a_person(wan: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    first = wan.commit("ada")
    wan.commit("ada")
    wan.commit("ada")
    monkeypatch.setattr("reconciler.sources.verify.MAX_COMMITS", 2)
    wan.check(first)
    monkeypatch.setattr("reconciler.sources.verify.MAX_COMMITS", 1)
    assert f"accept {wan.head()}" in wan.refused("TooMany", first)
    wan.check(first, accepted=wan.head())


def test_the_hosts_clock_says_whether_a_key_is_valid(wan: Repository) -> None:
    wan.person("old", pinned='valid-after="20240101",valid-before="20250101"')
    wan.commit("old")
    wan.check(clock=1_717_200_000.0)  # in June 2024
    wan.refused("Expired", clock=1_767_300_000.0)


def test_a_list_of_revoked_keys_that_cannot_be_read_revokes_nobody_and_trusts_nobody(wan: Repository) -> None:
    wan.commit("ada")
    with pytest.raises(Transient) as error:
        wan.check(revoked=wan.folder / "nowhere")
    assert error.value.reason == "SignersUnreadable"


def test_a_key_in_a_comment_is_not_pinned(wan: Repository) -> None:
    public = (wan.folder / "eve.pub").read_text()
    with wan.allowed.open("a") as file:
        file.write(f"# eve@example.org {public}  # {public}")
    wan.commit("eve")
    wan.refused("UnknownSigner")
