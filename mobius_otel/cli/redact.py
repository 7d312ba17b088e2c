"""``mobius-otel redact``: a filter that takes secrets out of text, logs and JSON lines.

Also ``mobius-otel redact test``: tries a policy's own examples, and ``mobius-otel redact lookup VALUE``: tells the
pseudonyms of a value. A first argument that is exactly the name of such
a command is the command, unless it is a file; a file can always be meant as ``./test``.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import errno
import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, BinaryIO

from mobius_otel.cli.common import Subparsers, add_json, add_policy, policy_of
from mobius_otel.cli.encodings import utf16_of
from mobius_otel.cli.output import json_line, note, progress, table, talking_aside
from mobius_otel.cli.pieces import LONGEST_LINE, Piece, pieces
from mobius_otel.errors import ConfigurationError, MobiusError
from mobius_otel.opening import redaction_policy
from mobius_otel.policy import Policy
from mobius_otel.telemetry.redaction import Explainer, Finding, Pseudonyms, Redactor, failed_examples
from mobius_otel.telemetry.redaction.kinds import MEANINGS
from mobius_otel.telemetry.redaction.scanner import is_lossy

__all__ = ["add_parser"]

_STDIN = "-"
_LINES_TOGETHER, _LINES_BEFORE = 64, 12
_LONGEST_TOGETHER = 32 << 10  # bytes
_MARKERS = re.compile(r"\[redacted:([a-z0-9_]{1,40})")
_EPILOG = """\
examples:
  mobius-otel redact app.log > clean.log        a filter; `kubectl logs shop | mobius-otel redact` too
  mobius-otel redact --check $(git ls-files)    status 1 when a secret was found: for CI and as a hook of pre-commit
  mobius-otel redact test                       the [[redaction.examples]] of the policy file
  mobius-otel redact lookup ann@example.com     the pseudonyms of a value, by the keys of MOBIUS_OTEL_PSEUDONYM_KEY;
                                                lookup - reads values from standard input, one a line

status: 0 done (--check: nothing was found), 1 --check found something or an example failed, 2 a file could not be read
"""


def add_parser(commands: Subparsers) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "redact",
        help="take secrets out of text; a filter",
        description=(
            "Read files or standard input and print them without their secrets, also those that a name on another line"
            " tells. A line of JSON is read as JSON. A line without a secret is printed as it is, byte for byte."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="default, and what - stands for: standard input")
    parser.add_argument("--check", action="store_true", help="print file, line and kind of what is found; status 1")
    parser.add_argument("--explain", action="store_true", help="the same, and which rule found it at which path")
    parser.add_argument("--kind", default="", help="lookup: the kind of secret that the value is (default: found out)")
    parser.add_argument("--tenant", default="", help="lookup: whose value it is")
    add_policy(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    first = args.files[0] if args.files else ""
    if first in _VERBS and not os.path.isfile(first):
        return _VERBS[first](args, args.files[1:])
    run = _Run(args, policy_of(args))
    for name in args.files or [_STDIN]:
        try:
            run.file(name)
        except BrokenPipeError:  # not the file, but who reads us
            if not args.check:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1  # what was to be told is that there is something
        except OSError as error:
            run.unreadable(name, error)
    return run.end()


@dataclasses.dataclass(slots=True)
class _Line:
    """A line that was looked at alone.

    Args:
        number: Its number.
        clean: What is left of it, with its end.
        found: What was found.
        alone: Whether it goes with no other: a document, a line that was blanked.
    """

    number: int
    clean: bytes
    found: list[Finding]
    alone: bool


class _Together:
    """Lines that are looked at together, for a name may stand on another line than its secret.

    Args:
        most: How many lines come together; some of those before them are looked at again.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._before: list[str] = []
        self._lines: list[_Line] = []
        self._size = 0

    def add(self, line: _Line) -> bool:
        """Add a line; return whether it is time to take them."""
        self._lines.append(line)
        self._size += len(line.clean)
        return len(self._lines) >= self.most or self._size > _LONGEST_TOGETHER or line.alone

    def taken(self, redactor: Redactor) -> list[_Line]:
        """Return the lines without what another line tells of them, and begin anew."""
        lines, self._lines, self._size = self._lines, [], 0
        alone = lines.pop() if lines and lines[-1].alone else None
        if lines:
            self._redact(lines, redactor)
        if alone is not None:
            self._before = []
            lines.append(alone)
        return lines

    def _redact(self, lines: list[_Line], redactor: Redactor) -> None:
        before = self._before
        texts = [line.clean.rstrip(b"\r\n").decode("utf-8", "surrogateescape") for line in lines]
        self._before = [*before, *texts][-_LINES_BEFORE:]
        if len(before) + len(texts) < 2 or sum(map(len, before)) > _LONGEST_TOGETHER:
            return
        joined = "\n".join((*before, *texts))
        clean = redactor.text(joined)
        if clean == joined:
            return
        was, now = [*before, *texts], clean.split("\n")
        first = next((at for at, (old, new) in enumerate(zip(was, now, strict=False)) if old != new), 0)
        first = max(first, len(before))
        if len(now) != len(was):  # a secret of several lines: all that is between the first and the last change is one
            same = next((at for at, (old, new) in enumerate(zip(was[::-1], now[::-1], strict=False)) if old != new), 0)
            same = min(same, len(was) - first - 1, len(now) - first)
            now[first : len(now) - same] = ["\n".join(now[first : len(now) - same])]
            was[first : len(was) - same] = ["\n".join(was[first : len(was) - same])]
            for line in lines[first - len(before) + 1 : len(lines) - same]:
                line.clean = b""
            lines = [*lines[: first - len(before) + 1], *lines[len(lines) - same :]]
        for line, old, new in zip(lines, was[len(before) :], now[len(before) :], strict=True):
            if old != new:
                end = line.clean[len(line.clean.rstrip(b"\r\n")) :]
                line.clean = new.encode("utf-8", "surrogateescape") + end
                kinds = Counter(_MARKERS.findall(new)) - Counter(_MARKERS.findall(old))
                why = "a name on another line"
                line.found += [Finding(kind, "", why, "the line", f"[redacted:{kind}]") for kind in kinds.elements()]


