"""``mobius-otel keys scan|pattern``: has one of our keys got to where it must not be?"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mobius_otel.cli.common import add_json, add_policy, policy_of
from mobius_otel.cli.keys_common import manager_of, verb
from mobius_otel.cli.output import json_line, note, progress, table
from mobius_otel.errors import ConfigurationError
from mobius_otel.policy import Policy
from mobius_otel.security.api_keys import ApiKey, ApiKeyManager
from mobius_otel.security.api_keys.scanning import FoundKey, Scanner, pattern_for
from mobius_otel.security.api_keys.secret import has_checksum

__all__ = ["add_pattern", "add_scan"]

_CHUNK = 1 << 20
_NEVER_ENTERED = {".git", ".hg", ".svn", "node_modules", "__pycache__", ".tox", ".nox", ".venv"}


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere that a key was found: a file or a blob, and the line."""

    where: str
    found: FoundKey


def add_scan(verbs: Any) -> None:
    """Add ``keys scan``."""
    parser = verb(verbs, "scan", _scan, "look for our keys in files, in a repository's history or in standard input")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files and folders; -: standard input")
    parser.add_argument("--git", action="store_true", help="every version of every file that a repository knows")
    parser.add_argument("--no-store", action="store_true", help="by form and checksum alone; no store is asked")
    parser.description = (
        "Look for our keys. Each is checked by its checksum, and asked of the store where there is one."
        " Status 1: a key was found that opens something, or that may."
    )


def add_pattern(verbs: Any) -> None:
    """Add ``keys pattern``."""
    parser = verbs.add_parser("pattern", help="print what a secret scanner has to be told to find our keys")
    parser.add_argument(
        "--for", dest="tool", choices=["gitleaks", "trufflehog", "github"], help="default: the bare regex"
    )
    parser.add_argument("--prefix", help="the keys' prefix (default: the policy's)")
    add_policy(parser)
    add_json(parser)
    parser.set_defaults(run=_pattern)


def _pattern(args: argparse.Namespace) -> int:
    prefix = args.prefix or policy_of(args).api_keys.prefix
    text = pattern_for(args.tool, prefix)
    if args.json:
        json_line({"prefix": prefix, "pattern": pattern_for(None, prefix), "for": args.tool, "text": text})
    else:
        print(text.rstrip("\n"))
    return 0


def _scan(args: argparse.Namespace) -> int:
    with contextlib.ExitStack() as stack:
        manager = None if args.no_store or not _has_store(args) else stack.enter_context(manager_of(args))
        # Of any prefix: it may have been changed, and the checksum tells ours from others'.
        unseen = 0 if manager is None else _unseen(manager)
        scanner = Scanner() if manager is None else Scanner(None, _genuine(manager, policy_of(args), unseen))
        places = list(_places(args, scanner))
        store = _Store(_known(manager, places), unseen)
    leaked = [place for place in places if store.may_open(place)]
    if any(store.is_hidden(place) for place in places):
        note(
            f"the store has {unseen} keys under a pepper that is not given here: what it does not find may be one of"
            " them, and opens until it is proven dead. Scan again with MOBIUS_OTEL_KEY_PEPPER as the service has it, a"
            " former one in MOBIUS_OTEL_KEY_PEPPER_ALSO"
        )
    if args.json:
        json_line({"found": [store.as_json(place) for place in places], "leaked": len(leaked)})
    else:
        rows = [list(store.as_json(place).values()) for place in places]
        table(["where", "line", "key", "state", "id", "owner"], rows, empty="none of our keys was found")
    return 1 if leaked else 0


def _unseen(manager: ApiKeyManager) -> int:
    """Return how many keys the store has under a pepper that is not given: no secret of theirs is found."""
    _, counted = manager.census()
    return sum(count for label, count in counted.items() if label not in manager.pepper_labels)


def _genuine(manager: ApiKeyManager, policy: Policy, unseen: int) -> Callable[[bytes], bool]:
    """Return what tells our keys from others'; a tag of a pepper that is not given cannot be checked."""
    front = f"{policy.api_keys.prefix}_".encode("ascii")
    untold = bool(unseen) and policy.api_keys.mac != "off"
    return lambda raw: has_checksum(raw) or manager.is_genuine(raw) or (untold and raw.startswith(front))


def _has_store(args: argparse.Namespace) -> bool:
    """Return whether there is a store to ask: one that is named, or that of a policy file."""
    if args.store is not None:
        return True
    policy = policy_of(args)
    path = policy.store_url.removeprefix("sqlite:///")
    if policy.file is None or (path != policy.store_url and not Path(path).exists()):
        note("no key store is asked: what is found may or may not open something")
        return False
    return not policy.store_url.startswith("memory:")


