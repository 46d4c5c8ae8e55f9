from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model import checkpoint
from model.gptj import GPTJ8bitForCausalLM
from model.tokenizer import Tokenizer
from training.pretrain import export
from training.pretrain.batches import COPY, FINAL, TALK
from training.pretrain.growth import grown
from training.pretrain.network import PretrainGPTJ, Shape
from training.pretrain.optimizer import orthogonalized
from training.pretrain.pretrain import Run
from training.pretrain.schedule import Recipe, learning_rate_factor, next_stage, segment_end

TINY = Recipe(
    total_steps=6,
    num_tokens=256,
    row=128,
    probe_every=3,
    warmup_steps=2,
    shape=Shape(vocab_size=1200, n_positions=256, n_embd=32, n_layer=1, n_head=2, rotary_dim=8),
)


def tiny_run(work: Path, folder: Path, recipe: Recipe = TINY) -> Run:
    """A run in `folder` on the shared vocabulary and prose, uncompiled, with small probes."""
    folder.mkdir(exist_ok=True)
    shutil.copy(work / "tokenizer.model", folder)
    shutil.copytree(work / "prose", folder / "prose", dirs_exist_ok=True)
    run = Run(folder, recipe, compiled=False, workers=0)
    run.probes.forms = run.probes.forms[:2]
    for questions in (run.probes.copy_next, run.probes.copy_later, run.probes.capitals, run.probes.sums):
        del questions[2:]
    run.probes.charla.held_out_dialogues = run.probes.charla.held_out_dialogues[:1]
    return run


def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(work: Path, tmp_path: Path) -> None:
    whole = tiny_run(work, tmp_path / "whole")
    whole.train()
    half = tiny_run(work, tmp_path / "halves")
    half.segment(2)  # stops inside a segment, as a signal would
    half.save()
    rest = tiny_run(work, tmp_path / "halves")
    assert rest.progress.step == 2
    rest.train()
    for name, weight in whole.optimizer.master.items():
        assert torch.equal(weight, rest.optimizer.master[name]), name
    assert rest.progress.tokens == whole.progress.tokens
    assert (tmp_path / "whole" / "run" / "loss.png").stat().st_size > 1000


def test_a_grown_network_computes_what_it_did() -> None:
    small = PretrainGPTJ(Shape(vocab_size=50, n_positions=32, n_embd=16, n_layer=3, n_head=2, rotary_dim=4), seed=5)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    ids = torch.arange(20)[None]
    for n_layer in (3, 4, 5, 6):
        large = PretrainGPTJ(replace(small.shape, n_layer=n_layer))
        large.load_state_dict(grown(small.state_dict(), n_layer))
        torch.testing.assert_close(large(ids), small(ids), atol=0.0, rtol=0.0)
        added = [block for block in large.transformer.h if not block.mlp.fc_out.weight.any()]
        assert len(added) == n_layer - 3
        assert all(block.mlp.fc_in.weight.any() and block.attn.q_proj.weight.any() for block in added)
    for n_layer in (2, 7):
        with pytest.raises(ValueError, match=f"3 layers grows to 3-6, not to {n_layer}"):
            grown(small.state_dict(), n_layer)


def test_a_run_grows_on_its_way_and_goes_on_from_either_size(work: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, grow_at=2, first_layers=1, shape=replace(TINY.shape, n_layer=2))
    whole = tiny_run(work, tmp_path / "whole", recipe)
    assert whole.model.shape.n_layer == 1
    whole.train()
    assert whole.model.shape.n_layer == 2
    assert whole.optimizer.master["transformer.h.1.mlp.fc_out.weight"].any(), "the new block learns"
    small = tiny_run(work, tmp_path / "parts", recipe)
    small.segment(1)
    small.save()
    large = tiny_run(work, tmp_path / "parts", recipe)
    large.segment(2)
    large.look_around()
    large.grow()
    large.segment(3)
    large.look_around()
    large.segment(4)
    large.save()
    rest = tiny_run(work, tmp_path / "parts", recipe)
    assert (rest.progress.step, rest.model.shape.n_layer) == (4, 2)
    rest.train()
    for name, weight in whole.optimizer.master.items():
        assert torch.equal(weight, rest.optimizer.master[name]), name


