"""Paced UDP flows from ams to fra, and which tunnel each of them takes."""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import flows
from lab.client import ask
from tests.lab.twin import PATIENCE, Twin, eventually

AMS, FRA, PORT, FLOWS, RATE = "10.10.0.100", "10.20.0.100", 5400, 24, 10
DEVICES = {"wg-fra-1", "wg-fra-2", "wg-fra-3"}


class Background:
    """A command in a space of the lab, until it is told to end."""

    def __init__(self, twin: Twin, space: str, *words: str) -> None:
        self._twin, self._space = twin, space
        self._output = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - closed by end
        with Path("/dev/null").open("r+b") as null:
            files = [null.fileno(), self._output.fileno(), self._output.fileno()]
            command = ["sh", "-c", 'echo $$; exec "$@"', "sh", *words]
            arguments = {"space": space, "command": command}
            self._thread = threading.Thread(target=ask, args=(twin.folder, "exec", files), kwargs=arguments)
            self._thread.start()
            eventually(self._text, what=f"{space}: {words[0]}")

    def _text(self) -> str:
        return Path(self._output.name).read_text()

    def end(self) -> None:
        self._twin.run(self._space, f"kill -TERM {self._text().split(maxsplit=1)[0]}")
        self._thread.join(PATIENCE)
        rest = self._text().partition("\n")[2]
        self._output.close()
        assert not rest, rest


@contextmanager
def paced(twin: Twin, found: dict[int, flows.Flow]) -> Iterator[None]:
    """Flows from ams to fra while the body runs; then `found` has what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "arrivals"
        receiver = Background(twin, "fra-server", sys.executable, "-m", "bench.flows", "receive", str(PORT), str(file))
        eventually(file.with_suffix(".ready").exists, what="a receiver")
        words = [FRA, str(PORT), str(FLOWS), str(RATE)]
        sender = Background(twin, "ams-server", sys.executable, "-m", "bench.flows", "send", *words)
        try:
            yield
        finally:
            sender.end()
            receiver.end()
        found |= flows.read(file)


def ways(twin: Twin) -> dict[int, str]:
    """The tunnel that each flow takes."""
    found = {}
    for flow in range(FLOWS):
        words = f"from {AMS} iif eno4 ipproto udp sport {flows.SOURCES + flow} dport {PORT}"
        route = twin.run("ams-gw1", f"ip route get {FRA} {words}")
        match = re.search(r"dev (\S+)", route)
        assert match is not None, route
        found[flow] = match[1]
    return found


def shares(twin: Twin) -> Counter[str]:
    """How many buckets of the IPv4 group each tunnel has."""
    lines = twin.run("ams-gw1", "ip -j nexthop")
    devs = {int(i): dev for i, dev in re.findall(r'"id":(\d+),"dev":"([^"]+)"', lines)}
    group = re.search(r'"id":(\d+),"group":\[\{"id":\d+[04]\b', lines)
    assert group is not None, lines
    buckets = twin.run("ams-gw1", f"ip nexthop bucket show id {group[1]}")
    return Counter(devs[int(found)] for found in re.findall(r"nhid (\d+)", buckets))
