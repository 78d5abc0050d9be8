"""A real server with a few models without torch."""

import pytest
from client_models import write_models

from kindaware.testing import TritonServer


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("client") / "models")


@pytest.fixture(scope="session")
def server(repository):
    with TritonServer(repository) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    return f"{request.param}://{server.grpc_url if request.param == 'grpc' else server.http_url}"
