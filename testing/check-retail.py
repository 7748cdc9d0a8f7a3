#!/usr/bin/env python3
"""Checks that the log gives back every row of the Online Retail data set.

Imports the file into a log of its own, reads the category `invoice` back, and compares
every event, in order, with what this script makes of the CSV by itself: stream, type,
id, version, position, and each byte of the data. It shares no code with the programs.

    python3 testing/check-retail.py examples/retail/data/first-day.csv
    python3 testing/check-retail.py FILE.csv.gz --log DIR   # a log that exists already
"""

import argparse
import csv
import decimal
import gzip
import io
import json
import pathlib
import subprocess
import sys
import uuid

# A directory of compiled files would look like a crate to cargo.
sys.dont_write_bytecode = True

import released  # noqa: E402
from released import Failed  # noqa: E402

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://doi.org/10.24432/C5BW33")


def text_of(path: pathlib.Path) -> str:
    """The file's text, unpacked if need be."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    return content.decode("utf-8-sig")


def event_type(invoice: str, quantity: int) -> str:
    """What a row says happened."""
    if invoice.isdigit() and quantity > 0:
        return "LineInvoiced"
    if invoice.startswith("C") and quantity < 0:
        return "LineReturned"
    return "AdjustmentBooked"


def expected_events(path: pathlib.Path):
    """Stream, type, id, version and data of each row, in the order of the rows."""
    lines_of = {}
    for row in csv.DictReader(io.StringIO(text_of(path), newline="")):
        invoice, quantity = row["InvoiceNo"], int(row["Quantity"])
        line = lines_of[invoice] = lines_of.get(invoice, 0) + 1
        price = decimal.Decimal(row["UnitPrice"]) * 1000
        price = int(price.to_integral_value(decimal.ROUND_HALF_UP))
        data = {
            "invoice": invoice,
            "line": line,
            "sku": row["StockCode"],
            "description": row["Description"] or None,
            "quantity": quantity,
            "unit_price_thousandths": price,
            "currency": "GBP",
            "invoiced_at": row["InvoiceDate"].replace(" ", "T"),
            "customer": row["CustomerID"].removesuffix(".0") or None,
            "country": row["Country"],
        }
        known = {key: value for key, value in data.items() if value is not None}
        text = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
        yield {
            "subject": f"invoice/{invoice}",
            "type": event_type(invoice, quantity),
            "id": str(uuid.uuid5(NAMESPACE, f"{invoice}/{line}")),
            "sequence": str(line - 1),
            "tags": f"sku:{row['StockCode']},country:{row['Country']}",
        }, text.encode()


def compare(path: pathlib.Path, anabranch: str, log: str) -> int:
    """Compares the log with the file, event by event; gives how many there are."""
    reader = subprocess.Popen(
        [anabranch, "--log", log, "read", "--category", "invoice", "--output", "jsonl"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=released.environment(),
    )
    count = 0
    before = -1
    with reader.stdout as lines:
        for attributes, data in expected_events(path):
            count += 1
            line = lines.readline().rstrip(b"\n")
            if not line:
                raise Failed(f"the log ends before row {count}, {attributes['id']}")
            event = json.loads(line)
            for name, value in attributes.items():
                if event.get(name) != value:
                    raise Failed(f"row {count}: {name} is {event.get(name)}, not {value}")
            # The data stands last on the line, byte for byte as it was written.
            if not line.endswith(b',"data":' + data + b"}"):
                raise Failed(f"row {count}: expected data {data}, the log has {line}")
            position = int(event["position"].split(":")[-1])
            if position <= before:
                raise Failed(f"row {count}: position {position} follows {before}")
            before = position
        if rest := lines.readline():
            raise Failed(f"the log goes on after row {count}: {rest}")
    if reader.wait() != 0:
        raise Failed(f"read exited with {reader.returncode}")
    return count


def check() -> None:
    """Reads the arguments and does it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("file", type=pathlib.Path, help="the CSV, plain or gzip")
    parser.add_argument("--log", help="check this log instead of importing the file")
    released.add_arguments(parser)
    arguments = parser.parse_args()
    released.build(arguments)
    with released.Scratch(arguments, "check-retail") as scratch:
        log = arguments.log
        if not log:
            log = str(scratch / "log")
            events = scratch / "events.jsonl"
            events.write_bytes(released.run(arguments.retail, arguments.file))
            released.run(arguments.anabranch, "--log", log, "import", events)
        count = compare(arguments.file, arguments.anabranch, log)
        released.run(arguments.anabranch, "--log", log, "log", "verify")
    print(f"{count:,} rows, {count:,} events: equal, in order, byte for byte; verified")


if __name__ == "__main__":
    released.main(check)
