"""Merging, on frozen time: exact over deaths, restarts, late and repeated reports."""

import pytest

from mobius_otel.clock import FrozenClock
from mobius_otel.sidecar.decode import Decoder, Rejected
from mobius_otel.sidecar.merge import Merged
from mobius_otel.telemetry.redaction import Redactor
from tests.sidecar.kit import counter, exponential, gauge, histogram, report, up_down

N = 10**9


class Bridge:
    """A decoder and what it merges into, without sockets."""

    def __init__(self, **options):
        self.clock = FrozenClock()
        self.merged = Merged(**options)
        self.decoder = Decoder(self.merged, Redactor())

    def take(self, request):
        refused = 0
        for export, number, _ in self.decoder.read(request):
            refused += number
            self.merged.apply(export, self.clock())
        return refused

    def total(self, name="n", **attributes):
        return sum(s.total for s in self._series(name, attributes))

    def _series(self, name, attributes):
        return [s for s in self.merged.series if s.metric.name == name and attributes.items() <= s.attributes.items()]

    def levels(self, name="g"):
        (key,) = (key for key in self.merged.metrics if key.name == name)
        return [value for _, _, value in self.merged.levels(key, self.clock())]


@pytest.fixture
def bridge():
    return Bridge()


def test_counters_of_workers_add_up(bridge):
    """Each worker tells its own sum again and again; ints stay ints."""
    bridge.take(report("a", n=counter(3)))
    bridge.take(report("b", n=counter(4)))
    bridge.take(report("a", n=counter(5)))
    assert (bridge.total(), type(bridge.total())) == (9, int)


def test_a_dead_workers_counts_stay_and_a_new_one_adds(bridge):
    """No drop, no reset, whether the new one has an id of its own or that of the dead one."""
    bridge.take(report("a", n=counter(10, start=1 * N)))
    bridge.clock.advance(7200)
    bridge.take(report("b", n=counter(1, start=7200 * N)))
    assert bridge.total() == 11
    bridge.take(report("a", n=counter(2, start=int(bridge.clock() + 100) * N)))
    assert bridge.total() == 13


def test_a_worker_that_gets_a_dead_ones_process_id_is_another_one(bridge):
    """Without service.instance.id the process id tells workers apart, and the start tells it from the dead one."""
    one = {"host.name": "h", "process.pid": 7}
    bridge.take(report(one, n=counter(10, start=1 * N)))
    bridge.take(report(one, n=counter(4, start=5 * N)))
    bridge.take(report(one, n=counter(6, start=5 * N)))
    assert bridge.total() == 16


def test_processes_that_share_an_instance_id_are_not_mixed_up(bridge):
    """Interleaved reports of two processes with one id: told apart by when their sums began."""
    for count in (1, 2, 3, 40):
        bridge.take(report("same", n=counter(count, start=1 * N), h=histogram([count, 0, 0], count, start=1 * N)))
        bridge.take(report("same", n=counter(count * 2, start=2 * N), h=histogram([0, 2 * count, 0], 0, start=2 * N)))
    assert bridge.total() == 120
    (series,) = bridge._series("h", {})
    assert (series.counts, series.total) == ([40, 80, 0], 40)


def test_a_report_that_comes_twice_or_late_changes_nothing(bridge):
    """A retry after a lost answer, and an older report that was overtaken."""
    for count in (5, 5, 8, 5, 8):
        bridge.take(report("a", n=counter(count), h=histogram([count, 0, 0], 1.0 * count)))
    assert bridge.total() == 8
    assert bridge._series("h", {})[0].counts == [8, 0, 0]


def test_without_a_start_a_smaller_sum_is_a_new_one(bridge):
    """Start 0 is "unknown" in OTLP: the best that can be known is that sums only grow."""
    for count in (5, 7, 2):
        bridge.take(report("a", n=counter(count, start=0), h=histogram([count, 0, 0], 1.0 * count, start=0)))
    assert bridge.total() == 9
    assert bridge._series("h", {})[0].counts == [9, 0, 0]


def test_deltas_are_added_once(bridge):
    """A service may prefer delta temporality; the same delta again is known by its time."""
    for time in (10, 20, 20, 30):
        bridge.take(
            report("a", n=counter(2, time=time, delta=True), h=histogram([1, 0, 0], 0.5, time=time, delta=True))
        )
        bridge.take(report("a", u=up_down(-1, time=time, delta=True)))
    assert (bridge.total(), bridge.levels("u")) == (6, [-3])
    assert bridge._series("h", {})[0].counts == [3, 0, 0]


def test_a_worker_that_was_forgotten_adds_only_what_began_later(bridge):
    """Its old sums were counted already; what it began since was not."""
    bridge.take(report("a", n=counter(10, start=1 * N), h=histogram([4, 0, 0], 4.0, start=1 * N)))
    bridge.clock.advance(4000)
    bridge.take(report("b", n=counter(1)))
    assert "a" not in bridge.merged.workers
    later = int(bridge.clock() * 1e9) + 5
    bridge.take(
        report("a", n=counter(11, start=1 * N), m=counter(3, start=later), h=histogram([5, 0, 0], 5.0, start=N))
    )
    bridge.take(report("a", n=counter(12, start=1 * N), h=histogram([6, 0, 0], 6.0, start=N)))
    assert (bridge.total("n"), bridge.total("m")) == (12, 3)
    assert bridge._series("h", {})[0].counts == [5, 0, 0]


def test_more_workers_than_are_remembered(bridge):
    """The one silent the longest is forgotten; its counts stay."""
    bridge.merged.max_workers = 4
    for number in range(20):
        bridge.clock.advance(1)
        bridge.take(report(f"w{number}", n=counter(1, start=number + 1)))
    assert sorted(bridge.merged.workers) == ["w16", "w17", "w18", "w19"]
    assert bridge.total() == 20


