"""A disk under SQLite that writes down what reaches it, and that fails when it is told to.

It is a VFS (https://www.sqlite.org/vfs.html), made by ctypes inside the very SQLite that Python's `sqlite3` uses, and
laid over the usual one: every file that this process opens from then on goes through it. Rule 1: it is for processes
that are started for a test; a pytest process never installs it. Rule 2: it never waits for the real disk, so a sync
costs nothing and means nothing: what a power cut leaves is worked out from what was written down. Rule 3: files are
told apart by number, because a name stands for several files, one after another.
"""

import ctypes
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
Usual = Callable[..., int]
_NAME = b"faulty-disk"
_CREATE, _JOURNALS = 0x4, 0x800 | 0x4000 | 0x80000  # flags of xOpen: may be made; is a journal, of whatever kind
_IS_LOCKING = 0x2  # flag of xShmLock; without it a lock is given back, which cannot fail

_FILE_METHODS = [
    *("xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock", "xCheckReservedLock"),
    *("xFileControl", "xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap"),
    *("xFetch", "xUnfetch"),
]
_DISK_METHODS = ["xOpen", "xDelete", "xAccess"]
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "xClose": (_P,),
    "xRead": (_P, _P, _I, _L),
    "xWrite": (_P, _P, _I, _L),
    "xTruncate": (_P, _L),
    "xSync": (_P, _I),
    "xFileSize": (_P, _P),
    "xLock": (_P, _I),
    "xShmMap": (_P, _I, _I, _I, _P),
    "xShmLock": (_P, _I, _I, _I),
    "xOpen": (_P, _P, _P, _I, _P),
    "xDelete": (_P, _P, _I),
    "xAccess": (_P, _P, _I, _P),
}

# What may become of a call: the codes that SQLite's own VFS for Unix returns when the system says EIO or ENOSPC. A
# write to a full disk gets half of its way.
FORGETS = -1  # a write that is acknowledged, and not done
FAILURES = {
    "xOpen": [sqlite3.SQLITE_CANTOPEN],
    "xDelete": [sqlite3.SQLITE_IOERR_DELETE],
    "xAccess": [sqlite3.SQLITE_IOERR_ACCESS],
    "xRead": [sqlite3.SQLITE_IOERR_READ],
    "xWrite": [sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_FULL],
    "xTruncate": [sqlite3.SQLITE_IOERR_TRUNCATE],
    "xSync": [sqlite3.SQLITE_IOERR_FSYNC],
    "xFileSize": [sqlite3.SQLITE_IOERR_FSTAT],
    "xLock": [sqlite3.SQLITE_IOERR_LOCK],
    "xShmMap": [sqlite3.SQLITE_IOERR_SHMMAP],
    "xShmLock": [sqlite3.SQLITE_IOERR_SHMLOCK],
}


class _FileMethods(ctypes.Structure):
    _fields_ = [("version", _I), *((name, _P) for name in _FILE_METHODS)]


class _Vfs(ctypes.Structure):
    _fields_ = [
        *(("version", _I), ("file_size", _I), ("path_length_max", _I), ("next", _P), ("name", ctypes.c_char_p)),
        *(("app_data", _P), *((name, _P) for name in _DISK_METHODS), ("xFullPathname", _P)),
        *((name, _P) for name in ("xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness", "xSleep")),
        *((name, _P) for name in ("xCurrentTime", "xGetLastError", "xCurrentTimeInt64")),
        *((name, _P) for name in ("xSetSystemCall", "xGetSystemCall", "xNextSystemCall")),
    ]


class Event(NamedTuple):
    """Something that changed a file or the folder, or made what was changed before safe.

    `offset` is the size in a "truncate". "sync folder" makes safe which names there are.
    """

    kind: Literal["create", "unlink", "write", "truncate", "sync", "sync folder"]
    file: int
    name: str
    offset: int = 0
    data: bytes = b""


@dataclass
class Fault:
    """The call of a method, counted from 1, that fails; with `lasts`, every later one as well."""

    method: str
    number: int
    code: int
    lasts: bool = False


@dataclass
class _File:
    number: int
    name: str
    syncs_folder: bool  # SQLite's VFS for Unix syncs the folder with the first sync of a journal that it may have made


