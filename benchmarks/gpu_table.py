"""The table of `benchmarks.gpu`: its figures as ratios beside the goals. Only the standard library here.

Decoding is compared with the fastest of all ways to decode 16-bit weights in the same run: by our decoder (as a graph,
and with its attention compiled: attention alone), and by transformers' own model, which its generate compiles whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

NAMES = {
    "ours": "8-bit, our kernels",
    "fp16": "16-bit weights, our decoder",
    "published": "8-bit, bitsandbytes dequantises",
    "transformers": "transformers, 16 bit",
    "transformers_compiled": "transformers, 16 bit, compiled",
    "llm_int8": "bitsandbytes LLM.int8",
}
WAYS = {"compiled": "attention compiled", "static": "static cache"}  # others are called what they are
SIXTEEN_BIT = ("fp16", "transformers_compiled")  # the best of these is what decoding is compared with


class Row(NamedTuple):
    """One line of the table; `met` is None where there is no goal or no figure."""

    name: str
    figure: str
    goal: str = ""
    met: bool | None = None


def table(found: dict[str, Any], judged: bool) -> list[Row]:
    """The figures in the order of the goals; these are for the true shape on a GPU, and only then `judged`."""

    def of(part: str, figure: str, key: str) -> float | None:
        value = found.get(f"{part}.{figure}", {}).get(key)
        return None if value is None else float(value)

    def best(part: str, *figures: str, key: str) -> float | None:
        return max((value for figure in figures if (value := of(part, figure, key)) is not None), default=None)

    rows: list[Row] = []

    def goal(name: str, value: float | None, unit: str, text: str, met: Any) -> None:
        rows.append(
            Row(
                name,
                "–" if value is None else f"{value:.2f} {unit}",
                text,
                met(value) if judged and value is not None else None,
            )
        )

    for batch in (1, 32):
        key, decode = f"decode_{batch}", f"decode, batch {batch}"
        speeds = {}
        for part, name in NAMES.items():
            ways = ("graph", "compiled", "engine", "runner", "eager", "static")
            for way in ways:
                if (rate := of(part, f"{way}_{batch}", key)) is not None:
                    speeds[part, way] = rate
                    rows.append(Row(f"{decode}: {name}, {WAYS.get(way, way)}", f"{rate:,.1f} tokens/s"))
        rivals = [speed for (part, way), speed in speeds.items() if part in SIXTEEN_BIT and way != "runner"]
        least = 1.7 if batch == 1 else 1.0
        ours = {decode: best("ours", f"graph_{batch}", f"compiled_{batch}", key=key)}
        if batch == 1:
            ours[f"{decode}, by the engine"] = of("ours", "engine_1", key)
        for name, rate in ours.items():
            ratio = None if rate is None or not rivals else rate / max(rivals)
            goal(f"{name}, over compiled 16 bit", ratio, "x", f">= {least}", lambda value, least=least: value >= least)
    copied, read = of("ours", "copy_gbs", "copy"), of("ours", "read_bytes", "bytes_per_token")
    if copied is not None:
        rows.append(Row("copy bandwidth, both ways", f"{copied:,.0f} GB/s"))
    ours = {
        "": best("ours", "graph_1", "compiled_1", key="decode_1"),
        ", by the engine": of("ours", "engine_1", "decode_1"),
    }
    for name, rate in ours.items():
        share = None if rate is None or copied is None or read is None else 100 * rate * read / copied / 1e9
        goal(f"decode, batch 1{name}, of what the bandwidth allows", share, "%", ">= 75", lambda value: value >= 75)
    goal(
        "prefill of a context, over 16 bit",
        _over(found, "ours.prefill", "fp16.prefill", "prefill"),
        "x",
        ">= 0.95",
        lambda value: value >= 0.95,
    )
    goal("inference peak, a whole context", of("ours", "peak", "peak_gb"), "GB", "<= 7.5", lambda value: value <= 7.5)
    for figure, name in (("layers_1", "1 x 2048"), ("layers_8", "8 x 512")):
        slower = _over(found, f"lora.{figure}", f"lora16.{figure}", "seconds")
        goal(f"LoRA step, {name}, time over 16-bit weights", slower, "x", "<= 1.03", lambda value: value <= 1.03)
    published = _over(found, "lora_published.layers_1", "lora16.layers_1", "seconds")
    if published is not None:
        rows.append(Row("  the same with bitsandbytes' dequantisation", f"{published:.2f} x"))
    plain = of("lora", "none_1", "seconds")
    for figure in ("layers_1", "attention_1", "offload_1"):
        seconds, peak = of("lora", figure, "seconds"), of("lora", figure, "peak_gb")
        if seconds is not None and peak is not None:
            more = "" if plain is None else f", {100 * (seconds / plain - 1):+.0f} % over keeping all"
            rows.append(
                Row(f"LoRA step, 1 x 2048, {figure.removesuffix('_1')} again", f"{seconds:.3f} s, {peak:.2f} GB{more}")
            )
    in_budget = of("lora", "budget", "seconds")
    more_s = None if plain is None or in_budget is None else 100 * (in_budget / plain - 1)
    goal("checkpointing overhead inside 11 GB", more_s, "%", "<= 20", lambda value: value <= 20)
    goal("peak memory, LoRA, 1 x 2048", of("lora", "layers_1", "peak_gb"), "GB", "<= 9", lambda value: value <= 9)
    if "lora.budget" in found:
        capped = found["lora.budget"].get("capped", False)
        rows.append(Row("a hard limit of 11 GB", found["lora.budget"]["said"], "held", capped if judged else None))
    return rows


def _over(found: dict[str, Any], one: str, other: str, key: str) -> float | None:
    if one not in found or other not in found:
        return None
    return float(found[one][key] / found[other][key])
