"""The effects of exits on this machine: providers, latencies, probes."""

from __future__ import annotations

import time
from contextlib import suppress

from reconciler.loops.base import Ground
from reconciler.loops.exits.memory import FOLDER
from reconciler.loops.exits.providers.base import Provider
from reconciler.loops.exits.providers.build import build
from reconciler.loops.exits.run import Tools
from reconciler.state.keys import secret_reader
from reconciler.state.store import Store
from reconciler.system import dns
from reconciler.system.https import sender
from reconciler.system.latency import measure
from reconciler.system.resolve import Resolver
from schema.plan import Exit


def tools(ground: Ground) -> Tools:
    """Returns access to providers, to their gateways, and to probe targets through exits."""
    config = ground.config
    secret = secret_reader(config.keys, Store(ground.folder).sealed, config.identity)
    resolve = Resolver()

    def provider(exit: Exit) -> Provider:
        http = sender(exit.marked.bypass)
        return build(exit, ground.folder / FOLDER, config.pia, http, time.time, secret, resolve)

    def first() -> None:
        """On a host with exits, also serve the metrics at the address of smart-vpn-client."""
        if (there := config.exit_metrics_address) is not None:
            with suppress(OSError):
                ground.serve_metrics(*there)

    return Tools(provider, measure, sender(0), resolve, dns.ask, first)
