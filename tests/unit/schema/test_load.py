from __future__ import annotations

import pytest

from bench.generate import hub_and_spoke, key
from schema.load import load

SITE = b"site: a\nkind: edge\nhosts: {h: {underlay: {interface: eth0}}}\n"


def test_a_whole_repository() -> None:
    desired, problems = load(hub_and_spoke(3))
    assert problems == []
    assert desired.fabric is not None and desired.fabric.model.fabric == "bench"
    assert sorted(site.model.site for site in desired.sites) == ["hub", "s0000", "s0001", "s0002"]
    assert desired.keys["hub-gw"][1] == key("hub-gw")


def test_links_out_of_the_repository_are_problems_and_not_followed() -> None:
    _, problems = load({"fabric.yaml": b"fabric: a\nversion: 1\n"}, {"keys/a.pub": "symlink", "vendor": "submodule"})
    assert [(p.code, p.place.path) for p in problems] == [("GW006", "keys/a.pub"), ("GW007", "vendor")]


def test_a_link_to_what_gitwan_does_not_read_is_nobodys_business() -> None:
    _, problems = load({"fabric.yaml": b"fabric: a\nversion: 1\n"}, {"docs/latest.md": "symlink"})
    assert problems == []


def test_every_file_tells_its_own_problems() -> None:
    files = {"fabric.yaml": b"fabric: a\nversion: 2\n", "a.yaml": SITE + b"shorts: x\n", "b.yaml": b"site: [\n"}
    _, problems = load(files)
    assert sorted((p.place.path, p.code) for p in problems) == [
        ("a.yaml", "GW010"),
        ("b.yaml", "GW001"),
        ("fabric.yaml", "GW012"),
    ]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("hosts: {h: {underlay: {interface: eth0, gatway: 10.0.0.1}}}", "did you mean `gateway`?"),
        ("hosts: {h: {underlay: {interface: eth0}, lan: {}}}", "did you mean `lans`?"),
        ("hosts: {h: {underlay: {interface: eth0}, lans: {l: {adresses: []}}}}", "did you mean `addresses`?"),
        ("short: a\nkinds: x\nhosts: {h: {underlay: {interface: eth0}}}", "did you mean `kind`?"),
    ],
)
def test_an_unknown_key_has_a_did_you_mean_at_any_depth(line: str, hint: str) -> None:
    _, problems = load({"a.yaml": f"site: a\nkind: edge\n{line}\n".encode()})
    assert hint in [p.hint for p in problems if p.code == "GW010"]
