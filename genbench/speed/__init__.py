"""Throughput of drawing: measured, kept as a baseline, and judged against one or against another revision.

subjects    a suite's models as plain data, so that any process and any revision can build them
worker      a process that builds them and times them; client is its other end
profile     everything about the cost of one model: cold start, batch sweep, latency, memory, FLOPs, energy
judge       ratios of times to verdicts, with a bounded share of false alarms
baseline    raw timings of several processes in a file; the same again, against it
paired      two revisions in alternation on this machine
"""
