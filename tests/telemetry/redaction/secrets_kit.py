"""Made-up but well-formed secrets, put together so that no scanner of secrets takes them for real ones."""

import base64
import random
import uuid

_random = random.Random(20)
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
HEX = "0123456789abcdef"
#: Stands for any secret that only its name or place tells.
CANARY = "zQ7canary9Xk"


def made_up(length, alphabet=BASE62):
    return "".join(_random.choice(alphabet) for _ in range(length))


def _part(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


JWT = ".".join((_part('{"alg":"HS256","typ":"JWT"}'), _part('{"sub":"u-1"}'), made_up(43)))
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(made_up(64) for _ in range(4)) + "\n-----END RSA PRIVATE KEY-----"

BY_VALUE = {
    "mobius_key": ["mob_live_" + made_up(49), "x9_prod1_" + made_up(49)],
    "jwt": [JWT],
    "aws": ["AKIA" + made_up(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")],
    "gcp": ["AIza" + made_up(35), "GOCSPX-" + made_up(28)],
    "azure": [made_up(3) + "8Q~" + made_up(34), made_up(76) + "AZDO" + made_up(4),
              made_up(44) + "AzFu" + made_up(5) + "Q=="],
    "github": ["ghp_" + made_up(36), "github_pat_" + made_up(22) + "_" + made_up(59)],
    "gitlab": ["glpat-" + made_up(20)],
    "slack": ["xoxb-" + made_up(12, "123456789") + "-" + made_up(24)],
    "stripe": ["sk_live_" + made_up(24), "rk_test_" + made_up(24)],
    "openai": ["sk-proj-" + made_up(60), "sk-" + made_up(48)],
    "anthropic": ["sk-ant-api03-" + made_up(93) + "AA"],
    "huggingface": ["hf_" + made_up(34)],
    "npm": ["npm_" + made_up(36)],
    "pypi": ["pypi-" + "AgEIcHlwaS5vcmc" + made_up(120)],
    "twilio": ["SK" + made_up(32, HEX)],
    "sendgrid": ["SG." + made_up(22) + "." + made_up(43)],
    "telegram": [made_up(10, "123456789") + ":AA" + made_up(33)],
    "vendor_token": ["hvs." + made_up(28), "dop_v1_" + made_up(64, HEX), "figd_" + made_up(40),
                     "sha256~" + made_up(43), "phx_" + made_up(43), "nfp_" + made_up(36), "LTAI" + made_up(20),
                     f"access-production-{uuid.UUID(int=_random.getrandbits(128))}",
                     "access_token$production$" + made_up(16, HEX) + "$" + made_up(32, HEX),
                     "A3-C4ZJMN-PQTZTL-HGL84-G64M7-KVZRN-4ZVP6", "rzp_live_" + made_up(14)],
    "api_key": ["mk_live_" + made_up(31) + "7"],
    "card": ["4111111111111111", "4111 1111 1111 1111", "3782-822463-10005", "2223003122003222", "6011.0009.9013.9424"],
    "iban": ["GB82WEST12345698765432", "DE89 3704 0044 0532 0130 00", "gb82west12345698765432"],
    "ssn": ["536-90-4399"],
    "email": ["alice.b+x@example.co.uk", "bob%40example.com"],
}  # fmt: skip
BY_VALUE["aws"] += ["IQoJb3JpZ2luX2VjE" + made_up(200) + "==", "bedrock-api-key-" + made_up(140) + "="]
BY_VALUE["gcp"] += ["AQ.Ab8" + made_up(46)]
BY_VALUE["azure"] += [made_up(76) + "+ASt" + made_up(5) + "Q==", made_up(76) + "ACDb" + made_up(5) + "A==",
                      made_up(52) + "JQQJ99BAACYeBjFXJ3w3AAABACOG" + made_up(4)]  # fmt: skip
BY_VALUE["private_key"] = [
    base64.b64encode(key + b"\n" * (1 + -(len(key) + 2) % 3)).decode()
    for label in ("RSA ", "", "EC ", "OPENSSH ")
    for key in [PEM.replace("RSA ", label).encode()]
]
