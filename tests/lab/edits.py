"""Edits of the example network's YAML, as a person would make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.lab.twin import Twin


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Rewrites a file, comments and all."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    document = yaml.load(path.read_text())
    change(document)
    with path.open("w") as file:
        yaml.dump(document, file)


def remove_home(twin: Twin) -> None:
    """The site `home` is given up: its file, its key, its link, and what is denied to it."""

    def without_home(fabric: Any) -> None:
        fabric["links"] = [link for link in fabric["links"] if "home" not in link["between"]]
        del fabric["deny"]

    (twin.sites / "home.yaml").unlink()
    (twin.sites / "keys/nas.pub").unlink()
    edit(twin.sites / "fabric.yaml", without_home)
    twin.lock()


def more_tunnels(twin: Twin) -> None:
    """One tunnel more between ams and fra."""
    edit(twin.sites / "fabric.yaml", lambda fabric: fabric["links"][0].update({"tunnels": 4}))
    twin.lock()


def add_client(twin: Twin) -> None:
    """A second laptop at ireland."""
    key = twin.run("laptop", "sh", "-c", "wg genkey | wg pubkey").strip()

    def with_client(document: Any) -> None:
        document["clients"]["tablet"] = {"public_key": key, "gateway": "ireland"}

    edit(twin.sites / "clients/laptops.yaml", with_client)
    twin.lock()


def add_subnet(twin: Twin) -> None:
    """A new subnet behind ams."""

    def with_lan(document: Any) -> None:
        document["hosts"]["ams-gw1"]["lans"]["lan-new"] = ["10.77.0.1/24", "fd00:77::1/64"]

    edit(twin.sites / "ams.yaml", with_lan)
    twin.lock()
