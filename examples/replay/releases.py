"""A package's releases as trees: fetched as source distributions, unpacked, and described file by file as git would."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


class ReplayError(Exception):
    """What stops a replay, in words for the person who started it."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree. ``mode`` is git's (100644, 100755 or 120000), ``blob`` its object id in git (40 digits)."""

    mode: str
    blob: str


@dataclass(frozen=True, slots=True)
class Release:
    """One release, unpacked in ``folder``; ``files`` maps each path (with ``/``) to what git would record of it."""

    package: str
    version: str
    folder: Path
    files: Mapping[str, File]

    @property
    def digest(self) -> str:
        """64 hex digits that are the same for the same paths, modes and bytes, and for no others."""
        return digest(self.files)

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


def digest(files: Mapping[str, File]) -> str:
    """SHA-256 over a tree's paths, modes and contents."""
    lines = (f"{file.mode} {file.blob} {path}\n" for path, file in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def describe(folder: Path) -> dict[str, File]:
    """What git would record of every file below ``folder``."""
    found: dict[str, File] = {}
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in [*names, *links]:
            path = Path(parent) / name
            if path.is_symlink():
                mode, content = "120000", os.fsencode(path.readlink())
            else:
                mode, content = "100755" if path.stat().st_mode & 0o100 else "100644", path.read_bytes()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            found[path.relative_to(folder).as_posix()] = File(mode, blob)
    return found


def differing(old: Mapping[str, File], new: Mapping[str, File]) -> list[str]:
    """The paths that were added, changed (content or mode) or removed between two trees, sorted."""
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def put(paths: Iterable[str], source: Path, target: Path) -> None:
    """Make ``paths`` in ``target`` what they are in ``source``: copied, or removed where ``source`` has none."""
    for path in paths:
        origin, place = source / path, target / path
        if place.is_symlink() or place.exists():
            place.unlink()
        if origin.is_symlink() or origin.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            # Never with its old time: git would take a file of the same size and second for unchanged.
            shutil.copy(origin, place, follow_symlinks=False)
            continue
        for parent in place.parents:  # git keeps no empty folder, and neither does the next release
            if parent == target or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()


def fetch(package: str, versions: Sequence[str], cache: Path, unpacked: Path) -> list[Release]:
    """The releases in the order given, from ``cache`` or else from the package index.

    Raises ReplayError where one cannot be had, or is no plain tree of files.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(4) as pool:
        archives = list(pool.map(lambda version: _archive(package, version, cache), versions))
    return [_unpack(package, version, archive, unpacked) for version, archive in zip(versions, archives, strict=True)]


def _archive(package: str, version: str, cache: Path) -> Path:
    """The release's source distribution in ``cache``, downloaded where it is not there yet."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", package) or not re.fullmatch(r"[A-Za-z0-9][\w.+!-]*", version):
        raise ReplayError(f"{package!r} {version!r} is no package and version.")
    found = _cached(package, version, cache)
    if found:
        return found
    print(f"  fetching {package} {version} from the package index", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "2", "--no-deps", "--no-binary", package, "--dest", str(cache), f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = _cached(package, version, cache)
    if done.returncode or found is None:
        raise ReplayError(
            f"{package} {version} could not be fetched from the package index: {pip_reason(done.stderr)}\n"
            f"The replay needs the index once for each release; what it has is kept in {cache}. "
            "Check the network (and pip's own settings), then run it again."
        )
    return found


def pip_reason(stderr: str) -> str:
    """The last error that pip printed, on one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    offline = [line for line in lines if re.search(r"connection|resolution|timed? ?out|proxy", line, re.IGNORECASE)]
    return (errors or lines or ["pip said nothing"])[-1] + (" (the index cannot be reached)" if offline else "")


def _cached(package: str, version: str, cache: Path) -> Path | None:
    wanted = (re.sub(r"[-_.]+", "-", package).lower(), version)
    for path in sorted(cache.glob("*.tar.gz")):
        name, _, tail = path.name.removesuffix(".tar.gz").rpartition("-")
        if (re.sub(r"[-_.]+", "-", name).lower(), tail) == wanted:
            return path
    return None


def _unpack(package: str, version: str, archive: Path, unpacked: Path) -> Release:
    """The archive's files without its top folder: their bytes, and of their modes what git keeps."""
    folder = unpacked / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts[1:]
                if member.isdir() or not parts:
                    continue
                if ".." in parts or ".git" in parts or not (member.isreg() or member.issym()):
                    raise ReplayError(f"{archive.name} holds {member.name!r}, which is no plain file of a tree.")
                place = folder.joinpath(*parts)
                place.parent.mkdir(parents=True, exist_ok=True)
                if member.issym():
                    place.symlink_to(member.linkname)
                    continue
                content = tar.extractfile(member)
                place.write_bytes(content.read() if content else b"")
                place.chmod(0o755 if member.mode & 0o100 else 0o644)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ReplayError(f"{archive} cannot be unpacked ({error}). Delete it and run the replay again.") from None
    return Release(package, version, folder, describe(folder))