def _known(manager: ApiKeyManager | None, places: Iterable[Place]) -> dict[bytes, ApiKey | None] | None:
    if manager is None:
        return None
    return {place.found.secret: manager.identify(place.found.secret) for place in places}


@dataclass(frozen=True, slots=True)
class _Store:
    """What the store knows of what was found.

    Args:
        known: The keys by their secrets; None: no store was asked.
        unseen: How many keys it has that it cannot find.
    """

    known: dict[bytes, ApiKey | None] | None
    unseen: int

    def is_hidden(self, place: Place) -> bool:
        """Return whether this may be a key that the store has and cannot find."""
        return self.known is not None and self.known[place.found.secret] is None and self.unseen > 0

    def may_open(self, place: Place) -> bool:
        """Return whether what was found opens something, or may."""
        key = self.known[place.found.secret] if self.known is not None else None
        return self.known is None or self.is_hidden(place) or (key is not None and key.state.lets_in)

    def as_json(self, place: Place) -> dict[str, object]:
        """Return what is to be told of a place."""
        key = self.known[place.found.secret] if self.known is not None else None
        untold = "not asked" if self.known is None else "pepper missing" if self.is_hidden(place) else "unknown"
        return {
            "where": place.where,
            "line": place.found.line,
            "key": place.found.shown,
            "state": untold if key is None else key.state.value,
            "id": key.id if key is not None else None,
            "owner": key.owner if key is not None else None,
        }


# --- where it is looked ---------------------------------------------------------------------------------------


def _places(args: argparse.Namespace, scanner: Scanner) -> Iterator[Place]:
    for path in args.paths:
        if path == "-":
            yield from (Place("standard input", found) for found in scanner.scan(_chunks(sys.stdin.buffer)))
        elif args.git:
            yield from _in_history(Path(path), scanner)
        else:
            yield from _in_files(Path(path), scanner)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _in_files(root: Path, scanner: Scanner) -> Iterator[Place]:
    if not root.exists():
        raise ConfigurationError("PATH", str(root), "a file or a folder that exists")
    files = [(path, _size(path)) for path in _files(root)]
    total, done, draw = sum(size for _, size in files), 0, progress("scanning")
    for path, size in files:
        try:
            with path.open("rb") as file:
                yield from (Place(str(path), found) for found in scanner.scan(_chunks(file)))
        except OSError as error:
            note(f"{path}: {error.strerror}")
        done += size
        if draw is not None:
            draw(done, max(total, 1))


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _NEVER_ENTERED)
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _in_history(repository: Path, scanner: Scanner) -> Iterator[Place]:
    """Look into every blob that a repository has, reachable or not."""
    listed = _git(
        repository, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype) %(objectsize)"
    )
    blobs = [line.split() for line in listed.decode("ascii").splitlines()]
    blobs = [blob for blob in blobs if blob[1] == "blob"]
    names = _names(repository)
    total, done, draw = sum(int(blob[2]) for blob in blobs), 0, progress("scanning")
    with subprocess.Popen(
        ["git", "-C", str(repository), "cat-file", "--batch"],  # noqa: S607
        stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as git:  # fmt: skip
        assert git.stdin is not None
        assert git.stdout is not None
        for name, _, size in blobs:
            git.stdin.write(name.encode("ascii") + b"\n")
            git.stdin.flush()
            git.stdout.readline()
            where = f"{names.get(name, '(no path)')}@{name[:10]}"
            yield from (Place(where, found) for found in scanner.scan(_exactly(git.stdout, int(size))))
            git.stdout.read(1)
            done += int(size)
            if draw is not None:
                draw(done, max(total, 1))
        git.stdin.close()


def _exactly(file: Any, size: int) -> Iterator[bytes]:
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        size -= len(chunk)
        yield chunk


def _names(repository: Path) -> dict[str, str]:
    listed = _git(repository, "rev-list", "--objects", "--all").decode("utf-8", "replace")
    return {line[:40]: line[41:] for line in listed.splitlines() if len(line) > 41}


def _git(repository: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True)  # noqa: S607
    except FileNotFoundError:
        raise ConfigurationError("--git", "git", "a program on PATH") from None
    except subprocess.CalledProcessError:
        raise ConfigurationError("PATH", str(repository), "a git repository, for --git") from None
    return done.stdout
