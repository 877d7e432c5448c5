"""Compare the version of the package with the newest entry of the changelog: `python scripts/check_version.py`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def find_version(text: str, pattern: str, source: str) -> str:
    """First match of `pattern` in `text`; raises ValueError that names the source."""
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise ValueError(f"{source}: no version found; wanted a line like {pattern!r}")
    return match.group(1)


def versions(root: Path) -> dict[str, str]:
    """Where a version is stated -> which one."""
    package, changelog = root / "src/codelength/__init__.py", root / "CHANGELOG.md"
    return {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"],
        "src/codelength/__init__.py": find_version(package.read_text(), r'^__version__ = "([^"]+)"', str(package)),
        "CHANGELOG.md (newest entry)": find_version(changelog.read_text(), r"^## \[(\d[^\]]*)\]", str(changelog)),
    }


def main(root: Path) -> int:
    """Print the versions; 0 if they agree."""
    found = versions(root)
    if len(set(found.values())) == 1:
        print(f"version {next(iter(found.values()))} in all of {', '.join(found)}")
        return 0
    for source, version in found.items():
        print(f"{version:10} {source}", file=sys.stderr)
    print("the versions differ; make them one", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parents[1]))
