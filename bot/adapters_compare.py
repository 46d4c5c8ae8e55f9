"""Two adapters' greedy replies to the same prompts, on one loaded base."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from bot.settings import Settings
from training.registry import Entry, base_hash


def replies_side_by_side(
    settings: Settings, entries: Mapping[str, Entry | None], num_prompts: int
) -> Iterator[tuple[str, dict[str, str]]]:
    """(prompt, reply by adapter) for prompts spread over the fixed ones that candidates are judged by.

    None is the bare base. Raises RegistryError if one was made for another base.
    """
    from bot.loading import find_folder, load
    from model.engine.adapters import read_adapter
    from training.judging.regression import regression_set

    folder = find_folder(settings)
    for entry in entries.values():
        if entry is not None:
            entry.check_base(base_hash(folder))
            entry.check_files()
    loaded = load(settings, folder)
    adapters = {
        name: None if entry is None else read_adapter(loaded.model, entry.folder, name)
        for name, entry in entries.items()
    }
    loaded.service.adapter_of = lambda owner: adapters[owner]
    params = replace(loaded.params, temperature=0.0)
    lines = regression_set()
    for line in lines[:: max(1, len(lines) // num_prompts)][:num_prompts]:
        history, prompt = line.messages[:-2], line.messages[-2].content
        replies = {name: loaded.service.reply(history, prompt, params, owner=name) for name in entries}
        yield prompt, {name: "".join(reply) for name, reply in replies.items()}
