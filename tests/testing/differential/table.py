"""All named behaviours."""

from behaviour import Behaviour
from behaviours_calls import CALLS
from behaviours_dlpack import DLPACK
from behaviours_helpers import HELPERS
from behaviours_loading import LOADING
from behaviours_requests import REQUESTS, VALIDATION
from behaviours_responses import BATCHES, RESPONSES, SENDER
from behaviours_sequences import SEQUENCES
from behaviours_streams import STREAMS
from behaviours_tensors import TENSORS
from differential_kit import x

LOADED = {name: Behaviour("", (x(1, 2, 3, model=name),), name) for name in LOADING}
TABLES = (
    TENSORS,
    DLPACK,
    REQUESTS,
    VALIDATION,
    RESPONSES,
    SENDER,
    BATCHES,
    STREAMS,
    SEQUENCES,
    CALLS,
    HELPERS,
    LOADED,
)
BEHAVIOURS: dict[str, Behaviour] = {name: one for table in TABLES for name, one in table.items()}
assert len(BEHAVIOURS) == sum(map(len, TABLES)), "a name is there twice"
