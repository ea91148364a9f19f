from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.state.config import ConfigError, load, parse

FULL = """
host: nas
source:
  git: ssh://git@git.example.org/wan.git
  branch: main
  ssh_key: /etc/gitwan/id_ed25519
  known_hosts: /etc/gitwan/known_hosts
poll: {interval: 1m, jitter: 500ms}
state: /var/lib/gitwan
metrics: off
"""


def test_a_file_as_people_write_it() -> None:
    config = parse(FULL, "agent.yaml")
    assert (config.host, config.poll.interval, config.poll.jitter) == ("nas", 60.0, 0.5)
    assert config.metrics_address is None
    assert config.source.ssh_key == Path("/etc/gitwan/id_ed25519")


def test_defaults() -> None:
    config = parse("{host: nas, source: {git: /srv/wan.git}}", "agent.yaml")
    assert config.metrics_address == ("127.0.0.1", 9586)
    assert (config.poll.interval, config.source.branch, str(config.keys)) == (30.0, "main", "/etc/gitwan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: must be a mapping that starts with `host:`"),
        ("host: [", "a.yaml:1:8: not YAML"),
        ("host: a\nhost: b", "a.yaml:2:1: the key 'host' stands here twice"),
        ("{source: {git: /w}}", "a.yaml: `host` is missing"),
        ("{host: a, source: {}}", "a.yaml: `source`: needs `git: ADDRESS` or `plans: FOLDER`"),
        ("{host: a, source: {git: /w, brunch: b}}", "unknown key `source.brunch`: did you mean `branch`?"),
        ("{host: a, source: {git: /w}, stat: /x}", "unknown key `stat`: did you mean `state`?"),
        ("{host: a, source: {git: 'ext::sh -c x'}}", "`source.git`: must be an ssh, https or file address"),
        ("{host: a, source: {git: '--upload-pack=x'}}", "`source.git`: must be an ssh"),
        ("{host: a, source: {git: 'https://u:p@h/w'}}", "must hold no user or password"),
        ("{host: a, source: {git: '/w', token_file: /t}}", "`token_file` goes with an https address only"),
        ("{host: a, source: {git: /w}, poll: {interval: 30}}", "`poll.interval`: 30 is not a duration"),
        ("{host: a, source: {git: /w, branch: '-x'}}", "`source.branch`"),
        ("{host: a, source: {git: /w}, metrics: 9586}", "`metrics`"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, "a.yaml")
    assert message in str(error.value)


def test_every_problem_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse("{hots: a, source: {git: /w, x: 1}}", "a.yaml")
    assert len(str(error.value).splitlines()) == 3


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "agent.yaml")
    (tmp_path / "agent.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "agent.yaml")
