"""The provider's tokens, put away so that only who holds a session's cookie can read them.

The key is made of the cookie's value, of which the database has the hash alone: neither the table nor a process without the
cookie, nor both, opens them. They are needed only when that cookie comes by: to ask the provider again, and to sign out there.
"""

import secrets

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12


class KeptTokens(msgspec.Struct, frozen=True):
    """``refresh`` asks the provider again, ``id`` names the session there."""

    refresh: str | None = None
    id: str | None = None


def sealed(tokens: KeptTokens, cookie: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(_key(cookie)).encrypt(nonce, msgspec.json.encode(tokens), None)


def unsealed(data: bytes, cookie: str) -> KeptTokens:
    """What was sealed by this cookie; nothing for anything else."""
    try:
        plain = AESGCM(_key(cookie)).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], None)
    except (InvalidTag, ValueError):
        return KeptTokens()
    return msgspec.json.decode(plain, type=KeptTokens)


def _key(cookie: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"refdesk tokens").derive(cookie.encode())
