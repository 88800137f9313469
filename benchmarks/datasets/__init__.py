"""Datasets with labelled evidence turns, read from their official files into one shape."""

from benchmarks.datasets.base import Conversation, Dataset, DatasetError, Question, with_dates
from benchmarks.datasets.locomo import load_locomo
from benchmarks.datasets.longmemeval import load_longmemeval
from benchmarks.datasets.realtalk import load_realtalk
from benchmarks.datasets.streams import load_stream

__all__ = [
    "Conversation",
    "Dataset",
    "DatasetError",
    "Question",
    "load_locomo",
    "load_longmemeval",
    "load_realtalk",
    "load_stream",
    "with_dates",
]