class _Run:
    """One call of the filter: where the text goes, what was found, what could not be read.

    Args:
        args: The arguments.
        policy: The policy; its limits are widened to what a line of a file may hold.
    """

    def __init__(self, args: argparse.Namespace, policy: Policy) -> None:
        with talking_aside():
            found = redaction_policy(policy)
        wide = dataclasses.replace(found, max_length=LONGEST_LINE, max_items=1_000_000, max_depth=64)
        self._explainer = Explainer(wide)
        self._args = args
        self._prints_text = not (args.check or args.explain or args.json)
        self._kinds: Counter[str] = Counter()
        self._failed = False
        self._encoding = ""

    def file(self, name: str) -> None:
        """Filter one file, or standard input."""
        if name == _STDIN and sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        if name == _STDIN:
            self._stream("<stdin>", sys.stdin.buffer)
        else:
            with open(name, "rb") as stream:
                self._stream(name, stream)

    def unreadable(self, name: str, error: OSError) -> None:
        """Say that a file cannot be read, and go on with the next."""
        self._failed = True
        sys.stdout.flush()
        hint = error.strerror or type(error).__name__
        note(f"mobius-otel: {ConfigurationError('FILE', name, 'a file that can be read', hint + '.')}")

    def end(self) -> int:
        """Sum up, and return the status."""
        found = dict(sorted(self._kinds.items()))
        total = self._kinds.total()
        if self._args.json:
            json_line({"matches": total, "kinds": found})
        elif self._prints_text and total:
            sys.stdout.flush()
            what = "secret was" if total == 1 else "secrets were"
            note(f"{total} {what} taken out: " + ", ".join(f"{kind} {number}" for kind, number in found.items()))
        if self._failed:
            return 2
        return 1 if self._args.check and total else 0

    def _stream(self, name: str, stream: BinaryIO) -> None:
        status = os.fstat(stream.fileno()) if _has_descriptor(stream) else None
        whole = status is not None and stat.S_ISREG(status.st_mode)
        total = status.st_size if status is not None and whole else 0
        draw = progress(name) if total else None
        done = 0
        some = _Together(_LINES_TOGETHER if whole else 1)  # somebody may be looking on
        read, self._encoding = utf16_of(stream)
        for piece in pieces(read):
            clean, found = self._piece(piece)
            if some.add(_Line(piece.line, clean, found, alone=piece.blank != "" or _json(piece.raw) is not None)):
                self._write(name, some)
            done += len(piece.raw)
            if draw is not None:
                draw(min(done, total - 1), total)
        self._write(name, some)
        if draw is not None:
            draw(total, total)

    def _write(self, name: str, some: _Together) -> None:
        """Print lines, without what another line tells of them."""
        for line in some.taken(self._explainer.redactor):
            for finding in line.found:
                self._kinds[finding.kind] += 1
                if not self._prints_text:
                    self._tell(name, line.number, finding)
            if self._prints_text:
                self._print(line.clean)
        if self._prints_text and some.most == 1:
            self._print(b"", flush=True)

    def _print(self, text: bytes, *, flush: bool = False) -> None:
        if self._encoding:
            text = text.decode("utf-8", "surrogatepass").encode(self._encoding, "surrogatepass")
        try:
            sys.stdout.buffer.write(text)
            if flush:
                sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:  # not the file's fault
            raise MobiusError(f"standard output cannot be written: {error.strerror}") from None

    def _piece(self, piece: Piece) -> tuple[bytes, list[Finding]]:
        """Return a piece without its secrets, and what they were."""
        body = piece.raw.rstrip(b"\r\n")
        end = piece.raw[len(body) :]
        if piece.blank:
            marker = f"[redacted:{piece.blank}]"
            why = "limit: a line that is too long" if piece.blank == "length" else "detector 'private_key'"
            return marker.encode() + end, [Finding(piece.blank, "", why, "the whole line", marker)]
        if not body:
            return piece.raw, []
        text = body.decode("utf-8", "surrogateescape")  # what is no UTF-8 is written back as it was
        document = _json(body)
        if document is not None:
            clean, found = self._redact(document)
            return (_compact(clean, body) + end if found else piece.raw), found
        clean, found = self._redact(text)
        return (str(clean).encode("utf-8", "surrogateescape") + end if found else piece.raw), found

    def _redact(self, value: Any) -> tuple[Any, list[Finding]]:
        if not self._prints_text:
            return self._explainer.explain(value)
        result = self._explainer.redactor.redact(value)  # which rule it was costs more than to find it
        return result.value, [Finding(match.kind, match.path, "", "", "") for match in result.matches]

    def _tell(self, name: str, line: int, finding: Finding) -> None:
        if self._args.json:
            if self._args.explain or self._args.check:
                json_line({"file": name, "line": line, **dataclasses.asdict(finding)})
        elif self._args.explain:
            path = f" at {_printable(finding.path)}" if finding.path else ""
            print(f"{name}:{line}: {finding.kind}: {finding.rule}{path}, {finding.where}: {finding.becomes}")
        else:
            print(f"{name}:{line} {finding.kind}")


