"""The arguments of `serve`, `inspect` and `keys`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from evomem.records import as_utc
from evomem.service.access import RIGHTS
from evomem.service.names import split_name
from evomem.service.settings import Settings

Make = Callable[..., argparse.ArgumentParser]
"""Makes the parser of one command: its name, a summary, a sentence, and examples."""

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def add_serve(commands: Any, make: Make) -> None:
    """Add the parser of `serve`."""
    parser = make(
        commands,
        "serve",
        "serve the database over HTTP",
        "Let programs in any language, and many users at once, use the database over HTTP "
        "(docs/operations/service.md). Until a key is created, every program on this machine may use it, and no "
        "other machine; from then on, every request needs a key.",
        "  evomem serve\n"
        "  evomem serve --db postgresql://user@host/database --port 80 --behind-proxy "
        "--name memory.example.com\n"
        "  evomem serve --host 0.0.0.0 --name memory.example.com --tls-cert cert.pem --tls-key key.pem",
    )
    where = _where(parser)
    where.add_argument("--tls-cert", metavar="FILE", help="the certificate, for HTTPS")
    where.add_argument("--tls-key", metavar="FILE", help="its key")
    _reranker(parser)
    limits = _limits(parser)
    limits.add_argument(
        "--workers", metavar="N", type=int, default=1, help="processes (default: 1)"
    )
    limits.add_argument(
        "--lease",
        metavar="SECONDS",
        type=float,
        help="seconds for which only the worker that wrote to a memory may write again (default: no "
        "leases; docs/operations/fleet.md)",
    )
    _watching(parser)
    _keys_option(parser)


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the service that do not depend on what starts it."""
    _where(parser)
    _reranker(parser)
    _limits(parser)
    _watching(parser)
    _keys_option(parser)


def _where(parser: argparse.ArgumentParser) -> Any:
    default = Settings()
    where = parser.add_argument_group("address")
    where.add_argument(
        "--host", default=default.host, help=f"the address (default: {default.host})"
    )
    where.add_argument(
        "--port", type=int, default=default.port, help=f"the port (default: {default.port})"
    )
    where.add_argument(
        "--name",
        metavar="HOST",
        action="append",
        default=[],
        help="a host name that clients use; others are refused; may be repeated",
    )
    where.add_argument(
        "--origin",
        metavar="URL",
        action="append",
        default=[],
        help="a website whose scripts may call it, such as https://app.example.com",
    )
    where.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy in front terminates TLS; every request then needs a key",
    )
    return where


def _reranker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reranker",
        metavar="MODEL",
        help="orders the hits of the MCP tools, and of searches that ask for it: the folder or hub id "
        "of a cross-encoder, or an encoder's name",
    )


def _limits(parser: argparse.ArgumentParser) -> Any:
    default = Settings()
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--in-flight",
        metavar="N",
        type=int,
        default=default.in_flight,
        help=f"concurrent requests of a worker (default: {default.in_flight}); further ones are "
        "rejected with the advice to retry",
    )
    limits.add_argument(
        "--rate",
        metavar="N",
        type=float,
        help="requests a second for each key (default: unlimited)",
    )
    limits.add_argument(
        "--max-upload",
        metavar="MIB",
        type=int,
        default=default.max_upload >> 20,
        help=f"size of a file to import (default: {default.max_upload >> 20} MiB)",
    )
    return limits


def _watching(parser: argparse.ArgumentParser) -> None:
    default = Settings()
    watching = parser.add_argument_group("monitoring")
    watching.add_argument("--metrics", action="store_true", help="serve /metrics for Prometheus")
    watching.add_argument("--traces", action="store_true", help="send traces, for OpenTelemetry")
    watching.add_argument(
        "--access-days",
        metavar="N",
        type=float,
        default=default.access_days,
        help=f"how long the access log is kept (default: {default.access_days:g} days)",
    )


