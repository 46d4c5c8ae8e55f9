"""Numbers about the log, for limits and for the operator."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, distinct, func, select

from training import consent
from training.schema import conversations, corrections, inbox, messages, ratings, replies


def count_since(conn: Connection, user_id: int, since: datetime) -> int:
    """Messages of a user that were answered since then, erased ones too."""
    query = select(func.count()).where(
        messages.c.user_id == user_id, messages.c.role == "user", messages.c.created_at >= since
    )
    return conn.execute(query).scalar_one()


def stats(conn: Connection) -> dict[str, int | float]:
    """Counts, and the means of what replies took."""

    def count(query: Any) -> int:
        return int(conn.execute(query).scalar_one())

    def of_state(*states: str) -> Any:
        return select(func.count()).where(inbox.c.state.in_(states))

    people = select(func.count(distinct(messages.c.user_id)))
    with_text = messages.c.text.is_not(None)
    tokens, total_s, first_token_s = conn.execute(
        select(
            func.coalesce(func.sum(replies.c.num_reply_tokens), 0),
            func.coalesce(func.avg(replies.c.total_s), 0.0),
            func.coalesce(func.avg(replies.c.first_token_s), 0.0),
        )
    ).one()
    return {
        "conversations": count(select(func.count(conversations.c.id))),
        "messages": count(select(func.count(messages.c.id))),
        "messages_with_text": count(select(func.count(messages.c.id)).where(with_text)),
        "messages_for_training": count(
            select(func.count(messages.c.id)).where(
                with_text, messages.c.state == "live", ~consent.without(messages.c.user_id)
            )
        ),
        "users": count(people),
        "users_consenting": count(people.where(~consent.without(messages.c.user_id))),
        "ratings_up": count(select(func.count()).where(ratings.c.value == 1)),
        "ratings_down": count(select(func.count()).where(ratings.c.value == -1)),
        "corrections": count(select(func.count(corrections.c.id))),
        "inbox_pending": count(of_state("new", "answered")),
        "inbox_failed": count(of_state("failed")),
        "reply_tokens": int(tokens),
        "mean_first_token_s": float(first_token_s),
        "mean_total_s": float(total_s),
    }
