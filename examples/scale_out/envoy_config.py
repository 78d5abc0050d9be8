"""Writes Envoy's configuration: one port for HTTP and gRPC, in front of several tritonservers.

    python envoy_config.py 10.0.0.1:8000:8001 10.0.0.2:8000:8001 > envoy.yaml
    envoy -c envoy.yaml

Beyond passing requests on, Envoy asks each server for its readiness twice a second, and sends it nothing more
once it says no. A request that a server has refused or lost goes to another; a stream is never sent twice.
Model control, shared memory, traces and log settings are not passed on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

MAX_REQUEST_BYTES = 64 * 2**20
"""Larger requests are refused. Every request is held until it is complete: only then can it be repeated."""
MAX_CONNECTIONS = 10_000
HEALTH_SECONDS = 0.5
"""How often a server is asked. `--drain-notice-seconds` of `kindaware serve` should be twice that or more."""
UNARY_SECONDS = 60
NUM_RETRIES = 4

# Sent again elsewhere: no answer has begun, and a model answers the same request alike. Not so in a sequence.
GRPC_RETRY_ON = "connect-failure,refused-stream,reset,unavailable"
HTTP_RETRY_ON = "connect-failure,refused-stream,reset,gateway-error"
# Of a stream only what has reached no server.
STREAM_RETRY_ON = "connect-failure,refused-stream"

_GRPC = "/inference.GRPCInferenceService/"
_MODEL = r"/v2/models/[^/]+(/versions/[0-9]+)?"
_GRPC_METHODS = ("ServerLive", "ServerReady", "ServerMetadata")
_GRPC_METHODS += ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer")


@dataclass(frozen=True)
class Route:
    """Paths that clients may use; `path` is one, or a regular expression."""

    path: str
    cluster: str
    retry_on: str
    is_pattern: bool = False
    is_stream: bool = False


ROUTES = (
    *(Route(_GRPC + method, "grpc", GRPC_RETRY_ON) for method in _GRPC_METHODS),
    Route(_GRPC + "ModelStreamInfer", "grpc", STREAM_RETRY_ON, is_stream=True),
    *(Route(path, "http", HTTP_RETRY_ON) for path in ("/v2", "/v2/health/live", "/v2/health/ready")),
    Route(_MODEL + "(/(ready|config|stats))?", "http", HTTP_RETRY_ON, is_pattern=True),
    Route(_MODEL + "/(infer|generate)", "http", HTTP_RETRY_ON, is_pattern=True),
    Route(_MODEL + "/generate_stream", "http", STREAM_RETRY_ON, is_pattern=True, is_stream=True),
)
_BUFFER = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3"


@dataclass(frozen=True)
class Upstream:
    """One tritonserver: the address, and its ports of HTTP and gRPC."""

    host: str
    http_port: int
    grpc_port: int


def make_config(upstreams: Sequence[Upstream], *, port: int = 10000, admin_port: int = 9901, host="0.0.0.0"):
    """Return Envoy's bootstrap configuration.

    Args:
        upstreams: the servers.
        port: for clients, both HTTP and gRPC.
        admin_port: Envoy's own, on loopback: figures, and no access for clients.
        host: the address that clients connect to.
    """
    return {
        "admin": {"address": _address("127.0.0.1", admin_port)},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors"
                        ".downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
        "static_resources": {
            "listeners": [
                {
                    "name": "clients",
                    "address": _address(host, port),
                    # A request may be held as a whole, to be sent again.
                    "per_connection_buffer_limit_bytes": MAX_REQUEST_BYTES,
                    "filter_chains": [{"filters": [_connection_manager()]}],
                }
            ],
            "clusters": [_cluster("http", upstreams), _cluster("grpc", upstreams)],
        },
    }


def _connection_manager():
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": "clients",
            "codec_type": "AUTO",
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "stream_idle_timeout": "300s",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "triton",
                        "domains": ["*"],
                        "request_body_buffer_limit": MAX_REQUEST_BYTES,
                        "routes": [*map(_route, ROUTES), _refusal()],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "buffer",
                    "typed_config": {"@type": f"{_BUFFER}.Buffer", "max_request_bytes": MAX_REQUEST_BYTES},
                },
                {
                    "name": "router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                    },
                },
            ],
        },
    }


def _route(route: Route):
    found = {
        "match": {"safe_regex": {"regex": route.path}} if route.is_pattern else {"path": route.path},
        "route": {
            "cluster": route.cluster,
            "timeout": "0s" if route.is_stream else f"{UNARY_SECONDS}s",
            "retry_policy": {
                "retry_on": route.retry_on,
                "num_retries": NUM_RETRIES,
                "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
                "retry_host_predicate": [
                    {
                        "name": "other_server",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                            ".PreviousHostsPredicate"
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 5,
            },
        },
    }
    if route.is_stream:  # its requests may come one after another, without an end
        found["typed_per_filter_config"] = {
            "buffer": {"@type": f"{_BUFFER}.BufferPerRoute", "disabled": True}
        }
    return found


def _refusal():
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 403, "body": {"inline_string": "not served here\n"}},
    }


def _cluster(name, upstreams):
    http2 = {"http2_protocol_options": {}} if name == "grpc" else {"http_protocol_options": {}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        # Never to a server that is not ready, even if only few are.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "per_connection_buffer_limit_bytes": MAX_REQUEST_BYTES,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": http2,
                # A connection without requests does not keep a server from its end.
                "common_http_protocol_options": {"idle_timeout": "1s" if name == "http" else "60s"},
            }
        },
        "health_checks": [
            {
                "timeout": "1s",
                "interval": f"{HEALTH_SECONDS}s",
                "no_traffic_interval": f"{HEALTH_SECONDS}s",
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "reuse_connection": False,
                "http_health_check": {"path": "/v2/health/ready", "codec_client_type": "HTTP1"},
            }
        ],
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [_endpoint(name, one) for one in upstreams]}],
        },
    }


def _endpoint(cluster, upstream):
    port = upstream.grpc_port if cluster == "grpc" else upstream.http_port
    return {
        "endpoint": {
            "address": _address(upstream.host, port),
            # Over HTTP for both: one answer for the whole server.
            "health_check_config": {"port_value": upstream.http_port},
        }
    }


def _address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("servers", nargs="+", metavar="HOST:HTTP_PORT:GRPC_PORT")
    parser.add_argument("--port", type=int, default=10000, help="for clients")
    parser.add_argument("--admin-port", type=int, default=9901, help="of Envoy itself, on loopback")
    args = parser.parse_args()
    upstreams = []
    for text in args.servers:
        host, http_port, grpc_port = text.rsplit(":", 2)
        upstreams.append(Upstream(host, int(http_port), int(grpc_port)))
    json.dump(make_config(upstreams, port=args.port, admin_port=args.admin_port), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
