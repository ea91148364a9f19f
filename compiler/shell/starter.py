"""The repository that `gitwan init` writes."""

from __future__ import annotations

STARTER = {
    "fabric.yaml": """\
# The network's name, and the links between its sites.
fabric: my-wan
version: 1

links:
  - between: [office, home]
""",
    "office.yaml": """\
# A site that others can dial: its gateway has a public address.
site: office
kind: datacenter
hosts:
  office-gw:
    underlay: {interface: eth0, addresses: [203.0.113.10/24], gateway: 203.0.113.1}
    lans:
      eth1: [10.10.0.1/16]
""",
    "home.yaml": """\
# A site behind a provider's NAT: it dials out.
site: home
kind: edge
hosts:
  home-gw:
    underlay: {interface: eth0, addresses: dhcp}
    lans:
      eth1: [192.168.10.1/24]
""",
    "keys/office-gw.pub": "UGxlYXNlIHJlcGxhY2UgdGhpcyBrZXk6IG9mZmljZSE=\n",
    "keys/home-gw.pub": "UGxlYXNlIHJlcGxhY2UgdGhpcyBrZXk6IGhvbWUhISE=\n",
    "README.md": """\
# my-wan

1. Edit `fabric.yaml`, `office.yaml` and `home.yaml`; `gitwan validate` says what is wrong, and where.
2. The two keys are placeholders. On each host run `gitwan keys`, and commit the line it prints as `keys/HOST.pub`.
3. `gitwan lock` writes down the numbers that nobody wrote; commit `fabric.lock` too.
4. `gitwan lab up` runs this network on your machine, with real tunnels.
5. On each host: /etc/gitwan/agent.yaml names the host and this repository, and `gitwan agent run` does the rest.
""",
}
