"""Which adapters learnt from what people have taken back since: by the log, row by row.

Always: a row counts as forgotten if the log has it no longer, its text is erased, or the person it is of, or whom it
answers, does not let it be used now. Ids are never used again, so what is missing was deleted.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, or_, select

from training import consent
from training.dialogues import DialogueLog
from training.errors import RegistryError
from training.registry.registry import Registry
from training.schema import messages

_AT_ONCE = 5000  # ids a query


def lost_rows(log: DialogueLog, row_ids: Iterable[int]) -> set[int]:
    """Those of the messages that may no longer be used."""
    ids = sorted(set(row_ids))
    return set(ids) - log.database.read(lambda conn: _usable(conn, ids))


def mark_forgotten(registry: Registry, log: DialogueLog, *, retire: bool) -> list[str]:
    """Mark every adapter that was trained on such rows -> the ids of those that were not known before.

    With `retire` every marked one leaves service, also those that were marked before. Raises RegistryError for a
    damaged one, after the others.
    """
    found, damaged = [], None
    for adapter_id in registry.ids():
        try:
            entry = registry.get(adapter_id)
        except RegistryError as error:
            damaged = error
            continue
        num_rows = len(lost_rows(log, entry.lineage.row_ids))
        was_marked = entry.forgotten is not None
        if num_rows and registry.mark_forgotten(entry.id, num_rows, retire=retire) and not was_marked:
            found.append(entry.id)
    if damaged is not None:
        raise damaged
    return found


def _usable(conn: Connection, ids: list[int]) -> set[int]:
    asked = messages.alias()
    query = (
        select(messages.c.id)
        .outerjoin(asked, asked.c.id == messages.c.reply_to)
        .where(messages.c.text.is_not(None), ~consent.without(messages.c.user_id))
        .where(or_(messages.c.reply_to.is_(None), ~consent.without(asked.c.user_id)))
    )
    found: set[int] = set()
    for at in range(0, len(ids), _AT_ONCE):
        found |= set(conn.execute(query.where(messages.c.id.in_(ids[at : at + _AT_ONCE]))).scalars())
    return found
