"""The commands of a fleet on Ray: `fleet serve`, `fleet import` and `fleet reencode`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.text import Text

from evomem._extras import require
from evomem.cli.opening import open_database
from evomem.cli.screen import Screen, plain
from evomem.cli.service import settings_of
from evomem.errors import InputError


def fleet(args: Namespace, screen: Screen) -> int:
    """Run the action `args.kind`."""
    require("ray", extra="ray")
    if "://" not in args.db:
        raise InputError(
            f"{args.db} is a file, which workers on other machines cannot reach: name a PostgreSQL "
            "database, as in --db postgresql://user@host/database"
        )
    commands = {"serve": _serve, "import": _import, "reencode": _reencode}
    return commands[args.kind](args, screen)


def _serve(args: Namespace, screen: Screen) -> int:
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="server")
    from evomem.fleet.serving import Size, run
    from evomem.service.running import check

    if not 1 <= args.min_replicas <= args.max_replicas:
        raise InputError(
            f"--min-replicas must be at least 1 and at most --max-replicas, got {args.min_replicas} "
            f"and {args.max_replicas}"
        )
    if args.fallbacks < 0:
        raise InputError(f"--fallbacks must be at least 0, got {args.fallbacks}")
    settings = settings_of(args)
    needs_key = check(settings, tls=False)
    with open_database(args, screen, create=True):
        pass  # create or check the database before replicas start
    screen.note(f"serving {settings.host}:{settings.port} on Ray; Ctrl-C stops it")
    if not needs_key:
        screen.note("no key was made yet: every program on this machine may use it")
    size = Size(
        least=args.min_replicas,
        most=args.max_replicas,
        requests=args.target,
        up=args.upscale_delay,
        down=args.downscale_delay,
        queued=args.queued,
        cpus=args.cpus,
        gpus=args.gpus,
        fallbacks=args.fallbacks,
    )
    run(settings, size, address=args.address)
    return 0


def _import(args: Namespace, screen: Screen) -> int:
    from evomem.fleet.bulk import import_files

    above = tuple(args.memory or ())
    histories: dict[str, tuple[str, ...]] = {}
    for name in args.files:
        labels = (*above, Path(name).stem)
        if labels in histories.values():
            raise InputError(f"two of the files are called {labels[-1]!r}: rename one")
        histories[str(Path(name).absolute())] = labels
    with screen.progress() as progress:
        outcomes = import_files(
            args.db,
            histories,
            encoder=args.encoder,
            device=args.device,
            lease=args.lease,
            workers=args.workers,
            gpus=args.gpus,
            address=args.address,
            progress=lambda *done: progress("files", *done),
        )
    return _report(outcomes, f"{outcomes.turns} new turns from {len(histories)} files", screen)


def _reencode(args: Namespace, screen: Screen) -> int:
    from evomem.fleet.bulk import reencode

    if args.encoder is None:
        raise InputError("name the new encoder with --encoder")
    with screen.progress() as progress:
        outcomes = reencode(
            args.db,
            args.encoder,
            device=args.device,
            workers=args.workers,
            gpus=args.gpus,
            address=args.address,
            progress=lambda *done: progress("memories", *done),
        )
    line = f"{outcomes.turns} turns were read with {args.encoder}"
    if outcomes.failed:
        line += "; the database keeps its encoder until all can be read"
    return _report(outcomes, line, screen)


def _report(outcomes: Any, line: str, screen: Screen) -> int:
    """Print the results and the failures; return 3 if there are failures."""
    lines = [line]
    if outcomes.failed:
        lines.append(f"{len(outcomes.failed)} set aside:")
        lines += [f"  {name}: {error}" for name, error in outcomes.failed.items()]
    screen.result(
        {"turns": outcomes.turns, "failed": outcomes.failed},
        *(Text(plain(report_line)) for report_line in lines),
    )
    return 3 if outcomes.failed else 0
