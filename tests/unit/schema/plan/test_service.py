"""Services in a plan."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schema.plan import Change, Disruption, HostPlan, Service, ServiceFile

HOSTS, ZONE = ServiceFile(name="hosts", text="192.0.2.7 seven\n"), ServiceFile(name="zone", text="")


def test_one_with_a_single_file_has_the_bytes_that_it_always_had() -> None:
    plan = HostPlan(host="a", resources=(Service(name="radvd", config="x\n"),))
    assert b'{"kind":"service","name":"radvd","config":"x\\n"}' in plan.canonical()


def test_files_are_sorted_and_none_is_there_twice_or_elsewhere() -> None:
    assert Service(name="dnsmasq", config="", files=(HOSTS, ZONE)).files == (HOSTS, ZONE)
    for files in ((ZONE, HOSTS), (HOSTS, HOSTS), ()):
        with pytest.raises(ValidationError):
            Service(name="dnsmasq", config="", files=files)
    for name in ("../hosts", "/etc/passwd", ".hidden", "a/b", ""):
        with pytest.raises(ValidationError):
            ServiceFile(name=name, text="")


def test_only_what_has_to_be_restarted_is_disrupted_by_a_change() -> None:
    for name, cost in (("dnsmasq", Disruption.RESETS), ("radvd", Disruption.NONE)):
        service = Service.model_validate({"name": name, "config": "x\n"})
        after = service.model_copy(update={"config": "y\n"})
        assert Change(service, after).disruption == cost
        assert Change(None, service).disruption == Change(service, service).disruption == Disruption.NONE
        assert Change(service, None).disruption == Disruption.RESETS


def test_a_change_of_files_is_said_by_their_names() -> None:
    before = Service(name="dnsmasq", config="x\n", files=(HOSTS,))
    after = before.model_copy(update={"files": (ZONE,)})
    assert before.describe() == "dnsmasq (1 lines, 1 file)"
    assert "files +zone -hosts" in Change(before, after).describe()
