"""From logs and files to a frozen snapshot to train on: consent, redaction, filters, split; every step counted."""

from training.curation.curation import Curated, CurationOptions, curate
from training.curation.fitting import Fitted, fit
from training.curation.snapshot import Snapshot, erase_text, read_snapshot, write_snapshot
from training.curation.sources import Gathered, read_file, read_log
from training.curation.validator import Validation, validate
from training.curation.watching import for_tuning, num_learnt_pairs

__all__ = [
    "Curated",
    "CurationOptions",
    "Fitted",
    "Gathered",
    "Snapshot",
    "Validation",
    "curate",
    "erase_text",
    "fit",
    "for_tuning",
    "num_learnt_pairs",
    "read_file",
    "read_log",
    "read_snapshot",
    "validate",
    "write_snapshot",
]
