"""OTLP requests as workers send them, and what a sidecar makes of them."""

import http.client
import re
import urllib.request

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from prometheus_client.parser import text_string_to_metric_families as parse

PROTOBUF = {"Content-Type": "application/x-protobuf"}


def pairs(attributes):
    """Return attributes as OTLP has them."""
    found = []
    for key, value in attributes.items():
        kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}[type(value)]
        found.append(KeyValue(key=key, value=AnyValue(**{kind: value})))
    return found


def report(worker="a", service="shop", **metrics):
    """Return a request: for each metric a list of points, made by counter(), gauge() and so on."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    identity = {"service.instance.id": worker} if isinstance(worker, str) else worker
    resource.resource.attributes.extend(pairs({"service.name": service, **identity}))
    scope = resource.scope_metrics.add()
    scope.scope.name = "shop"
    for name, fill in metrics.items():
        metric = scope.metrics.add(name=name.replace("_", "."))
        fill(metric)
    return request


def counter(value, start=1, time=2, *, delta=False, monotonic=True, **attributes):
    """Return what fills a metric with one point of a sum."""

    def fill(metric):
        metric.sum.is_monotonic = monotonic
        metric.sum.aggregation_temporality = 1 if delta else 2
        point = metric.sum.data_points.add(start_time_unix_nano=start, time_unix_nano=time)
        point.attributes.extend(pairs(attributes))
        setattr(point, "as_int" if isinstance(value, int) else "as_double", value)

    return fill


def up_down(value, start=1, time=2, *, delta=False, **attributes):
    """Return what fills a metric with one point of an up-down counter."""
    return counter(value, start, time, delta=delta, monotonic=False, **attributes)


def gauge(value, time=2, **attributes):
    """Return what fills a metric with one point of a gauge."""

    def fill(metric):
        point = metric.gauge.data_points.add(time_unix_nano=time, as_double=value)
        point.attributes.extend(pairs(attributes))

    return fill


def histogram(counts, total, bounds=(1.0, 5.0), start=1, time=2, *, delta=False, **attributes):
    """Return what fills a metric with one point of a histogram."""

    def fill(metric):
        metric.histogram.aggregation_temporality = 1 if delta else 2
        point = metric.histogram.data_points.add(
            start_time_unix_nano=start, time_unix_nano=time, count=sum(counts), sum=total,
            bucket_counts=counts, explicit_bounds=bounds,
        )  # fmt: skip
        point.attributes.extend(pairs(attributes))

    return fill


def exponential(metric):
    """Fill a metric with an exponential histogram."""
    metric.exponential_histogram.data_points.add(count=1)


def page(sidecar, **headers):
    """Return the page, parsed: names and labels (without the scope's) to values."""
    request = urllib.request.Request(f"{sidecar.endpoint}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return values(answer.read().decode())


def values(text):
    """Return the values of a page by name and labels, without the labels of the scope."""
    found = {}
    for family in parse(text):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if not key.startswith("otel_scope_")}
            key = (sample.name, *(f"{name}={value}" for name, value in sorted(labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def total(text, name):
    """Return the sum over all series of one name."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def post(sidecar, body, headers=PROTOBUF, path="/v1/metrics"):
    """Send a body and return status and answer."""
    connection = http.client.HTTPConnection(sidecar.endpoint.removeprefix("http://"), timeout=40)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
