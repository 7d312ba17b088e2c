"""Python imports this module by itself in every process that ``mobius-otel run`` starts.

The folder stands first on PYTHONPATH, or mobius_otel_run.pth puts it in front. It arms the guard before anything
else of the service runs, then starts OpenTelemetry's auto-instrumentation, then gives way to the sitecustomize that
it stands in front of.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

# Python's multiprocessing starts a process that counts what others share. It runs nothing of the service, so it needs
# no guard, no ledger and no exporter, which take about a second of a processor.
_TRACKER = "from multiprocessing.resource_tracker import main;main("

_here = os.path.dirname(os.path.abspath(__file__))


def _is_tracker() -> bool:
    code = sys.orig_argv[-1]
    return code.startswith(_TRACKER) and code.endswith(")") and code[len(_TRACKER) : -1].isdigit()


def _arm() -> None:
    try:
        from mobius_otel.runtime import start_process
    except ImportError as error:
        # Another Python than the one mobius_otel is installed in. For the service itself that must not go on; what the
        # service or its start script calls may be a tool, so it is only said.
        service = os.environ.get("MOBIUS_OTEL_RUN_PID") == str(os.getpid())
        print(
            f"mobius-otel: {'the service does not start' if service else 'no guard in this process'}: {sys.executable}"
            f" cannot import mobius_otel ({error}); install it where the service is installed",
            file=sys.stderr,
            flush=True,
        )
        if service:
            os._exit(78)
        return
    except Exception as error:  # Python itself would say it and run the service without a guard
        print(
            f"mobius-otel: the service does not start: mobius_otel cannot be imported: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(78)
    start_process()


def _give_way() -> None:
    others = [path for path in sys.path if os.path.abspath(path or os.curdir) != _here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


if not _is_tracker():
    _arm()
_give_way()
