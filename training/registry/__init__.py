"""Adapters on disk: where each came from, which one serves, which has to be forgotten. Without torch."""

from training.registry.entry import Entry, Forgotten
from training.registry.lineage import Lineage, base_hash
from training.registry.pointer import Change, Pointer
from training.registry.registry import Registry

__all__ = ["Change", "Entry", "Forgotten", "Lineage", "Pointer", "Registry", "base_hash"]
