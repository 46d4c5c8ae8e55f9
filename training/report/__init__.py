"""What is told of a training run: the facts, and one HTML page of them that needs nothing else."""

from training.report.facts import RunReport, read_report
from training.report.page import write_page

__all__ = ["RunReport", "read_report", "write_page"]
