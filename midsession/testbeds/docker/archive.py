"""Files into a container before it starts, and out of it when it is over: tar archives, as the engine wants them."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

LOGS = "/logs"
"""Where a foreign program puts files of its own."""
_FILES = "midsession"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def path_of(name: str) -> str:
    """Where a file that is put into a container is found in it."""
    return f"/{_FILES}/{name}"


def packed(files: Mapping[str, str]) -> bytes:
    """An archive for a container's root: these files, for all to read, and a directory for logs, for all to write."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(_folder(LOGS.removeprefix("/"), 0o1777))
        if files:
            tar.addfile(_folder(_FILES, 0o755))
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{_FILES}/{name}")
            entry.size, entry.mode = len(content), 0o444
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def unpack_logs(chunks: Iterable[bytes], directory: Path) -> None:
    """Write the plain files that lie directly in the archived `LOGS` into `directory`, made when there is one.

    Everything else (folders, links, devices, odd names) stays away. Raises OSError and tarfile.TarError.
    """
    with tarfile.open(fileobj=_Chunks(chunks), mode="r|") as tar:
        for entry in tar:
            folder, *inner = PurePosixPath(entry.name).parts or ("",)
            if not entry.isreg() or f"/{folder}" != LOGS or len(inner) != 1 or not _NAME.fullmatch(inner[0]):
                continue
            content = tar.extractfile(entry)
            assert content is not None
            directory.mkdir(exist_ok=True)
            with (directory / inner[0]).open("wb") as file:
                shutil.copyfileobj(content, file)


def _folder(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry


class _Chunks(io.RawIOBase):
    """Pieces of bytes as a stream that can be read once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._chunks, None)
            if piece is None:
                break
            self._rest += piece
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken
