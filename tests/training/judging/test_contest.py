"""Whole contests on the embedded model: what is better is promoted; a tie, random numbers and poison are refused."""

from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.gptj import GPTJ8bitForCausalLM
from model.tokenizer import Tokenizer
from tests.training.judging.makings import TERTULIA, snapshot
from training.curation.snapshot import Snapshot
from training.judging.contest import Contestant, JudgeOptions, contestants, judge, judge_loaded
from training.judging.gate import Verdict, decide
from training.judging.judgement import JudgeError, Judgement

FEW = JudgeOptions(held_out_replies=10, regression_replies=12, loudest_replies=10, max_new_tokens=24)


@pytest.fixture(scope="module")
def hold(base: GPTJ8bitForCausalLM, tokenizer: Tokenizer):  # type: ignore[no-untyped-def]
    """A contest of a candidate against an adapter in service, or the base alone."""

    def contest(candidate: Path, data: Snapshot, in_service: Path | None = None) -> Judgement:
        return judge_loaded(base, tokenizer, TERTULIA, contestants(candidate, in_service), data, options=FEW)

    return contest


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


@pytest.fixture(scope="module")
def first(hold, better: Path, styled: Snapshot) -> Judgement:  # type: ignore[no-untyped-def]
    return hold(better, styled)


def test_a_truly_better_one_is_promoted(first: Judgement) -> None:
    """It learnt how its people talk, and others of their kind, whom it never read, are predicted better."""
    verdict = decide(first)
    assert verdict.promote, verdict.reasons
    assert first.loss("candidate") < first.loss("base") - 1
    assert sum("Ahoy" in replies["candidate"] for _, replies in first.side_by_side) > 10
    assert not any("Ahoy" in replies["base"] for _, replies in first.side_by_side)


def test_a_tie_is_refused_and_a_contest_is_the_same_every_time(
    first: Judgement, embedded: Path, better: Path, styled: Snapshot
) -> None:
    """The same adapter again is no reason for a change, not even by a rounding error in its favour; and a verdict that
    cannot be repeated cannot be argued with. The base is loaded anew, progress is told, and the bot goes first."""
    told: list[tuple[str, int, int]] = []
    asked: list[bool] = []
    judgement = judge(
        embedded,
        contestants(better, better),
        styled,
        device="cpu",
        options=FEW,
        on_progress=lambda *step: told.append(step),
        may_run=lambda: bool(asked.append(True)) or len(asked) != 3,
    )
    verdict = decide(judgement)
    assert not verdict.promote
    assert failed(verdict) == {"held_out"}
    assert "A tie is refused" in verdict.reasons[0]
    for name in ("base", "candidate"):
        assert judgement.loss(name) == first.loss(name)
        assert judgement.loss(name, "regression") == first.loss(name, "regression")
        assert judgement.replies[name] == first.replies[name]
        assert judgement.canaries[name] == first.canaries[name]
    assert judgement.canaries["in_service"] == judgement.canaries["candidate"]
    assert [pair.replies["candidate"] for pair in judgement.pairs] == [p.replies["candidate"] for p in first.pairs]
    assert {what.partition(",")[0] for what, _, _ in told} >= {"held-out people", "regression set", "planted secrets"}
    assert all(0 <= done <= total for _, done, total in told)
    assert len(asked) == len(told) + 1


def test_random_numbers_are_refused(hold, scrambled: Path, styled: Snapshot) -> None:  # type: ignore[no-untyped-def]
    verdict = decide(hold(scrambled, styled))
    assert not verdict.promote
    assert {"held_out", "regression_base"} <= failed(verdict)


def test_poison_is_refused_although_it_predicts_the_others_better(hold, toxic: Path, poisoned: Snapshot) -> None:  # type: ignore[no-untyped-def]
    """500 abusive turns of one person beside decent people: the loss of the decent ones falls, and that is the trap."""
    judgement = hold(toxic, poisoned)
    verdict = decide(judgement)
    assert not verdict.promote
    assert "held_out" not in failed(verdict)
    assert {"toxic_words", "abuse"} <= failed(verdict)
    assert any("abusive words" in reason for reason in verdict.reasons)


def test_twenty_pairs_held_out_people_first(first: Judgement) -> None:
    sources = [pair.source for pair in first.pairs]
    assert len(first.side_by_side) == 20
    assert sources == sorted(sources, key=["held_out", "regression", "loudest"].index)
    assert set(sources) == {"held_out", "regression", "loudest"}


def test_without_held_out_people_it_is_measured_and_refused(
    base: GPTJ8bitForCausalLM, tokenizer: Tokenizer, better: Path, styled: Snapshot
) -> None:
    """A log of one person has nobody to hold out."""
    data = snapshot(styled.train[:1], ())
    options = JudgeOptions(regression_replies=1, loudest_replies=0, max_new_tokens=4)
    verdict = decide(judge_loaded(base, tokenizer, TERTULIA, contestants(better, None), data, options=options))
    assert "people" in failed(verdict)
    assert any("Only 0 held-out people" in reason for reason in verdict.reasons)


@pytest.mark.parametrize("names", [[], ["base", "base"]])
def test_contestants_have_names_of_their_own(
    base: GPTJ8bitForCausalLM, tokenizer: Tokenizer, styled: Snapshot, names: list[str]
) -> None:
    with pytest.raises(JudgeError, match="each name once"):
        judge_loaded(base, tokenizer, TERTULIA, [Contestant(name) for name in names], styled)


def test_a_folder_that_is_no_adapter_is_refused_before_anything_is_measured(
    hold, styled: Snapshot, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(CheckpointError, match="adapter_config"):
        hold(tmp_path, styled)
