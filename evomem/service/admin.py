"""The endpoints of the database as a whole, of keys, and of the access log."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from evomem.errors import AccessDenied, DatabaseBusy, InputError, StoreError
from evomem.records import as_utc
from evomem.rows import Form
from evomem.service import models
from evomem.service.access import Key
from evomem.service.endpoints import access_of, answer, check_root, service_of
from evomem.service.keys import no_key
from evomem.service.memories import Limit
from evomem.service.problems import Problem
from evomem.service.service import Service
from evomem.service.uploads import FILE, on_disk

P = ParamSpec("P")
R = TypeVar("R")

router = APIRouter(prefix="/v1/admin", tags=["admin"])


@router.get("/stats")
async def stats(request: Request) -> dict[str, Any]:
    """Return counts and sizes."""
    service = check_root(request)
    return await _run(service, service.db.stats)


@router.post("/verify")
async def verify(how: models.Verify, request: Request) -> dict[str, list[str]]:
    """Check the log, its seals and the index files; return the faults."""
    service = check_root(request)
    return {"faults": await _run(service, service.db.verify, how.anchor)}


@router.get("/anchor")
async def anchor(request: Request) -> dict[str, Any]:
    """Return a record that identifies this state of the database."""
    service = check_root(request)
    return {"key_id": service.db.key_id, "anchor": await _run(service, service.db.anchor)}


@router.post("/repair")
async def repair(request: Request) -> dict[str, list[str]]:
    """Repair what can be rebuilt from the log."""
    service = check_root(request)
    return {"repaired": await _run(service, service.db.repair)}


@router.post("/compact")
async def compact(request: Request, embeddings: Form | None = None) -> dict[str, int]:
    """Return unused space to the file system, after storing embeddings in another form if given."""
    service = check_root(request)
    before, after = await _run(service, service.db.compact, embeddings)
    return {"before": before, "after": after}


@router.get("/backup", response_class=FileResponse)
async def backup(request: Request) -> Response:
    """Return a copy of the current state of an SQLite database."""
    service = check_root(request)
    folder = tempfile.TemporaryDirectory(prefix="evomem-")
    path = Path(folder.name, "backup.db")
    await _or_clean(folder, _run(service, service.db.backup, path))
    return FileResponse(path, background=BackgroundTask(folder.cleanup))


@router.get("/export", response_class=FileResponse)
async def export_database(request: Request) -> Response:
    """Return everything as a zip archive of what `evomem export` writes."""
    service = check_root(request)
    folder = tempfile.TemporaryDirectory(prefix="evomem-")
    path = Path(folder.name, "export.zip")

    def write() -> None:
        made = Path(folder.name, "export")
        service.db.export(made)
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(made.rglob("*")):
                archive.write(file, file.relative_to(made))

    await _or_clean(folder, _run(service, write))
    return FileResponse(path, background=BackgroundTask(folder.cleanup))


@router.post("/load", openapi_extra=FILE)
async def load_database(request: Request) -> dict[str, int]:
    """Add the memories of an archive that `export` returned, all or none."""
    service = check_root(request)

    def read(path: Path) -> int:
        folder = path.with_name("export")
        unpack(path, folder)
        return service.db.load(folder)

    async with on_disk(request) as path:
        return {"turns": await _run(service, read, path)}


# keys --------------------------------------------------------------------------------------


@router.post("/keys", response_model=models.NewKeyOut)
async def create_key(wanted: models.NewKey, request: Request) -> Response:
    """Create a key for memories below this key's prefix, with rights that this key has."""
    service, access, prefix = service_of(request), access_of(request), tuple(wanted.prefix)
    access.check("admin", prefix)
    if more := set(wanted.rights) - access.rights:
        raise AccessDenied(
            f"a key cannot grant the right to {sorted(more)[0]}, which it does not have"
        )
    secret, key = await service.with_keys(
        service.keys.create,
        prefix,
        wanted.rights,
        expires=as_utc(wanted.expires),
        note=wanted.note,
    )
    return answer({**key.to_json(), "key": secret})


@router.get("/keys", response_model=models.Keys)
async def list_keys(request: Request) -> Response:
    """Return the keys below this key's prefix."""
    service, access = service_of(request), access_of(request)
    access.check("admin", access.prefix)
    keys = await service.with_keys(service.keys.keys, access.prefix)
    return answer({"keys": [key.to_json() for key in keys]})


@router.delete("/keys/{id}", response_model=models.KeyOut)
async def revoke_key(id: str, request: Request) -> Response:
    """Revoke a key, on every worker."""
    service, access = service_of(request), access_of(request)
    access.check("admin", access.prefix)

    def revoke() -> Key:
        if access.prefix and id not in {key.id for key in service.keys.keys(access.prefix)}:
            raise no_key(id)  # keys of other prefixes are reported as unknown
        return service.keys.revoke(id)

    return answer((await service.with_keys(revoke)).to_json())


@router.get("/access", response_model=models.AccessLog)
async def access_log(
    request: Request,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    before: Annotated[
        int | None, Query(ge=0, lt=2**63, description="lines before this one, newest first")
    ] = None,
    limit: Limit = 100,
) -> Response:
    """Return who did what in the memories of this key; entries appear within a second or two."""
    service, access = service_of(request), access_of(request)
    access.check("admin", access.prefix)
    lines = await service.with_keys(
        service.keys.accesses, access, after=after, before=before, limit=limit
    )
    values = [{"number": number, **entry.to_json()} for number, entry in lines]
    return answer({"lines": values, "next": lines[-1][0] if len(lines) == limit else None})


# -------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an export. Raises `InputError` if the archive is invalid."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                if member.compress_type != zipfile.ZIP_STORED:  # compression could hide a zip bomb
                    raise InputError(f"{member.filename[:100]!r} is compressed: store it as it is")
                packed.extract(member, folder)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"this is not an archive of an export: {error}") from error


async def _run(service: Service, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a maintenance task; its caller may see the full error message."""
    try:
        return await service.run(call, *args, **kwargs)
    except DatabaseBusy:
        raise
    except StoreError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error)) from error


async def _or_clean(folder: tempfile.TemporaryDirectory[str], work: Any) -> None:
    try:
        await work
    except BaseException:
        folder.cleanup()
        raise
