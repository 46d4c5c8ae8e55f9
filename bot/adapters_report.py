"""Adapters described for an operator: what `tertulia adapters list`, `show` and `compare` print."""

from collections.abc import Iterator, Mapping
from typing import Any

from training.registry import Entry, Pointer

_WIDTH = 28


def list_lines(entries: list[Entry], pointer: Pointer) -> Iterator[str]:
    """A line an adapter: * serves, % is on trial; then when it was made, for which base, and what is to be known."""
    if not entries:
        yield "no adapters yet: tertulia train makes one"
    for entry in entries:
        mark = {pointer.candidate: "%", pointer.adapter: "*"}.get(entry.id, " ")
        lineage = entry.lineage
        made = f"{lineage.created_at:%Y-%m-%d %H:%M}  base {lineage.base_hash[:8]}  {len(lineage.row_ids):>7} rows"
        yield f"{mark} {entry.id:<{_WIDTH}} {made}  {'; '.join(_notes(entry, pointer))}".rstrip()


def _notes(entry: Entry, pointer: Pointer) -> Iterator[str]:
    if entry.id == pointer.adapter:
        yield "in service"
    if entry.id == pointer.candidate:
        yield f"on trial in {pointer.share:.0%} of the chats"
    if entry.lineage.refused_for:
        yield "refused by the gate"
    if entry.forgotten is not None:
        yield f"{'RETIRED' if entry.forgotten.retired else 'FORGET'}: {entry.forgotten.num_rows} rows were taken back"


def show_lines(entry: Entry, pointer: Pointer) -> Iterator[str]:
    """Everything about one adapter."""
    lineage = entry.lineage
    yield f"{entry.id}: {'; '.join(_notes(entry, pointer)) or 'not in service'}"
    yield from _table(_facts(entry))
    if lineage.verdict:
        yield "  verdict      " + ("promote" if lineage.verdict.get("promote") else "refuse")
        for reason in lineage.verdict.get("reasons", ()):
            yield f"    {reason}"
    if entry.forgotten is not None:
        yield f"  taken back   {entry.forgotten.num_rows} of its rows, since {entry.forgotten.since:%Y-%m-%d %H:%M}"
    for change in pointer.changes:
        if change.adapter == entry.id:
            forced = " by force" if change.forced else ""
            reasons = f": {'; '.join(change.reasons)}" if change.reasons else ""
            yield f"  {change.at:%Y-%m-%d %H:%M}  {change.what}{forced}{reasons}"


def difference_lines(entries: Mapping[str, Entry | None]) -> Iterator[str]:
    """What is not the same of two adapters, side by side; None is the bare base."""
    facts = {name: {} if entry is None else _facts(entry) for name, entry in entries.items()}
    names = list(dict.fromkeys(name for of_one in facts.values() for name in of_one))
    yield f"  {'':<{_WIDTH}}" + "".join(f" {name:<{_WIDTH}}" for name in facts).rstrip()
    for name in names:
        values = [of_one.get(name, "-") for of_one in facts.values()]
        if len(set(values)) > 1 or len(values) == 1:
            yield (f"  {name:<{_WIDTH}}" + "".join(f" {value:<{_WIDTH}}" for value in values)).rstrip()


def _facts(entry: Entry) -> dict[str, str]:
    lineage = entry.lineage
    return {
        "made": f"{lineage.created_at:%Y-%m-%d %H:%M}",
        "base": lineage.base_hash[:12],
        "data": lineage.data_hash[:12],
        "rows": str(len(lineage.row_ids)),
        "code": lineage.code_version,
        "parent": lineage.parent or "-",
        **_flat(lineage.hyper_parameters),
        **_flat(lineage.metrics),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted names."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return found


def _table(facts: Mapping[str, str]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"  {name:<12} {value}"
