# ruff: noqa: E501
"""Commands, as they are typed, and what they are given without a flag that tells it."""

import pytest

from mobius_otel.telemetry.redaction import Redactor
from mobius_otel.telemetry.redaction.hits import Hits
from tests.telemetry.redaction.secrets_kit import CANARY

REDACTOR = Redactor()
SCANNER = REDACTOR._memory.scanner
FORMS = [
    # commands: a word in quotes is taken whole, and what only looks like a variable
    ("app --password 'correct horse {} staple' -x", "app --password '[redacted:password]' -x"),
    ("mysql -u a -p'my dog {}' db", "mysql -u a -p'[redacted:password]' db"),
    ("mysql -u a -p'${}' db", "mysql -u a -p'[redacted:password]' db"),
    ("curl -u 'bob:pass {}' https://x", "curl -u 'bob:[redacted:url_credential]' https://x"),
    ("curl -u 'bob:${}' https://x", "curl -u 'bob:[redacted:url_credential]' https://x"),
    # what no flag tells
    ("echo {} | docker login -u bob --password-stdin", "echo [redacted:password] | docker login -u bob --password-stdin"),
    ("printf '%s' 'a {}' | sudo -S ls", "printf '%s' '[redacted:password]' | sudo -S ls"),
    ("docker login --password-stdin <<< {}", "docker login --password-stdin <<< [redacted:password]"),
    ("echo 'root:{}' | chpasswd", "echo 'root:[redacted:password]' | chpasswd"),
    ("unzip -P {} a.zip", "unzip -P [redacted:password] a.zip"),
    ("zip -P '{}' a.zip b", "zip -P '[redacted:password]' a.zip b"),
    ("htpasswd -bc -C 10 /etc/f bob {}", "htpasswd -bc -C 10 /etc/f bob [redacted:password]"),
    ("htpasswd -nb bob {}", "htpasswd -nb bob [redacted:password]"),
    ("rabbitmqctl -n a@b add_user bob {}", "rabbitmqctl -n a@b add_user bob [redacted:password]"),
    ('ConvertTo-SecureString -String "{}" -AsPlainText', 'ConvertTo-SecureString -String "[redacted:password]" -AsPlainText'),
    ("aws ssm put-parameter --name /x/db_password --value {} --type String",
     "aws ssm put-parameter --name /x/db_password --value [redacted:password] --type String"),
    ("aws ssm put-parameter --name /x/y \\\n  --value 'a; {}' \\\n  --type SecureString",
     "aws ssm put-parameter --name /x/y \\\n  --value '[redacted:secret]' \\\n  --type SecureString"),
    ("gh secret set DB_PASS --body {}", "gh secret set DB_PASS --body [redacted:password]"),
    ("kubectl create secret generic db --from-literal=a={}", "kubectl create secret generic db --from-literal=a=[redacted:secret]"),
    ("pulumi config set --secret dbUrl {}", "pulumi config set --secret dbUrl [redacted:secret]"),
    ("curl -U bob:{} -x p https://x", "curl -U bob:[redacted:url_credential] -x p https://x"),
    ("curl -E cert.pem:{} https://x", "curl -E cert.pem:[redacted:password] https://x"),
    ("smbclient //h/s -U bob%{}", "smbclient //h/s -U bob%[redacted:url_credential]"),
    ("sqlplus -s bob/{}@ORCL", "sqlplus -s bob/[redacted:password]@ORCL"),
    ("az acr login -n r -u bob -p {}", "az acr login -n r -u bob -p [redacted:password]"),
    ("cqlsh -u bob -p {} h", "cqlsh -u bob -p [redacted:password] h"),
    ("snmpwalk -v3 -u bob -a SHA -A {} -x AES -X {} h",
     "snmpwalk -v3 -u bob -a SHA -A [redacted:password] -x AES -X [redacted:password] h"),
    ("AUTH bob {}", "AUTH bob [redacted:password]"),
    ("*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$12\r\n{}\r\n", "*3\r\n$4\r\nAUTH\r\n$3\r\nbob\r\n$12\r\n[redacted:password]\r\n"),
    ("b'*2\\r\\n$4\\r\\nAUTH\\r\\n$12\\r\\n{}\\r\\n'", "b'*2\\r\\n$4\\r\\nAUTH\\r\\n$12\\r\\n[redacted:password]\\r\\n'"),
    ("ACL SETUSER bob on >{} ~* +@all", "ACL SETUSER bob on >[redacted:password] ~* +@all"),
    ("dn: cn=bob\nuserPassword:: {}", "dn: cn=bob\nuserPassword:: [redacted:password]"),
    ("vault login {}", "vault login [redacted:password]"),
    ("net user bob {} /add", "net user bob [redacted:password] /add"),
    ("::add-mask::{}", "::add-mask::[redacted:password]"),
    ("##vso[task.setvariable variable=x;issecret=true]{}",
     "##vso[task.setvariable variable=x;issecret=true][redacted:password]"),
    ('db.auth("bob", "{}")', 'db.auth("bob", "[redacted:password]")'),
]  # fmt: skip
HARMLESS = [
    # commands that read it elsewhere, and words that only look like commands
    'echo "$PW" | docker login --password-stdin', 'echo "${{ secrets.X }}" | sudo -S ls', "echo hello | sudo tee /etc/x",
    'echo "$U:$P" | chpasswd', 'mysql -p"$VAR" db', "mysql -p$VAR db", "mysql -p'${VAR}' db", "mysql -p'$DB_PASS' db",
    "unzip -p a.zip x", "htpasswd -c /etc/f bob", "htpasswd -b /etc/f bob $PW", "rabbitmqctl list_users",
    "ConvertTo-SecureString -String $env:PW -AsPlainText", "aws ssm put-parameter --name /a/url --value https://x --type String",
    'gh secret set DB_PASS --body "$X"', "curl -E ./cert.pem --key k", "curl -E C:\\certs\\a.pem", "AUTH CRAM-MD5",
    "AUTH PLAIN", "sqlplus / as sysdba", "sqlplus client/server mode", "az webapp create -p myplan1 -n x",
    "net user name", "vault login failed", "git diff -U3 a", 'grep -E "foo:bar1" x', "::add-mask::***",
    'ssh-keygen -t rsa -N "" -f k', "openssl s_client -connect h:443", "kubectl create secret generic db --from-file=a",
]  # fmt: skip


