"""Types of command-line options: metadata, weights, time zones."""

from __future__ import annotations

import argparse
import json
from datetime import tzinfo
from typing import Any

from evomem.checks import check_zone
from evomem.cli.upkeep_arguments import source_label
from evomem.errors import QueryError

PAIR_HELP = "a JSON value or a plain string, as in stars=5 or topic=travel; may be repeated"


def pair(text: str) -> tuple[str, Any]:
    """Return a key of metadata and its value."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in topic=travel")
    try:
        return key, json.loads(value, parse_constant=str)
    except (ValueError, RecursionError):
        return key, value


def weight(text: str) -> tuple[str | None, float]:
    """Return a source and its weight."""
    label, equals, number = text.rpartition("=")
    try:
        return source_label(label) if equals else None, float(number if equals else "")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not LABEL=WEIGHT, as in web=0.5") from error


def time_zone(name: str) -> tzinfo:
    """Return a time zone."""
    try:
        return check_zone(name)
    except QueryError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
