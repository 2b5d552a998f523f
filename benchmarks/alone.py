"""One piece of work in this process, told by its arguments as JSON: `python -m benchmarks.alone '{"group": …}'`.

It fills a file, or runs one contestant and prints its numbers as JSON.
"""

import json
import sys
from pathlib import Path

from benchmarks.contest import Site, Sizes
from benchmarks.contestants import GROUPS
from benchmarks.files import prepare


def main() -> None:
    """Does what the first argument says."""
    task = json.loads(sys.argv[1])
    site = Site(Path(task["folder"]), Sizes(**task["sizes"]))
    if "file" in task:
        prepare(site, task["file"])
    else:
        print(json.dumps(GROUPS[task["group"]].contestant(task["contestant"]).run(site)))


if __name__ == "__main__":
    main()
