"""`gitwan routes`: what the machines of a site that have no agent need to know."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.agentless.lan_routes import OPTION_LIMIT, LanRoutes, lan_routes, option_121
from compiler.compile import compile_files
from compiler.shell.inputs import read_folder
from schema.ip import Interface, Prefix
from schema.problem import Place, Problem, Problems

NOTE = "a client that gets option 121 ignores the default router of option 3 (RFC 3442): name it with --default"


class Form(StrEnum):
    """In whose words the routes are printed; a template in `render/templates/routes/` for each."""

    TABLE = "table"
    HEX = "hex"
    DNSMASQ = "dnsmasq"
    KEA = "kea"
    ISC_DHCP = "isc-dhcp"
    IPROUTE2 = "iproute2"
    NETWORKD = "networkd"
    NETPLAN = "netplan"
    IFUPDOWN = "ifupdown"
    NETWORKMANAGER = "networkmanager"
    WINDOWS = "windows"


DHCP = (Form.HEX, Form.DNSMASQ, Form.KEA, Form.ISC_DHCP)


def routes(
    site: Annotated[str, typer.Argument(help="A site.")],
    folder: Annotated[Path, typer.Option("--dir", "-C", help="The folder of fabric.yaml.")] = Path(),
    form: Annotated[Form, typer.Option("--as", help="In the words of a DHCP server, or of a machine.")] = Form.TABLE,
    default: Annotated[list[str] | None, typer.Option(help="The default router of a LAN, for DHCP.")] = None,
    dev: Annotated[str, typer.Option(help="The machines' interface.")] = "eth0",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Print the routes that machines without an agent need, for each LAN of a site, by way of its gateway.

    Example: gitwan routes ams --as dnsmasq --default 10.10.0.1
    """
    known = _lans(site, folder)
    defaults = _defaults(known, default or ())
    lans = [_shown(lan, defaults.get(lan.network)) for lan in known]
    if as_json:
        typer.echo(json.dumps({"site": site, "lans": lans}, indent=2))
        return
    from compiler.render import routes_text

    typer.echo(routes_text(form, lans, dev), nl=False)
    if form in DHCP:
        for lan in lans:
            for note in _notes(lan):
                typer.echo(f"note: {lan['network']}: {note}", err=True)


def _lans(site: str, folder: Path) -> list[LanRoutes]:
    """The LANs of a site. Raises Problems."""
    found = read_folder(folder)
    result = compile_files(found.files, found.special)
    if result.fabric is None:
        raise Problems(result.problems)
    if site not in result.fabric.sites:
        hint = f"sites: {', '.join(sorted(result.fabric.sites))}"
        raise Problems([Problem("GW070", Place(str(folder)), f"no site {site!r}", hint)])
    lans = lan_routes(result.fabric, site)
    if not lans:
        hint = "a host of the site needs a key and an address under `lans:`; a VPC has a route table of its own"
        raise Problems([Problem("GW070", Place(str(folder)), f"{site} has no LAN that machines could stand on", hint)])
    return lans


def _defaults(lans: list[LanRoutes], addresses: Iterable[str]) -> dict[Prefix, str]:
    """LAN -> its default router. Raises BadParameter for an address that is on none of them."""
    found: dict[Prefix, str] = {}
    for text in addresses:
        try:
            address = Interface.parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        lan = next((lan.network for lan in lans if lan.network.version == 4 and lan.network.covers(address.host)), None)
        if lan is None or "/" in text:
            raise typer.BadParameter(f"{text} is no IPv4 address on a LAN of the site")
        found[lan] = address.address
    return found


def _shown(lan: LanRoutes, default: str | None) -> dict[str, Any]:
    """A LAN as the templates and JSON have it."""
    shown: dict[str, Any] = {
        "network": str(lan.network),
        "version": lan.network.version,
        "via": lan.via,
        "virtual": lan.virtual,
        "prefixes": [str(prefix) for prefix in lan.prefixes],
    }
    if lan.network.version == 4:
        known = [(prefix, lan.via) for prefix in lan.prefixes]
        if default is not None:
            known.append((Prefix(4, 0, 0), default))
        data = option_121(known)
        shown["option121"] = {
            "default": default,
            "routes": [{"dst": str(prefix), "via": via} for prefix, via in known],
            "hex": data.hex(),
            "octets": list(data),
        }
    return shown


def _notes(lan: dict[str, Any]) -> Iterator[str]:
    option = lan.get("option121")
    if option and not option["default"]:
        yield NOTE
    if option and len(option["octets"]) > OPTION_LIMIT:
        size = len(option["octets"])
        yield f"{size} bytes are more than one option holds, and not every client reads parts (RFC 3396)"
