#!/bin/sh
# Makes a checkout ready for `make lab` and `make test`: Debian's packages that are missing, and a virtual environment.
# On Debian 12, Ubuntu 24.04 or later, with git, make and Python 3.11 or later. Without root it prints the one line to run.
set -eu
cd "$(dirname "$0")/.."

PATH="$PATH:/usr/sbin:/sbin"
missing=""
need() { # program, package, what it is for
    command -v "$1" >/dev/null 2>&1 && return
    echo "setup: $2 is missing ($3)"
    missing="$missing $2"
}
need ip iproute2 "namespaces and routes, in the lab"
need iptables-restore iptables "the firewall driver"
need wg wireguard-tools "looking at tunnels"
need wireguard-go wireguard-go "tunnels where the kernel has no WireGuard"
need ping iputils-ping "the lab's table"
need sysctl procps "the lab's routers"
need sshd openssh-server "the lab's git server"
need ssh openssh-client "pulling from it"
need keepalived keepalived "virtual addresses of two gateways"
need radvd radvd "router advertisements towards a LAN"
need dnsmasq dnsmasq-base "names on a LAN"
need iperf3 iperf3 "traffic while keys rotate"
need gpg gnupg "signatures by OpenPGP keys"
need curl curl "asking the lab's machines"
need qemu-system-x86_64 qemu-system-x86 "the kernel lane's virtual machine"
need depmod kmod "the modules of its kernel"
need busybox busybox-static "its first process"

python=""
for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
if [ -z "$python" ]; then echo "setup: Python 3.11 or later is needed" >&2; exit 1; fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "setup: python3-venv is missing (the virtual environment)"
    missing="$missing python3-venv"
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: run this once, then try again:"
        echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing"
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

wanted=$(cat pyproject.toml constraints.txt deploy/setup.sh | cksum)
if [ "$(cat .venv/.gitwan 2>/dev/null || true)" != "$wanted" ]; then
    echo "setup: making the virtual environment .venv (about a minute)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
    echo "$wanted" > .venv/.gitwan
fi
