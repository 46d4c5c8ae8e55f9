"""The probes of pretraining on the shipped 8-bit weights, and by topic: right intent, table facts."""

from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any

import torch

from model import GPTJ8bitForCausalLM, Tokenizer
from model.layers import Embedding8bit, Linear8bit
from training.pretrain.batches import Encoder
from training.pretrain.charla import Charla, fill, normal_form
from training.pretrain.network import PretrainGPTJ, Shape
from training.pretrain.probes import Probes, Question, greedy

FORMS = 600  # of the held-out ways of asking: all of them would take ten minutes


def probe(model: GPTJ8bitForCausalLM, tokenizer: Tokenizer, data: Charla) -> dict[str, Any]:
    """Figures on held-out ways of asking; greedy, without sampling."""
    encoder = Encoder(Path(tokenizer.files()[0]))
    network, probes = dequantized(model), Probes(data, encoder)
    overall = {f"probe: {name}": round(value, 3) for name, value in probes.measure(network).items()}
    return {
        **overall,
        "right_intent_on_held_out_forms_by_topic": intents_by_topic(network, probes, data, encoder),
        "table_facts_right_with_held_out_questions": tables(network, probes, data),
    }


def dequantized(model: GPTJ8bitForCausalLM) -> PretrainGPTJ:
    """The pretraining network, which answers many prompts at once, with the weights that the 8-bit codes stand for."""
    config = model.config
    shape = Shape(
        *(config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head, config.rotary_dim),
    )
    network = PretrainGPTJ(shape)
    weights: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear8bit | Embedding8bit):
            weights[f"{name}.weight"] = module.quantized.dequantize()
    floats = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    wanted = network.state_dict().keys()
    network.load_state_dict({**{name: value for name, value in floats.items() if name in wanted}, **weights})
    return network.eval()


def intents_by_topic(network: PretrainGPTJ, probes: Probes, data: Charla, encoder: Encoder) -> dict[str, str]:
    """topic -> "right of asked": the reply is nearest to one of an intent that this way of asking belongs to."""
    rng = Random(5)
    asked = [(intent, form) for intent in data.intents.values() for form in intent.held_out_forms]
    asked = rng.sample(asked, min(len(asked), FORMS))
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(asked), 128):
        part = asked[start : start + 128]
        prompts = [encoder.prompt([], fill(form, probes.generator.slots(rng, intent))) for intent, form in part]
        for (intent, form), ids in zip(part, greedy(network, prompts, 20, encoder.end), strict=True):
            found = probes.nearest_intent(encoder.pieces.decode(ids))
            right[intent.topic].append(found in probes.owners.get(normal_form(form), {intent.name}))
    return {topic: f"{sum(marks)} of {len(marks)}" for topic, marks in sorted(right.items())}


def tables(network: PretrainGPTJ, probes: Probes, data: Charla, rows: int = 6) -> dict[str, str]:
    """table -> "right of asked": the value that the question does not hold stands in the reply."""
    rng = Random(5)
    result = {}
    for table in data.tables.values():
        if not table.held_out_forms:
            continue
        questions = []
        for row in table.rows[:rows]:
            user = fill(rng.choice(table.held_out_forms), row)
            answers = tuple(value for value in set(row.values()) if value and value.lower() not in user.lower())
            if answers:
                questions.append(Question([], user, answers))
        if not questions:
            continue
        share = probes.share_right(network, questions, max_new_tokens=24)
        result[table.name] = f"{round(share * len(questions))} of {len(questions)}"
    return result
