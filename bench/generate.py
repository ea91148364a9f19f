"""Generates large repositories. Equal sizes give equal repositories."""

from __future__ import annotations

import base64
import hashlib

from compiler.compile import compile_files
from schema.input import LOCK
from schema.lock import lock_text


def key(name: str) -> str:
    """A public key without a known private key."""
    digest = bytearray(hashlib.blake2b(name.encode(), digest_size=32).digest())
    return base64.b64encode(bytes(digest)).decode()


def hub_and_spoke(spokes: int) -> dict[str, bytes]:
    """A repository with one data centre and `spokes` home edges that are linked to it, with IPv4 and IPv6."""
    files = {"keys/hub-gw.pub": key("hub-gw").encode()}
    links = "".join(f"  - between: [hub, s{n:04d}]\n    keepalive: 25s\n" for n in range(spokes))
    files["fabric.yaml"] = f"fabric: bench\nversion: 1\nlinks:\n{links}".encode()
    files["hub.yaml"] = b"""\
site: hub
kind: datacenter
hosts:
  hub-gw:
    underlay:
      interface: eno1
      addresses: [203.0.113.10/24]
      gateway: 203.0.113.1
    lans:
      eno4: [172.16.0.1/16, "fd00:ffff::1/64"]
"""
    for n in range(spokes):
        name = f"s{n:04d}"
        files[f"edges/{name}.yaml"] = f"""\
# A branch office: a router behind its provider's NAT, an office network and one for guests.
site: {name}
kind: edge
hosts:
  {name}-gw:
    underlay:
      interface: eth0
      addresses: dhcp
      mtu: 1500
    lans:
      lan0:
        addresses:
          - 10.{n >> 7}.{(n & 127) << 1}.1/24
          - "fd00:0:{n:x}:1::1/64"
      lan1:
        addresses:
          - 10.{n >> 7}.{((n & 127) << 1) + 1}.1/24
          - "fd00:0:{n:x}:2::1/64"
""".encode()
        files[f"keys/{name}-gw.pub"] = key(f"{name}-gw").encode()
    return files


def many_routes(routes: int) -> dict[str, bytes]:
    """A site whose host `bench` has this number of networks behind two neighbours, alternating so that none can be
    merged."""

    def host(name: str, number: int, lans: str = "") -> str:
        return f"""\
  {name}:
    underlay: {{interface: eno1, addresses: [203.0.113.{number}/24]}}
    lans:
      eth0: [192.168.0.{number}/24]
{lans}"""

    def behind(first: int) -> str:
        lines = (f"          - 10.{1 + (n >> 8)}.{n & 255}.1/24\n" for n in range(first, routes, 2))
        return "      eth9:\n        addresses:\n" + "".join(lines)

    hosts = host("bench", 1) + host("even", 2, behind(0)) + host("odd", 3, behind(1))
    files = {f"keys/{name}.pub": key(name).encode() for name in ("bench", "even", "odd")}
    files["fabric.yaml"] = b"fabric: bench\nversion: 1\n"
    files["site.yaml"] = f"site: bench-site\nkind: datacenter\nhosts:\n{hosts}".encode()
    return locked(files)


def locked(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same files with an up-to-date fabric.lock."""
    fabric = compile_files(files).fabric
    assert fabric is not None
    return files | {LOCK: lock_text(fabric.lock).encode()}
