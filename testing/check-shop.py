#!/usr/bin/env python3
"""Lets a file's orders through the shop, calm, broken and killed, and checks every total.

Each run's totals by country and by day must equal those that `testing/shop-totals.py` computes
from the file alone; where orders were rejected, restricted to the confirmed ones. In the last
run the whole program is killed again and again, and goes on with the same log.

    python3 testing/check-shop.py examples/retail/data/first-day.csv
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys

# A directory of compiled files would look like a crate to cargo.
sys.dont_write_bytecode = True

import released  # noqa: E402
from released import Failed  # noqa: E402

TOTALS = pathlib.Path(__file__).resolve().parent / "shop-totals.py"


def demo(arguments: argparse.Namespace, log: pathlib.Path, *options: str) -> list:
    """The command line of a run."""
    start = [arguments.anabranch, "--log", str(log), "demo", "--orders", str(arguments.file)]
    return [*start, "--listen", "127.0.0.1:0", "--output", "json", *options]


def compare(arguments: argparse.Namespace, log: pathlib.Path, summary: dict) -> None:
    """Compares a run's totals with those of the plain script."""
    confirmed = log.with_suffix(".confirmed")
    read = ["read", "--category", "order", "--type", "OrderConfirmed", "--output", "jsonl"]
    events = released.run(arguments.anabranch, "--log", log, *read).splitlines()
    orders = [json.loads(event)["subject"].split("/", 1)[1] for event in events]
    if len(orders) != len(set(orders)) or len(orders) != summary["orders"]["confirmed"]:
        raise Failed(f"{len(orders)} confirmations of {len(set(orders))} orders")
    confirmed.write_text("\n".join(orders))
    plain = json.loads(released.run(sys.executable, TOTALS, arguments.file, confirmed))
    for name, expected in plain.items():
        if summary["revenue_mills"][name] != expected:
            raise Failed(f"{name}: {summary['revenue_mills'][name]}, the plain script says {expected}")
    broken = [name for name, holds in summary["invariants"].items() if not holds]
    if broken:
        raise Failed(f"does not hold: {', '.join(broken)}")


def run(arguments: argparse.Namespace, log: pathlib.Path, *options: str) -> dict:
    """One run to its end, compared."""
    program, *rest = demo(arguments, log, *options)
    summary = json.loads(released.run(program, *rest))
    compare(arguments, log, summary)
    orders = summary["orders"]
    print(
        f"{' '.join(options)}: {orders['confirmed']:,} of {orders['placed']:,} orders confirmed, "
        f"{summary['events']:,} events in {summary['seconds']:.1f} s, "
        f"{summary['crashes']} services killed: totals equal"
    )
    return summary


def kill(arguments: argparse.Namespace, log: pathlib.Path, chance: random.Random) -> None:
    """Kills the program so many times, then lets it end."""
    options = ["--provider", "flaky", "--stock", "200"]
    for _ in range(arguments.kills):
        process = subprocess.Popen(
            demo(arguments, log, *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=released.environment(),
        )
        try:
            process.wait(timeout=chance.uniform(0.05, arguments.kill_within))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    run(arguments, log, *options)
    released.run(arguments.anabranch, "--log", log, "log", "verify")


def check() -> None:
    """Reads the arguments and does it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=pathlib.Path, help="the CSV, plain or gzip")
    parser.add_argument("--kills", type=int, default=5, help="how often the program is killed")
    parser.add_argument("--kill-within", type=float, default=0.6, help="at most after so many s")
    parser.add_argument("--crash-every", default="2s", help="how often a service is killed")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    released.add_arguments(parser)
    arguments = parser.parse_args()
    released.build(arguments)
    print(f"seed {arguments.seed}")
    with released.Scratch(arguments, "check-shop") as scratch:
        calm = run(arguments, scratch / "calm", "--provider", "reliable", "--stock", "100000")
        if calm["orders"]["confirmed"] != calm["orders"]["placed"]:
            raise Failed("an order was rejected, though there is enough and the provider answers")
        storm = ["--provider", "flaky", "--stock", "200", "--crash-every", arguments.crash_every]
        run(arguments, scratch / "storm", *storm)
        kill(arguments, scratch / "killed", random.Random(arguments.seed))
    print("every order ended exactly once, in every run")


if __name__ == "__main__":
    released.main(check)
