"""The plan of a store that all ranks make together, as the leader sends it to the others."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simclr_rhd.core.distributed import world_size
from simclr_rhd.data.decoding.decode import DecodeOptions
from simclr_rhd.data.decoding.salt import salt_id
from simclr_rhd.data.store.store import STORES_DIR


@dataclass(frozen=True)
class StorePlan:
    """A store that is to be on every disk.

    Attributes:
        cache_dir: the cache folder of this machine.
        name: of the store's folder.
        options: of decoding, with the leader's salt.
        skipped: (name, reason) of files of the listing that cannot be used.
    """

    cache_dir: Path
    name: str
    options: DecodeOptions
    skipped: Sequence[tuple[str, str]]

    @property
    def folder(self) -> Path:
        """The store's place."""
        return self.cache_dir / STORES_DIR / self.name

    @property
    def parts_folder(self) -> Path:
        """The place of the store's parts."""
        return self.cache_dir / "parts" / self.name

    @property
    def parts(self) -> list[Path]:
        """Each rank's part; one of another salt or number of ranks is another part.

        Each has a folder around it: two that are built in one at once could take each other for remains.
        """
        salt, n = salt_id(self.options.salt), world_size()
        return [self.parts_folder / f"{number}-of-{n}-{salt}" / "part" for number in range(n)]

    def to_text(self) -> str:
        """The plan for the other ranks."""
        options = vars(self.options) | {"salt": self.options.salt.hex()}
        return json.dumps([self.name, options, self.skipped])

    @classmethod
    def from_text(cls, text: str, cache_dir: Path) -> "StorePlan":
        """The leader's plan on this machine."""
        name, options, skipped = json.loads(text)
        options["salt"] = bytes.fromhex(options["salt"])
        return cls(cache_dir, name, DecodeOptions(**options), [(key, reason) for key, reason in skipped])
