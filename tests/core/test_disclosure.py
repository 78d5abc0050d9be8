"""What reaches a client of an exception: by the setting `error_detail`, on every way to the client."""

import asyncio
import re

import pytest
import torch
from call_kit import make_config
from core_kit import Doubler, start, without_id
from host_kit import failure_of

from kindaware import KindAwareModel, RequestError
from kindaware._hooks.disclosure import disclose, without_paths
from kindaware.testing import ModelHarness

SECRET = "/srv/secret/weights.pt"
DECOUPLED = {"model_transaction_policy": {"decoupled": True}}
ID = re.compile(r"\berror ([0-9a-f]{8})\b")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"no {SECRET}", "no <path>"),
        (f"[Errno 2] No such file: '{SECRET}'", "[Errno 2] No such file: '<path>'"),
        ("in '/home/my user/x y.pt' and \"/b c\"", "in '<path>' and \"<path>\""),
        ("At:\n  /srv/m/1/model.py(7): execute\n", "At:\n  <path>(7): execute\n"),
        ('File "/srv/m.py", line 3, in f', 'File "<path>", line 3, in f'),
        ("a:/x/y, (/x), [/x/], path=/x;", "a:<path>, (<path>), [<path>], path=<path>;"),
        ("~/x and ~joe/y but ~ and ~joe", "<path> and <path> but ~ and ~joe"),
        ("file:///etc/x or //srv/x", "<path> or <path>"),
        ("'/unended path", "'<path> path"),
        ("3/4 a/b </b> / // https://example.org/a/b 1 / 2", None),
        ("", None),
    ],
)
def test_without_paths_hides_absolute_paths_and_nothing_else(text, shown):
    assert without_paths(text) == (text if shown is None else shown)


def test_without_paths_takes_time_in_proportion_to_a_long_text():
    assert without_paths("/a" * 200_000) == "<path>"
    assert without_paths("~" * 200_000 + "'/" * 100_000)


def test_disclose_hides_a_relative_path_that_an_error_of_a_file_names():
    error = FileNotFoundError(2, "No such file or directory", "weights/x.pt")
    assert disclose(error, "message") == "FileNotFoundError: [Errno 2] No such file or directory: '<path>'"


def test_disclose_full_has_the_text_as_it_is_and_the_line():
    with pytest.raises(ValueError, match="secret") as raised:
        Raises().forward(None)
    line = Raises.forward.__code__.co_firstlineno + 1
    assert disclose(raised.value, "full") == f"ValueError: {SECRET} ({__file__}:{line}, in forward)"


@pytest.mark.parametrize(("error_id", "shown"), [("", "an error"), ("5f0c91d2", "error 5f0c91d2")])
def test_disclose_id_has_nothing_of_the_error(error_id, shown):
    assert disclose(ValueError(SECRET), "id", error_id) == shown


class Loads(KindAwareModel):
    """Has no warm-up, which would raise."""

    warmup = "off"

    def load(self):
        """Make nothing."""


class Forwards(Loads):
    def forward(self, X):
        return X


class Raises(Loads):
    def forward(self, X):
        raise ValueError(SECRET)


class RaisesBefore(Forwards):
    def preprocess(self, inputs):
        raise ValueError(SECRET)


class RaisesAfter(Forwards):
    def postprocess(self, outputs):
        raise ValueError(SECRET)


class RaisesCollating(Forwards):
    def collate(self, name, tensors):
        raise ValueError(SECRET)


class Awaits(Loads):
    async def forward(self, X):
        await asyncio.sleep(0)
        raise ValueError(SECRET)


class WrongOutput(Loads):
    def forward(self, X):
        return {SECRET: X}


class Streams(Loads):
    config = DECOUPLED

    def stream(self, X):
        yield X
        raise ValueError(SECRET)


class AwaitsStream(Loads):
    config = DECOUPLED

    async def stream(self, X):
        yield X
        raise ValueError(SECRET)


class Steps(Loads):
    config = DECOUPLED

    def begin(self, X):
        return X

    def step(self, states):
        raise ValueError(SECRET)


class StepsWrongItem(Steps):
    def step(self, states):
        return [{SECRET: one} for one in states]


class BeginsNot(Steps):
    def begin(self, X):
        raise ValueError(SECRET)


class KeepsAndRaises(Loads):
    config = {"sequence_batching": {"direct": {}}}

    def forward(self, X, requests):
        self.sequence_state[requests[0].correlation_id] = X
        raise ValueError(SECRET)


class Calls(Loads):
    def forward(self, X):
        return self.call("callee", X=X)["Y"]


WAYS = [
    Raises,
    RaisesBefore,
    RaisesAfter,
    RaisesCollating,
    Awaits,
    WrongOutput,
    Streams,
    AwaitsStream,
    Steps,
    StepsWrongItem,
    BeginsNot,
    KeepsAndRaises,
    Calls,
]


class ByHand:
    """A callee without kindaware, whose errors have a traceback of Triton's."""

    def execute(self, requests):
        raise ValueError(SECRET)


def ask(model_class, detail, callee=ByHand, values=(1.0, 1.0), **options):
    """The text that a client gets, its code, and the log."""
    config = make_config("m", **getattr(model_class, "config", {}))
    options |= {"parameters": {"kindaware.error_detail": detail}, "raise_errors": False}
    others = [(callee, make_config("callee"))]
    with ModelHarness(model_class, config=config, models=others, **options) as model:
        if "sequence_batching" in config:
            result = model.infer(X=[values], correlation_id=7, flags=1)
        elif "model_transaction_policy" in config:
            *_, result = model.stream(X=[values])
        else:
            result = model.infer(X=[values])
        error = result.error
        return error.message(), error.code().name, model.log_text()


