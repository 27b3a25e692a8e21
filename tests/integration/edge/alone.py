"""Run in a network namespace of its own: starts an edge, asks it, and says as JSON what came. Arguments: the edge's
folder, a file with one JSON body a line."""

import errno
import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

folder, bodies = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes().splitlines()
subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
    network = "there"
except OSError as error:
    network = errno.errorcode[error.errno]
words = ("--port", "0", "--updates", "http://192.0.2.1/bundle", "--every", "0.05")
process = subprocess.Popen((sys.executable, str(folder / "edge.py"), *words), stdout=subprocess.PIPE, text=True)
try:
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port)
    statuses, scores = [], []
    for body in bodies:
        connection.request("POST", "/predict", body)
        answer = connection.getresponse()
        statuses.append(answer.status)
        scores += [row["score"] for row in json.loads(answer.read())["rows"]]
    connection.request("GET", "/status")
    status = json.loads(connection.getresponse().read())
    connection.close()
finally:
    process.terminate()
    ended = process.wait(20)
print(json.dumps({"network": network, "statuses": statuses, "scores": scores, "status": status, "ended": ended}))
