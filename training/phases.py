"""The phases of a training run, each a function that may be repeated: what it wrote before a kill does no harm.

Always: the data is frozen before anything learns from it; the candidate meets the gate before it serves.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from training import runs
from training.curation import (
    Curated,
    Gathered,
    Snapshot,
    curate,
    for_tuning,
    num_learnt_pairs,
    read_file,
    read_log,
    read_snapshot,
    validate,
    write_snapshot,
)
from training.dialogues import DialogueLog
from training.errors import TrainingError
from training.judging.judgement import BASE, CANDIDATE, IN_SERVICE, Judgement
from training.registry import Lineage
from training.report import read_report, write_page
from training.retrain_options import RetrainOptions, Watch
from training.run_texts import erase_data
from training.runs import Run

Phase = Callable[[Run, RetrainOptions, Watch], None]


def collect(run: Run, options: RetrainOptions, watch: Watch) -> None:
    """Freeze what may be learnt from, with planted secrets among it."""
    folder = run.folder / runs.DATA
    shutil.rmtree(folder, ignore_errors=True)  # of a start that was killed: people may have changed their mind since
    try:
        curated = gather(options)
        snapshot = write_snapshot(curated, folder, base=run.options["base"])
    except TrainingError:
        shutil.rmtree(run.folder)  # there is nothing in it to go on with
        raise
    facts = {"data_hash": snapshot.data_hash, "counts": dict(snapshot.counts), "row_ids": list(snapshot.row_ids)}
    run.keep(runs.SNAPSHOT, {**facts, "seen_ids": list(curated.seen_ids)})


def check(run: Run, options: RetrainOptions, watch: Watch) -> None:
    """Say what will be trained on and what it will take."""
    found = measure(read_snapshot(run.folder / runs.DATA), options)
    run.keep("validation", found)
    for warning in found["warnings"]:
        watch.say(f"warning: {warning}")


def tune(run: Run, options: RetrainOptions, watch: Watch) -> None:
    """Train the candidate; it goes on from its last checkpoint."""
    from training.tuning.trainer import tune as tune_adapter

    result = tune_adapter(
        options.model,
        for_tuning(read_snapshot(run.folder / runs.DATA)),
        options.tune,
        run.folder,
        device=options.device,
        prompt_format=options.prompt_format,
        on_progress=watch.tuning,
        may_run=watch.may_run,
        say=watch.say,
    )
    if is_main_process(options):
        run.keep("tuning", {**dataclasses.asdict(result), "adapter": result.adapter.name})


def judge(run: Run, options: RetrainOptions, watch: Watch) -> None:
    """Measure the candidate beside what serves now and the bare base; let the gate decide."""
    from model.prompt_formats import get_format
    from training.judging.contest import contestants
    from training.judging.contest import judge as hold_contest
    from training.judging.gate import decide

    registry = options.registry()
    serving = registry.serving().adapter
    snapshot = read_snapshot(run.folder / runs.DATA)
    judgement = hold_contest(
        options.model,
        contestants(run.folder / runs.ADAPTER, None if serving is None else registry.get(serving).folder),
        dataclasses.replace(snapshot, train=for_tuning(snapshot).train),
        fmt=None if options.prompt_format is None else get_format(options.prompt_format),
        device=options.device,
        dtype=options.dtype,
        on_progress=watch.judging,
        may_run=watch.may_run,
    )
    judgement.write(run.folder / runs.JUDGEMENT)
    run.keep("verdict", {**dataclasses.asdict(decide(judgement)), "against": serving})


def promote(run: Run, options: RetrainOptions, watch: Watch) -> None:
    """Enter the candidate into the registry; it goes into service if the gate agrees, or a person insists."""
    registry = options.registry()
    acted = any(change.adapter == run.id and change.what in ("promote", "share") for change in registry.changes())
    if not acted and registry.serving().adapter != run.kept("verdict")["against"]:
        watch.say("another adapter serves since the candidate was judged: judging anew")
        judge(run, options, watch)
    verdict = run.kept("verdict")
    if run.id not in registry.ids():  # an ended run's own folder of it is gone
        registry.add(run.folder / runs.ADAPTER, _lineage(run, verdict), adapter_id=run.id)
    reasons, refused = tuple(verdict["reasons"]), not verdict["promote"]
    if refused and not options.force:
        run.decide("refused", reasons)
        return
    told: dict[str, Any] = {"reasons": reasons, "forced": refused, "base": run.options["base"]}
    if not acted and options.share is not None:
        registry.start_share(run.id, options.share, **told)
    elif not acted:
        registry.promote(run.id, **told)
    run.decide("forced" if refused else "promoted" if options.share is None else "shared", reasons)


def report(run: Run, options: RetrainOptions, watch: Watch) -> None:
    """Write the page. Once nothing more is to be learnt from it, the text of people goes; its hashes stay."""
    write_page(read_report(run), run.folder / runs.PAGE)
    if run.is_done("promote"):
        erase_data(run)


PHASES: dict[str, Phase] = {
    "collect": collect,
    "validate": check,
    "tune": tune,
    "judge": judge,
    "promote": promote,
    "report": report,
}


def gather(options: RetrainOptions) -> Curated:
    """The log and the files, curated, with canaries planted. Raises DataError."""
    from training.judging.canaries import plant

    sources: list[Gathered] = []
    if options.use_log:
        with DialogueLog(options.log_url) as log:
            sources.append(read_log(log, system=options.system))
    sources += map(read_file, options.data)
    curated = curate(sources, options.curation)
    return dataclasses.replace(curated, train=plant(curated.train, options.tune.seed))


def measure(snapshot: Snapshot, options: RetrainOptions) -> dict[str, Any]:
    """The validator's figures, and the forecast of time and memory from one measured step."""
    from model import checkpoint
    from model.prompt_formats import get_format
    from model.tokenizer import Tokenizer
    from training.tuning.trainer import forecast, measure_step

    config = checkpoint.read_config(options.model)
    fmt = get_format(options.prompt_format or config["prompt_format"])
    context = min(options.tune.context or config["n_positions"], config["n_positions"])
    learnt = dataclasses.replace(snapshot, train=for_tuning(snapshot).train)
    found = validate(learnt, fmt, Tokenizer.from_pretrained(options.model), context)
    longest = min(found.longest, context) * (2 if options.tune.method == "dpo" else 1)
    cost = measure_step(options.model, options.tune, device=options.device, longest=longest)
    seconds = forecast(found.tokens, cost, options.tune)
    if options.tune.time_budget_s:
        seconds = min(seconds, options.tune.time_budget_s)
    told: dict[str, Any] = {"forecast_s": seconds, "forecast_mb": cost.peak_mb, "fitted": cost.fitted}
    if options.tune.method == "dpo" and not num_learnt_pairs(snapshot):
        told["warnings"] = (*found.warnings, _lacks_pairs(len(snapshot.preferences)))
    return {**dataclasses.asdict(found), **told}