def test_histograms_add_up_and_keep_the_bounds_that_all_have(bridge):
    """A rolling update may change the bounds: what both know stays exact."""
    bridge.take(report("a", h=histogram([1, 2, 3], 9.0, (1.0, 5.0))))
    bridge.take(report("b", h=histogram([1, 1, 1, 1], 8.0, (1.0, 2.0, 5.0))))
    (series,) = bridge._series("h", {})
    assert (series.bounds, series.counts, series.total) == ((1.0, 5.0), [2, 4, 4], 17.0)
    bridge.take(report("c", h=histogram([7], 1.0, ())))
    assert (series.bounds, series.counts) == ((), [17])


@pytest.mark.parametrize(
    ("rule", "expected"), [("sum", [6.0]), ("max", [4.0]), ("last", [2.0]), ("worker", [4.0, 2.0])]
)
def test_gauges_are_merged_as_the_rule_says(rule, expected):
    """The registry's, the policy's, or none: one series for each worker."""
    bridge = Bridge(merges={"g": rule})
    bridge.take(report("a", g=gauge(4.0, time=10)))
    bridge.take(report("b", g=gauge(2.0, time=11)))
    assert bridge.levels() == expected


def test_gauges_and_up_down_counters_of_the_dead_are_gone(bridge):
    """A worker is dead after three of its own intervals; one that reports seldom is given longer."""
    for _ in range(30):
        bridge.clock.advance(5)
        bridge.take(report("quick", g=gauge(1.0, time=int(bridge.clock() * N)), u=up_down(2)))
        bridge.take(report("killed", g=gauge(7.0, time=int(bridge.clock() * N)), u=up_down(3)))
    assert (bridge.levels(), bridge.levels("u")) == ([1.0, 7.0], [5])
    for _ in range(6):
        bridge.clock.advance(5)
        bridge.take(report("quick", g=gauge(1.5, time=int(bridge.clock() * N))))
    assert (bridge.levels(), bridge.levels("u")) == ([1.5], [2])
    bridge.take(report("slow", g=gauge(9.0, time=int(bridge.clock() * N))))
    bridge.clock.advance(100)
    assert bridge.levels() == [9.0]
    bridge.clock.advance(100)
    assert bridge.levels() == []


@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), float("inf")])
def test_a_counter_takes_no_such_value(bridge, value, caplog):
    """Refused alone, counted, told once; the rest of the report is merged."""
    assert bridge.take(report("a", n=counter(value), m=counter(1))) == 1
    assert bridge.take(report("a", n=counter(value), m=counter(2))) == 1
    assert (bridge.total("n"), bridge.total("m"), bridge.decoder.rejected) == (0, 2, 2)
    assert len([r for r in caplog.records if "below zero" in r.message]) == 1


def test_what_has_no_place_on_the_page_is_refused_and_told_once(bridge, caplog):
    """Exponential histograms, names that break the rules."""
    assert bridge.take(report("a", e=exponential, m=counter(1))) == 1
    bad = report("a", n=counter(1))
    bad.resource_metrics[0].scope_metrics[0].metrics[0].name = 'n{x="\n"} 1'
    assert bridge.take(bad) == 1
    assert bridge.total("m") == 1
    assert [("e" in r.message or "rules" in r.message) for r in caplog.records] == [True, True]
    assert "\n" not in caplog.text.strip().replace("\nWARNING", "")


@pytest.mark.parametrize(
    "broken", [histogram([1, 2], 1.0), histogram([1, 2, 3], 1.0, (5.0, 1.0)), histogram([1, 2, 3], float("nan"))]
)
def test_a_histogram_that_contradicts_itself_is_refused(bridge, broken):
    """Too few counts, bounds that fall, a sum that is no number."""
    assert bridge.take(report("a", h=broken)) == 1


def test_series_are_bounded(caplog):
    """Beyond the bound points are refused and told once; known series go on."""
    bridge = Bridge(max_series=3)
    refused = [bridge.take(report("a", n=counter(1, i=i))) for i in range(6)]
    assert refused == [0, 0, 0, 1, 1, 1]
    assert bridge.take(report("b", n=counter(5, i=1))) == 0
    assert bridge.total() == 8
    assert len([r for r in caplog.records if "--max-series" in r.message]) == 1


def test_no_secret_is_kept(bridge):
    """Attributes, descriptions, resource and names of workers pass redaction before they are kept."""
    secret = "ghp_" + "a1B2" * 9
    request = report(f"w {secret}", n=counter(1, token="hunter2", note=f"see {secret}"))
    request.resource_metrics[0].scope_metrics[0].metrics[0].description = f"see {secret}"
    request.resource_metrics[0].resource.attributes.add(key="password").value.string_value = "hunter2"
    bridge.take(request)
    kept = repr((bridge.merged.series, bridge.merged.resource, bridge.merged.descriptions, list(bridge.merged.workers)))
    assert "hunter2" not in kept
    assert secret not in kept


def test_another_service_is_refused(bridge):
    """Two services in one page would be one service's numbers, and wrong."""
    bridge.take(report("a", n=counter(1)))
    with pytest.raises(Rejected, match="another service"):
        bridge.take(report("b", "bank", n=counter(1)))


def test_attributes_of_different_types_are_different_series(bridge):
    """1, "1" and True differ for OpenTelemetry."""
    for value in (1, "1", True, 1.0):
        bridge.take(report("a", n=counter(1, k=value)))
    assert len(bridge.merged.series) == 4
