"""Services whose threads gevent makes cooperative, by ``patch_all`` long after the guard was armed."""

from __future__ import annotations

import http.client
import sys
import time

import pytest

from mobius_otel.telemetry.audit.verify import read_records
from tests.services.service import open_shop

pytest.importorskip("gevent")
pytest.importorskip("gunicorn")

SILENT = {f"OTEL_{signals}_EXPORTER": "none" for signals in ("TRACES", "METRICS", "LOGS")}
#: What the keeper would stand still for.
STILL_SECONDS = 5
AUDITED = '[audit]\nledger = "audit.db"\nroutes = ["POST /v1/refunds"]\n'


def status(service, method, path):
    """Ask; an answer that takes as long as the keeper waits for work is none."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=STILL_SECONDS)
    connection.request(method, path, b'{"order": "1"}', {"Content-Type": "application/json"})
    return connection.getresponse().status


def test_a_worker_of_gunicorn_goes_on_after_an_audited_request(tmp_path):
    """Everything that it serves is one thread: who waits in it for work of his own stops all of it."""
    argv = ["gunicorn", "-k", "gevent", "-b", "127.0.0.1:PORT", "shop:app"]
    with open_shop(tmp_path, "flask", AUDITED) as shop:
        service = shop.start(argv=argv, **SILENT)
        for _ in range(3):
            assert status(service, "POST", "/v1/refunds") == 200
            for _ in range(3):
                time.sleep(0.15)  # it comes after a tenth of a second
                assert status(service, "GET", "/health") == 200
        service.stop()
        names = [record["event_name"] for _, record in read_records(tmp_path / "audit.db")]
        assert names == 3 * ["http.request"]


def test_a_package_that_patches_while_it_is_imported_is_imported(tmp_path):
    """As Locust does: gevent repairs the locks of imports under way only where it sees no second thread."""
    package = tmp_path / "patching"
    package.mkdir()
    (package / "__init__.py").write_text("from gevent import monkey\nmonkey.patch_all()\nfrom .late import late\n")
    (package / "late.py").write_text("late = 'imported'\n")
    with open_shop(tmp_path, policy='[headers]\npreset = "api"\n[audit]\nledger = "audit.db"\n') as shop:
        done = shop.cli("run", "--", sys.executable, "-c", "import patching; print(patching.late)")
    assert done.stdout == "imported\n"