@pytest.mark.parametrize(("text", "clean"), FORMS, ids=[clean[:40] for _, clean in FORMS])
def test_what_a_command_is_given_goes_and_the_command_stays(text, clean):
    """Again, beside another text, and on a terminal."""
    text = text.replace("{}", CANARY)
    assert REDACTOR.text(text) == clean
    assert REDACTOR.text(clean) == clean
    assert REDACTOR.redact({"note": "all is well", "message": text}).value == {"note": "all is well", "message": clean}
    assert SCANNER.scan(text, Hits()) == clean


@pytest.mark.parametrize("text", HARMLESS)
def test_a_command_that_is_given_no_secret_stays(text):
    """Variables, files, questions; and prose with the same words."""
    assert REDACTOR.text(text) is text


@pytest.mark.parametrize(
    "words",
    [["htpasswd", "-b", "f", "bob", "{} and more"], ["unzip", "-P", "{}", "a"], ["curl", "-E", "c.pem:{}"],
     ["gh", "secret", "set", "N", "--body", "{}"], ["aws", "ssm", "put-parameter", "--name", "/a/pin_code", "--value", "{}"],
     ["sh", "-c", "echo {} | docker login --password-stdin"]],
)  # fmt: skip
def test_the_words_of_such_a_command(words):
    """Each is a word, whatever stands in it; a script is one, too."""
    clean = Redactor().redact({"argv": [word.replace("{}", CANARY) for word in words]}).value["argv"]
    assert CANARY not in "".join(clean)
    assert [word for word, was in zip(clean, words, strict=True) if "{}" not in was] == [
        was for was in words if "{}" not in was
    ]


def test_a_command_of_redis_in_lines_of_their_own_is_never_forgotten():
    """Lines that were clean beside others are not taken for clean where they tell something."""
    redactor = Redactor()
    text = f"*2\r\n$4\r\nAUTH\r\n$12\r\n{CANARY}\r\n"
    for line in text.split("\n"):
        redactor.text(f"Traceback\n{line}\nend")
    assert CANARY not in redactor.text(text)