def _has_descriptor(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except OSError:
        return False
    return True


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)


class _NotPlain(ValueError):
    """A JSON text that would not come back as it was."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotPlain
    return found


def _number(text: str) -> float:
    number = float(text)
    if is_lossy(text, number):
        raise _NotPlain
    return number


def _json(body: bytes) -> Any:
    """Return what a line encodes when it is a JSON object or list, else None: then it is a text."""
    ends = body.strip()
    if ends[:1] + ends[-1:] not in {b"{}", b"[]"}:
        return None
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"), object_pairs_hook=_once, parse_float=_number)
    except (ValueError, RecursionError):  # a number of thousands of digits among them
        return None


def _compact(value: Any, body: bytes) -> bytes:
    r"""Write a value as one line of JSON; letters beyond ASCII as letters, where the line had them so.

    A half of a pair (``\ud800``) is no letter and stays an escape.
    """
    if not body.isascii() and b"\\ud" not in body.lower():
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")
    return json.dumps(value, separators=(",", ":")).encode()


# --- mobius-otel redact test --------------------------------------------------------------------------------


def _test(args: argparse.Namespace, rest: list[str]) -> int:
    """Try the examples of a policy file."""
    if rest:
        raise ConfigurationError(
            "FILE", rest[0], "left out: `redact test` reads the policy alone", "Use --policy FILE."
        )
    policy = policy_of(args)
    examples = [(example.value, example.expect) for example in policy.redaction.examples]
    if not examples:
        note(f"no examples in {policy.file or 'the policy'}: write [[redaction.examples]] with value and expect")
        return 2
    with talking_aside():
        failed = failed_examples(redaction_policy(policy), examples)
    if args.json:
        json_line({"examples": len(examples), "failed": [dataclasses.asdict(failure) for failure in failed]})
    elif failed:
        shown = [(f"redaction.examples[{one.example}]", one.path, one.expected, one.got) for one in failed]
        table(["example", "at", "expected", "got"], shown)
    else:
        print(f"{len(examples)} examples: all as expected")
    return 1 if failed else 0


def _lookup(args: argparse.Namespace, values: list[str]) -> int:
    """Print the pseudonyms of a value that an investigator knows, one for each key there is."""
    if not values:
        note("mobius-otel: whose pseudonym? For example: mobius-otel redact lookup ann@example.com")
        return 2
    with talking_aside():
        policy = redaction_policy(policy_of(args))
    known = {*MEANINGS, *(kind for kind, _ in (*policy.patterns, *policy.detectors))}
    if args.kind and args.kind not in known:
        near = difflib.get_close_matches(args.kind, known, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"They are: {', '.join(sorted(known))}."
        raise ConfigurationError("--kind", args.kind, "a kind of secret", hint)
    if values == [_STDIN]:  # not on the command line, where every process of the machine reads it
        values = [line.rstrip("\r\n") for line in sys.stdin or ()]
    pseudonyms = Pseudonyms.from_environment()
    plain = Redactor(dataclasses.replace(policy, actions=(), rules=()))
    rows = []
    for value in values:
        found = [match.kind for match in plain.redact(value).matches]
        kind = args.kind or (found[0] if found else "name")
        if not args.kind and not found:
            note("mobius-otel: only a name tells this value; --kind says which kind it is, here: name")
        rows += [
            {"kind": kind, "key": key, "marker": marker}
            for key, marker in pseudonyms.all(kind, value, args.tenant).items()
        ]
    if args.json:
        json_line(rows)
    else:
        table(["kind", "key", "stands as"], [[row["kind"], row["key"], row["marker"]] for row in rows])
    return 0


#: What a first argument may be beside a file.
_VERBS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {"test": _test, "lookup": _lookup}
