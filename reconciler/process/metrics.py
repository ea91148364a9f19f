"""The agent's Prometheus metrics, served on loopback unless the host's configuration says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from reconciler.loops.base import Plug
from reconciler.report.conditions import Condition
from reconciler.report.report import Report

BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
STATUSES = ("True", "False", "Unknown")


class Metrics:
    """The agent's metrics, in their own registry."""

    def __init__(self, plugs: Iterable[Plug] = ()) -> None:
        self.registry = CollectorRegistry()
        to = self.registry
        self._show = {plug.name: plug.metrics(to) for plug in plugs if plug.metrics is not None}
        self.beside = Gauge(
            "gitwan_overlay_resources", "What loops want beside the plan.", ["owner", "kind"], registry=to
        )
        self.cycles = Counter("gitwan_cycles", "Cycles by result.", ["result"], registry=to)
        self.operations = Counter("gitwan_operations", "Changes made to the kernel.", ["kind", "verb"], registry=to)
        self.seconds = Histogram("gitwan_cycle_seconds", "How long a cycle took.", buckets=BUCKETS, registry=to)
        self.drift = Counter("gitwan_drift_repaired", "Resources put back after drift.", ["kind"], registry=to)
        self.condition = Gauge("gitwan_condition", "1 for a condition's status.", ["type", "status"], registry=to)
        self.info = Gauge("gitwan_info", "What is confirmed.", ["host", "commit", "digest"], registry=to)
        self.rejected = Gauge("gitwan_rejected_commits", "Commits that are not tried again.", registry=to)
        self.held = Gauge("gitwan_drift_held", "Changes that wait for the end of a suspension.", registry=to)
        self.age = Gauge(
            "gitwan_peer_handshake_age_seconds", "Since the last handshake.", ["device", "peer"], registry=to
        )

        self.alive = Gauge(
            "gitwan_tunnel_alive", "1 where a probed tunnel carries traffic.", ["device", "peer"], registry=to
        )
        self.rtt = Gauge("gitwan_tunnel_rtt_seconds", "Round trip of the last probe.", ["device", "peer"], registry=to)
        self.loss = Gauge("gitwan_tunnel_loss", "Share of the last probes.", ["device", "peer"], registry=to)

    def serve(self, address: str, port: int) -> None:
        """Serve the metrics on an address and port. Raises OSError."""
        start_http_server(port, address, registry=self.registry)

    def cycle(self, report: Report) -> None:
        self.cycles.labels(report.result).inc()
        self.seconds.observe(report.seconds)
        for (kind, verb), count in report.done.items():
            if count > 0:
                self.operations.labels(kind, verb).inc(count)
        for change in report.repaired:
            self.drift.labels(change.resource.kind).inc()

    def state(self, host: str, commit: str, digest: str, conditions: Iterable[Condition]) -> None:
        self.info.clear()
        self.info.labels(host, commit, digest).set(1)
        self.condition.clear()
        for condition in conditions:
            for status in STATUSES:
                self.condition.labels(condition.type, status).set(status == condition.status)

    def tunnels(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for gauge in (self.age, self.alive, self.rtt, self.loss):
            gauge.clear()
        for row in rows:
            labels = row["device"], row["name"] or row["public_key"]
            if row["handshake_age"] is not None:
                self.age.labels(*labels).set(row["handshake_age"])
            if (probe := row["probe"]) is not None:
                self.alive.labels(*labels).set(probe["alive"])
                self.loss.labels(*labels).set(probe["loss"])
                if probe["rtt"] is not None:
                    self.rtt.labels(*labels).set(probe["rtt"])

    def overlays(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        self.beside.clear()
        for owner, of_kind in counts.items():
            for kind, count in of_kind.items():
                self.beside.labels(owner, kind).set(count)

    def show(self, loop: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Update the metrics of a loop."""
        if loop in self._show:
            self._show[loop](rows)
