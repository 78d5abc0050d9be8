"""Clients that speak of arrays: data types and the batch dimension come from the model's metadata.

Needs tritonclient: `pip install 'tritonclient[grpc,http]'`.
"""

from kindaware.client._client import ModelClient
from kindaware.client._errors import ModelClientError

__all__ = ["ModelClient", "ModelClientError"]
