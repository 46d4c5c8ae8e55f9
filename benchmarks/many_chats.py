"""Many chats at once on the embedded model: who is answered, who waits beside a flood, whether memory stays flat.

    python -m benchmarks.many_chats [--people 200] [--minutes 10]

Three parts: everybody asks at the same moment; random traffic with cancelled and abandoned replies for the given
minutes, resident memory sampled, of which the first quarter fills the caches and does not count; ordinary chats talk
without and then beside one that asks as fast as it can, on an engine with the usual cache (from a small one what the
flood leaves drives out the others'). The last line is the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import torch

from benchmarks.generate import load
from benchmarks.process import median, percentile, resident_mib
from benchmarks.replies import Reply, ask, ask_at_once, random_ids
from model.engine.engine import Engine
from model.engine.params import SamplingParams
from model.errors import EngineBusy

ORDINARY, TURNS = 12, 20  # chats beside the flood, and what each of them asks
PROMPT, REPLY = 24, 24  # tokens
FLOOD_REPLIES = 128  # of the flooding chat that are held on to: more than an engine lets it have
THINK_S = 0.3  # the longest an ordinary chat waits before it asks on
TALKERS = 40  # chats of the random traffic
SAMPLE_S = 0.5
STUCK_S = 60.0


def crowd(engine: Engine, people: int) -> dict[str, object]:
    """Everybody at the same moment."""
    replies = ask_at_once(engine, [random_ids(engine, PROMPT, seed) for seed in range(people)], REPLY)
    ends = Counter(reply.finish for reply in replies)
    heard = [reply.first_s for reply in replies if reply.times]
    figures = {
        "people": people,
        "answered": sum(count for end, count in ends.items() if end in ("stop", "length")),
        "busy": ends["busy"],
        "nothing": people - len(replies) + ends[None],
        "first_p50_s": round(median(heard), 2),
        "first_p95_s": round(percentile(heard, 0.95), 2),
        "tokens_per_s": round(sum(len(reply.ids) for reply in replies) / _took(replies), 1),
    }
    print(
        "{people} at once: {answered} answered, {busy} told busy, {nothing} heard nothing; first token p50 "
        "{first_p50_s} s, p95 {first_p95_s} s; {tokens_per_s} tokens/s in all".format(**figures),
        flush=True,
    )
    return figures


def _took(replies: list[Reply]) -> float:
    return max(reply.times[-1] for reply in replies if reply.times) - min(reply.asked_at for reply in replies)


def ordinary_chats(engine: Engine, turns: int) -> list[list[float]]:
    """Seconds to the first token of each turn of each chat; a turn that is told busy counts with STUCK_S."""
    waits: list[list[float]] = [[] for _ in range(ORDINARY)]

    def talk(place: int) -> None:
        dice = random.Random(place)
        ids: list[int] = []
        for turn in range(turns):
            time.sleep(dice.uniform(0, THINK_S))
            ids += random_ids(engine, PROMPT // 2, 1_000_000 + 1000 * place + turn)
            if len(ids) + REPLY >= engine.context:
                ids = ids[-PROMPT:]
            reply = ask(engine, ids, REPLY, owner=f"ordinary {place}")
            waits[place].append(reply.first_s if reply.times else STUCK_S)
            ids += reply.ids

    _all(talk, ORDINARY)
    return waits


def flood(engine: Engine, stop: threading.Event, sent: list[int]) -> None:
    """One chat that asks as fast as it can until `stop`; counts what was taken and what was told busy in `sent`."""
    held: deque[object] = deque(maxlen=FLOOD_REPLIES)
    seed = 0
    while not stop.is_set():
        seed += 1
        try:
            ids = random_ids(engine, PROMPT, 2_000_000 + seed)
            held.append(engine.submit(ids, SamplingParams(temperature=0, max_new_tokens=REPLY), owner="flood"))
            sent[0] += 1
        except EngineBusy:
            sent[1] += 1
            time.sleep(0.01)


def beside_a_flood(engine: Engine, turns: int) -> dict[str, object]:
    """The same chats without and with one that floods."""
    figures: dict[str, object] = {}
    for name in ("alone", "flooded"):
        stop, sent = threading.Event(), [0, 0]
        thread = threading.Thread(target=flood, args=(engine, stop, sent), daemon=True)
        if name == "flooded":
            thread.start()
        waits = ordinary_chats(engine, turns)
        stop.set()
        if name == "flooded":
            thread.join()
            figures["flood_taken"], figures["flood_busy"] = sent
        together = [wait for chat in waits for wait in chat]
        p95 = [percentile(chat, 0.95) for chat in waits]
        figures[name] = {
            "first_p50_ms": round(1000 * median(together), 1),
            "first_p95_ms": round(1000 * percentile(together, 0.95), 1),
            "slowest_chat_p95_over_fastest": round(max(p95) / min(p95), 2),
        }
        print(
            f"{ORDINARY} ordinary chats, {name}:",
            "first token p50 {first_p50_ms} ms, p95 {first_p95_ms} ms; the slowest chat's p95 is "
            "{slowest_chat_p95_over_fastest} x the fastest's".format(**figures[name]),  # type: ignore[arg-type]
            flush=True,
        )
    print("the flood: {flood_taken} taken, {flood_busy} told busy".format(**figures))
    return figures


def traffic(engine: Engine, minutes: float) -> dict[str, object]:
    """Random chats until the time is over: MiB at every sample, and what became of the replies."""
    end = time.monotonic() + 60 * minutes
    ends: Counter[str | None] = Counter()
    lock = threading.Lock()

    def talk(place: int) -> None:
        dice = random.Random(1000 + place)
        ids: list[int] = []
        while time.monotonic() < end:
            time.sleep(dice.uniform(0, THINK_S))
            if dice.random() < 0.1 or len(ids) > engine.context // 2:
                ids = []
            ids += random_ids(engine, dice.randint(1, engine.context // 4), dice.getrandbits(40))
            give_up_after = dice.randint(0, 12) if dice.random() < 0.3 else None
            owner = f"talker {place}" if dice.random() < 0.9 else ""
            try:
                reply = ask(engine, ids, dice.randint(1, 64), owner=owner, give_up_after=give_up_after)
            except Exception as error:  # none is expected: it would stand among the ends
                reply = Reply(finish=type(error).__name__)
            with lock:
                ends[reply.finish] += 1
            ids += reply.ids

    threads = [threading.Thread(target=talk, args=(place,), daemon=True) for place in range(TALKERS)]
    for thread in threads:
        thread.start()
    samples: list[int] = []
    while time.monotonic() < end:
        time.sleep(SAMPLE_S)
        samples.append(resident_mib())
    for thread in threads:
        thread.join(STUCK_S)
    counted = samples[len(samples) // 4 :]
    first, last = counted[: len(counted) // 4 or 1], counted[-(len(counted) // 4 or 1) :]
    figures: dict[str, object] = {
        "minutes": minutes,
        "replies": sum(ends.values()),
        "ends": {str(name): count for name, count in sorted(ends.items(), key=str)},
        "resident_mib": {"begin": round(median(first)), "end": round(median(last)), "most": max(samples)},
        "stuck": sum(thread.is_alive() for thread in threads),
        **_left(engine),
    }
    print("random traffic, {minutes} minutes: {replies} replies {ends}; resident MiB {resident_mib}".format(**figures))
    print(
        "afterwards: {stuck} chats stuck, {running} replies running, {waiting} waiting, cache {cache_mib} MiB".format(
            **figures
        )
    )
    return figures


def _left(engine: Engine) -> dict[str, object]:
    """What the engine still holds, once cancelled replies had a moment to leave."""
    deadline = time.monotonic() + STUCK_S
    while time.monotonic() < deadline and (engine.num_running or engine.num_waiting):
        time.sleep(0.05)
    cache_mib = round(engine.cache_bytes / 2**20, 1)
    return {"running": engine.num_running, "waiting": engine.num_waiting, "cache_mib": cache_mib}


def _all(run: Callable[[int], None], count: int) -> None:
    """`run` in so many threads, to the end of all."""
    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="embedded", choices=("embedded", "tiny"))
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0, help="of random traffic")
    parser.add_argument("--max-batch", type=int, default=16, help="slots of the engine")
    parser.add_argument("--cache-mb", type=int, default=64, help="small enough to be full soon: then memory must stay")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="5 turns a chat, half a minute of traffic")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, tokenizer = load(options.shape, torch.bfloat16)
    engine = Engine(model, tokenizer, max_batch=options.max_batch, cache_mb=options.cache_mb)
    ask(engine, random_ids(engine, PROMPT, 1), 4)  # warms up
    print(f"{options.shape}, {options.threads} threads, {options.max_batch} slots, loaded: {resident_mib()} MiB")
    figures: dict[str, object] = {
        name: getattr(options, name) for name in ("shape", "threads", "max_batch", "cache_mb")
    }
    figures["loaded_mib"] = resident_mib()
    figures["crowd"] = crowd(engine, options.people)
    figures["traffic"] = traffic(engine, min(options.minutes, 0.5) if options.quick else options.minutes)
    engine.close()
    roomy = Engine(model, tokenizer, max_batch=options.max_batch)  # last: its cache would count in the traffic
    figures["flood"] = beside_a_flood(roomy, 5 if options.quick else TURNS)
    roomy.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