def test_the_manifest_says_from_which_step_the_data_changed(work: Path, tmp_path: Path) -> None:
    first = tiny_run(work, tmp_path)
    first.segment(2)
    first.save()
    (tmp_path / "prose" / "more.txt").write_text("Una frase nueva que antes no estaba aquí.", encoding="utf-8")
    second = Run(tmp_path, TINY, compiled=False, workers=0)
    assert [entry["step"] for entry in second.progress.data] == [0, 2]
    assert "more.txt" in second.progress.data[1]["files"]


def test_another_shape_in_the_same_folder_is_refused(work: Path, tmp_path: Path) -> None:
    tiny_run(work, tmp_path).save()
    other = Recipe(shape=Shape(vocab_size=1200, n_positions=256, n_embd=64, n_layer=1, n_head=2, rotary_dim=8))
    with pytest.raises(ValueError, match="use another folder"):
        tiny_run(work, tmp_path, other)


def test_a_killed_save_leaves_the_last_checkpoint(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(work, tmp_path)
    run.save()
    before = run.checkpoint.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        run.save()
    assert run.checkpoint.read_bytes() == before


def test_the_copy_stage_ends_at_the_gate_or_at_a_quarter_of_the_run() -> None:
    recipe = Recipe(total_steps=1000)
    assert next_stage(COPY.name, 100, recipe, 0.5) == COPY.name
    assert next_stage(COPY.name, 100, recipe, 0.95) == TALK.name
    assert next_stage(COPY.name, 250, recipe, 0.1) == TALK.name
    assert next_stage(TALK.name, 850, recipe, 0.1) == FINAL.name
    assert next_stage(FINAL.name, 700, recipe, 0.1) == TALK.name, "the end was moved"


def test_a_segment_never_crosses_growth_or_the_beginning_of_the_last_stage() -> None:
    recipe = Recipe(total_steps=1000, probe_every=300, grow_at=450)
    stops = [0]
    while stops[-1] < recipe.total_steps:
        stops.append(segment_end(stops[-1], recipe))
    assert stops == [0, 300, 450, 600, 850, 900, 1000]


def test_the_learning_rate_warms_up_stays_and_falls_to_nearly_nothing() -> None:
    factors = [learning_rate_factor(step, Recipe(total_steps=1000, decay_share=0.2)) for step in range(1000)]
    assert factors[0] == 0.01
    assert set(factors[99:800]) == {1.0}
    assert factors[-1] <= 0.01
    assert factors[99:] == sorted(factors[99:], reverse=True)


def test_the_learning_rate_warms_up_again_where_the_network_grows() -> None:
    recipe = Recipe(total_steps=1000, grow_at=600)
    factors = [learning_rate_factor(step, recipe) for step in range(1000)]
    assert factors[599] > 0.7 > factors[600] == 0.01
    assert factors[600:650] == sorted(factors[600:650])


@pytest.mark.parametrize("shape", [(32, 32), (24, 96), (96, 24)])
def test_orthogonalized_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix).float())
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_the_exported_folder_loads_and_answers_as_the_checkpoint_does(work: Path, tmp_path: Path) -> None:
    run = tiny_run(work, tmp_path / "run")
    run.segment(3)
    run.save()
    folder = tmp_path / "embedded"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "MODEL_CARD.md").write_text("# card", encoding="utf-8")
    export.run(work=tmp_path / "run", folder=folder)
    (folder / "ATTRIBUTION.md").write_text("# sources", encoding="utf-8")  # beside the weights, in no manifest yet
    export.run(work=tmp_path / "run", folder=folder)  # replaces the first
    checkpoint.load_weights(folder)
    assert (folder / "MODEL_CARD.md").read_text(encoding="utf-8") == "# card"
    assert (folder / "ATTRIBUTION.md").read_text(encoding="utf-8") == "# sources"
    assert set(checkpoint.read_manifest(folder)["files"]) >= {"MODEL_CARD.md", "ATTRIBUTION.md", "__init__.py"}
    model = GPTJ8bitForCausalLM.from_pretrained(folder)
    tokenizer = Tokenizer.from_pretrained(folder)
    ids = torch.tensor([tokenizer.encode("Hola, ¿qué tal estás?")])
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, run.model.float().eval()(ids), atol=0.05, rtol=0.05)
    assert model.generation_config.temperature == export.SAMPLING["temperature"]
