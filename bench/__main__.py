"""`python -m bench`, in the rehearsal's world: runs the benchmarks, prints tables and verdicts, writes JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import campaign, campaign_workers, gate, protect, way_out
from bench.host import BenchFailed, World, without_supervisord
from bench.load import Refused
from bench.machine import Machine

NAMES = ("gate", "way-out", "protect", "campaign", "workers")
_SLOTS = 20  # of the gate's slots in the time of the way out


def main() -> int:
    """0 when every target was reached, 1 when one was not or nothing could be measured."""
    options = _parser().parse_args()
    names = options.names or NAMES
    running = ExitStack()
    try:
        world, machine = World.read(), Machine.here()
        print(f"\n{machine}\n", flush=True)
        document: dict[str, Any] = {
            "machine": machine.as_json(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        verdicts = []
        if "protect" in names:  # before supervisord stands still, which starts the page
            protected = protect.measure(world, options.rounds, _tell)
            document["protect"] = protect.as_json(protected)
            verdicts += protect.verdicts(protected)
            print(f"Attachments:\n{protect.table(protected)}\n", flush=True)
        running.enter_context(without_supervisord())
        if "way-out" in names:
            result = way_out.measure(world, options.seconds, _tell)
            document["way_out"] = result.as_json()
            verdicts += way_out.verdicts(result)
            print(f"The whole way out:\n{way_out.table(result)}", flush=True)
        if "campaign" in names:
            sent = campaign.measure(options.packages, options.recipients, options.rounds, options.many, _tell)
            document["campaign"] = sent.as_json()
            verdicts += campaign.verdicts(sent)
            print(f"Bulk mail and other queues:\n{campaign.table(sent)}", flush=True)
        if "campaign" in names or "workers" in names:
            shared = campaign_workers.measure(options.recipients, options.rounds, _tell)
            document["workers"] = shared.as_json()
            verdicts += campaign_workers.verdicts(shared)
            print(f"Bulk mail of several workers:\n{campaign_workers.table(shared)}", flush=True)
        if "gate" in names:
            results = gate.measure(world, options.packages, options.seconds / _SLOTS, options.rounds, _tell)
            document["gate"] = [each.as_json() for each in results]
            verdicts += gate.verdicts(results)
            print(
                f"The gate and its peers, authenticated submission without TLS:\n\n{gate.table(results)}",
                flush=True,
            )
    except (BenchFailed, Refused) as problem:
        print(f"script/bench: {problem}", file=sys.stderr)
        return 1
    finally:
        running.close()
    document["targets"] = [
        {"what": what, "target": target, "seen": round(seen, 3), "reached": reached}
        for what, target, seen, reached in verdicts
    ]
    for what, target, seen, reached in verdicts:
        print(f"{'reached' if reached else 'MISSED ':<9}{what} {target:g}; seen: {seen:.2f}")
    if options.json:
        print(json.dumps(document))
    return 0 if all(reached for *_, reached in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/bench", description="Benchmarks, side by side with peers.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_name, help=f"{', '.join(NAMES)}; all without"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help=f"how long the way out is loaded; each slot of the gate's has 1/{_SLOTS} of it (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the gate and of bulk mail (%(default)s)")
    parser.add_argument(
        "--recipients", type=int, default=10_000, help="of each campaign beside its peers (%(default)s)"
    )
    parser.add_argument("--many", type=int, default=100_000, help="of Todoku's large campaign (%(default)s)")
    # script/bench takes the last line of what is printed, and puts it into the file: a world has no files to keep.
    parser.add_argument("--json", metavar="FILE", help="where to write all figures")
    parser.add_argument("--packages", type=Path, required=True, help=argparse.SUPPRESS)
    return parser


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"{text} is no benchmark; there are {' and '.join(NAMES)}")
    return text


def _tell(text: str) -> None:
    print(f"    ... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
