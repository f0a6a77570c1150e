"""The first hour on a GPU, step by step: `python -m tools.gpu facts tests ...`; docs/gpu.md explains it.

common     what a step is: items, processes, records, and the time that is left
child      the process that computes items
devices    the simulated second device, random numbers of the CPU on a GPU, rounding as in TF32
facts, tests, smoke, speed, train, peers, score, fashion, gate     the steps
"""
