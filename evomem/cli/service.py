"""The commands of the service: `serve`, `inspect` and `keys`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from evomem._extras import require
from evomem.cli.integrity import make_integrity_key
from evomem.cli.opening import open_database
from evomem.cli.screen import Screen, plain
from evomem.errors import InputError
from evomem.service.access import Key
from evomem.service.names import join_name
from evomem.service.settings import Settings


def serve(args: Namespace, screen: Screen) -> int:
    """Serve the database until a signal to stop."""
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="server")
    from evomem.service.running import check, run

    settings = settings_of(args)
    needs_key = check(settings, tls=args.tls_cert is not None)
    with open_database(args, screen, create=True, reranker=args.reranker):
        pass  # create or check the database before the service accepts connections
    scheme = "https" if args.tls_cert else "http"
    screen.note(f"serving {args.db} at {scheme}://{args.host}:{args.port}; Ctrl-C stops it")
    if not needs_key:
        screen.note("no key was made yet: every program on this machine may use it")
    run(
        settings,
        workers=_at_least_one(args.workers, "--workers"),
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
    )
    return 0


def settings_of(args: Namespace) -> Settings:
    """Return the settings that the options of `serve` name. Raises `InputError`."""
    if args.rate is not None and not args.rate > 0:
        raise InputError(f"--rate must be more than 0, got {args.rate:g}")
    if args.lease is not None and not args.lease > 0:
        raise InputError(f"--lease must be more than 0 seconds, got {args.lease:g}")
    return Settings(
        database=args.db,
        encoder=args.encoder,
        device=args.device,
        reranker=args.reranker,
        keys=args.keys,
        host=args.host,
        port=args.port,
        names=tuple(args.name),
        origins=tuple(args.origin),
        in_flight=_at_least_one(args.in_flight, "--in-flight"),
        rate=args.rate,
        max_upload=_at_least_one(args.max_upload, "--max-upload") << 20,
        behind_proxy=args.behind_proxy,
        access_days=args.access_days,
        lease=args.lease,
        metrics=args.metrics,
        traces=args.traces,
    )


def inspect(args: Namespace, screen: Screen) -> int:
    """Show the database on a page until a signal to stop."""
    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, extra="server")
    from evomem.inspector.local import serve as serve_page
    from evomem.service.key_tables import keys_location

    args.db = args.file or args.db
    with open_database(args, screen):
        pass  # checks that the database exists and can be opened
    place = keys_location(args.db)
    settings = Settings(
        database=args.db,
        encoder=args.encoder,
        device=args.device,
        keys=place if "://" in place or Path(place).exists() else ":memory:",
        read_only=not args.write,
    )

    def show(url: str) -> None:
        screen.result({"url": url}, Text(url, overflow="fold", no_wrap=False))
        kind = "it can be changed" if args.write else "nothing can be changed"
        screen.note(f"showing {args.db}; {kind}; the link works once; Ctrl-C stops it")

    serve_page(settings, port=args.port, browse=not args.no_open, show=show)
    return 0


def keys(args: Namespace, screen: Screen) -> int:
    """Create, list or revoke keys."""
    if args.kind == "integrity":
        return make_integrity_key(args, screen)
    from evomem.service.key_tables import keys_location
    from evomem.service.keys import KeyStore

    store = KeyStore(args.keys or keys_location(args.db))
    try:
        if args.kind == "create":
            secret, key = store.create(
                args.prefix, args.rights, expires=args.expires, note=args.note
            )
            screen.result({**key.to_json(), "key": secret}, Text(secret))
            screen.note(
                f"this key is shown only once; it may {', '.join(key.rights)} in {_scope(key)}"
            )
        elif args.kind == "revoke":
            key = store.revoke(args.id)
            screen.result(key.to_json(), Text(f"revoked {key.id}, which was for {_scope(key)}"))
        else:
            listed = store.keys(args.prefix)
            screen.result({"keys": [key.to_json() for key in listed]}, _table(listed))
    finally:
        store.close()
    return 0


def _table(keys: list[Key]) -> Table:
    table = Table("id", "for", "rights", "state", "last used", "note")
    for key in keys:
        state = f"revoked {key.revoked:%Y-%m-%d}" if key.revoked else "valid"
        if key.expires and not key.revoked:
            state = f"until {key.expires:%Y-%m-%d %H:%M}"
        used = f"{key.used:%Y-%m-%d %H:%M}" if key.used else "never"
        table.add_row(
            key.id, Text(_scope(key)), ",".join(key.rights), state, used, Text(plain(key.note))
        )
    return table


def _scope(key: Key) -> str:
    return plain(join_name(key.prefix)) if key.prefix else "all memories"


def _at_least_one(number: int, name: str) -> int:
    if number < 1:
        raise InputError(f"{name} must be at least 1, got {number}")
    return number
