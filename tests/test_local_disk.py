"""A file on a network file system is refused with a sentence; a disk of this machine is not."""

from pathlib import Path

import pytest

from fairtouch import StoreError
from fairtouch.stores import sqlite_connections
from fairtouch.stores.local_disk import network_file_system
from fairtouch.stores.sqlite import SqliteStore

MOUNTS = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
35 22 0:31 / /mnt/team rw,relatime shared:20 - nfs4 server:/team rw,vers=4.2
36 35 254:2 / /mnt/team/local rw,relatime - xfs /dev/vdb rw
37 22 0:40 / /mnt/with\040space rw - cifs //server/share rw
38 22 0:41 / /home/me/remote rw - fuse.sshfs me@host: rw
39 22 0:42 / /srv rw - ext4 /dev/vdc rw
40 22 0:43 / /srv rw - nfs server:/srv rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/touches.db", None),
        ("/mnt/team/touches.db", "nfs4"),
        ("/mnt/teams/touches.db", None),
        ("/mnt/team/local/touches.db", None),
        ("/mnt/with space/touches.db", "cifs"),
        ("/home/me/remote/deep/touches.db", "fuse.sshfs"),
        ("/srv/touches.db", "nfs"),
    ],
)
def test_the_deepest_mount_decides(path, kind):
    """What holds the file is the deepest mount above it, and of two at one place the later."""
    assert kind == network_file_system(Path(path), MOUNTS)


def test_a_line_that_nobody_understands(tmp_path):
    """A mount table in another form refuses nothing."""
    assert network_file_system(tmp_path, "something else\n\n1 2 3 - \n") is None


def test_this_machines_disk(tmp_path):
    """The disk that the tests run on is local."""
    assert network_file_system(tmp_path.resolve()) is None


def test_a_store_on_a_network_is_not_opened(tmp_path, monkeypatch):
    """The store refuses before it makes a file, and says where to put it."""
    monkeypatch.setattr(sqlite_connections, "network_file_system", lambda path: network_file_system(path, MOUNTS))
    monkeypatch.setattr("pathlib.Path.is_dir", lambda _: True)
    with pytest.raises(StoreError, match=r"touches\.db .*network file system \(nfs4\).*a disk of this machine"):
        SqliteStore("/mnt/team/touches.db")
