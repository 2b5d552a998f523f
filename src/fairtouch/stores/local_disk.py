"""Whether a file lies on a disk of this machine: SQLite's write-ahead log shares memory between processes, which no
network file system does, so two machines would each believe that they alone write
(https://www.sqlite.org/wal.html, "all processes using a database must be on the same host computer").

Linux tells by /proc/self/mountinfo; elsewhere nothing is known, and nothing is refused.
"""

import re
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {
        "9p",
        "acfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.ceph",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.juicefs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "pvfs2",
        "smb3",
        "smbfs",
    }
)


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The kind of network file system that holds the path, "nfs4"; None for a local one, or when nobody can tell.

    `mounts`: the text of a mountinfo (proc(5)) to look into instead of this process's own.
    """
    if mounts is None:
        if not _MOUNTS.exists():
            return None
        mounts = _MOUNTS.read_text("utf-8", "surrogateescape")
    holding, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= holding:  # the deepest, and of two the later one
            holding, kind = len(point.parts), after.split()[0]
    return kind if kind in _NETWORK else None
