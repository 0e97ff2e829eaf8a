"""How fast this suite is, and how far that is from the machine's limit.

    python -m benchmarks.bench --workloads=v3-proprio-1m --threads=1

`bench.py` starts a process per workload and writes a CSV file, `measure.py` is that
process, `flops.py` counts the arithmetic of an update.
"""
