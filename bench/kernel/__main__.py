"""`make bench-kernel`: every figure that needs a real kernel, with its limit, in a virtual machine.

The exit code is 1 if a limit is missed, and 2 if the machine lacks a requirement. Writes bench/out/kernel.json.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping

from bench.kernel import plans
from bench.rows import OUT, Board, Row
from tests.kernel.kernel import MissingError, provide
from tests.kernel.machine import GUEST_OUT, BootError, Command, heed_sigterm, run
from tests.kernel.run import CACHE, ROOT

BOUND = 45 * 60.0
MODULES = (
    "wireguard",
    "bonding",
    "veth",
    "dummy",
    "sch_tbf",
    "nf_tables",
    "nft_compat",
    "sch_ingress",
    "cls_u32",
    "act_gact",
)
Figures = Mapping[str, Mapping[str, float]]


def rows(found: Figures) -> list[Row]:
    bond, plain = found["layer3+4"]["mbit"], found["layer2"]["mbit"]
    two, three = found["2 tunnels"], found["3 tunnels"]
    peers, blocked, leg = found["peers"], found["blocked"], found["leg"]
    many, many_conf = peers["ours"], peers["setconf"]
    quiet = f"without a fault {found['control']['gap'] * 1000:.0f} ms"
    return [
        Row("bond of 3 legs, 32 flows, layer3+4", bond / plain, "x layer2", 2.8, True, _mbit(bond, plain)),
        Row("2 tunnels", two["ratio"], "x 1 tunnel", 1.85, True, _turns(two)),
        Row("3 tunnels", three["ratio"], "x 1 tunnel", 2.75, True, _turns(three)),
        Row("segments sent again, 3 tunnels", 100 * three["excess"], "%", 0.1,
            note=f"{100 * three['share']:.2f} %; one as wide {100 * three['share_wide']:.2f} %"),
        Row("a tunnel's UDP port blocked: gap of its flows", blocked["gap"], "s", 1.0,
            note=f"{blocked['hit']:.0f} of 12 flows; {quiet}"),
        Row("  gap of the flows of other tunnels", 1000 * blocked["others"], "ms", 200, note=quiet),
        Row("  flows of other tunnels that moved", blocked["moved"], "", 0,
            note=f"{blocked['lost']:.0f} packets lost"),
        Row("  share of the buckets back after the fault", found["healed"]["seconds"], "s", 60),
        Row("a leg cut: gap of any flow", leg["gap"], "s", 1.0, note=quiet),
        Row("  tunnels that were reset", leg["resets"], "", 0, note=f"{leg['moved']:.0f} flows changed tunnels"),
        Row("tunnels of a link of 100 that carry traffic", found["many"]["alive"], "", 100, at_least=True),
        Row("5,000 peers from empty", many / many_conf, "x `wg setconf`", 1.3,
            note=f"{many:.2f} s; {many_conf:.2f} s"),
        Row("one peer of 5,000 changed", 100 * peers["one"] / peers["syncconf"], "% of `wg syncconf`", 5,
            note=f"{peers['one'] * 1000:.0f} ms; {peers['syncconf']:.2f} s"),
        Row("  other peers touched", peers["touched"], "", 0),
        Row("200 prefixes of 5,000 moved, 200 taken away: lost", found["moves"]["lost"], "packets", 0,
            note=f"of {found['moves']['arrived'] + found['moves']['lost']:.0f}"),
    ]  # fmt: skip


def _mbit(value: float, base: float) -> str:
    return f"{value:.1f} Mbit/s; {base:.1f} Mbit/s"


def _turns(found: Mapping[str, float]) -> str:
    return f"{_mbit(found['all'], found['one'])}; one as wide {found['wide']:.1f} Mbit/s"


def main() -> int:
    heed_sigterm()
    started = time.monotonic()
    given = OUT / "kernel"
    try:
        plans.write(given)
        words = [sys.executable, "-m", "bench.kernel.inside", str(given), GUEST_OUT]
        out = CACHE / "bench"
        command = Command(shlex.join(words), ("·",), BOUND, MODULES)
        run(ROOT, provide(CACHE, _say), command, out, _say)
        if (out / "exit").read_text().strip() != "0":
            raise BootError((out / "log").read_text()[-2000:])
        board = Board()
        for row in rows(json.loads((out / "figures.json").read_text())):
            board.add(row)
    except MissingError as error:
        print(f"this machine lacks something: {error}", file=sys.stderr)
        return 2
    except (BootError, RuntimeError) as error:
        print(f"the measurement failed: {error}", file=sys.stderr)
        return 1
    print(f"\n{len(board.rows)} rows in {time.monotonic() - started:.0f} s, in {board.save('kernel.json')}")
    return 1 if board.missed else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
