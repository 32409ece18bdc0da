"""Pictures of the data: one static page that shows what a collection, a release or a training run
came to.
"""

from flows.report.data import Curve, Group, Histogram, ReportData, Sample
from flows.report.gather import distribution
from flows.report.page import write_report
from flows.report.training import read_curves

__all__ = [
    "Curve",
    "Group",
    "Histogram",
    "ReportData",
    "Sample",
    "distribution",
    "read_curves",
    "write_report",
]
