"""Asks a URL again and again, alone in its process; prints what 99 of 100 answers took at the most. For soak.py."""

import sys
import time
import urllib.request

url, seconds = sys.argv[1], float(sys.argv[2])
waits, end = [], time.monotonic() + seconds
while time.monotonic() < end:
    began = time.perf_counter()
    with urllib.request.urlopen(url, timeout=60) as response:
        response.read()
    waits.append(time.perf_counter() - began)
    time.sleep(0.02)
print(sorted(waits)[int(len(waits) * 0.99)])
