"""Writes closed alerts into the store of a sensor, one a second up to now, as the sensor does.

alerts.py DATABASE COUNT
"""

import json, sqlite3, sys, time
path, count = sys.argv[1], int(sys.argv[2])
begin = int(time.time() * 1e6) - count * 1_000_000
top = [{"feature": f"Flow IAT Max {n}", "value": 98.4, "contribution": 0.21} for n in range(5)]
def body(n):
    seen = lambda *sample: {"count": len(sample), "exact": True, "sample": list(sample)}
    number = begin + n * 1_000_000
    return number, json.dumps({
        "id": number, "seq": number, "state": "closed", "ending": "quiet", "merged_into": None, "label": "DoS Hulk",
        "severity": 2, "count": n + 1, "first_seen_us": number, "last_seen_us": number, "score": 0.98,
        "sources": seen(f"10.1.{n // 250}.{n % 250}"), "targets": seen("10.77.0.2"), "ports": seen(80, 443),
        "packets": 1000, "bytes": 100000, "held_back": False, "held": None,
        "evidence": {"event_type": "flow", "src_ip": "10.1.0.1", "ml": {"class": 4, "label": "DoS Hulk", "top": top}},
    })
with sqlite3.connect(path, timeout=30) as database:
    for number, text in map(body, range(count)):
        database.execute(
            "INSERT INTO alerts (id, seq, state, label, severity, last_seen, held_back, body) "
            "VALUES (?1, ?1, 'closed', 'DoS Hulk', 2, ?1, 0, ?2)", (number, text))
