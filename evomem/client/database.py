"""`RemoteDatabase`: the methods of `Database`, as requests."""

from __future__ import annotations

import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import timezone, tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from evomem.bulk import Done, add_side_by_side
from evomem.checks import check_labels, check_whole, check_zone
from evomem.client.calls import Call, Steps, not_over_http, to_json
from evomem.client.memory import RemoteMemory
from evomem.client.together import RemoteTogetherCache
from evomem.client.transport import Transport
from evomem.database import Database
from evomem.encoder import Encoder
from evomem.errors import InputError, StoreError
from evomem.forgetting import Receipt
from evomem.integrity import read_anchor
from evomem.memory import Memory
from evomem.rows import Form
from evomem.service.names import join_name, to_path
from evomem.service.wire import receipt_from_json
from evomem.state import Spec
from evomem.store import Namespace
from evomem.together import Together

if TYPE_CHECKING:
    from evomem.chats import Conversation
    from evomem.importing import Imported

PAGE = 1000  # names per request


class RemoteDatabase(Database):
    """The database of a service. Get one from `evomem.connect`; close it, or use it in a `with`."""

    def __init__(self, caller: Transport, zone: tzinfo = timezone.utc) -> None:
        self._caller = caller
        self._zone = zone
        self._spec: Spec | None = None
        self._together_cache = RemoteTogetherCache(caller)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._caller.url!r})"

    def memory(self, *labels: str, zone: str | tzinfo | None = None) -> Memory:
        """See `Database.memory`."""
        check_labels(labels)
        own = self._zone if zone is None else check_zone(zone)
        return RemoteMemory(self._caller, labels, zone=own)

    def memories(self, *prefix: str) -> list[Namespace]:
        """Return the namespaces that begin with `prefix` and that the key may read, sorted."""
        return [names for names, _ in self._caller.run(self._listed(prefix, sizes=False))]

    def sizes(self, *prefix: str) -> Mapping[Namespace, int]:
        """See `Database.sizes`."""
        return MappingProxyType(dict(self._caller.run(self._listed(prefix, sizes=True))))

    def together(self, *prefix: str, query: str | None = None) -> Together:
        """See `Database.together`; only changes are sent, without embeddings."""
        return self._caller.run(self._together_cache.read(prefix, query))

    def drop(self, *prefix: str) -> Receipt:
        """See `Database.drop`."""
        check_labels(prefix)
        path = f"/memories/{to_path(join_name(prefix))}"
        return receipt_from_json(self._request("DELETE", path, {"below": True}, repeats=False))

    def import_chats(
        self,
        histories: Iterable[tuple[Namespace, Iterable[Conversation]]],
        *,
        include_forgotten: bool = False,
        dry_run: bool = False,
        turn_source: str | None = None,
        workers: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> Imported:
        """See `Database.import_chats`."""
        check_whole(workers, "workers", least=1)
        from evomem.chats import Chats
        from evomem.importing import Imported

        total = Imported()
        guard = threading.Lock()

        def add(memory: Memory, talks: Iterable[Conversation], done: Done) -> None:
            nonlocal total
            imported = memory.import_chats(
                Chats(talks, ()),
                include_forgotten=include_forgotten,
                dry_run=dry_run,
                turn_source=turn_source,
            )
            with guard:
                total += imported
            done.add(sum(len(talk.messages) for talk in talks))

        add_side_by_side(self.memory, histories, add, Done(progress), workers)
        return total

    @property
    def spec(self) -> Spec:
        """The encoder that wrote this database."""
        if self._spec is None:
            self._spec = Spec(**self._request("GET", "")["encoder"])
        return self._spec

    @property
    def encoder(self) -> Encoder:
        """Only the service has the encoder. Raises `ServiceError`."""
        self._refuse("the encoder")

    def stats(self) -> dict[str, Any]:
        """See `Database.stats`."""
        values: dict[str, Any] = self._request("GET", "/admin/stats")
        return values

    def verify(self, anchor: str | Path | Mapping[str, Any] | None = None) -> list[str]:
        """See `Database.verify`."""
        values = read_anchor(anchor) if isinstance(anchor, str | Path) else anchor
        body = to_json({"anchor": values and dict(values)})
        faults: list[str] = self._request("POST", "/admin/verify", body=body)["faults"]
        return faults

    @property
    def key_id(self) -> str:
        """See `Database.key_id`."""
        id: str = self._request("GET", "/admin/anchor")["key_id"]
        return id

    def anchor(self) -> dict[str, Any]:
        """See `Database.anchor`."""
        values: dict[str, Any] = self._request("GET", "/admin/anchor")["anchor"]
        return values

    def seal(self, integrity_key: bytes | str | Path) -> int:
        """Integrity keys are not sent over HTTP. Raises `ServiceError`."""
        self._refuse("evomem keys integrity")

    def repair(self) -> list[str]:
        """See `Database.repair`."""
        repaired: list[str] = self._request("POST", "/admin/repair")["repaired"]
        return repaired

    def compact(self, embeddings: Form | None = None) -> tuple[int, int]:
        """See `Database.compact`."""
        params = {} if embeddings is None else {"embeddings": embeddings}
        value = self._request("POST", "/admin/compact", params)
        return value["before"], value["after"]

    def backup(self, path: str | Path) -> None:
        """See `Database.backup`; the copy is written on this machine."""
        self._request("GET", "/admin/backup", into=_new(path))

    def export(self, folder: str | Path) -> int:
        """See `Database.export`; the folder is on this machine."""
        target = _new(folder)
        with tempfile.TemporaryDirectory(prefix="evomem-") as temporary:
            archive = Path(temporary, "export.zip")
            self._request("GET", "/admin/export", into=archive)
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(target)
        turns = 0
        for file in target.rglob("*.jsonl"):
            with file.open("rb") as lines:
                turns += sum(1 for _ in lines)
        return turns

    def load(self, folder: str | Path, *, integrity_key: bytes | str | Path | None = None) -> int:
        """See `Database.load`; the folder is on this machine."""
        if integrity_key is not None:
            self._refuse("an export that is sealed with another key")
        source = Path(folder).expanduser()
        if not (source / "evomem.json").is_file():
            raise InputError(f"{folder} is not an export of evomem (evomem export)")
        with tempfile.TemporaryDirectory(prefix="evomem-") as temporary:
            archive = Path(temporary, "export.zip")
            with zipfile.ZipFile(archive, "w") as packed:
                for file in sorted(source.rglob("*")):
                    packed.write(file, file.relative_to(source))
            turns: int = self._request("POST", "/admin/load", body=archive, repeats=False)["turns"]
        return turns

    def drop_generations(self) -> list[str]:
        """Encoders are changed on the service's machine. Raises `ServiceError`."""
        self._refuse("evomem reencode")

    def check_writable(self) -> None:
        """See `Database.check_writable`: checks that the service responds and that the key may write."""
        if "write" not in self._request("GET", "")["key"]["rights"]:
            raise StoreError("the key has no right to write: use another one")

    def close(self) -> None:
        """Close the connections; harmless when repeated. The service keeps running."""
        self._caller.close()

    async def aclose(self) -> None:
        """Close the connections, including those of async methods in this event loop."""
        await self._caller.aclose()

    def __enter__(self) -> RemoteDatabase:
        return self

    async def __aenter__(self) -> RemoteDatabase:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # ---------------------------------------------------------------------------------------

    def _listed(self, prefix: Namespace, *, sizes: bool) -> Steps[list[tuple[Namespace, int]]]:
        listed: list[tuple[Namespace, int]] = []
        after: str | None = ""
        while after is not None:
            page = {"prefix": join_name(prefix), "after": after, "limit": PAGE}
            value = yield Call("GET", "/memories", {**page, "sizes": True if sizes else None})
            names = list(map(tuple, value["memories"]))
            listed += zip(names, value["turns"] or [0] * len(names), strict=True)
            after = value["next"]
        return listed

    def _request(
        self, method: str, path: str, params: Mapping[str, Any] | None = None, **more: Any
    ) -> Any:
        def steps() -> Steps[Any]:
            return (yield Call(method, path, params or {}, **more))

        return self._caller.run(steps())

    def _refuse(self, thing: str) -> NoReturn:
        raise not_over_http(thing)


def _new(path: str | Path) -> Path:
    target = Path(path).expanduser().absolute()
    if target.exists():
        raise StoreError(f"{target} exists already: choose a new path")
    return target
