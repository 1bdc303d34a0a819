"""Where things are, and where people find the desk."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from refdesk.settings.kinds import Port

DEFAULT_DATA_DIR = Path("~/.local/share/refdesk")


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are."""

    data_dir: Path = DEFAULT_DATA_DIR
    """Everything `refdesk up` keeps: databases, content, models, logs."""
    content_dir: Path | None = None
    """Where document contents are kept; unset: `<data_dir>/content`."""
    model_dir: Path | None = None
    """Where `refdesk model prepare --into` has put the packaged model's file; it may be shared and read-only. Unset, or without
    that file where it cannot be written: `<data_dir>/models`."""

    @property
    def content_path(self) -> Path:
        return (self.content_dir or self.data_dir / "content").expanduser()

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Where the packaged model's file may be, the first first."""
        own = self.data_dir / "models"
        return (own,) if self.model_dir is None else (self.model_dir.expanduser(), own)


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where people find it."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs an API key to exist."""
    port: Port = 8080
    """Port to listen on."""
    tls_certificate: Path | None = None
    """A PEM file with the certificate of this port, and its chain. Read again when it changes. Unset: plain HTTP."""
    tls_key: Path | None = None
    """A PEM file with its private key, without a password."""
    plain_port: Port | None = None
    """With TLS: a further port without it, on loopback alone, for Refdesk's own services. `refdesk up` sets it."""
    trusted_proxies: str | None = None
    """Addresses or networks, separated by commas, of proxies that speak for many clients: 10.0.0.5, 10.1.0.0/16."""
    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")] | None = None
    """Where people find this desk, if a proxy stands before it: https://intranet.example/desk. Citations link there."""
    allowed_hosts: str | None = None
    """Names that this service goes by (`Host`), separated by commas: desk.example.org, *.example.net. Unset: any."""
