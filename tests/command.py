"""`evomem ARGUMENTS` as a fork: a stand-in for `python -m evomem` that starts in no time.

Called with the address of `tests.processes.serve_commands`, and the arguments. The fork has this
process's files, variables and folder, gets its signals, and dies with it.
"""

import json
import os
import signal
import socket
import sys

place, *arguments = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as server:
    server.connect(place)
    message = json.dumps([arguments, dict(os.environ), os.getcwd()]) + "\n"
    socket.send_fds(server, [message.encode()], [0, 1, 2])
    with server.makefile() as answers:
        process = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(process, number))
        sys.exit(int(answers.readline()))
