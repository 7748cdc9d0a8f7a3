#!/usr/bin/env python3
"""Kills an import at random moments and checks that nothing is lost or duplicated.

Each run imports the same file with `--acks` and is killed with SIGKILL, half of the time
after a random time, half of the time at a random acknowledgement. After each kill the
whole log is read and must be

* a beginning of the file: the same events, in order, none missing, none twice;
* at least as long as what was acknowledged, each event where its acknowledgement said.

Runs go on with the same log until one comes to the end, or until two kills in a row came
too late for the log to grow; then the log must hold the whole file and verify clean, and
the next run begins with an empty one.

    python3 testing/kill-import.py examples/retail/data/first-day.csv --kills 20
    python3 testing/kill-import.py FILE.csv.gz --kills 200 --seed 7

FILE is the Online Retail data set, or JSON lines (*.jsonl) with an id on each line. A
kill -9 leaves what was written with the operating system, so this proves nothing about
power cuts; the simulated disk does.
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

# A directory of compiled files would look like a crate to cargo.
sys.dont_write_bytecode = True

import released  # noqa: E402
from released import Failed  # noqa: E402


class Import:
    """One run of `anabranch import --acks`, to its end or killed before."""

    def __init__(self, anabranch: str, log: pathlib.Path, events: pathlib.Path):
        self.acks = []
        self.killed = False
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [anabranch, "--log", str(log), "import", str(events), "--acks"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=released.environment(),
        )

    def finish(self, after_seconds=None, at_ack=None) -> None:
        """Reads acknowledgements until the end; kills at the moment that is given."""
        errors = []
        drain = threading.Thread(target=lambda: errors.append(self.process.stderr.read()))
        drain.start()
        timer = None
        if after_seconds is not None:
            timer = threading.Timer(after_seconds, self.process.kill)
            timer.start()
        for line in self.process.stdout:
            # A line that was cut off acknowledges nothing.
            if line.endswith(b"\n"):
                self.acks.append(line)
            if at_ack is not None and len(self.acks) == at_ack:
                self.process.kill()
        status = self.process.wait()
        if timer:
            timer.cancel()
        drain.join()
        self.seconds = time.monotonic() - self.started
        self.killed = status == -9
        if status not in (0, -9):
            said = errors[0].decode(errors="replace").strip()
            raise Failed(f"import exited with {status}: {said}")


class Checker:
    """What the file says and what was acknowledged, against what the log holds."""

    def __init__(self, anabranch: str, events: pathlib.Path):
        self.anabranch = anabranch
        self.expected = []
        self.index_of = {}
        versions = {}
        with events.open("rb") as lines:
            for line in lines:
                event = json.loads(line)
                stream = event["stream"]
                version = versions[stream] = versions.get(stream, -1) + 1
                data = json.dumps(event["data"], ensure_ascii=False, separators=(",", ":"))
                self.index_of[event["id"]] = len(self.expected)
                self.expected.append((event["id"], stream, str(version), data.encode()))
        if len(self.index_of) != len(self.expected):
            raise Failed("two lines of the file have the same id")
        self.forget()
        self.acks_checked = 0

    def forget(self) -> None:
        """Begins anew, for an empty log."""
        self.acknowledged = 0

    def take(self, acks: list) -> None:
        """Checks that each event was acknowledged at its place, and remembers how many."""
        for line in acks:
            ack = json.loads(line)
            index = self.index_of.get(ack["id"])
            if index is None:
                raise Failed(f"an event was acknowledged that is not in the file: {ack}")
            _, stream, version, _ = self.expected[index]
            place = (place_of(ack["position"]), ack["stream"], str(ack["version"]))
            if place != (index, stream, version):
                raise Failed(f"line {index + 1} was acknowledged at another place: {ack}")
            self.acknowledged = max(self.acknowledged, index + 1)
        self.acks_checked += len(acks)

    def check(self, log: pathlib.Path) -> int:
        """Reads the whole log and compares; gives how many events it holds."""
        if self.acknowledged == 0 and not log.exists():
            return 0
        reader = subprocess.Popen(
            [self.anabranch, "--log", str(log), "read", "--output", "jsonl"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=released.environment(),
        )
        count = 0
        with reader.stdout as lines:
            for line in lines:
                self.compare(count, line.rstrip(b"\n"))
                count += 1
        said = reader.stderr.read().decode(errors="replace").strip()
        status = reader.wait()
        # 3: there is no log yet, because the kill came before it was made.
        if status not in (0, 3):
            raise Failed(f"read exited with {status}: {said}")
        if count < self.acknowledged:
            raise Failed(
                f"{self.acknowledged - count} acknowledged events are lost: "
                f"the log ends after {count}, {self.acknowledged} were acknowledged"
            )
        return count

    def compare(self, index: int, line: bytes) -> None:
        """Compares one event of the log with the line of the file."""
        if index >= len(self.expected):
            raise Failed(f"the log goes on after the end of the file: {line}")
        wanted, stream, version, data = self.expected[index]
        event = json.loads(line)
        found = (event["id"], event["subject"], event["sequence"])
        if found != (wanted, stream, version) or place_of(event["position"]) != index:
            raise Failed(f"position {index}: expected {wanted} of {stream}, found {line}")
        # The data stands last on the line, byte for byte as it was written.
        if not line.endswith(b',"data":' + data + b"}"):
            raise Failed(f"position {index}: expected data {data}, found {line}")


def place_of(position) -> int:
    """The offset of a position, written `partition:offset`."""
    return int(str(position).split(":")[-1])


def prepared(arguments: argparse.Namespace, scratch: pathlib.Path) -> pathlib.Path:
    """The file as JSON lines."""
    if arguments.file.suffix == ".jsonl":
        return arguments.file
    events = scratch / "events.jsonl"
    events.write_bytes(released.run(arguments.retail, arguments.file))
    return events


def kill_and_check(arguments, chance: random.Random, scratch: pathlib.Path) -> str:
    """Kills as often as was asked; gives a sentence on what was seen."""
    events = prepared(arguments, scratch)
    checker = Checker(arguments.anabranch, events)
    total = len(checker.expected)

    log = scratch / "log"
    whole = Import(arguments.anabranch, log, events)
    whole.finish()
    checker.take(whole.acks)
    if len(whole.acks) != total:
        raise Failed(f"{total} events, {len(whole.acks)} acknowledgements")
    checker.check(log)
    seconds = whole.seconds
    print(f"undisturbed: {total:,} events in {seconds:.2f} s", flush=True)

    kills = rounds = grown = 0
    while kills < arguments.kills:
        shutil.rmtree(log)
        checker.forget()
        rounds += 1
        held = 0
        in_vain = 0
        while kills < arguments.kills and in_vain < 2:
            run = Import(arguments.anabranch, log, events)
            if chance.random() < 0.5:
                run.finish(after_seconds=chance.uniform(0, seconds))
            else:
                run.finish(at_ack=chance.randint(1, total))
            checker.take(run.acks)
            now = checker.check(log)
            if now < held:
                raise Failed(f"the log held {held} events and now holds {now}")
            grown += now > held
            # A log that is nearly full hardly grows: better begin with an empty one.
            in_vain = 0 if now > held else in_vain + 1
            held = now
            if not run.killed:
                break
            kills += 1
            if kills % 10 == 0:
                print(f"{kills} kills, the log holds {held:,}", flush=True)
        # Whatever was done to it before, one undisturbed run completes it.
        run = Import(arguments.anabranch, log, events)
        run.finish()
        checker.take(run.acks)
        held = checker.check(log)
        if held != total or len(run.acks) != total:
            raise Failed(f"completed, but {held} of {total} events are there")
        released.run(arguments.anabranch, "--log", log, "log", "verify")
    if grown < kills / 10:
        raise Failed(f"only {grown} of {kills} kills came while the log grew: try another seed")
    return (
        f"{kills} kills in {rounds} rounds of {total:,} events, {grown} while the log grew; "
        f"{checker.acks_checked:,} acknowledgements checked; "
        f"0 lost, 0 duplicated, 0 moved"
    )


def main() -> None:
    """Reads the arguments and does it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=pathlib.Path, help="the data set, or JSON lines")
    parser.add_argument("--kills", type=int, default=200, help="how many (default 200)")
    parser.add_argument("--seed", type=int, help="repeat the moments of an earlier run")
    released.add_arguments(parser)
    arguments = parser.parse_args()
    seed = arguments.seed
    if seed is None:
        seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    released.build(arguments)
    try:
        with released.Scratch(arguments, "kill-import") as scratch:
            done = kill_and_check(arguments, random.Random(seed), scratch)
    except Failed as failure:
        raise Failed(f"{failure} (seed {seed})") from failure
    print(f"{done}; seed {seed}")


if __name__ == "__main__":
    released.main(main)
