"""The metrics of exits: under smart-vpn-client's names in its unit, and under our own names in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Gauge


class ExitMetrics:
    """Metrics that are set from the rows of the loop."""

    def __init__(self, to: CollectorRegistry) -> None:
        labels = ["exit", "gateway"]
        self.latency = Gauge("vpn_healthcheck_latency", "Last round trip by the exit, in ms.", labels, registry=to)
        self.average = Gauge("vpn_healthcheck_average", "Weighted mean of them, in ms.", labels, registry=to)
        self.degraded = Gauge(
            "vpn_healthcheck_degraded", "The mean that is too much, in ms.", ["exit", "best"], registry=to
        )
        self.baseline = Gauge("vpn_healthcheck_baseline_ms", "Of the first round trips.", labels, registry=to)
        self.window = Gauge("vpn_healthcheck_window_ms", "The window, newest first.", [*labels, "slot"], registry=to)
        self.carries = Gauge("gitwan_exit_carrying", "1 where a gateway carries traffic.", labels, registry=to)
        self.strikes = Gauge("gitwan_exit_strikes", "In a row.", labels, registry=to)
        self.outside = Gauge("gitwan_exit_latency_seconds", "Beside the tunnel, as elected.", labels, registry=to)
        self.switches = Gauge("gitwan_exit_switches", "Since the agent started.", ["exit"], registry=to)

    def show(self, rows: Iterable[Mapping[str, Any]]) -> None:
        gauges = (self.latency, self.average, self.degraded, self.baseline, self.window)
        for gauge in (*gauges, self.carries, self.strikes, self.outside, self.switches):
            gauge.clear()
        for row in rows:
            self.switches.labels(row["name"]).set(row.get("switches", 0))
            for tunnel in row["tunnels"]:
                labels = row["name"], tunnel["gateway"]
                self.carries.labels(*labels).set(tunnel["phase"] == "carrying")
                self.strikes.labels(*labels).set(tunnel["strikes"])
                values = (
                    (self.latency, labels, tunnel["rtt"], 1000),
                    (self.average, labels, tunnel["mean"], 1000),
                    (self.degraded, labels, tunnel["limit"], 1000),
                    (self.baseline, labels, tunnel["baseline"], 1000),
                    (self.outside, labels, tunnel["latency"], 1),
                )
                for gauge, names, value, unit in values:
                    if value is not None:
                        gauge.labels(*names).set(value * unit)
                for slot, rtt in enumerate(reversed(tunnel["window"])):
                    self.window.labels(*labels, str(slot)).set(0 if rtt is None else rtt * 1000)
