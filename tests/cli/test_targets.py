"""Functions that a policy names and that are not there: told before the service runs, and without running it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mobius_otel.cli.targets import why_missing
from mobius_otel.errors import ConfigurationError
from mobius_otel.policy import parse_policy
from mobius_otel.runtime import configure
from tests.services.service import open_shop

BILLING = """
import contextlib, os.path
from json import dumps as dump
raise SystemExit("the check has imported the service")

def refund(): pass
async def charge(): pass
if True:
    try:
        def either(): pass
    except ImportError:
        either = None
later = made = lambda: None
class Till:
    def open(self): inner = 1
    @property
    def total(self): return 1
    @total.setter
    def total(self, value): pass
class Inherited(Till): pass
@contextlib.contextmanager
def decorated(): yield
def declare():
    global declared
    declared = refund
for looped in (): pass
VALUE = 3
NAMES: list = ["a"]
later_a_function = None
later_a_function = refund
"""


@pytest.fixture
def service(tmp_path):
    """The modules of a service that must not be imported."""
    for name, text in {
        "edge_shop/__init__.py": BILLING, "edge_shop/billing.py": BILLING, "edge_star.py": "from json import *\n",
        "edge_made.py": "globals()['refund'] = print\n", "edge_broken.py": "def f(:\n",
        "edge_lazy.py": "def __getattr__(name): ...\n", "edge_spaces/inner/billing.py": BILLING,
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    "target",
    [
        *(f"edge_shop.billing:{name}" for name in (
            "refund", "charge", "either", "later", "made", "Till", "Till.open", "Inherited.open", "decorated", "looped",
            "declared", "dump", "os", "refund.attribute",
            "later_a_function",
        )),
        "edge_shop:refund", "edge_star:refund", "edge_made:refund", "edge_lazy:refund",
        "edge_spaces.inner.billing:refund",
        "math:sqrt", "_thread:nothing", "json.decoder:JSONDecoder.decode",
    ],
)  # fmt: skip
def test_what_is_there_or_may_be_is_not_spoken_of(service, target):
    """A false alarm would be switched off; what only a run can tell is left to the doctor."""
    assert why_missing(target, [service]) is None


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("edge_shop.billing:refnd", "no 'refnd' in the module edge_shop.billing, but 'refund'"),
        ("edge_shop.billing:inner", "no 'inner' in the module edge_shop.billing"),
        ("edge_shop.billing:Till.opn", "no 'opn' in the class Till of edge_shop.billing, but 'open'"),
        ("edge_shop.biling:refund", "no module 'edge_shop.biling' here, but 'edge_shop.billing'"),
        ("edge_shp.billing:refund", "no module 'edge_shp' here, but 'edge_shop'"),
        ("edge_star.inner:refund", "no module 'edge_star.inner' here"),
        ("zzz9:refund", "no module 'zzz9' here"),
        ("edge_shop.billing:VALUE", "no function 'VALUE' in the module edge_shop.billing, but a value"),
        ("edge_shop.billing:NAMES", "no function 'NAMES' in"),
        ("edge_shop.billing:Till.total", "no function 'total' in the class Till of edge_shop.billing, but a value"),
        ("edge_broken:f", "no Python in the module edge_broken"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest_that_is(service, target, why):
    """As the policy's own keys are."""
    assert why_missing(target, [service]).startswith(why)


POLICY = """
[audit]
ledger = "audit.db"
actor = "zzz_auth:user"
functions = ["edge_shop.billing:refund", "edge_shop.billing:refnd"]
fail_mode = "{}"

[[instrument]]
target = "edge_shop.billing:chrge"
timer = "t"
"""


def test_a_check_and_a_start_say_it_in_one_line_each(service, tmp_path):
    """The check of the file stays good; the service starts, but where strict is asked for."""
    with open_shop(Path(service)) as shop:
        policy = shop.folder / "mobius.toml"
        policy.write_text(POLICY.format("spool"))
        said = shop.cli("policy", "check")
        name = "edge_shop.billing"
        parts = [
            ("4: audit.actor: 'zzz_auth:user'", "module 'zzz_auth' here: nobody would be asked who acts."),
            (
                f"5: audit.functions: '{name}:refnd'",
                f"'refnd' in the module {name}, but 'refund': its calls would not be",
            ),
            (
                f"9: instrument[0].target: '{name}:chrge'",
                f"'chrge' in the module {name}, but 'charge': its calls would",
            ),
        ]
        ends = ["", " audited.", " not be timed."]
        rule = "it must be a function of the service. There is no"
        lines = [f"mobius.toml:{key}: {rule} {why}{end}" for (key, why), end in zip(parts, ends, strict=True)]
        assert said.stderr.splitlines() == [f"warning: {line}" for line in lines]
        assert "mobius.toml: good" in said.stdout
        assert json.loads(shop.cli("policy", "check", "--json").stdout)["warnings"] == lines
        command = ["run", "--", sys.executable, "-c", "print('served')"]
        started = shop.cli(*command)
        assert started.stdout == "served\n"
        assert started.stderr.splitlines()[:3] == [f"mobius-otel: {line}" for line in lines]
        policy.write_text(POLICY.format("strict"))
        refused = shop.cli(*command, check=False)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert refused.stderr == f"mobius-otel: the service does not start: {lines[0]}\n"


