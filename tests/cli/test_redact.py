# ruff: noqa: E501
"""``mobius-otel redact``: the filter, its check and its explanation, and the examples of a policy."""

import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from mobius_otel.cli.main import main
from mobius_otel.cli.pieces import LONGEST_LINE, pieces

CANARY = "hunter2secret"
KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + (b"MIIEpAIBAAKCAQEA" * 4 + b"\n") * 8 + b"-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def redact(tmp_path, monkeypatch, capfdbinary):
    """Calls the command in a folder of its own; returns its status, output and messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOBIUS_OTEL_POLICY", raising=False)

    def call(*argv, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with open(1, "w", encoding="utf-8", closefd=False) as out, open(2, "w", closefd=False) as err:
            monkeypatch.setattr(sys, "stdout", out)
            monkeypatch.setattr(sys, "stderr", err)
            status = main(["redact", *map(str, argv)])
        said = capfdbinary.readouterr()
        assert CANARY.encode() not in said.out + said.err
        return status, said.out, said.err.decode()

    return call


def test_text_and_json_lines_lose_their_secrets_and_nothing_else(redact):
    """Text in its place, JSON compact in its order, what has no secret byte for byte, line ends as they are."""
    lines = [
        b"all  is well\t\r\n", b'{ "b" : 1.50, "a" : "\\u00e9" }\n', f"GET /v1?token={CANARY}&page=2\r\n".encode(),
        f'{{"b": {{"password": "{CANARY}"}}, "a": [1.5, "é"]}}\n'.encode(), b"the end",
    ]  # fmt: skip
    status, out, said = redact(stdin=b"".join(lines))
    assert status == 0
    assert out.split(b"\n") == [
        b"all  is well\t\r", b'{ "b" : 1.50, "a" : "\\u00e9" }', b"GET /v1?token=[redacted:token]&page=2\r",
        '{"b":{"password":"[redacted:password]"},"a":[1.5,"é"]}'.encode(), b"the end",
    ]  # fmt: skip
    assert said.strip() == "2 secrets were taken out: password 1, token 1"
    assert redact(stdin=b"password=hunter2\n")[2].strip() == "1 secret was taken out: password 1"


@pytest.mark.parametrize(
    "line",
    [
        '{"password": "SECRET", "password": "SECRET"}', '{"password": "SECRET", "n": 1e999}', '{"password": "SECRET"',
        '["password=SECRET", NaN]', '{"m": "{\\"password\\": \\"SECRET\\"}"}', "[" * 2000 + '"password=SECRET"' + "]" * 2000,
    ],
)  # fmt: skip
def test_what_is_only_nearly_json_loses_its_secrets_too(redact, line):
    """Twice the same name, numbers that JSON cannot hold, JSON in JSON, nesting without an end."""
    status, out, _ = redact(stdin=line.replace("SECRET", CANARY).encode() + b"\n")
    assert status == 0
    assert b"[redacted:" in out


def test_bytes_that_are_no_text_survive(redact):
    """Latin-1 in a log, in a JSON line beside a secret, and half a pair as an escape."""
    assert redact(stdin=b"caf\xe9 \x00\xff fine\n")[1] == b"caf\xe9 \x00\xff fine\n"
    assert redact(stdin=b"caf\xe9 password=x1y2z3\n")[1] == b"caf\xe9 password=[redacted:password]\n"
    assert redact(stdin=b'{"a": "\xe9", "pin": "1234"}\n')[1] == b'{"a":"\xe9","pin":"[redacted:pin]"}\n'
    out = redact(stdin='{"a": "\\ud800 é", "pin": "1234"}\n'.encode())[1]
    assert json.loads(out) == {"a": "\ud800 é", "pin": "[redacted:pin]"}


def test_a_key_over_many_lines_is_one_find(redact):
    """Alone, behind text, behind the beginnings of the lines of a log; a certificate stays."""
    assert redact(stdin=b"a\n" + KEY + b"b\n")[1] == b"a\n[redacted:private_key]\nb\n"
    logged = b"".join(b"12:00 INFO " + line + b"\n" for line in KEY.splitlines())
    assert redact(stdin=logged + b"12:01 next\n")[1] == b"12:00 INFO [redacted:private_key]\n12:01 next\n"
    certificate = KEY.replace(b"RSA PRIVATE KEY", b"CERTIFICATE")
    assert redact(stdin=certificate)[1] == certificate


def test_a_key_without_its_end_is_blanked_and_the_log_goes_on(redact):
    """Cut off, or longer than the bound: nothing of it passes, and what follows is read as ever."""
    head, body = KEY.splitlines(keepends=True)[:2]
    out = redact(stdin=head + body * 3 + b"12:00 all is well\n" + b"password=x1y2z3\n")[1]
    assert b"MIIE" not in out
    assert out.endswith(b"12:00 all is well\npassword=[redacted:password]\n")
    out = redact(stdin=head + body * 3000 + b"-----END RSA PRIVATE KEY-----\n12:00 all is well\n")[1]
    assert b"MIIE" not in out
    assert out.endswith(b"12:00 all is well\n")


def test_check_prints_file_line_and_kind_and_never_the_secret(redact, tmp_path):
    """For CI and hooks: 0 clean, 1 found, 2 unreadable, whatever else was found."""
    (tmp_path / "a.log").write_text(f"fine\npassword={CANARY}\n")
    (tmp_path / "b.log").write_text("fine\n")
    (tmp_path / "k.pem").write_bytes(b"\n\n" + KEY)
    assert redact("--check", "b.log")[:2] == (0, b"")
    assert redact("--check", "a.log", "b.log", "k.pem")[:2] == (1, b"a.log:2 password\nk.pem:3 private_key\n")
    status, out, said = redact("--check", "gone.log", ".", "a.log")
    assert (status, out) == (2, b"a.log:2 password\n")
    assert "'gone.log': it must be a file that can be read. No such file" in said
    assert redact("gone.log", "b.log")[:2] == (2, b"fine\n")


def test_explain_names_the_rule_and_the_place(redact, tmp_path):
    """File, line, kind, rule, path; as lines of JSON for machines."""
    (tmp_path / "mobius.toml").write_text('[redaction.patterns]\nbadge = "B-[0-9]{6}"\n')
    text = f'{{"user": {{"newPassword": "{CANARY}"}}, "m": ["B-123456 by a@example.com"]}}\nx --token {CANARY}\n'
    status, out, _ = redact("--explain", "-", stdin=text.encode())
    assert status == 0
    assert out.decode().splitlines() == [
        "<stdin>:1: password: name 'newPassword' at user.newPassword, the whole value: [redacted:password]",
        "<stdin>:1: badge: pattern 'badge' at m[0], character 1 of the redacted text: [redacted:badge]",
        "<stdin>:1: email: detector 'email' at m[0], character 21 of the redacted text: [redacted:email]",
        "<stdin>:2: token: name 'token', character 11 of the redacted text: [redacted:token]",
    ]
    *findings, total = map(json.loads, redact("--explain", "--json", stdin=text.encode())[1].splitlines())
    assert findings[0] == {
        "file": "<stdin>", "line": 1, "kind": "password", "path": "user.newPassword", "rule": "name 'newPassword'",
        "where": "the whole value", "becomes": "[redacted:password]",
    }  # fmt: skip
    assert total == {"matches": 4, "kinds": {"badge": 1, "email": 1, "password": 1, "token": 1}}
    assert redact("--check", "--json", stdin=b"fine\n")[:2] == (0, b'{"matches": 0, "kinds": {}}\n')


def test_a_line_that_is_too_long_is_blanked_visibly(redact):
    """Where it would have to be cut, half a secret could stand."""
    status, out, _ = redact(stdin=b"a " * LONGEST_LINE + b"\nnext\n")
    assert (status, out) == (0, b"[redacted:length]\nnext\n")
    long = b"ab " * 200_000
    assert redact(stdin=long + b"password=x1y2z3\n")[1] == long + b"password=[redacted:password]\n"


class _Endless(io.RawIOBase):
    """A stream that makes up its text while it is read."""

    def __init__(self, line, length):
        self._line = line
        self._left = length

    def readable(self):
        return True

    def readinto(self, buffer):
        size = min(len(buffer), self._left)
        buffer[:size] = (self._line * (size // len(self._line) + 1))[:size]
        self._left -= size
        return size


@pytest.mark.parametrize(
    "line", [b"a line of a log\n", b"x" * 8192, b"-----BEGIN PRIVATE KEY-----\n", b"MIIE" * 16 + b"\n"]
)
def test_memory_does_not_grow_with_the_text(line):
    """Lines, one line without an end, keys that begin and never end."""
    peaks = []
    for length in (2 << 20, 5 << 20):
        tracemalloc.start()
        for _ in pieces(io.BufferedReader(_Endless(line, length))):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000
    assert peaks[1] < 8 * LONGEST_LINE


def _start(folder, *argv, **pipes):
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "MOBIUS_"))}
    command = [
        sys.executable,
        "-c",
        "import sys; from mobius_otel.cli.main import main; sys.exit(main())",
        "redact",
        *argv,
    ]
    return subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **pipes)


def test_a_closed_pipe_ends_it_quietly(tmp_path):
    """``| head -1`` is no error and leaves no traceback."""
    (tmp_path / "big.log").write_text("a line that is fine\n" * 200_000)
    with _start(tmp_path, "big.log") as process:
        assert process.stdout.readline() == b"a line that is fine\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_a_pipe_is_answered_line_by_line(tmp_path):
    """``tail -f`` in front of it: a line comes out before the next goes in."""
    with _start(tmp_path, stdin=subprocess.PIPE) as process:
        process.stdin.write(b"pin=1234\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"pin=[redacted:pin]\n"
        process.stdin.close()
        process.wait(60)


def test_a_progress_bar_is_drawn_for_a_person_alone(redact, tmp_path, monkeypatch):
    """On a terminal, on standard error, and only where it takes a while."""
    (tmp_path / "a.log").write_text("fine\n" * 50)
    assert redact("a.log")[2] == ""
    drawn = []
    monkeypatch.setattr("mobius_otel.cli.redact.progress", lambda what: lambda done, total: drawn.append((done, total)))
    redact("a.log")
    assert drawn[-1] == (250, 250)
    assert [done for done, _ in drawn] == sorted(done for done, _ in drawn)
    drawn.clear()
    redact(stdin=b"fine\n")
    assert drawn == []  # nobody knows how long it will be


EXAMPLES = """\
[redaction]
names = ["badge_no"]
[[redaction.examples]]
value = "order ${ORDER} by ann, pin=1234"
expect = "order ${ORDER} by ann, pin=[redacted:pin]"
[[redaction.examples]]
value = {badgeNo = "x-1", list = [1, "a"]}
expect = {badgeNo = "[redacted:name]", list = [1, "a"]}
"""


def test_the_examples_of_a_policy_are_tried(redact, tmp_path):
    """All good; one that fails, with its place; none at all."""
    (tmp_path / "mobius.toml").write_text(EXAMPLES)
    assert redact("test")[:2] == (0, b"2 examples: all as expected\n")
    (tmp_path / "other.toml").write_text(
        EXAMPLES.replace('names = ["badge_no"]', "").replace('[1, "a"]}\n', '[2, "a"]}\n')
    )
    (tmp_path / "other.toml").write_text((tmp_path / "other.toml").read_text().replace("[2", "[1", 1))
    status, out, _ = redact("test", "--policy", "other.toml")
    assert status == 1
    header, *rows = out.decode().splitlines()
    assert header.split() == ["example", "at", "expected", "got"]
    assert [row.split() for row in rows] == [
        ["redaction.examples[1]", "badgeNo", "'[redacted:name]'", "'x-1'"],
        ["redaction.examples[1]", "list[0]", "2", "1"],
    ]
    failed = json.loads(redact("test", "--policy", "other.toml", "--json")[1])
    assert failed["failed"][1] == {"example": 1, "path": "list[0]", "expected": "2", "got": "1"}
    (tmp_path / "none.toml").write_text("")
    status, _, said = redact("test", "--policy", "none.toml")
    assert status == 2
    assert "[[redaction.examples]]" in said
    status, _, said = redact("test", "more.log")
    assert status == 2
    assert "--policy FILE" in said


def test_a_file_by_the_name_of_a_command_is_a_file(redact, tmp_path):
    """A hook hands over whatever is committed."""
    (tmp_path / "test").write_text("pin=1234\n")
    assert redact("test")[1] == b"pin=[redacted:pin]\n"


def test_policy_check_holds_a_policy_to_its_examples(redact, tmp_path, capfdbinary):
    """One that fails makes the policy not good, with file and line of nothing secret."""
    (tmp_path / "mobius.toml").write_text(EXAMPLES)
    assert main(["policy", "check"]) == 0
    (tmp_path / "mobius.toml").write_text(EXAMPLES.replace("[redacted:name]", "x-1"))
    assert main(["policy", "check"]) == 1
    said = capfdbinary.readouterr().err.decode()
    assert "mobius.toml: redaction.examples[1].badgeNo: '[redacted:name]' is left, and not 'x-1'. All" in said


def test_the_hook_is_one_that_pre_commit_takes():
    """Its entry is this command, with the check."""
    text = (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    assert "- id: mobius-otel-redact\n" in text
    assert "  entry: mobius-otel redact --check\n" in text


def test_lookup_tells_the_pseudonym_that_stands_in_the_log(tmp_path, monkeypatch, capsys):
    """What an investigator who knows the value searches for, by every key; without a key it says what to type."""
    from mobius_otel.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobius.toml").write_text('[redaction.actions]\nemail = "pseudonym"\n')
    (tmp_path / "app.log").write_text("mail to ann@example.com\n")
    monkeypatch.setenv("MOBIUS_OTEL_PSEUDONYM_KEY", "k2:a made-up key of tests,k1:an older made-up key")
    assert main(["redact", "app.log"]) == 0
    shown = capsys.readouterr().out.split()[-1]
    assert main(["redact", "lookup", "Ann@example.com", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["key"]) for row in rows] == [("email", "k2"), ("email", "k1")]
    assert rows[0]["marker"] == shown
    assert main(["redact", "lookup", "ann@example.com", "--tenant", "acme"]) == 0
    assert shown not in capsys.readouterr().out
    assert main(["redact", "lookup"]) == 2
    monkeypatch.delenv("MOBIUS_OTEL_PSEUDONYM_KEY")
    assert main(["redact", "lookup", "x"]) == 2
    assert "openssl rand -hex 32" in capsys.readouterr().err


OVER_LINES = {
    "- name: DB_PASSWORD\n  value: {}\n": "- name: DB_PASSWORD\n  value: [redacted:password]\n",
    "kind: Secret\nstringData:\n  db: |\n    {}\nx: 1\n": "kind: Secret\nstringData:\n  db: |\n    [redacted:secret]\nx: 1\n",
    'form-data; name="password"\r\n\r\n{}\r\n--X\r\n': 'form-data; name="password"\r\n\r\n[redacted:password]\r\n--X\r\n',
    '"name": "DB_PASSWORD",\n"value": "{}"\n': '"name": "DB_PASSWORD",\n"value": "[redacted:password]"\n',
    'passwords = [\n  "{}",\n  "{}1"]\nz = 1\n': "passwords = [[redacted:password]]\nz = 1\n",
}


@pytest.mark.parametrize("text", OVER_LINES)
def test_a_name_on_another_line_tells_a_secret(text, redact, tmp_path):
    """In a file and in a pipe, behind many lines that say nothing; documents between are looked at alone."""
    quiet = "".join(f"line {n} says nothing\n" for n in range(130))
    path = tmp_path / "a.txt"
    path.write_text(quiet + '{"a": 1}\n' + text.replace("{}", CANARY) + quiet, newline="")
    status, out, _ = redact(path)
    assert (status, out.decode()) == (0, quiet + '{"a": 1}\n' + OVER_LINES[text] + quiet)
    status, out, _ = redact("--check", path)
    assert status == 1
    assert {line.partition(" ")[0] for line in out.decode().splitlines()} <= {f"{path}:{n}" for n in range(132, 137)}
    if "[\n" not in text:  # the lines of a list are gone before their end comes
        assert redact(stdin=text.replace("{}", CANARY).encode())[1].decode() == OVER_LINES[text]


def called(folder, *argv, env=None, stdin=b"", stdout=subprocess.PIPE):
    """Call the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mobius_otel", "redact", *argv], cwd=folder, env={**os.environ, **(env or {})},
        input=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip


