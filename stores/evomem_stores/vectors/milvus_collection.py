"""A collection in Milvus: connection, schema, and filter expressions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from evomem._extras import require
from evomem.errors import StoreError

pymilvus = require("pymilvus", extra="milvus")

MAX_RESULTS = 16_384  # Milvus's limit on the rows of one query
MAX_LISTED_SEQS = 1024  # in one filter expression
PARTITIONS = 64  # over which Milvus distributes the memories
GRPC = {"grpc.keepalive_time_ms": 300_000}
"""The keepalive interval that gRPC servers accept from idle clients by default.

pymilvus pings every 10 seconds, for which milvus-lite occasionally closes the connection.
"""


class MilvusCollection:
    """Vectors of length `dim`, each with its memory, revision and turn."""

    def __init__(self, uri: str, token: str | None, dim: int) -> None:
        """Connect; `prepare` creates the collection.

        Raises:
            StoreError: Milvus cannot be reached.
        """
        self.name = ""
        self._dim = dim
        self._place = re.sub("//[^/]*@", "//", uri)  # without a password
        self._process = os.getpid()
        with self.translated():
            self._own_client = pymilvus.MilvusClient(uri, token=token or "", grpc_options=GRPC)

    @property
    def client(self) -> Any:
        """The connection to Milvus, unusable after a fork, which gRPC's threads do not survive.

        Raises:
            StoreError: This process was forked from the one that connected.
        """
        if self._process != os.getpid():
            raise StoreError(
                f"the connection to Milvus at {self._place} was made before this process was "
                "forked, and cannot be used here: open the database after the fork, in each process"
            )
        return self._own_client

    def prepare(self, name: str) -> None:
        """Create the collection `name`, unless it exists with vectors of this length."""
        self.name = name
        client, kinds = self.client, pymilvus.DataType
        if client.has_collection(self.name):
            fields = client.describe_collection(self.name)["fields"]
            dims = [field["params"].get("dim") for field in fields if field["name"] == "vector"]
            if [int(dim) for dim in dims if dim] == [self._dim]:
                client.load_collection(self.name)
                return
            client.drop_collection(self.name)  # the database was re-encoded
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("memory", kinds.INT64, is_partition_key=True)
        for name in ("revision", "seq", "mark"):
            schema.add_field(name, kinds.INT64)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=self._dim)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")  # exact
        client.create_collection(
            self.name,
            schema=schema,
            num_partitions=PARTITIONS,
            consistency_level="Strong",
        )
        # The index of nothing is complete: with `sync`, pymilvus would sleep before it looked.
        client.create_index(self.name, index, sync=False)
        client.load_collection(self.name)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise errors of pymilvus as evomem's errors."""
        try:
            yield
        except pymilvus.MilvusException as error:
            raise StoreError(
                f"Milvus at {self._place}: {error.message}; the log is not affected: try again, or "
                'open with index="faiss" in the meantime'
            ) from error

    def close(self) -> None:
        """Close the connection; harmless when repeated and in a forked child, which has none."""
        if self._process == os.getpid():
            self._own_client.close()


def of_revision(memory: int, revision: int) -> str:
    """Return the filter for rows of a memory at a revision."""
    return f"memory == {memory:d} and revision == {revision:d}"


def between(first: int, last: int) -> str:
    """Return the filter for rows of turns `first` to `last`."""
    return f"seq >= {first:d} and seq <= {last:d}"
