"""The released programs, for the scripts beside this file."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which programs to use and where to keep files."""
    parser.add_argument("--anabranch", help="the program (default: build it)")
    parser.add_argument("--retail", help="the example program (default: build it)")
    parser.add_argument(
        "--scratch",
        help="a directory for logs (default: a new one; removed unless the check fails)",
    )


def build(arguments: argparse.Namespace) -> None:
    """Builds the programs that the arguments do not name."""
    if arguments.anabranch and arguments.retail:
        return
    subprocess.run(
        ["cargo", "build", "--release", "-p", "anabranch-cli", "-p", "retail"],
        cwd=ROOT,
        check=True,
    )
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    release = pathlib.Path(json.loads(metadata.stdout)["target_directory"]) / "release"
    arguments.anabranch = arguments.anabranch or str(release / "anabranch")
    arguments.retail = arguments.retail or str(release / "retail")


class Scratch:
    """A directory of one script's own, removed when all went well."""

    def __init__(self, arguments: argparse.Namespace, name: str):
        if arguments.scratch:
            self.path = pathlib.Path(arguments.scratch) / name
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
        else:
            self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"anabranch-{name}-"))

    def __enter__(self) -> pathlib.Path:
        return self.path

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            shutil.rmtree(self.path)
        else:
            print(f"what was written is kept in {self.path}", file=sys.stderr)


class Failed(Exception):
    """Something that was promised does not hold."""


def environment() -> dict:
    """The environment without settings that would change what is checked."""
    return {k: v for k, v in os.environ.items() if not k.startswith("ANABRANCH_")}


def run(program: str, *arguments: str) -> bytes:
    """Runs a program to its end; gives its output; fails with what it said."""
    done = subprocess.run(
        [program, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        shown = " ".join(map(str, arguments))
        raise Failed(f"{program} {shown} exited with {done.returncode}: {said}")
    return done.stdout


def main(check) -> None:
    """Ends the process with 0 if `check` returns, with 1 and a message if it fails."""
    try:
        check()
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        sys.exit(1)