def test_a_pipe_that_closes_does_not_open_the_gate(tmp_path):
    """``--check big.log | head -1`` under ``pipefail``: something was found."""
    (tmp_path / "big.log").write_text("password=hunter2x\n" * 20_000)
    command = f"set -o pipefail; {sys.executable} -m mobius_otel redact --check big.log | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "big.log:1 password\n", "")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_read_and_written_as_it_is(tmp_path, encoding):
    """What PowerShell's ``>`` writes, also without a mark at its beginning."""
    text = "user=ann\r\npassword=hunter2 \u00e9\U0001f600\r\ndone\r\n"
    (tmp_path / "app.log").write_bytes(text.encode(encoding))
    done = called(tmp_path, "app.log")
    assert done.stdout.decode(encoding) == text.replace("hunter2", "[redacted:password]")
    assert called(tmp_path, "--check", "app.log").returncode == 1


def test_half_a_character_at_the_end_of_utf_16_stops_nothing(tmp_path):
    (tmp_path / "app.log").write_bytes("password=hunter2\n".encode("utf-16") + b"a")
    assert called(tmp_path, "app.log").stdout.decode("utf-16") == "password=[redacted:password]\n\ufffd"


def test_a_folder_named_like_a_command_is_none_of_its_files(tmp_path):
    """Half of all projects have a folder ``test``."""
    (tmp_path / "test").mkdir()
    (tmp_path / "mobius.toml").write_text('[[redaction.examples]]\nvalue = "pin=1234"\nexpect = "pin=[redacted:pin]"\n')
    assert called(tmp_path, "test").stdout == b"1 examples: all as expected\n"


