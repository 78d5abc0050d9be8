"""The provider of tracers: the process's own, or one that is made as the variables of OpenTelemetry say."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import trace

from kindaware._config.args import InstanceArgs
from kindaware._errors import ConfigError, describe

FLUSH_SECONDS = 3.0
"""How long an instance that ends waits for its last spans to be exported."""

_EXPORTERS = "opentelemetry_traces_exporter"
"""The group of entry points under which packages register exporters."""

_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


def obtain_provider(args: InstanceArgs, environment: Mapping[str, str]) -> trace.TracerProvider:
    """Return the process's provider; if it has none, make one and install it.

    What is made exports in the background, to where `OTEL_TRACES_EXPORTER` says (by default OTLP over HTTP),
    as the other `OTEL_` variables say. Its service is the model, unless they name another.

    Args:
        args: of the instance.
        environment: of the process.

    Raises:
        ConfigError: a package that is needed is not installed, or a variable has a value that can't be.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = _make_provider(args, environment)
        trace.set_tracer_provider(provider)
    return provider


def flush(provider: Any) -> bool:
    """Have a provider export what it still holds; return whether it has done so in time.

    Sync:
        Until it is exported, for at most `FLUSH_SECONDS`.
    """
    # The provider of the API alone, or one of the user's, may have no such method.
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is None:
        return True
    # On a thread, since the time limit of the SDK's is not kept while an exporter repeats an attempt.
    thread = threading.Thread(target=force_flush, name="kindaware-flush", daemon=True)
    thread.start()
    thread.join(FLUSH_SECONDS)
    return not thread.is_alive()


def _make_provider(args: InstanceArgs, environment: Mapping[str, str]) -> trace.TracerProvider:
    subject = f"model {args.model_name!r} tracing"
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError.of(
            subject,
            expected="the package opentelemetry-sdk, or a TracerProvider that load() has set",
            got=describe(error),
            remedy="pip install 'kindaware[otel]', or set tracing to false",
        ) from error
    about = {"service.instance.id": args.instance_name, "service.version": args.model_version}
    if not ("OTEL_SERVICE_NAME" in environment or "service.name=" in _attributes(environment)):
        about["service.name"] = args.model_name
    exporters = [_make_exporter(name, subject) for name in _exporter_names(subject, environment)]
    # Not at exit, when the instance has ended in its own way: it would wait for a collector that has gone.
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _attributes(environment: Mapping[str, str]) -> str:
    return environment.get("OTEL_RESOURCE_ATTRIBUTES", "")


def _exporter_names(subject: str, environment: Mapping[str, str]) -> list[str]:
    """Return the entry points of the exporters that the environment names."""
    names = [name.strip() for name in environment.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    variable = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    protocol = environment.get(variable, environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"))
    if "otlp" in names and protocol not in _OTLP:
        raise ConfigError.of(
            f"{subject} OTEL_EXPORTER_OTLP_PROTOCOL",
            expected="http/protobuf or grpc",
            got=repr(protocol),
            remedy="correct it in the server's environment",
        )
    return [_OTLP[protocol] if name == "otlp" else name for name in names if name not in ("none", "")]


def _make_exporter(name: str, subject: str) -> Any:
    """Return the exporter that a package has registered under a name."""
    found = entry_points(group=_EXPORTERS, name=name)
    if not found:
        known = sorted({one.name for one in entry_points(group=_EXPORTERS)})
        raise ConfigError.of(
            f"{subject} OTEL_TRACES_EXPORTER",
            expected=f"an exporter that is installed: none, {', '.join(known)}",
            got=repr(name),
            remedy="install its package (otlp is in 'kindaware[otel]'), or name another in the environment",
        )
    exporter: Any = next(iter(found)).load()
    return exporter()
