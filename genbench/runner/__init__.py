"""Runs a suite: tasks in worker processes, the results folder, the progress display."""

from __future__ import annotations