def test_a_value_to_be_looked_up_may_come_from_standard_input(tmp_path):
    environ = {"MOBIUS_OTEL_PSEUDONYM_KEY": "k1:a made-up key of tests"}
    by_argument = called(tmp_path, "lookup", "--kind", "password", "hunter2", env=environ)
    by_input = called(tmp_path, "lookup", "-", "--kind", "password", env=environ, stdin=b"hunter2\n")
    assert b"[redacted:password:k1." in by_argument.stdout == by_input.stdout
    unsaid = called(tmp_path, "lookup", "hunter2", env=environ)
    assert b"--kind says which kind it is" in unsaid.stderr
    wrong = called(tmp_path, "lookup", "--kind", "pasword", "hunter2", env=environ)
    assert (wrong.returncode, b"Did you mean 'password'?" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("key", ["k1:a made-up key of tests,k1:another made-up key", "k1:<openssl rand -hex 32>"])
def test_keys_of_pseudonyms_are_one_of_each_name_and_real(tmp_path, key):
    done = called(tmp_path, "lookup", "ann@example.com", env={"MOBIUS_OTEL_PSEUDONYM_KEY": key})
    assert (done.returncode, done.stdout) == (2, b"")


def test_an_argument_that_is_not_known_is_not_echoed(tmp_path):
    done = called(tmp_path, "--chek=hunter2", "a")
    assert (done.returncode, b"hunter2" in done.stderr, b"--chek" in done.stderr) == (2, False, True)


@pytest.mark.parametrize("number", ["12345678901234567.89", "1e400"])
def test_a_number_that_would_become_another_one_stays(tmp_path, number):
    line = f'{{"a": {number}, "password": "hunter2", "in": "{{\\"b\\": {number}, \\"token\\": \\"hunter3x\\"}}"}}\n'
    (tmp_path / "a.jsonl").write_text(line)
    clean = called(tmp_path, "a.jsonl").stdout.decode()
    assert (clean.count(number), "hunter" in clean) == (2, False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux alone has a disk that is always full")
def test_a_full_disk_is_not_the_fault_of_the_file(tmp_path):
    (tmp_path / "a.log").write_text("x\n" * 100_000)
    with open("/dev/full", "wb") as full:
        done = called(tmp_path, "a.log", stdout=full)
    assert (done.returncode, done.stderr) == (
        2, b"mobius-otel: standard output cannot be written: No space left on device\n",
    )  # fmt: skip


def test_without_standard_input_it_says_so(tmp_path):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m mobius_otel redact <&-"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, b"standard input is closed" in done.stderr) == (2, True)
