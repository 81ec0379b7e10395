"""A host's directory: its logs, its event files, the files it was given. Nothing outside it is ever touched.

The directory may be shared with other hosts (a run directory on a common file system): only files whose name begins
with our host's name are ours, and those in `logs/<host>`, which belongs to its program. Every file is opened relative
to a held directory descriptor and without following links, so no name and no link that a program plants leads outside.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

from midsession.agent.answer import Refused

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FOLDERS = ("events", "logs", "files")
_SHIPPED = ("events", "logs")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def checked_name(name: str) -> str:
    """The name, when it is one plain path component; raises Refused."""
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} is no name: letters, digits, '.', '_' and '-', at most 128, not beginning with a sign")
    return name


class Directory:
    """The directory of one host in one run.

    `path` None makes a fresh one of our own under $TMPDIR or /tmp; `remove` takes that away, and only that. Raises
    Refused and OSError.
    """

    def __init__(self, host: str, path: str | None) -> None:
        self.host = checked_name(host)
        self._own = path is None
        self.path = _fresh() if path is None else os.path.abspath(path)
        self._folders: dict[str, int] = {}
        self._program_logs: int | None = None
        for folder in _FOLDERS:
            self._folders[folder] = _folder(os.path.join(self.path, folder))

    def create(self, folder: str, name: str) -> int:
        """Create a new file for appending; returns its descriptor. Raises FileExistsError."""
        return os.open(checked_name(name), _NEW, 0o644, dir_fd=self._folders[folder])

    def put(self, name: str, text: str) -> str:
        """Write a file that the program is given, anew if need be; returns its absolute path."""
        own_name = f"{self.host}.{checked_name(name)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(own_name, flags, 0o644, dir_fd=self._folders["files"])
        with open(fd, "wb") as file:
            file.write(text.encode())
        return os.path.join(self.path, "files", own_name)

    def program_logs(self) -> str:
        """The folder for files of the program's own, made when it is first asked for; its absolute path."""
        path = os.path.join(self.path, "logs", self.host)
        if self._program_logs is None:
            self._program_logs = _folder(path)
        return path

    def sizes(self) -> dict[str, int]:
        """The sizes of our event files and logs, and of the program's own, by path relative to the directory."""
        ours = {
            f"{folder}/{name}": size
            for folder in _SHIPPED
            for name, size in _regular_files(self._folders[folder])
            if name.startswith(f"{self.host}.")
        }
        theirs = () if self._program_logs is None else _regular_files(self._program_logs)
        return ours | {f"logs/{self.host}/{name}": size for name, size in theirs if _NAME.fullmatch(name)}

    def read(self, path: str, offset: int, limit: int) -> tuple[bytes, bool]:
        """A piece of a file that `sizes` names, and whether it ends there. Raises Refused for any other path."""
        folder, name = self._place(path)
        if offset < 0 or limit <= 0:
            raise Refused("a piece of a file needs an offset of at least 0 and a limit of at least 1")
        fd = _open_regular(folder, name)
        if fd is None:
            raise Refused(f"{path!r} is not one of this host's files")
        try:
            data = os.pread(fd, limit, offset)
            return data, offset + len(data) >= os.fstat(fd).st_size
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the descriptors; the files stay."""
        for fd in (*self._folders.values(), *(() if self._program_logs is None else (self._program_logs,))):
            os.close(fd)
        self._folders.clear()
        self._program_logs = None

    def remove(self) -> None:
        """Close, and take the directory away if it is one of our own making."""
        self.close()
        if self._own:
            _remove_tree(self.path)

    def _place(self, path: str) -> tuple[int, str]:
        """The folder's descriptor and the name of a file that may be read. Raises Refused."""
        folder, _, name = path.partition("/")
        theirs = f"{self.host}/"
        if folder == "logs" and name.startswith(theirs) and self._program_logs is not None:
            descriptor, name = self._program_logs, name.removeprefix(theirs)
        elif folder in _SHIPPED and name.startswith(f"{self.host}."):
            descriptor = self._folders[folder]
        else:
            raise Refused(f"{path!r} is not one of this host's files")
        if not _NAME.fullmatch(name):
            raise Refused(f"{path!r} is not one of this host's files")
        return descriptor, name


def _regular_files(folder: int) -> list[tuple[str, int]]:
    found = []
    for name in sorted(os.listdir(folder)):
        if (fd := _open_regular(folder, name)) is not None:
            found.append((name, os.fstat(fd).st_size))
            os.close(fd)
    return found


def _open_regular(folder: int, name: str) -> int | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _fresh() -> str:
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"midsession-{os.getpid()}-{os.urandom(6).hex()}")
    os.mkdir(path, 0o700)
    return path


def _folder(path: str) -> int:
    os.makedirs(path, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def empty(path: str) -> None:
    """Remove what is in a directory, as far as that can be removed; links are never followed."""
    for entry in os.scandir(path):
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                _remove_tree(entry.path)
            else:
                os.unlink(entry.path)


def _remove_tree(path: str) -> None:
    """Like shutil.rmtree, whose import costs more than the agent's start can bear; links are never followed."""
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False):
            _remove_tree(entry.path)
        else:
            os.unlink(entry.path)
    os.rmdir(path)
