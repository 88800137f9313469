"""A Milvus for several processes: milvus-lite behind a port of this machine.

python -m tests.stores.milvus_server FOLDER: prints its address, and serves until stdin is closed.
"""

from __future__ import annotations

import sys

from milvus_lite.adapter.grpc.server import start_server_in_thread


def main(folder: str) -> None:
    server, database, port = start_server_in_thread(folder)
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop(grace=2)
    database.close()


if __name__ == "__main__":
    main(sys.argv[1])
