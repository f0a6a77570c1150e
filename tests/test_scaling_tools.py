"""The commands behind docs/scaling.md: operations counted against known numbers, and the arithmetic of estimates."""

from __future__ import annotations

import pytest
import torch

from tools.scaling_estimate import PARALLEL, hours, operations
from tools.scaling_measured import markdown, simulated


def test_operations_of_a_matrix_product_and_a_convolution():
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    assert operations(lambda: a @ b) == 2 * 3 * 5 * 7
    layer = torch.nn.Conv2d(4, 6, 3, padding=1)
    with torch.no_grad():
        assert operations(lambda: layer(torch.zeros(2, 4, 8, 8))) == 2 * (2 * 8 * 8) * (4 * 9) * 6


def test_hours_follow_from_operations_gpus_and_the_share_of_their_speed():
    assert hours(3600e14, 1, 1e14) == pytest.approx(1.0)
    assert hours(3600e14, 8, 1e14, PARALLEL[8]) == pytest.approx(1 / (8 * 0.9))


def test_the_simulated_cluster_ends_every_task_of_every_cell():
    cost, cluster = simulated(200)
    assert cost >= 0
    assert len(set(cluster.order)) == 600
    assert cluster.failures > 0


def test_a_table_has_its_head_first():
    assert markdown(iter([("a", "b"), ("1", "2")])) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
