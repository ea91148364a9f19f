from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bench.generate import hub_and_spoke, key
from schema.desired.fabric import Url
from schema.load import load
from schema.problem import Problem

SITE = b"site: a\nkind: edge\nhosts: {h: {underlay: {interface: eth0}}}\n"


def test_a_whole_repository() -> None:
    desired, problems = load(hub_and_spoke(3))
    assert problems == []
    assert desired.fabric is not None and desired.fabric.model.fabric == "bench"
    assert sorted(site.model.site for site in desired.sites) == ["hub", "s0000", "s0001", "s0002"]
    assert desired.keys["hub-gw"][1] == key("hub-gw")


URLS = {
    "http://cp.cloudflare.com:8O/x": "'8O' is no port: write a number from 1 to 65535, or leave it out with its colon",
    "http://h:99999/": "'99999' is no port: write a number from 1 to 65535, or leave it out with its colon",
    "http://h:/": "'' is no port: write a number from 1 to 65535, or leave it out with its colon",
    "http://[::1/x": "'[::1' is no server: write a name, 192.0.2.1 or [2001:db8::1], and perhaps :8080",
    "http://2001:db8::1/": "'2001:db8::1' is no server: write a name, 192.0.2.1 or [2001:db8::1], and perhaps :8080",
    "http://[192.0.2.1]/": "'[192.0.2.1]' is no address: write it as [2001:db8::1], or write a name",
    "http://192.0.2/": "'192.0.2' is no address: write it as 192.0.2.1, or write a name",
    "https://a..b/": "'a..b' is no name of a server: write one such as check.example.org",
    f"https://{'a' * 64}.example/": f"'{'a' * 64}.example' is no name of a server: write one such as check.example.org",
    "http://?x": "'' is no name of a server: write one such as check.example.org",
    "http://bücher.example/": "'ü' stands in no name of DNS: write the name as DNS has it (xn--…)",
    "http://a.example/bücher": "'ü' stands in no URL: write %C3%BC",
}


@pytest.mark.parametrize(("url", "message"), URLS.items())
def test_a_url_that_nobody_could_ask_is_refused_wherever_it_is_written(url: str, message: str) -> None:
    found = list(problems_of_url(url))
    assert [(problem.code, problem.message.partition(": ")[2]) for problem in found] == [("GW012", message)] * 2


@pytest.mark.parametrize(
    "url",
    [
        "http://cp.cloudflare.com/generate_204", "https://[2001:db8::1]:8443/a%20b?c=%2F#d", "http://192.0.2.1:80",
        "http://nas/", "http://_x.xn--bcher-kva.example?q",
    ],
)  # fmt: skip
def test_a_url_that_can_be_asked_is_taken_as_it_is(url: str) -> None:
    assert problems_of_url(url) == []


def test_what_is_no_url_has_an_example() -> None:
    assert {problem.hint for problem in problems_of_url("ftp://x/")} == {"a URL, such as http://10.1.0.10/health"}


@given(st.from_regex(r"\Ahttps?://[a-z0-9:.%_\[\]-]{1,12}(/[a-z?:]{0,3})?\Z"))
def test_whatever_is_taken_can_be_taken_apart(url: str) -> None:
    with suppress(ValidationError):
        parts = urlsplit(TypeAdapter(Url).validate_python(url))
        assert parts.port is None or 0 < parts.port < 65536
        assert (parts.hostname or "").encode("idna")


def problems_of_url(url: str) -> list[Problem]:
    site = SITE.decode().replace(
        "eth0}}", f"eth0}}, exits: {{x: {{provider: mullvad, credentials: c, health: {{check: '{url}'}}}}}}}}"
    )
    fabric = f"fabric: a\nversion: 1\nprobes: [{{http: '{url}'}}]\n"
    return load({"fabric.yaml": fabric.encode(), "a.yaml": site.encode()})[1]


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
