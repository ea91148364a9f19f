"""What stands in the folder of the daemons."""

from __future__ import annotations

from pathlib import Path

from reconciler.system.service_files import LOG_BYTES, Paths, note, told, trim, write
from schema.plan import Service, ServiceFile

FILES = (ServiceFile(name="hosts", text="a\r\n"), ServiceFile(name="more", text="@folder@/hosts"))
SERVICE = Service(name="dnsmasq", config="hosts=@folder@/hosts\r\n", files=FILES)


def test_what_was_told_is_read_back_as_the_plan_has_it(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "dnsmasq")
    assert told(paths, "dnsmasq") is None
    write(SERVICE, paths)
    unknown = told(paths, "dnsmasq")
    assert unknown is not None and (unknown.config, unknown.files) == ("", None)
    note(SERVICE, paths)
    assert told(paths, "dnsmasq") == SERVICE
    assert paths.path("conf").read_bytes() == f"hosts={tmp_path}/dnsmasq.d/hosts\r\n".encode()
    assert paths.files.joinpath("more").read_text() == f"{tmp_path}/dnsmasq.d/hosts"


def test_one_that_an_older_agent_told_is_known(tmp_path: Path) -> None:
    """It noted the digest of the configuration, and nothing else."""
    paths = Paths(tmp_path, "radvd")
    paths.path("conf").write_text("x\n")
    paths.path("told").write_text("6b596f2745d6830d5f3cf98e9f358682")
    assert told(paths, "radvd") == Service(name="radvd", config="x\n")


def test_a_log_stays_small_while_somebody_appends_to_it(tmp_path: Path) -> None:
    log = tmp_path / "dnsmasq.log"
    with log.open("ab", buffering=0) as daemon:
        for number in range(LOG_BYTES // 8 + 1):
            daemon.write(b"%7d\n" % number)
        trim(log)
        daemon.write(b"and on\n")
    lines = log.read_text().splitlines()
    assert log.stat().st_size <= LOG_BYTES // 4 + 7
    assert lines[-1] == "and on" and int(lines[-2]) == LOG_BYTES // 8
    assert [int(line) for line in lines[:-1]] == list(range(int(lines[0]), LOG_BYTES // 8 + 1))


def test_a_log_that_is_small_or_not_there_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "dnsmasq.log"
    trim(log)
    log.write_text("one\n")
    trim(log)
    assert log.read_text() == "one\n"
