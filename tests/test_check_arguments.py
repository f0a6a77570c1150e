"""The values inside the arguments of an operation, as torch's own tree functions give them."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_leaves, tree_map

from genbench.check.arguments import replaced, values_in

TREES = (
    ((torch.ones(2), [3, (None, "x")], {"a": [1.5], "b": ()}),),
    ([], {"dtype": torch.float32, "device": torch.device("cpu")}),
    ((torch.Size((2, 3)), [torch.zeros(1), torch.ones(1)]), {}),
)


def test_leaves_and_replacement_agree_with_torchs_trees():
    for tree in TREES:
        assert list(map(str, values_in(tree))) == list(map(str, tree_leaves(tree)))
        assert str(replaced(str, tree)) == str(tree_map(str, tree)).replace("torch.Size(['2', '3'])", "('2', '3')")
