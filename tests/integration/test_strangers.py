"""The embedded servers are for the user who started them: others of the same machine are refused, whatever they reach."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from refdesk.app.embedded.accounts import PASSING_GROUP
from refdesk.app.embedded.stack import StackUrls

STRANGER = Path(__file__).parents[1] / "support" / "stranger.py"
NOBODY = 65_534
"""Whom PostgreSQL runs as when root starts it: even that user's other processes are strangers."""
REFUSED = {"postgres": "refused", "valkey": "refused", "nats": "refused"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a stranger")
@pytest.mark.parametrize("uid", [NOBODY, 12_345])
@pytest.mark.parametrize("gid", [NOBODY, PASSING_GROUP])
async def test_another_user_is_let_to_no_server(servers: StackUrls, uid: int, gid: int) -> None:
    """Neither a stranger nor `nobody`, and not even one in the group that may pass the folders."""
    valkey = unquote(urlsplit(servers.valkey_url).path)
    address = servers.nats_url.rpartition("@")[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(STRANGER), str(uid), str(gid), servers.documents_database_url, valkey, address),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert json.loads(out) == REFUSED


async def test_nats_has_no_monitoring_port(servers: StackUrls) -> None:
    """Which would ask nobody who they are: its one port speaks NATS, and what it says of itself needs the system password."""
    monitoring = urlsplit(servers.nats_monitoring_url or "")
    assert (monitoring.scheme, monitoring.username) == ("nats", "system") and monitoring.password
    assert monitoring.netloc.rpartition("@")[2] == servers.nats_url.rpartition("@")[2]
    with socket.create_connection((monitoring.hostname or "", monitoring.port or 0), timeout=5) as connection:
        connection.sendall(b"GET /varz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(5) == b"INFO "
