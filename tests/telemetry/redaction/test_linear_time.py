"""Time grows with the length of a text alone, whatever the text is made of."""

import random
import time

import pytest

from mobius_otel.telemetry.redaction import Redactor

FRAGMENTS = [
    "a", "1", "@", "a@", "a@a.", "://", "http://a:", "http://a@", "=", "a=", "password=", "password=a,", "password: ",
    "-----BEGIN", "-----BEGIN RSA PRIVATE KEY-----", "eyJ", "eyJ.", "eyJhbGciOiJIUzI1NiJ9.", "sk-", "sk_live_", "ghp_",
    "AKIA", "xoxb-", "_", "a_", "4111 ", "4111-", "41111111111111 ", "4111111111111111 ", "GB82 ", "DE89 ", "1-",
    "123-45-6789", "a.", "a-", "--a", "--token ", "\\", '\\"', '"', "'", "{", "[", "[redacted:", "[redacted:x]",
    "password=[", "password={", 'password="', "password='", '\\"password\\":\\"', "<a>", "<password>", "Bearer ",
    "Basic ",
    "the password is ", "Authorization: ", "Authorization: a ", "Cookie: ", "Cookie: a=b; ", "//a:b@", "%", "\n", " ",
    "\u00e9", "SG.", "hvs.", "-u a:", "a:b@", "&a=", "token=a]", "token=a)", "token=a&", "pk_live_", "a_live_",
    "key key ",
    "['-a', '", '["-', "('a',", "['a", '[\\"-a\\",', "[sql: ", "[parameters: ", "[parameters: ('a', ",
    "copy a (pin) from stdin;\n",
    "a\tb\n", "kind: Secret\n", "data:\n  a: b\n", "set pin to 'a' ", "password = ? ",
    "a,pin\n", "1,2\n", "| a | pin |\n", "a\tpin\n1\t2b2b\n", "[pin]\n", "dbPass:\n ", "a|dbPass\n|",
    "[pins]\na = b1b1b1\n", "tokens:\n",
    "tokens:\n  a: b1b1b1\n", "a,", "|a", "[a, -b", "a: $2b$12$", "pbkdf2$", "\na\n  b [type=c, input_value=",
    "argument -a: invalid b: '", "On instance['pin']:\n  a", "[pin:protected] => ", 's:3:"pin";s:1:"',
    "<key>pin</key><string>", '<input value="a" ', "\npin   ", "\npin\t", "pin:\n- a1", "\x1b[32mpin\x1b[0m=",
    "/reset/a1-", "/reset/token/", "PASS ", "> PASS a", "password from a to ", "\u5bc6\u7801\u662f", 'variable "pin" {',
    "where token <> 'a' ", "where token in (", "where token in ('a', ", "where token like '%", "identified by 'a",
    "pin='a''",
    "pin changed from 'a", "pin changed from a to ", "where a)::a a)::",
    "MAAAAAAAAAAAAAAAAAAAAAAA.aaaaaa.", "state=&code=", "11111111:AA", "password password ", "api key", " is",
    "echo a|", "echo aaa | sudo ", "htpasswd -b ", "sqlplus a/",
    "net use \\\\a ", "AUTH\\r\\n$1\\r\\na", "AUTH a ", "-p'a ",
    "put-parameter --name ", "put-parameter --value 'a", "pulumi config set a ", "rabbitmqctl add_user a ", "zip -P",
    "::add-mask::a", "setuser a >", "sudo -S <<<", "snmpget -A a -X ", "curl -E a:", ".auth('a', '",
    "rejected value [", "on field 'pin': rejected value [a", '"pin" with value "a" fails', "Path `pin` (`a",
    'from String "a"',
    'deserialize from String "a": (through reference chain: ', "Duplicate entry 'a' for key 'pin'", "var.pin is 'a",
    "where pin = ? ['a',", "parameters: $1 = 'a', ", "set pin=$1 parameters: [", "update a set pin = ? where ", "; ['a",
    "[Parameters=[@p0='",
    "==> Parameters: a(String), ", "binding parameter [1] as [a] - [a]",
    "insert into a (pin) values (?) (parameters: array{",
    "invalid value 'a' for '--pin", "pin: Invalid value: 'a", "assert pin == 'a",
    "\u2502", "\u2514 'a", "\u2502 pin \u2502 a1", "\u2502\n", "pin\n\u2514 'a'\n",
    "rawHeaders: [ 'a', 'b', ", "'Cookie', 'a',", "[pin, a",
    "PDO('a', 'b', 'c", "HTTPBasicAuth('a', 'b", 'a0="a" ', 'a1="-p" ',
    "AUTH PLAIN a", "storePassword 'a", "pin: (a) (len=1) ",
    "token=Optional[", "token: Optional[str] = ", "session aaaaaaaaaaaaaaa1 ",
]  # fmt: skip


def _seconds(text):
    best = 1e9
    for _ in range(2):
        redactor = Redactor()
        before = time.process_time()
        redactor.text(text)
        best = min(best, time.process_time() - before)
    return best


def _search():
    """Every fragment repeated, and pairs of them by chance."""
    yield from FRAGMENTS
    chance = random.Random(3)
    for _ in range(60):
        yield "".join(chance.choices(FRAGMENTS, k=chance.randrange(2, 4)))


@pytest.mark.parametrize("shape", list(_search()))
def test_no_shape_makes_the_redactor_slow(shape):
    """20,000 characters take at most a few times what 5,000 take; a square would be sixteen times."""
    short, long = ((shape * (length // len(shape) + 1))[:length] for length in (5_000, 20_000))
    assert _seconds(long) < max(0.05, 9 * _seconds(short))
