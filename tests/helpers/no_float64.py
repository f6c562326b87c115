"""A stand-in for a device without float64, as GPUs of Apple are."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NoFloat64(TorchDispatchMode):
    """Operations inside fail where they make a tensor in float64."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        doubles = [leaf for leaf in tree_leaves(result) if getattr(leaf, "dtype", None) == torch.float64]
        assert not doubles, f"{operation} makes a tensor in float64"
        return result