class Disk:
    """A disk under every SQLite file of this process; made by `lay_disk` only."""

    def __init__(self) -> None:
        self.events: list[Event] | None = None  # None: nothing is written down
        self.fault: Fault | None = None
        self.calls: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._files_max = 0
        self._files: dict[int, _File] = {}
        self._kept: list[Any] = []  # what SQLite points to and Python must not free
        self._methods: dict[int, _FileMethods] = {}
        library = _library()
        self._usual: _Vfs = library.sqlite3_vfs_find(None).contents
        self._vfs = _Vfs.from_buffer_copy(self._usual)
        self._vfs.name = _NAME
        self._lay_over(self._vfs, self._usual, _DISK_METHODS)
        library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        sqlite3.connect(f"file::memory:?vfs={_NAME.decode()}", uri=True).close()  # says so if it is another SQLite

    def _lay_over(self, ours: Any, usual: Any, names: list[str]) -> None:
        """Put our functions in the place of the usual ones."""
        for name in names:
            if (signature := _SIGNATURES.get(name)) and (address := getattr(usual, name)):
                prototype = ctypes.CFUNCTYPE(_I, *signature)
                replaced = getattr(self, f"_{name[1:].lower()}", None) or partial(self._pass_on, name)
                function = prototype(partial(replaced, prototype(address)))
                self._kept.append(function)
                setattr(ours, name, ctypes.cast(function, _P).value)

    def _note(self, kind: Any, file: _File, offset: int = 0, data: bytes = b"") -> None:
        if self.events is not None:
            self.events.append(Event(kind, file.number, file.name, offset, data))

    def _failing(self, name: str) -> int:
        """The code with which this call fails; 0 when it does not."""
        self.calls[name] += 1
        fault = self.fault
        if fault is None or fault.method != name or self.calls[name] < fault.number:
            return 0
        return fault.code if fault.lasts or self.calls[name] == fault.number else 0

    # SQLite calls these. The first argument is the usual function, the others are SQLite's: pointers and numbers.

    def _pass_on(self, name: str, usual: Usual, *arguments: int) -> int:
        return self._failing(name) or usual(*arguments)

    def _open(self, usual: Usual, *arguments: int) -> int:
        _, path, file, flags, out = arguments
        methods = _P.from_address(file)
        if code := self._failing("xOpen"):
            methods.value = None  # so that nobody closes it
            return code
        text = os.fsdecode(ctypes.string_at(path)) if path else ""
        is_new = not Path(text).exists()
        code = usual(ctypes.addressof(self._usual), path, file, flags, out)
        if code == sqlite3.SQLITE_OK and text and methods.value:
            methods.value = ctypes.addressof(self._laid_over(methods.value))
            if is_new:
                self._files_max += 1
                self._numbers[text] = self._files_max
            may_be_made = bool(flags & _CREATE and flags & _JOURNALS)
            self._files[file] = _File(self._numbers.setdefault(text, 0), Path(text).name, may_be_made)
            if is_new:
                self._note("create", self._files[file])
        return code

    def _laid_over(self, usual: int) -> _FileMethods:
        """What stands for some usual methods of files; there are several such sets."""
        if usual not in self._methods:
            original = _FileMethods.from_address(usual)
            self._methods[usual] = _FileMethods.from_buffer_copy(original)
            self._lay_over(self._methods[usual], original, _FILE_METHODS)
        return self._methods[usual]

    def _close(self, usual: Usual, file: int) -> int:
        self._files.pop(file, None)
        return usual(file)

    def _delete(self, usual: Usual, _: int, path: int, syncs_folder: int) -> int:
        code = self._failing("xDelete") or usual(ctypes.addressof(self._usual), path, 0)
        if code == sqlite3.SQLITE_OK:
            text = os.fsdecode(ctypes.string_at(path))
            gone = _File(self._numbers.pop(text, 0), Path(text).name, syncs_folder=False)
            self._note("unlink", gone)
            if syncs_folder:
                self._note("sync folder", gone)
        return code

    def _access(self, usual: Usual, _: int, path: int, flags: int, out: int) -> int:
        return self._failing("xAccess") or usual(ctypes.addressof(self._usual), path, flags, out)

    def _write(self, usual: Usual, file: int, data: int, *place: int) -> int:
        size, offset = place
        if code := self._failing("xWrite"):
            if code == sqlite3.SQLITE_FULL and size > 1:
                usual(file, data, size // 2, offset)
            return sqlite3.SQLITE_OK if code == FORGETS else code
        if self.events is not None and file in self._files:
            self._note("write", self._files[file], offset, ctypes.string_at(data, size))
        return usual(file, data, size, offset)

    def _truncate(self, usual: Usual, file: int, size: int) -> int:
        if code := self._failing("xTruncate"):
            return code
        if file in self._files:
            self._note("truncate", self._files[file], size)
        return usual(file, size)

    def _sync(self, usual: Usual, file: int, flags: int) -> int:
        code = self._failing("xSync")
        if code == 0 and file in self._files:
            self._note("sync", self._files[file])
            if self._files[file].syncs_folder:
                self._note("sync folder", self._files[file])
                self._files[file].syncs_folder = False
        return code

    def _shmlock(self, usual: Usual, file: int, *place: int) -> int:
        if place[-1] & _IS_LOCKING and (code := self._failing("xShmLock")):
            return code
        return usual(file, *place)

    @contextmanager
    def noting(self) -> Iterator[list[Event]]:
        """Write down what happens within."""
        self.events = events = []
        try:
            yield events
        finally:
            self.events = None

    @contextmanager
    def failing(self, fault: Fault | None = None) -> Iterator[Counter[str]]:
        """Let this fail within, and count the calls from 1."""
        self.calls.clear()
        self.fault = fault
        try:
            yield self.calls
        finally:
            self.fault = None


@cache
def lay_disk() -> Disk:
    """The disk of this process: one, for the rest of its life, because SQLite keeps pointing to it."""
    return Disk()


def _library() -> Any:
    import _sqlite3

    for path in (getattr(_sqlite3, "__file__", None), None):
        try:
            library = ctypes.CDLL(path)
            library.sqlite3_vfs_find.argtypes, library.sqlite3_vfs_find.restype = [_P], ctypes.POINTER(_Vfs)
            library.sqlite3_vfs_register.argtypes = [ctypes.POINTER(_Vfs), _I]
            library.sqlite3_vfs_unregister.argtypes = [ctypes.POINTER(_Vfs)]
        except (OSError, AttributeError, TypeError):
            continue
        return library
    raise LookupError("this Python keeps its SQLite to itself: sqlite3_vfs_register cannot be called from outside")


def out_of_reach() -> str:
    """Why no disk can be laid under this Python's SQLite; "" when it can. Leaves nothing behind."""
    try:
        library = _library()
    except LookupError as error:
        return str(error)
    probe = _Vfs.from_buffer_copy(library.sqlite3_vfs_find(None).contents)
    probe.name = b"probe"
    library.sqlite3_vfs_register(ctypes.byref(probe), 0)
    try:
        with closing(sqlite3.connect("file::memory:?vfs=probe", uri=True)):
            return ""
    except sqlite3.OperationalError as error:
        return f"the SQLite that can be reached is not the one that this Python uses: {error}"
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(probe))
