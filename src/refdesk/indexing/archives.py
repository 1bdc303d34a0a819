"""ZIP containers (DOCX, XLSX, PPTX, ODT, EPUB …) are weighed before any parser opens them.

The directory of a ZIP says what its members unpack to, and may lie; so every member is unpacked once, piece by piece, and
thrown away. A member that holds more than the directory says ends in a checksum error after the promised bytes.
"""

import io
import zipfile
import zlib

import olefile

from refdesk.indexing.parsed import ParsingLimits, rejected

ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_RATIO_FREE_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_MANIFEST_BYTES_MAX = 1024 * 1024


def check_archive(content: bytes, *, name: str, limits: ParsingLimits) -> None:
    """Raises `DocumentRejected` for a ZIP that is damaged, encrypted or unpacks to too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_directory(members, packed_bytes=len(content), name=name, limits=limits)
            if any(member.flag_bits & 1 for member in members) or _is_encrypted_odf(archive):
                raise encrypted(name)
            _unpack(archive, members, name=name, limits=limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise damaged(name, str(error)) from error


def encrypted(name: str) -> Exception:
    return rejected(f"{name} is protected by a password", "remove the password and upload it again")


def damaged(name: str, detail: str) -> Exception:
    short = " ".join(detail.split())[:160].rstrip(". ")
    return rejected(f"{name} is damaged ({short})", "open it in its program, save it again and upload the new copy")


def _check_directory(members: list[zipfile.ZipInfo], *, packed_bytes: int, name: str, limits: ParsingLimits) -> None:
    if len(members) > limits.archive_members_max:
        raise rejected(
            f"{name} holds {len(members):,} files inside; the limit is {limits.archive_members_max:,}",
            "split it, or raise REFDESK_PARSE_ARCHIVE_MEMBERS_MAX",
            limit=limits.archive_members_max,
            actual=len(members),
        )
    _check_bytes(sum(member.file_size for member in members), name=name, limits=limits)
    for member in members:
        ratio = member.file_size // max(1, min(member.compress_size, packed_bytes))
        if member.file_size > _RATIO_FREE_BYTES and ratio > limits.archive_ratio_max:
            raise rejected(
                f"{name} holds a part that unpacks to {ratio:,} times its size; the limit is {limits.archive_ratio_max}",
                "save it anew without blank filler, or raise REFDESK_PARSE_ARCHIVE_RATIO_MAX",
                limit=limits.archive_ratio_max,
                actual=ratio,
            )


def _check_bytes(unpacked_bytes: int, *, name: str, limits: ParsingLimits) -> None:
    if unpacked_bytes > limits.archive_bytes_max:
        raise rejected(
            f"{name} unpacks to {unpacked_bytes:,} bytes; the limit is {limits.archive_bytes_max:,}",
            "split it, or raise REFDESK_PARSE_ARCHIVE_BYTES_MAX",
            limit=limits.archive_bytes_max,
            actual=unpacked_bytes,
        )


def _unpack(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], *, name: str, limits: ParsingLimits) -> None:
    unpacked_bytes = 0
    for member in members:
        with archive.open(member) as stream:
            while piece := stream.read(_PIECE_BYTES):
                unpacked_bytes += len(piece)
                _check_bytes(unpacked_bytes, name=name, limits=limits)


def _is_encrypted_odf(archive: zipfile.ZipFile) -> bool:
    try:
        with archive.open("META-INF/manifest.xml") as manifest:
            return b"encryption-data" in manifest.read(_MANIFEST_BYTES_MAX)
    except KeyError:
        return False


def is_whole_ole(content: bytes) -> bool:
    """Whether all its streams can be read ([MS-CFB])."""
    try:
        with olefile.OleFileIO(content) as container:
            for stream in container.listdir():
                with container.openstream(stream) as opened:
                    while opened.read(_PIECE_BYTES):
                        pass
    except (OSError, ValueError, IndexError):
        return False
    return True
