"""All named behaviours."""

from behaviour import Behaviour
from behaviours_calls import CALLS
from behaviours_dlpack import DLPACK
from behaviours_helpers import HELPERS
from behaviours_loading import FAILURES as LOAD_FAILURES
from behaviours_loading import LOADING as PLAINLY_LOADING
from behaviours_requests import REQUESTS, VALIDATION
from behaviours_responses import BATCHES, RESPONSES, SENDER
from behaviours_sequences import SEQUENCES
from behaviours_streams import STREAMS
from behaviours_tensors import TENSORS
from behaviours_warmup import BEHAVIOURS as WARMED
from behaviours_warmup import FAILURES as WARMUP_FAILURES
from behaviours_warmup import LOADING as WARMUP_LOADING
from differential_kit import x

LOADED = {name: Behaviour("", (x(1, 2, 3, model=name),), name) for name in PLAINLY_LOADING}
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
    WARMED,
)
BEHAVIOURS: dict[str, Behaviour] = {name: one for table in TABLES for name, one in table.items()}
assert len(BEHAVIOURS) == sum(map(len, TABLES)), "a name is there twice"

# Name to source and configuration.
LOADING = {**PLAINLY_LOADING, **WARMUP_LOADING}
FAILURES = {**LOAD_FAILURES, **WARMUP_FAILURES}
