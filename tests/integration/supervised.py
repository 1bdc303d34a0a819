"""A supervisor to be killed: run as a program by `test_supervisor.py`, with services that misbehave on request.

    supervised.py DATA_DIR SERVICE_KIND

Prints one line of JSON per event, and `{"state": "ready"}`.
"""

import asyncio
import http.server
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from refdesk.app.embedded.children import ChildEvent
from refdesk.app.embedded.stack import StackOptions, StackUrls
from refdesk.app.embedded.supervisor import Service, supervise
from refdesk.contracts.errors import ConfigurationError


def serve(kind: str, port: int) -> None:
    """A service: `plain`, `deaf` (ignores SIGTERM and has a deaf child of its own), or `broken` (ends at once).

    A `GET` of `/freeze` blocks it for ever.
    """
    if kind == "broken":
        raise SystemExit("the widget is missing")
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path(os.environ["SERVED"]).write_text(os.environ["REFDESK_NATS_URL"], encoding="utf-8")
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        while self.path == "/freeze":
            pass
        super().do_GET()


def tell(**news: object) -> None:
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


def on_event(event: ChildEvent) -> None:
    tell(**asdict(event))


def on_ready(urls: StackUrls) -> None:
    tell(state="ready", **asdict(urls))


async def main(data_dir: Path, *, kind: str, port: int) -> None:
    service = Service(
        name="desk",
        command=[sys.executable, str(Path(__file__).resolve()), "serve", kind, str(port)],
        health_url=f"http://127.0.0.1:{port}/",
        live_url=f"http://127.0.0.1:{port}/",
        silence_s_max=2.0,
        environment={"SERVED": str(data_dir / "served")},
        stop_grace_s=60.0 if kind == "deaf" else 5.0,
    )
    await supervise(StackOptions(data_dir=data_dir), services=[service], on_event=on_event, on_ready=on_ready)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        try:
            asyncio.run(main(Path(sys.argv[1]), kind=sys.argv[2], port=int(sys.argv[3])))
        except ConfigurationError as error:
            raise SystemExit(error.message) from error