def _lacks_pairs(others: int) -> str:
    there = f"there are {others} pairs, none of them" if others else "there is no pair of a better and a worse reply"
    return (
        f"--method dpo has nothing to learn: {there} of people who are trained on; a correction, or a 👍 and a 👎 for "
        "replies to one message, makes one: collect more of them, or train with --method sft"
    )


def _lineage(run: Run, verdict: dict[str, Any]) -> Lineage:
    snapshot, judgement = run.kept(runs.SNAPSHOT), Judgement.read(run.folder / runs.JUDGEMENT)
    names = [name for name in (BASE, IN_SERVICE, CANDIDATE) if name in judgement.contestants]
    metrics = {
        f"{which}_loss": {name: judgement.loss(name, which) for name in names} for which in ("held_out", "regression")
    }
    return Lineage(
        base_hash=run.options["base"],
        data_hash=snapshot["data_hash"],
        code_version=version("tertulia"),
        row_ids=tuple(snapshot["row_ids"]),
        hyper_parameters=run.options["tune"],
        metrics={**metrics, "against": verdict["against"]},
        verdict={"promote": verdict["promote"], "reasons": list(verdict["reasons"])},
    )


def is_main_process(options: RetrainOptions) -> bool:
    """False in those beside the first that `accelerate launch` starts."""
    from training.tuning.processes import Processes

    return Processes(options.device).is_main
