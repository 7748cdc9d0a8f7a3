#!/usr/bin/env python3
"""What the shop must sell, by country and by day: computed from the CSV file and nothing else.

    testing/shop-totals.py FILE.csv[.gz] [CONFIRMED]

Prints JSON with the fields `total`, `by_country` and `by_day`, in thousandths of a pound. With
CONFIRMED, a file with one order number on each line, only those orders count.
"""

import csv, gzip, json, sys
from collections import defaultdict

path = sys.argv[1]
confirmed = set(open(sys.argv[2]).read().split()) if len(sys.argv) > 2 else None
opener = gzip.open if path.endswith(".gz") else open
orders = {}
with opener(path, "rt", encoding="utf-8", newline="") as file:
    for row in csv.DictReader(file):
        number = row["InvoiceNo"]
        if not number.isdigit() or (confirmed is not None and number not in confirmed):
            continue
        order = orders.setdefault(number, {"country": row["Country"], "day": row["InvoiceDate"][:10], "mills": 0})
        mills = round(float(row["UnitPrice"]) * 1000)
        if int(row["Quantity"]) > 0 and mills > 0:
            order["mills"] += int(row["Quantity"]) * mills
by_country, by_day = defaultdict(int), defaultdict(int)
for order in filter(lambda order: order["mills"], orders.values()):
    by_country[order["country"]] += order["mills"]
    by_day[order["day"]] += order["mills"]
print(json.dumps({"total": sum(by_day.values()), "by_country": by_country, "by_day": by_day}, sort_keys=True))