def add_inspect(commands: Any, make: Make) -> None:
    """Add the parser of `inspect`."""
    parser = make(
        commands,
        "inspect",
        "look at a database in the browser",
        "Show a database on a page that only this machine can open: its memories and turns, searches "
        "with the parts of their scores, as of any turn and without memory, forks, corrections, "
        "and the effects of purging a turn (docs/operations/inspector.md).",
        "  evomem inspect agent.db\n  evomem inspect agent.db --write\n"
        "  evomem inspect agent.db --no-open",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the database (default: --db)")
    parser.add_argument(
        "--write", action="store_true", help="let the page purge turns, and create and revoke keys"
    )
    parser.add_argument(
        "--no-open", action="store_true", help="do not open a browser; only print the link"
    )
    parser.add_argument("--port", type=int, default=0, help="the port (default: a free one)")


def add_keys(commands: Any, make_group: Make, make: Make) -> None:
    """Add the parsers of `keys integrity`, `keys create`, `keys list` and `keys revoke`."""
    group = make_group(
        commands,
        "keys",
        "create, list and revoke keys for the service, or create the integrity key",
        "Create, list and revoke keys for the service (evomem serve), or create the integrity key "
        "of the database.",
        "  evomem keys create --prefix acme/alice --rights read,write\n  evomem keys list\n"
        "  evomem keys revoke 3f9a0c21b7de\n  evomem keys integrity ~/.config/evomem/agent.key",
    )
    kinds = group.add_subparsers(dest="kind", metavar="KIND", title="kinds", required=True)
    parser = make(
        kinds,
        "create",
        "create a key for the service",
        "Create a key and show it once: the service stores only a salted hash. It gives access to "
        "the memories whose names begin with --prefix, with the given --rights.",
        "  evomem keys create --prefix acme/alice --rights read,write\n"
        "  evomem keys create --rights read,write,forget,admin --note operator\n"
        "  evomem keys create --prefix acme --expires 90d",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        type=split_name,
        default=(),
        help="labels joined by slashes (%%2F for a slash in a label); all memories if not given",
    )
    parser.add_argument(
        "--rights",
        metavar="RIGHTS",
        type=lambda text: text.split(","),
        default=["read", "write"],
        help=f"some of {','.join(RIGHTS)} (default: read,write)",
    )
    parser.add_argument(
        "--expires",
        metavar="WHEN",
        type=_moment,
        help="after a time, as in 90d or 12h, or at an ISO 8601 time (default: never)",
    )
    parser.add_argument("--note", metavar="TEXT", default="", help="what it is for")
    _keys_option(parser)
    parser = make(
        kinds,
        "list",
        "list the keys for the service",
        "Show all keys, with their prefixes, rights and times of last use.",
        "  evomem keys list\n  evomem keys list --prefix acme --json",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        type=split_name,
        default=(),
        help="only keys for memories with this prefix",
    )
    _keys_option(parser)
    parser = make(
        kinds,
        "revoke",
        "revoke a key for the service",
        "Revoke a key, in every worker.",
        "  evomem keys revoke 3f9a0c21b7de",
    )
    parser.add_argument("id", metavar="ID", help="the id, as evomem keys list shows it")
    _keys_option(parser)
    parser = make(
        kinds,
        "integrity",
        "create an integrity key, and seal the database with it",
        "Write a new key to FILE, unless FILE has one, and seal the database with it, if the "
        "database exists. It replaces the database's present key, which must be in the "
        "environment (EVOMEM_INTEGRITY_KEY_FILE).",
        "  evomem keys integrity ~/.config/evomem/agent.key\n"
        "  evomem keys integrity /secrets/new.key --db agent.db",
    )
    parser.add_argument("file", metavar="FILE", help="the file of the key")


def _keys_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        metavar="PLACE",
        help="where keys are stored: a file or a postgresql:// URL (default: next to the database)",
    )


def _moment(text: str) -> datetime:
    number, unit = text[:-1], text[-1:]
    try:
        if unit in _UNITS and number.isdecimal():
            return datetime.now(timezone.utc) + timedelta(seconds=int(number) * _UNITS[unit])
        time = as_utc(text)
        assert time is not None
        return time
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither like 90d, 12h or 2w nor a time like 2027-01-01T00:00:00Z"
        ) from error
