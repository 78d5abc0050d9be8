"""The library's way to Triton's log, which a model's own set-up of `logging` must not close."""

import io
import logging
import logging.config

import numpy as np
import pytest
from core_kit import Doubler, start

NOTHING = """
[loggers]
keys=root
[handlers]
keys=
[formatters]
keys=
[logger_root]
handlers=
"""


def every_logger():
    return [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]


def set_all_levels():
    for logger in every_logger():
        logger.setLevel(logging.CRITICAL)


def clear_all_handlers():
    for logger in every_logger():
        logger.handlers.clear()
        logger.addFilter(lambda record: False)
        logger.propagate = False


def refuse(*_, **__):
    raise TypeError("no record")


SILENCERS = {
    "dictConfig": lambda: logging.config.dictConfig({"version": 1}),
    "fileConfig": lambda: logging.config.fileConfig(io.StringIO(NOTHING)),
    "disable": logging.disable,
    "levels": set_all_levels,
    "handlers": clear_all_handlers,
    "shutdown": logging.shutdown,
    "basicConfig": lambda: logging.basicConfig(force=True, level=logging.CRITICAL),
    "factory": lambda: logging.setLogRecordFactory(refuse),
}


@pytest.fixture(autouse=True)
def _restored_logging():
    """Put back what the silencers change."""
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    before = [
        (one, one.level, one.disabled, one.propagate, one.handlers[:], one.filters[:])
        for one in (root, *every_logger())
    ]
    yield
    logging.disable(logging.NOTSET)
    logging.setLogRecordFactory(factory)
    for one, level, disabled, propagate, handlers, filters in before:
        one.setLevel(level)
        one.disabled, one.propagate = disabled, propagate
        one.handlers[:], one.filters[:] = handlers, filters


@pytest.mark.parametrize("silence", SILENCERS.values(), ids=SILENCERS)
@pytest.mark.parametrize("hook", ["load", "forward"])
def test_a_model_that_sets_up_logging_silences_the_library_nowhere(pb_utils, host, silence, hook):
    class Model(Doubler):
        warmup = "off" if hook == "forward" else None

        def load(self):
            if hook == "load":
                silence()

        def forward(self, X):
            if hook == "forward":
                silence()
            if X.sum() > 0:
                raise ValueError("bad row")
            return X

    model = start(Model)
    host.lines.clear()
    model.execute([host.request(X=np.ones((1, 4), np.float32))])
    model.logger.info("a line of %s", "the model's", extra={"own": 1})
    model.logger.getChild("part").warning("another")
    told = [(level, text.partition("\n")[0]) for level, text in host.lines]
    assert ("INFO", "a line of the model's") in told
    assert ("WARNING", "another") in told
    assert [text for level, text in told if level == "ERROR" and "bad row" in text]
    model.logger.debug("not this")
    assert "not this" not in str(host.lines)


@pytest.mark.parametrize("hook", ["load", "forward"])
def test_a_model_that_silences_its_own_logger_silences_the_library_nowhere(pb_utils, host, hook):
    class Model(Doubler):
        warmup = "off" if hook == "forward" else None

        def silence(self):
            self.logger.handlers.clear()
            self.logger.addFilter(lambda record: False)
            self.logger.setLevel(60)
            self.logger.disabled = True

        def load(self):
            if hook == "load":
                self.silence()

        def forward(self, X):
            if hook == "forward":
                self.silence()
            if X.sum() > 0:
                raise ValueError("bad row")
            return X

    model = start(Model)
    model.execute([host.request(X=np.ones((1, 4), np.float32))])
    model.logger.error("not this")
    told = [(level, text.partition("\n")[0]) for level, text in host.lines]
    assert [text for level, text in told if level == "INFO" and "kindaware instance m_0_0 ready" in text]
    assert [text for level, text in told if level == "ERROR" and "bad row" in text]
    assert "not this" not in str(host.lines)