def test_the_modules_of_a_service_are_looked_for_where_its_command_says(tmp_path):
    """Beside a script, in the folder of an option such as --app-dir, on PYTHONPATH."""
    (tmp_path / "edge_src").mkdir()
    (tmp_path / "edge_src" / "edge_pay.py").write_text("def refund(): pass\n")
    (tmp_path / "edge_src" / "main.py").write_text("print('served')\n")
    with open_shop(tmp_path) as shop:
        (shop.folder / "mobius.toml").write_text('[audit]\nledger = "audit.db"\nfunctions = "edge_pay:refund"\n')
        python = ["run", "--", sys.executable]
        assert "no module 'edge_pay' here" in shop.cli(*python, "-c", "print('served')").stderr
        for command, environ in (
            (["edge_src/main.py"], {}),
            (["-c", "print('served')", "--app-dir", "edge_src"], {}),
            (["-c", "print('served')", "--app-dir=edge_src"], {}),
            (["-c", "print('served')"], {"PYTHONPATH": "edge_src"}),
        ):
            said = shop.cli(*python, *command, **environ)
            assert (said.stdout, "edge_pay" in said.stderr) == ("served\n", False)


def test_strict_does_not_import_a_module_that_lacks_an_audited_function(tmp_path):
    """By any door: what cannot be recorded must not happen, and another mode says it and goes on."""
    (tmp_path / "edge_late.py").write_text("def refund(): pass\n")
    code = (
        "import sys\nfrom mobius_otel import configure\nfrom mobius_otel.policy import parse_policy\n"
        "with configure(policy=parse_policy('[audit]\\nledger = \"' + sys.argv[2] + '\"\\n"
        'fail_mode = "\' + sys.argv[1] + \'"\\nfunctions = "edge_late:refnd"\')):\n'
        "    import edge_late\n    print('on')\n"
    )
    for mode, printed in (("spool", "on\n"), ("strict", "")):
        done = subprocess.run(
            [sys.executable, "-c", code, mode, f"{mode}.db"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.stdout == printed
        assert "edge_late:refnd" in done.stderr


def test_a_configuration_that_fails_half_way_leaves_nothing_behind(tmp_path):
    """A module that is imported already; afterwards another configuration works."""
    policy = '[audit]\nledger = "audit.db"\nfail_mode = "strict"\nfunctions = "json.decoder:no_such_function"'
    import json.decoder  # noqa: F401

    with pytest.raises(ConfigurationError, match=r"json\.decoder:no_such_function"):
        configure(policy=parse_policy(policy, file=tmp_path / "mobius.toml"))
    with configure(policy=parse_policy('[audit]\nledger = "audit.db"', file=tmp_path / "mobius.toml")) as runtime:
        assert runtime.ledger is not None


def test_a_name_that_is_no_near_one_is_not_offered(tmp_path):
    """`tasks` is missing, and nobody has meant `getpass`."""
    assert why_missing("tasks:run", [str(tmp_path)]) == "no module 'tasks' here"


@pytest.mark.parametrize("name", ["VALUE", "Job.prop", "Job.cached"])
def test_strict_takes_no_value_for_a_function(tmp_path, monkeypatch, name):
    """Nothing of it could be audited; a static method, a class method and a partial one can."""
    module = f"edge_strict_{name.partition('.')[2] or 'value'}"
    (tmp_path / f"{module}.py").write_text(
        "from functools import cached_property, partialmethod\nVALUE = 3\nclass Job:\n    prop = property(len)\n"
        "    cached = cached_property(len)\n    @staticmethod\n    def one(): return 1\n    @classmethod\n"
        "    def two(cls): return 2\n    def of(self, n): return n\n    three = partialmethod(of, 3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    functions = [f"{module}:Job.{good}" for good in ("one", "two", "three")]
    text = '[audit]\nledger = "audit.db"\nfail_mode = "strict"\nfunctions = {}\n'
    with configure(policy=parse_policy(text.format(json.dumps(functions)), file=tmp_path / "a.toml")):
        job = __import__(module).Job
        assert (job.one(), job.two(), job().three()) == (1, 2, 3)
    policy = parse_policy(text.format(json.dumps([f"{module}:{name}"])), file=tmp_path / "a.toml")
    with pytest.raises(ConfigurationError, match="a function of edge_strict"):
        configure(policy=policy)
