"""Pictures of the data: one static page that shows what a collection, a release or a training run came to."""

from flows.report.data import Curve, Histogram, ReportData, Sample
from flows.report.gather import histograms, read_curves
from flows.report.page import write_report

__all__ = ["Curve", "Histogram", "ReportData", "Sample", "histograms", "read_curves", "write_report"]
