#!/usr/bin/env python3
"""A service that nobody foresaw: registers at a log, catches up with it, and owns what it writes.

    testing/ninth-service.py URL

URL is the server of the log, such as http://127.0.0.1:7400. It ends after the first order that is
placed when it has caught up. Prints JSON with the fields `events`, which it had read by then,
`orders`, those of them that place one, and `live`, the stream of the last one.
"""

import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "clients/python"))
import anabranch

with anabranch.open(sys.argv[1]) as client:
    with client.register("night-watch", owns=["watch"], reads=["order"], program="ninth-service.py") as lease:
        behind = sum(client.head().values())
        events = orders = 0
        for event in client.follow():
            events += 1
            is_live = events > behind
            if event.type == "OrderPlaced":
                orders += 1
                if is_live:
                    break
        seen = {"events": events, "orders": orders, "live": event.stream}
        lease.append(anabranch.NewEvent("watch/1", "OrdersSeen", seen))
        kept = [event.data for event in client.read_stream("watch/1")]
        if kept != [seen]:
            sys.exit(f"it has written {seen}, and reads {kept}")
print(json.dumps(seen))
