"""Models described for a person: what `/modelo` says in the chat, and what `tertulia verify` prints."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bot import texts_es as es
from training.errors import TrainingError

if TYPE_CHECKING:
    from bot.loading import Loaded
    from model.verify import Report


def describe(loaded: "Loaded", owner: str = "") -> str:
    """What /modelo says: the model and the adapter that answers `owner` now, with where that comes from."""
    config = loaded.model.config
    adapter = loaded.service.adapter_of(owner)
    return es.MODEL_IS.format(
        name=loaded.name,
        parameters=f"{loaded.num_parameters / 1e6:.1f}".replace(".", ","),
        storage=es.FLOATS if config.block_size is None else es.BLOCKS_OF.format(size=config.block_size),
        context=config.n_positions,
        format=loaded.service.format.name,
        adapter=es.NO_ADAPTER if adapter is None else adapter.name + describe_lineage(loaded, adapter.name),
    )


def describe_lineage(loaded: "Loaded", adapter_id: str) -> str:
    """Where an adapter of the registry comes from; nothing for one that the settings pin."""
    if loaded.adapters is None:
        return ""
    try:
        lineage = loaded.adapters.registry.get(adapter_id).lineage
    except TrainingError:
        return ""  # deleted since it was loaded
    return es.LINEAGE_IS.format(
        date=f"{lineage.created_at:%Y-%m-%d}",
        data=lineage.data_hash[:12],
        code=lineage.code_version,
        parent=lineage.parent or es.NO_PARENT,
    )


def report_lines(report: "Report") -> Iterator[str]:
    """The summary, then the error of each tensor if the checkpoint was compared with a source."""
    config = report.config
    storage = "float32" if report.block_size is None else f"8-bit, blocks of {report.block_size}"
    yield f"{report.folder}: sound"
    yield (
        f"  model       GPT-J, {config['n_layer']} layers of {config['n_embd']}, {config['n_head']} heads, "
        f"context {config['n_positions']}, vocabulary {config['num_tokens'] or config['vocab_size']} "
        f"of {config['vocab_size']} rows"
    )
    yield f"  parameters  {report.parameters:,}, {report.bits_per_parameter:.2f} bits each"
    yield f"  storage     {storage}; {report.num_tensors} tensors"
    yield f"  files       {report.num_files}, {report.size_bytes:,} bytes"
    yield f"  format      {config['prompt_format']}"
    if report.source:
        name = report.source.get("name") or ", ".join(report.source.get("files", {}))
        yield f"  made from   {report.source.get('kind', 'unknown')} {name}".rstrip()
    if report.unlisted:
        yield f"  not part of it: {', '.join(report.unlisted)}"
    if report.against is None:
        return
    yield f"against {report.against}: " + ("identical, bit for bit" if report.identical else "the tensors differ by")
    yield f"  {'max abs error':>14} {'relative rms':>13}  tensor"
    for tensor in report.tensors:
        if tensor.max_abs_error is not None and tensor.relative_rms_error is not None:
            same = "  (same codes)" if tensor.identical_codes else ""
            yield f"  {tensor.max_abs_error:14.3e} {tensor.relative_rms_error:13.3e}  {tensor.name}{same}"
    if report.max_abs_error is not None and report.relative_rms_error is not None:
        yield f"  {report.max_abs_error:14.3e} {report.relative_rms_error:13.3e}  largest"
