"""The host's own configuration, /etc/gitwan/agent.yaml: the only data about a host that is not in the repository."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from schema.duration import seconds

DEFAULT_FILE = Path("/etc/gitwan/agent.yaml")


class ConfigError(Exception):
    """The file cannot be used. The text says where and why."""


def _off(value: Any) -> Any:
    return None if value in ("off", False) else value


def _url(value: str) -> str:
    if "://" in value and not value.startswith(("ssh://", "https://", "http://", "file://")):
        raise ValueError("must be an ssh, https or file address, or a path")
    if value.startswith("-") or re.match(r"[A-Za-z0-9]+::", value):
        raise ValueError("must be an ssh, https or file address, or a path")
    if re.match(r"https?://[^/]*@", value):
        raise ValueError("must hold no user or password: name a `token_file`")
    return value


def _listen(value: str) -> str:
    if not re.fullmatch(r"(\[[0-9a-f:]+\]|[0-9.]+):\d{1,5}", value):
        raise ValueError("`metrics` must be ADDRESS:PORT or off")
    return value


Listen = Annotated[str, AfterValidator(_listen)]
Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0)]


class SettingsModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VerifyConfig(SettingsModel):
    """Who may change this network: signers pinned by files on this host."""

    allowed_signers: Path | None = None
    revoked: Path | None = None
    openpgp: Path | None = None
    history: Literal["all", "first-parent"] = "all"

    @model_validator(mode="after")
    def _some(self) -> VerifyConfig:
        if self.allowed_signers is None and self.openpgp is None:
            raise ValueError("needs `allowed_signers: FILE` or `openpgp: FILE`")
        return self


class SourceConfig(SettingsModel):
    """The source of plans. `git` alone is compiled here; `plans` is a folder that CI rendered, in `git` if both are
    set."""

    git: Annotated[str, AfterValidator(_url)] | None = None
    branch: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")] = "main"
    path: str = ""
    plans: str | None = None
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    token_file: Path | None = None
    timeout: Seconds = 60.0
    verify: VerifyConfig | None = None

    @model_validator(mode="after")
    def _some(self) -> SourceConfig:
        if self.git is None and self.plans is None:
            raise ValueError("needs `git: ADDRESS` or `plans: FOLDER`")
        if self.token_file and not (self.git or "").startswith("https://"):
            raise ValueError("`token_file` goes with an https address only")
        return self


class PollConfig(SettingsModel):
    """How often to look for a new commit, plus or minus the jitter. In seconds."""

    interval: Seconds = 30.0
    jitter: Seconds = 5.0


class AgentConfig(SettingsModel):
    """The whole file."""

    host: Annotated[str, Field(min_length=1)]
    source: SourceConfig
    poll: PollConfig = PollConfig()
    full_cycle: Seconds = 300.0
    """Seconds between two comparisons of everything, whether or not there were events."""
    state: Path = Path("/var/lib/gitwan")
    socket: Path = Path("/run/gitwan/agent.sock")
    metrics: Annotated[Listen | None, BeforeValidator(_off)] = "127.0.0.1:9586"
    keys: Path = Path("/etc/gitwan")
    identity: Path | None = None
    """Opens secrets: an age identity or an SSH ed25519 private key. The default is `age.key` in `keys`."""

    pia: Path = Path("/etc/gitwan/pia")
    """PIA's trust anchors, for exits: `provider-key.pem` and `ca.rsa.4096.crt` (docs/exits.md)."""
    exit_metrics: Annotated[Listen | None, BeforeValidator(_off)] = "127.0.0.1:2112"
    """The address of smart-vpn-client's metrics, in addition to `metrics`; only on a host with exits."""

    @property
    def metrics_address(self) -> tuple[str, int] | None:
        return _address(self.metrics)

    @property
    def exit_metrics_address(self) -> tuple[str, int] | None:
        return _address(self.exit_metrics)


def _address(listen: str | None) -> tuple[str, int] | None:
    if listen is None:
        return None
    address, _, port = listen.rpartition(":")
    return address.strip("[]"), int(port)


def load(path: Path) -> AgentConfig:
    """The configuration in a file. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> AgentConfig:
    """The configuration in YAML. Raises ConfigError with every problem, one per line."""
    from schema.problem import Problem
    from schema.text import parse as read

    found = read(where, text.encode())
    if isinstance(found, Problem):
        raise ConfigError(f"{found.place}: {found.message}")
    value = found.data
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: must be a mapping that starts with `host:`")
    try:
        return AgentConfig.model_validate(value)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_text(one)}" for one in error.errors())) from None


def _text(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        sections: dict[str, type[BaseModel]] = {"source": SourceConfig, "poll": PollConfig}
        model = sections.get(str(error["loc"][0]), AgentConfig)
        close = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, 1)
        return f"unknown key `{place}`" + (f": did you mean `{close[0]}`?" if close else "")
    if error["type"] == "missing":
        return f"`{place}` is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"`{place}`: {message}" if place else message
