"""A ResNet's tensors in a file of weights, whatever the program that wrote it calls the parts around them.

Names of other programs: lightly and sthalles' SimCLR of 2020 number the parts of a ResNet
(`backbone.4.0.conv1.weight`, `features.4.0.conv1.weight`); solo-learn (`backbone.`, once `encoder.`),
sthalles' SimCLR (`backbone.`), MoCo v1 and v2 (`module.encoder_q.`) and v3 (`module.base_encoder.`) keep
torchvision's names behind a prefix; DataParallel and torch.compile add `module.` and `_orig_mod.` anywhere.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

# The parts of torchvision's ResNet, in the order of its `children()`
PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
WRAPPERS = {"module", "_orig_mod"}
COPIES = {"momentum", "k", "key", "teacher", "target", "ema"}  # words in the name of a slower copy
FIRST_WEIGHT = re.compile(r"(.*\.|)(?:conv1|0)\.weight")
MAX_DEPTH, MAX_NAME_LENGTH = 4, 300  # of tables in tables, and characters of a name
MAX_TENSORS = 10_000


@dataclass(frozen=True)
class EncoderTable:
    """The tensors of a file that are most like those of an encoder.

    Attributes:
        prefix: of their names in the file; "" or with a dot at its end.
        tensors: {name that torchvision has for it: tensor}.
        others: prefixes of as many tensors with the same names, which were passed over.
    """

    prefix: str
    tensors: dict[str, Tensor]
    others: list[str]


def named_tensors(saved: Mapping[Any, Any], *, depth: int = MAX_DEPTH) -> dict[str, Tensor]:
    """{name: tensor} of nested tables: names are joined by dots, those of wrappers left out.

    Args:
        saved: the content of a checkpoint.
        depth: tables in tables that are looked into.

    Raises:
        ValueError: two tensors have one name then, or there are too many.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in saved.items():
        if not isinstance(key, str) or len(key) > MAX_NAME_LENGTH:
            continue  # an optimizer's state has numbers
        within = {}
        if isinstance(value, Tensor):
            within = {"": value}
        elif isinstance(value, dict) and depth > 0:
            within = named_tensors(value, depth=depth - 1)
        for rest, tensor in within.items():
            parts = [part for part in [*key.split("."), *rest.split(".")] if part and part not in WRAPPERS]
            name = ".".join(parts)
            if name in tensors:
                raise ValueError(f"{name} is in it twice, with and without the prefix of a wrapper")
            tensors[name] = tensor
        if len(tensors) > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS} tensors")
    return tensors


def select_encoder(tensors: Mapping[str, Tensor], names: Collection[str]) -> EncoderTable:
    """The table with the most of an encoder's names; of equals the trained one, not its slower copy.

    Args:
        tensors: {name: tensor}, as of `named_tensors`.
        names: of the encoder's tensors, as torchvision has them.
    """
    prefixes = {match[1] for name in tensors if (match := FIRST_WEIGHT.fullmatch(name))}
    numbered = [_numbered(name) for name in names]
    matches = {
        prefix: sum(prefix + name in tensors for name in (*names, *numbered)) for prefix in prefixes | {""}
    }

    def rank(prefix: str) -> tuple[int, bool, int, str]:
        is_copy = not COPIES.isdisjoint(re.split(r"[._]", prefix))
        return -matches[prefix], is_copy, len(prefix), prefix

    best, *others = sorted(matches, key=rank)
    table = {
        _torchvision_name(name.removeprefix(best)): tensor
        for name, tensor in tensors.items()
        if name.startswith(best)
    }
    return EncoderTable(best, table, [prefix for prefix in others if matches[prefix] == matches[best]])


def _numbered(name: str) -> str:
    """'layer1.0.bn1.weight' -> '4.0.bn1.weight', as in an `nn.Sequential` of the children."""
    part, _, rest = name.partition(".")
    return f"{PARTS.index(part)}.{rest}"


def _torchvision_name(name: str) -> str:
    """'4.0.bn1.weight' -> 'layer1.0.bn1.weight'; another name as it is."""
    part, dot, rest = name.partition(".")
    numbers = {str(number): of for number, of in enumerate(PARTS)}
    return numbers.get(part, part) + dot + rest