@pytest.mark.parametrize("model_class", WAYS)
def test_message_is_the_default_and_has_no_path(model_class):
    text, code, log = ask(model_class, "message")
    assert code == "INTERNAL"
    assert "<path>" in text
    assert "/srv" not in text
    assert SECRET in log


@pytest.mark.parametrize("model_class", WAYS)
def test_full_has_the_path(model_class):
    assert SECRET in ask(model_class, "full")[0]


@pytest.mark.parametrize("model_class", WAYS)
def test_id_has_nothing_but_the_id_of_the_error_in_the_log(model_class):
    text, code, log = ask(model_class, "id")
    assert code == "INTERNAL"
    assert not re.search("secret|path|ValueError|OutputError", text)
    [error_id] = set(ID.findall(text))
    [line] = [one for one in log.splitlines() if f"error {error_id} failed 1 request(s)" in one]
    assert SECRET in log[log.index(line) :]


class Refuses(Loads):
    def forward(self, X):
        raise RequestError(f"not in {SECRET}", code="NOT_FOUND")


@pytest.mark.parametrize("detail", ["message", "full", "id"])
def test_refusal_of_the_author_reaches_the_client_unchanged(detail):
    text, code, log = ask(Refuses, detail)
    assert (text, code) == (f"not in {SECRET}", "NOT_FOUND")
    assert "failed 1 request(s)" not in log


@pytest.mark.parametrize(
    ("detail", "shown"), [("message", "not in <path>"), ("full", f"not in {SECRET}"), ("id", "not in <path>")]
)
def test_refusal_of_a_called_model_reaches_the_client_without_paths(detail, shown):
    text, code, log = ask(Calls, detail, callee=Refuses, server_version="25.04")
    assert (text, code) == (shown, "NOT_FOUND")
    assert "failed 1 request(s)" not in log


def test_refusal_of_a_called_model_whose_code_the_server_loses_is_taken_for_a_failure():
    assert ask(Calls, "message", callee=Refuses, server_version="24.10")[:2] == ("not in <path>", "INTERNAL")
    text, code, log = ask(Calls, "id", callee=Refuses, server_version="24.10")
    assert code == "INTERNAL"
    assert without_id(text).endswith("got an error; see error ID in the server's log")
    assert f"not in {SECRET}" in log


def test_hook_sees_all_of_an_error_of_a_called_model():
    seen = []

    class Catches(Loads):
        def forward(self, X):
            try:
                return self.call("callee", X=X)["Y"]
            except RequestError as error:
                seen.append(str(error))
                return X

    config = make_config("m", parameters={"kindaware.error_detail": {"string_value": "id"}})
    with ModelHarness(Catches, config=config, models=[(Refuses, make_config("callee"))]) as model:
        model.infer(X=[[1, 2]])
    assert seen == [f"not in {SECRET}"]


class Sized(Loads):
    """Takes rows of two alone, and says why in a text with a path."""

    def warmup_inputs(self, rows):
        return {"X": torch.zeros(rows, 2)}

    warmup = (1,)

    def forward(self, X):
        if X.shape[1] != 2:
            raise ValueError(f"see {SECRET}")
        return X


@pytest.mark.parametrize("detail", ["message", "full", "id"])
def test_shape_that_forward_refuses_is_said_as_the_setting_allows(detail):
    config = make_config("m")
    for tensor in (*config["input"], *config["output"]):
        tensor["dims"] = [-1]
    options = {"parameters": {"kindaware.error_detail": detail}, "raise_errors": False}
    with ModelHarness(Sized, config=config, **options) as model:
        error, log = model.infer(X=[[1, 2, 3]]).error, model.log_text()
    assert error.code().name == "INVALID_ARG"
    text = error.message()
    if detail == "id":
        [error_id] = ID.findall(text)
        assert f"got {{'X': [1, 3]}} (error {error_id}); send another shape" in text
        assert f"error {error_id} failed 1 request(s)" in log
    else:
        assert f"(ValueError: see {SECRET if detail == 'full' else '<path>'}" in text
        assert ("test_disclosure.py:" in text) == (detail == "full")


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ("message", "got cpu after RuntimeError: CUDA error in <path>; "),
        ("full", f"got cpu after RuntimeError: CUDA error in {SECRET} ({__file__}:"),
        ("id", "got cpu after error ID; "),
    ],
)
def test_fault_of_the_device_is_said_as_the_setting_allows(detail, shown, host, pb_utils, monkeypatch):
    class Breaks(Doubler):
        warmup = "off"

        def forward(self, X):
            raise RuntimeError(f"CUDA error in {SECRET}")

    model = start(Breaks, parameters={"kindaware.error_detail": detail})
    runtime = model._kindaware_instance._device.runtime
    monkeypatch.setattr(type(runtime), "is_fault", lambda self, error: "CUDA error" in str(error))
    for _ in range(2):
        [response] = model.execute([host.request(X=torch.zeros(1, 4).numpy())])
        code, text = failure_of(response)
        assert code == "UNAVAILABLE"
        assert shown in without_id(text)
    [(_, logged)] = [line for line in host.lines if "expected a working device" in line[1]]
    assert f"CUDA error in {SECRET}" in logged
    assert ID.search(text) is None or ID.search(text)[0] in logged


def test_error_that_failed_several_requests_has_one_id(host, pb_utils):
    model = start(Raises)
    responses = model.execute([host.request(str(n), X=torch.zeros(1, 4).numpy()) for n in range(3)])
    ids = [ID.search(failure_of(one)[1])[1] for one in responses]
    assert len(set(ids)) == 1
    assert f"error {ids[0]} failed 3 request(s)" in host.lines[-1][1]
    [response] = model.execute([host.request(X=torch.zeros(1, 4).numpy())])
    assert ID.search(failure_of(response)[1])[1] != ids[0]
