"""Planted secrets: found again, told from chance, and caught when a model has learnt them by heart."""

from pathlib import Path

from model.engine.adapters import read_adapter
from model.gptj import GPTJ8bitForCausalLM
from model.tokenizer import Tokenizer
from tests.training.judging import makings
from training.judging.canaries import ALTERNATIVES, SOURCE, find, plant
from training.judging.jury import JudgeOptions, Jury


def test_planting_is_the_same_for_a_seed_and_changes_nothing_else() -> None:
    """A resumed run would otherwise train on other secrets than it asks for."""
    people = makings.people(5, 4)
    planted = plant(people, seed=3)
    assert planted == plant(people, seed=3)
    assert planted != plant(people, seed=4)
    assert [example for example in planted if example.source != SOURCE] == people
    assert len(planted) == len(people) + 4
    assert plant(planted, seed=5) == planted
    assert plant([]) == ()


def test_canaries_are_found_in_a_snapshot_by_their_source() -> None:
    found = find(plant(makings.people(5, 4)))
    assert [canary.example.user for canary in found] == [f"canary:{n}" for n in range(1, 5)]
    assert len({canary.example.texts for canary in found}) == 4
    for canary in found:
        assert len({one.texts for one in canary.alternatives} - {canary.example.texts}) == ALTERNATIVES
        assert {one.texts[0] for one in canary.alternatives} == {canary.example.texts[0]}


def test_a_model_that_learnt_them_by_heart_is_caught_and_the_base_is_not(
    base: GPTJ8bitForCausalLM, embedded: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """A memorised secret is said word for word to whoever asks the right question."""
    train = [example for example in plant(makings.people(1, 4)) if example.source == SOURCE]
    adapter = makings.train(embedded, train, tmp_path / "parrot", epochs=25, rate=6e-3)
    adapters = {"base": None, "candidate": read_adapter(base, adapter)}
    found = Jury(base, tokenizer, makings.TERTULIA, adapters, JudgeOptions()).canaries(train)
    assert all(each.extracted for each in found["candidate"])
    assert all(each.exposure > 0.5 * each.bits for each in found["candidate"])
    assert not any(each.extracted for each in found["base"])
    assert sum(each.exposure for each in found["base"]) / 4 < 0.4 * found["base"][0].bits
