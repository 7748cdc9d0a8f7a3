#!/usr/bin/env python3
"""Looks for events of the shop that lack a cause, in a log with partitions.

    anabranch --log ADDRESS read --output jsonl > events.jsonl
    testing/stale-writes.py events.jsonl [--ignore-causes]

Shares no code with what it looks at. An event of partition P at offset O depends on what the causes of P's
events up to O name, and on P up to O. From that alone it asks of every event, in the order of the file:

* what it depends on stands before it in the file;
* it depends on the event that its `causationid` names, and on every event that the journals of processes say they got;
* it depends on what the shop's rules say must have been before: no shipment without payment, no reservation without order.

Prints one line of JSON and ends with 0, or with 1 and the first events that lack a cause. With --ignore-causes
it takes each event to depend on its own partition alone: then it has to find some.
"""

import json
import sys

# What an event of this type needs: the type and the stream, made from the event's own stream and data.
RULES = {
    "CheckoutBegan": [("OrderPlaced", "order/{key}")],
    "PaymentRequested": [("OrderPlaced", "order/{key}")],
    "PaymentApproved": [("PaymentRequested", "payment/{key}")],
    "OrderShipped": [("PaymentApproved", "payment/{key}")],
    "OrderConfirmed": [
        ("OrderPlaced", "order/{key}"),
        ("PaymentApproved", "payment/{key}"),
        ("OrderShipped", "shipment/{key}"),
    ],
    "StockReserved": [("OrderPlaced", "order/{data[order]}")],
    "StockReleased": [("StockReserved {data[order]}", "{subject}")],
    "StockShipped": [
        ("StockReserved {data[order]}", "{subject}"),
        ("OrderShipped", "shipment/{data[order]}"),
    ],
    "StockReturned": [("ReturnAccepted", "return/{data[of]}")],
    "PaymentRefunded": [("ReturnAccepted", "return/{key}")],
    "StockReplenished": [("StockRanLow", "{subject}")],
    "PriceRaised": [("StockRanLow", "stock/{key}")],
}


def cut(text):
    """Counts by partition: `3:17,4:2`."""
    pairs = (entry.split(":") for entry in text.split(",") if entry)
    return {int(partition): int(count) for partition, count in pairs}


def place(text):
    partition, offset = text.split(":")
    return int(partition), int(offset)


def received(data):
    """The place of the event that a journal says it got."""
    try:
        return data["input"]["Event"]["source"]["position"]
    except (KeyError, TypeError):
        return None


class Audit:
    def __init__(self, ignore_causes):
        self.ignore_causes = ignore_causes
        self.given = {}  # partition: how many of its events have been given
        self.causes = {}  # partition: what its events depend on
        self.by_id = {}
        self.latest = {}  # (type, stream): the place of the last one
        self.asked = 0
        self.across = 0
        self.faults = []

    def fault(self, event, why):
        self.faults.append(f"{event['type']} {event['subject']} at {event['position']}: {why}")

    def event(self, event):
        partition, offset = place(event["position"])
        if offset != self.given.get(partition, 0):
            self.fault(event, f"stands where {self.given.get(partition, 0)} is next")
        known = self.causes.setdefault(partition, {})
        if not self.ignore_causes:
            for other, count in cut(event.get("causes", "")).items():
                if self.given.get(other, 0) < count:
                    self.fault(event, f"depends on {other}:{count - 1}, which was not given before it")
                known[other] = max(known.get(other, 0), count)
        self.given[partition] = offset + 1

        own = (partition, offset)
        self.needs(event, own, known, self.by_id.get(event.get("causationid")), "what caused it")
        data = event.get("data")
        if (got := received(data)) is not None:
            self.needs(event, own, known, place(got), "what its journal got")
        key = event["subject"].partition("/")[2]
        for kind, stream in RULES.get(event["type"], []):
            values = {"key": key, "subject": event["subject"], "data": data}
            kind, stream = kind.format(**values), stream.format(**values)
            before = self.latest.get((kind, stream))
            if before is None:
                self.fault(event, f"there is no {kind} of {stream} before it")
            self.needs(event, own, known, before, f"{kind} of {stream}")

        self.by_id[event["id"]] = own
        self.latest[event["type"], event["subject"]] = own
        if event["type"] == "StockReserved":
            self.latest[f"StockReserved {data['order']}", event["subject"]] = own

    def needs(self, event, own, known, cause, what):
        if cause is None:
            return
        self.asked += 1
        (partition, offset), (home, at) = cause, own
        if partition == home:
            if offset >= at:
                self.fault(event, f"{what}, {partition}:{offset}, stands behind it")
        elif known.get(partition, 0) <= offset:
            self.fault(event, f"lacks {what}, {partition}:{offset}")
        else:
            self.across += 1


def main():
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    flags = [name for name in sys.argv[1:] if name.startswith("--")]
    if len(names) != 1 or set(flags) - {"--ignore-causes"}:
        sys.exit("usage: stale-writes.py events.jsonl [--ignore-causes]")
    audit = Audit(bool(flags))
    with open(names[0], encoding="utf-8") as lines:
        for line in lines:
            audit.event(json.loads(line))
    for fault in audit.faults[:10]:
        print(fault, file=sys.stderr)
    told = {
        "events": sum(audit.given.values()),
        "partitions": len(audit.given),
        "asked": audit.asked,
        "across_partitions": audit.across,
        "stale": len(audit.faults),
    }
    print(json.dumps(told))
    sys.exit(1 if audit.faults else 0)


main()
