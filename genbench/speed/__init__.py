"""The cost of drawing: measured in detail, compared with a stored baseline, or compared with another revision.

subjects    a suite's models as plain data, so that any process of any revision can build them
worker      a process that builds models and times their drawing; client starts it and sends it commands
profile     the cost of one model: first image, batch sweep, latency, memory, FLOPs, energy
judge       from ratios of times to verdicts, with a bounded share of false alarms
comparison  the result of comparing one model on two sides, and how it is shown
baseline    times of several processes stored in a file; new measurements compared with it
paired      two revisions timed in alternation on this machine
"""
