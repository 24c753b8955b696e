"""The services of the task in another make, with the standard library and the Hazelcast client alone.

`python service.py ROLE --port PORT ...`. The file `mode` in its folder has words that change a service: the form of a
request (`bare`, `form`, `text`), of the answers (`joined`, `html`), and what is wrong with it (`early`, `twice`,
`swallow`, `hoard`, `unreadable`). Without such a word it is right.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

HOARD, HELD = 20, 0.5
"""Items that a consumer with the word `hoard` takes at once, and the seconds for which it holds them unstored."""

LATE = 0.2
"""Seconds between the answer and the put of a facade with the word `early`."""


def main() -> None:
    """Run the service that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--port", type=int, required=True)
    for name in ("servers", "cluster", "queue", "logging", "messages"):
        parser.add_argument(f"--{name}", default="")
    given = parser.parse_args()
    file = Path("mode")
    mode = set(file.read_text(encoding="utf-8").split()) if file.exists() else set()
    service = ROLES[given.role](given, mode)
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", given.port), handler(service.get, service.post))
    say(f"{given.role} listens on port {given.port}")
    server.serve_forever()


Answer = tuple[int, str, str]
"""The status, the content type and the text of an answer."""


def handler(get: Callable[[], Answer], post: Callable[[str], Answer]) -> type[BaseHTTPRequestHandler]:
    """Return the handler of a service."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(get)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            self.answer(lambda: post(body))

        def answer(self, make: Callable[[], Answer]) -> None:
            try:
                status, kind, text = make()
            except Exception as error:  # noqa: BLE001 - what a framework answers when a handler fails
                status, kind, text = 500, "text/plain", f"{type(error).__name__}: {error}"
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def say(line: str) -> None:
    """Log a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def as_json(body: Any, status: int = 200) -> Answer:
    """Return an answer in JSON."""
    return status, "application/json", json.dumps(body)


def open_queue(given: argparse.Namespace) -> Any:
    """Connect to the members, and return the queue."""
    import hazelcast  # noqa: PLC0415 - a logging-service needs none

    client = hazelcast.HazelcastClient(cluster_members=given.servers.split(","), cluster_name=given.cluster)
    return client.get_queue(given.queue).blocking()


def ask(addresses: str, path: str, body: Any = None) -> Any:
    """Call a random one of some services."""
    url = f"http://{random.choice(addresses.split(','))}{path}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=5) as answer:
        return json.load(answer)


class Facade:
    """Logs each message and puts it into the queue; reads one logging-service and one messages-service."""

    def __init__(self, given: argparse.Namespace, mode: set[str]) -> None:
        self.given, self.mode = given, mode
        self.queue = open_queue(given)
        self.later: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.put_later, daemon=True).start()

    def post(self, body: str) -> Answer:
        """Accept a message."""
        text = self.text(body)
        ask(self.given.logging, "/log", {"msg": text})
        if "early" in self.mode:
            self.later.put(text)
        elif "swallow" in self.mode:
            self.queue.offer(text)  # it says whether there was room
        else:
            for _ in range(2 if "twice" in self.mode else 1):
                self.queue.put(text)
        return as_json({"status": "success"})

    def text(self, body: str) -> str:
        """Return the text of a request."""
        if "text" in self.mode:
            return body
        if "form" in self.mode:
            return parse_qs(body)["msg"][0]
        found = json.loads(body)
        return str(found if "bare" in self.mode else found["msg"])

    def put_later(self) -> None:
        """Put what was acknowledged already."""
        while True:
            text = self.later.get()
            time.sleep(LATE)
            self.queue.put(text)

    def get(self) -> Answer:
        """Return both sets."""
        logs, messages = ask(self.given.logging, "/log"), ask(self.given.messages, "/messages")
        if "joined" in self.mode:
            return 200, "text/plain", f"logged: {', '.join(logs)}; consumed: {''.join(messages)}"
        if "html" in self.mode:
            items = "".join(f"<li>{text}</li>" for text in messages)
            return 200, "text/html", f"<h1>{', '.join(logs)}</h1><ul>{items}</ul>"
        return as_json({"logs": logs, "message": messages})


class Logging:
    """Keeps what it is sent in memory."""

    def __init__(self, _: argparse.Namespace, mode: set[str]) -> None:
        self.mode = mode
        self.texts: list[str] = []

    def post(self, body: str) -> Answer:
        """Log a message, or several of microq's facade."""
        found = json.loads(body)
        for each in found if isinstance(found, list) else [found]:
            self.texts.append(each["msg"])
            say(f"logged {each['msg']}")
        return as_json({"status": "success"})

    def get(self) -> Answer:
        """Return all texts."""
        return as_json(self.texts)


class Messages:
    """Takes from the queue and keeps in memory; with the word `hoard` in a file."""

    def __init__(self, given: argparse.Namespace, mode: set[str]) -> None:
        self.mode, self.queue = mode, open_queue(given)
        self.file = Path(f"stored-{given.port}") if "hoard" in mode else None
        kept = self.file.read_text(encoding="utf-8") if self.file and self.file.exists() else ""
        self.texts = kept.split()
        threading.Thread(target=self.consume, daemon=True).start()

    def consume(self) -> None:
        """Take and store, for ever."""
        while True:
            try:
                self.take()
            except Exception as error:  # noqa: BLE001 - the members come back
                say(f"{type(error).__name__}: {error}")
                time.sleep(0.2)

    def take(self) -> None:
        """Take what there is, and store it."""
        first = self.queue.poll(1.0)
        if first is None:
            return
        taken = [first]
        if self.file:
            self.queue.drain_to(taken, HOARD - 1)
        say(f"took {' '.join(map(str, taken))}")
        time.sleep(HELD if self.file else 0)
        for text in taken:
            if self.file:
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(f"{text}\n")
            self.texts.append(text)

    def post(self, _: str) -> Answer:
        """Refuse."""
        return 405, "text/plain", "only GET"

    def get(self) -> Answer:
        """Return all texts."""
        if "unreadable" in self.mode:
            return 404, "text/plain", "there is no such page"
        return as_json(self.texts)


class Fixed:
    """Answers every request with 200; takes nothing from the queue."""

    def __init__(self, *_: Any) -> None:
        pass

    def post(self, _: str) -> Answer:
        """Do nothing."""
        return as_json({"status": "success"})

    def get(self) -> Answer:
        """Return nothing."""
        return as_json([])


ROLES: dict[str, Callable[[argparse.Namespace, set[str]], Any]] = {
    "facade": Facade,
    "logging": Logging,
    "messages": Messages,
    "fixed": Fixed,
}

if __name__ == "__main__":
    main()
