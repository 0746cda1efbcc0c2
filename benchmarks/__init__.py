"""What the gateway adds, measured beside a direct connection and a plain proxy: `python -m benchmarks` (README.md).

wire.py      the canned answers and the requests, in each format
upstream.py  the process that answers, with bytes made beforehand
load.py      the process that asks, and notes when what came
servers.py   starts and ends all processes; what they cost in CPU and memory
figures.py   the figures: which row is measured how
sansio.py    the decoders and encoders without a socket
report.py    medians, ratios, the table
"""
