"""A Telegram Bot API server for the tests: real HTTP on loopback, people driven from Python, faults on demand.

It follows https://core.telegram.org/bots/api and the texts of tdlib/telegram-bot-api where a bot can see a difference.
The server runs in a thread of its own; every call below is synchronous, quick and safe from any thread (from asyncio
too, except the `wait` family: use `asyncio.to_thread` there). Nothing is lost when the bot dies: this is "Telegram".

    with Emulator(token="123456:abc") as telegram:         # flood=True: also Telegram's own limits (1/s a chat, ...)
        telegram.base_url                                  # "http://127.0.0.1:PORT/bot", for TELEGRAM_BASE_URL
        ana = telegram.user("Ana")                         # User(id, first_name, username, ...); admin ids: user.id
        chat = telegram.private(ana)                       # Chat; telegram.group("Amigos"), .forum("F"), .channel("C")
        update_id = telegram.say(chat, ana, "hola")        # a message; **extra: reply_to=message_id, thread=7,
                                                           #   forwarded_from=user, anonymous=True, date=unix,
                                                           #   voice=VOICE, photo=PHOTO, any raw field
        telegram.wait_for(lambda: telegram.sent(chat), timeout_s=30)   # -> what it returned; else AssertionError
        reply = telegram.sent(chat)[-1]                    # Sent: .text .message_id .buttons .at .method .status ...
        telegram.press(reply, "rate:1")                    # callback query by data, or by the button's text ("👍")
        telegram.press(reply, "👍", user=other)            # someone else; a button no longer there may be pressed too
        telegram.edit(update_id, "hola de nuevo")          # the person edits that message
        telegram.post(channel, "aviso")                    # a channel post

What the bot did:
    .sent(chat=None, method=None)   messages that the chat got (sendMessage, sendDocument), as first sent, in order
    .shown(chat)                    the bot's messages as a person sees them now: after edits, without deleted ones
    .calls(method=None, chat=None)  every call, refused, cut and drafts included, with .status (0: cut) and .applied
    .drafts(chat)                   the texts of sendMessageDraft in order
    .transcript(chat)               both sides as text
    .confirmed(update_id)           the bot has confirmed it (a higher offset, or 2xx on the webhook)
    .num_pending()                  updates not confirmed yet
    .listening()                    a long poll waits, or the webhook takes connections
    .wait_for(predicate, timeout_s), .wait_reply(chat, count=1, timeout_s) , .wait_quiet(seconds, timeout_s)

Faults, `telegram.fail(method, times, kind, chat=None, retry_after=1, seconds=0.0)`; `times=None` until `.heal()`;
`method="*"` is any method but getUpdates. `kind` is one of faults.KINDS:
    "429" (retry_after; real flood control: the chat, or the bot without `chat`, stays refused until it is over)
    "500" "502" (an HTML page) "bad_json" "400" "401" "403" "404" "409"
    "cut_before" (closed without doing it) "cut_after" (done, then closed)
    "slow" (does it after `seconds`) "slow_after" (does it at once, answers after `seconds`)
    "forget_offset" (getUpdates only: hands out again everything from the last 24 h that was confirmed)
and: .outage(seconds)  no connection at all   .redeliver(update_id)  the same update once more, confirmed or not
     .poison()  an update that no library can parse -> update_id   .push(fields) any raw update -> update_id
     .block(user) .unblock(user) .kick(chat, user) .migrate(chat) -> the new chat
     .delete(chat, message_id)   .hold() .release()  deliver nothing in between

Webhook mode begins when the bot calls setWebhook (http is allowed here): updates are then posted in order within a
chat, with the secret header, and posted again until a 2xx comes.
"""

from tests.emulator.emulator import Emulator
from tests.emulator.record import PHOTO, STICKER, VOICE, Sent
from tests.emulator.world import Chat, User

__all__ = ["PHOTO", "STICKER", "VOICE", "Chat", "Emulator", "Sent", "User"]
