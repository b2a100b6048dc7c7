"""Reproduce every figure and table of Srinivas & Babu (BMVC 2015), each in a script of its own.

`python -m examples.paper list | run NAME ... | all` from the repository root.
"""
