"""Datasets with labelled evidence turns, read from their official files into common classes."""

from benchmarks.datasets.base import (
    Conversation,
    Dataset,
    DatasetError,
    Question,
    shortened,
    with_dates,
)
from benchmarks.datasets.evotrain import load_evotrain
from benchmarks.datasets.locomo import load_locomo
from benchmarks.datasets.longmemeval import load_longmemeval
from benchmarks.datasets.planted import load_planted
from benchmarks.datasets.realtalk import load_realtalk
from benchmarks.datasets.streams import load_stream

__all__ = [
    "Conversation",
    "Dataset",
    "DatasetError",
    "Question",
    "load_evotrain",
    "load_locomo",
    "load_longmemeval",
    "load_planted",
    "load_realtalk",
    "load_stream",
    "shortened",
    "with_dates",
]
