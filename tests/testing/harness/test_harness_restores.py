"""What a model changes in its process, it changes in the test's; the harness puts it back."""

import asyncio
import builtins
import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from harness_kit import ECHO, write_model

from kindaware.testing import ModelHarness

SMALL = 1e-310

# Where a model does it, and what the test looks at.
STATES = {
    "torch.set_default_device('meta')": lambda: torch.empty(1).device,
    "torch.set_default_dtype(torch.float64)": torch.get_default_dtype,
    "torch.set_num_threads(7)": torch.get_num_threads,
    "torch.set_grad_enabled(False)": torch.is_grad_enabled,
    "torch.set_flush_denormal(True)": lambda: SMALL * 0.5 == 0.0,
    "torch.use_deterministic_algorithms(True, warn_only=True)": (
        torch.is_deterministic_algorithms_warn_only_enabled
    ),
    "torch.use_deterministic_algorithms(True)": torch.are_deterministic_algorithms_enabled,
    "torch.autograd.set_detect_anomaly(True)": torch.is_anomaly_enabled,
    "torch.autograd.set_detect_anomaly(False, check_nan=False)": torch.is_anomaly_check_nan_enabled,
    "torch.set_autocast_enabled('cpu', True)": lambda: torch.is_autocast_enabled("cpu"),
    "torch.set_autocast_enabled('cuda', True)": lambda: torch.is_autocast_enabled("cuda"),
    "torch.set_autocast_dtype('cpu', torch.float16)": lambda: torch.get_autocast_dtype("cpu"),
    "torch.set_autocast_cache_enabled(False)": torch.is_autocast_cache_enabled,
    "torch.set_float32_matmul_precision('medium')": torch.get_float32_matmul_precision,
    "torch.backends.cuda.enable_flash_sdp(False)": torch.backends.cuda.flash_sdp_enabled,
    "torch.backends.cuda.enable_mem_efficient_sdp(False)": torch.backends.cuda.mem_efficient_sdp_enabled,
    "torch.backends.cuda.enable_math_sdp(False)": torch.backends.cuda.math_sdp_enabled,
    "torch.backends.cuda.enable_cudnn_sdp(False)": torch.backends.cuda.cudnn_sdp_enabled,
    "torch.backends.cudnn.enabled = False": lambda: torch.backends.cudnn.enabled,
    "torch.backends.cudnn.benchmark = True": lambda: torch.backends.cudnn.benchmark,
    "torch.backends.cudnn.benchmark_limit = 3": lambda: torch.backends.cudnn.benchmark_limit,
    "torch.backends.cudnn.deterministic = True": lambda: torch.backends.cudnn.deterministic,
    "torch.backends.cudnn.allow_tf32 = False": lambda: torch.backends.cudnn.allow_tf32,
    "torch.backends.cuda.matmul.allow_tf32 = True": lambda: torch.backends.cuda.matmul.allow_tf32,
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False": lambda: (
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    ),
    "torch.backends.mkldnn.enabled = False": lambda: torch.backends.mkldnn.enabled,
    "torch.backends.mha.set_fastpath_enabled(False)": torch.backends.mha.get_fastpath_enabled,
    "torch.set_printoptions(precision=2)": lambda: repr(torch.tensor([1 / 3])),
    "torch.set_warn_always(True)": torch.is_warn_always_enabled,
    "torch.hub.set_dir('/nowhere')": torch.hub.get_dir,
    "torch.__future__.set_overwrite_module_params_on_conversion(True)": (
        torch.__future__.get_overwrite_module_params_on_conversion
    ),
    "torch.multiprocessing.set_sharing_strategy('file_system')": torch.multiprocessing.get_sharing_strategy,
    "torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: None)": lambda: len(
        torch.nn.modules.module._global_forward_pre_hooks
    ),
    "np.seterr(all='raise')": np.geterr,
    "np.seterrcall(lambda *_: None)": np.geterrcall,
    "np.setbufsize(16 * 1024)": np.getbufsize,
    "np.set_printoptions(precision=2)": np.get_printoptions,
    "multiprocessing.set_start_method('spawn')": lambda: multiprocessing.get_start_method(allow_none=True),
    "asyncio.run(asyncio.sleep(0))": lambda: asyncio.events._event_loop_policy and vars(
        asyncio.events._event_loop_policy._local
    ).get("_set_called", False),
    "asyncio.set_event_loop_policy(type('P', (asyncio.DefaultEventLoopPolicy,), {})())": lambda: type(
        asyncio.events._event_loop_policy
    ).__name__ == "P",
    "logging.getLogger().addHandler(logging.NullHandler())": lambda: list(logging.getLogger().handlers),
    "logging.getLogger().handlers.clear()": lambda: list(logging.getLogger().handlers),
    "logging.getLogger().setLevel(1)": lambda: logging.getLogger().level,
    "logging.getLogger().disabled = True": lambda: logging.getLogger().disabled,
    "logging.getLogger().addFilter(lambda record: False)": lambda: list(logging.getLogger().filters),
    "logging.getLogger('kindaware.test.known').disabled = True": lambda: logging.getLogger(
        "kindaware.test.known"
    ).disabled,
    "logging.getLogger('kindaware.test.known').addFilter(print)": lambda: list(
        logging.getLogger("kindaware.test.known").filters
    ),
    "logging.config.dictConfig({'version': 1})": lambda: logging.getLogger("kindaware.test.known").disabled,
    "logging.disable(logging.CRITICAL)": lambda: logging.root.manager.disable,
    "logging.raiseExceptions = False": lambda: logging.raiseExceptions,
    "logging.lastResort = None": lambda: logging.lastResort,
    "logging.addLevelName(20, 'TELL')": lambda: logging.getLevelName(20),
    "logging.setLogRecordFactory(dict)": logging.getLogRecordFactory,
    "logging.setLoggerClass(type('L', (logging.Logger,), {}))": logging.getLoggerClass,
    "logging.captureWarnings(True)": lambda: (warnings.showwarning, logging._warnings_showwarning),
    "warnings.simplefilter('error', FutureWarning)": lambda: list(warnings.filters),
    "warnings.showwarning = print": lambda: warnings.showwarning,
    "socket.setdefaulttimeout(3)": socket.getdefaulttimeout,
    "gc.disable()": gc.isenabled,
    "gc.set_threshold(1234)": gc.get_threshold,
    "gc.freeze(); gc.set_debug(gc.DEBUG_UNCOLLECTABLE)": gc.get_debug,
    "gc.callbacks.append(lambda *_: None)": lambda: list(gc.callbacks),
    "sys.stdout = io.StringIO()": lambda: sys.stdout,
    "sys.stderr = io.StringIO()": lambda: sys.stderr,
    "sys.stdin = None": lambda: sys.stdin,
    "sys.excepthook = print": lambda: sys.excepthook,
    "sys.unraisablehook = print": lambda: sys.unraisablehook,
    "sys.displayhook = print": lambda: sys.displayhook,
    "sys.breakpointhook = print": lambda: sys.breakpointhook,
    "sys.tracebacklimit = 3": lambda: getattr(sys, "tracebacklimit", None),
    "sys.path.append('/nowhere')": lambda: list(sys.path),
    "sys.argv = ['else']": lambda: list(sys.argv),
    "sys.meta_path.append(type('Finder', (), {'find_spec': lambda *_: None})())": lambda: list(sys.meta_path),
    "sys.setrecursionlimit(4321)": sys.getrecursionlimit,
    "sys.setswitchinterval(0.01)": sys.getswitchinterval,
    "sys.setdlopenflags(sys.getdlopenflags() ^ os.RTLD_GLOBAL)": sys.getdlopenflags,
    "sys.set_coroutine_origin_tracking_depth(3)": sys.get_coroutine_origin_tracking_depth,
    "sys.set_asyncgen_hooks(firstiter=print)": sys.get_asyncgen_hooks,
    "threading.excepthook = print": lambda: threading.excepthook,
    "threading.setprofile(lambda *_: None)": threading.getprofile,
    "threading.settrace(lambda *_: None)": threading.gettrace,
    "sys.settrace(sys.gettrace() and None or (lambda *_: None))": sys.gettrace,
    "tempfile.tempdir = '/nowhere'": lambda: tempfile.tempdir,
    "ssl._create_default_https_context = ssl._create_unverified_context": lambda: (
        ssl._create_default_https_context
    ),
    "torch.utils.deterministic.fill_uninitialized_memory = False": lambda: (
        torch.utils.deterministic.fill_uninitialized_memory
    ),
    "threading.stack_size(1 << 20)": threading.stack_size,
    "tracemalloc.start()": tracemalloc.is_tracing,
    "faulthandler.disable() if faulthandler.is_enabled() else faulthandler.enable(sys.__stderr__)": (
        faulthandler.is_enabled
    ),
    "builtins.print = lambda *_: None": lambda: builtins.print,
    "builtins.kindaware_new = 1": lambda: hasattr(builtins, "kindaware_new"),
    "del builtins.credits": lambda: hasattr(builtins, "credits"),
    "os.environ['KINDAWARE_NEW'] = '1'": lambda: dict(os.environ),
    "os.environ.pop('PATH')": lambda: dict(os.environ),
    "os.chdir('/')": os.getcwd,
    "os.umask(0o77)": lambda: (mask := os.umask(0o22), os.umask(mask))[0],
    "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})": lambda: os.sched_getaffinity(0),
    "resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))": (
        lambda: resource.getrlimit(resource.RLIMIT_NOFILE)
    ),
    "resource.setrlimit(resource.RLIMIT_CPU, (98765, resource.getrlimit(resource.RLIMIT_CPU)[1]))": (
        lambda: resource.getrlimit(resource.RLIMIT_CPU)
    ),
    "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()": lambda: time.tzname,
    "locale.setlocale(locale.LC_ALL, 'C.UTF-8' if locale.setlocale(locale.LC_ALL) == 'C' else 'C')": (
        lambda: locale.setlocale(locale.LC_ALL)
    ),
    "decimal.getcontext().prec = 3": lambda: decimal.getcontext().prec,
    "decimal.getcontext().traps[decimal.Inexact] = True": lambda: decimal.getcontext().traps[decimal.Inexact],
    "signal.signal(signal.SIGUSR1, signal.SIG_IGN)": lambda: signal.getsignal(signal.SIGUSR1),
    "signal.setitimer(signal.ITIMER_VIRTUAL, 5000, 7)": lambda: signal.getitimer(signal.ITIMER_VIRTUAL)[1],
    "signal.setitimer(signal.ITIMER_PROF, 5000)": lambda: signal.getitimer(signal.ITIMER_PROF)[0] > 0,
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])": lambda: signal.pthread_sigmask(
        signal.SIG_BLOCK, ()
    ),
}  # fmt: skip

SOURCE = """
import builtins, decimal, faulthandler, gc, io, locale, logging.config, multiprocessing, os, resource
import signal, socket, ssl, sys, tempfile, tracemalloc, warnings
import torch

class TritonPythonModel:
    def initialize(self, args):
        WHEN_INITIALIZED

    def execute(self, requests):
        WHEN_EXECUTED
        return [answer([1.0]) for _ in requests]
"""


@pytest.fixture(autouse=True)
def known_logger():
    return logging.getLogger("kindaware.test.known")


@pytest.mark.parametrize("change", STATES)
def test_a_state_that_a_model_changes_is_put_back(tmp_path, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "asyncio.run" in change:  # which an earlier test may have called in this process
        monkeypatch.setattr(asyncio.events, "_event_loop_policy", None)
    look = STATES[change]
    before = look()
    source = SOURCE.replace("WHEN_INITIALIZED", change).replace("WHEN_EXECUTED", "pass")
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        is_elsewhere = look() != before or change.startswith("sys.argv")
        harness.infer(X=[1.0])
    now = look()
    assert is_elsewhere or len(os.sched_getaffinity(0)) == 1 or "set_start_method" in change
    assert now == before
    assert [line.text for line in harness.logs if "stays as" in line.text] == []


@pytest.mark.parametrize(
    "change", ["torch.set_default_device('meta')", "np.seterr(all='raise')", "gc.disable()"]
)
def test_a_state_that_execute_changes_is_put_back(tmp_path, change):
    before = STATES[change]()
    source = SOURCE.replace("WHEN_EXECUTED", change).replace("WHEN_INITIALIZED", "pass")
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        harness.infer(X=[1.0])
        assert STATES[change]() != before
    assert STATES[change]() == before


@pytest.mark.parametrize(
    "change",
    [
        "multiprocessing.set_start_method('spawn')",
        "asyncio.run(asyncio.sleep(0))",
        "torch.set_default_device('cpu')",
    ],
)
def test_what_works_once_works_in_every_harness(tmp_path, change):
    folder = write_model(
        tmp_path, "m", SOURCE.replace("WHEN_INITIALIZED", change).replace("WHEN_EXECUTED", "pass")
    )
    for _ in range(3):
        with ModelHarness(folder) as harness:
            harness.infer(X=[1.0])


def test_a_default_device_on_a_simulated_gpu_is_put_back(tmp_path):
    change = "torch.set_default_device('cuda')"
    source = SOURCE.replace("WHEN_INITIALIZED", change).replace("WHEN_EXECUTED", "pass")
    folder = write_model(tmp_path, "m", source)
    for _ in range(2):
        with ModelHarness(folder, kind="GPU", accelerator="simulated") as harness:
            harness.infer(X=[1.0])
        assert torch.empty(1).device == torch.device("cpu")


def test_an_alarm_of_the_test_goes_on(tmp_path):
    went_off = []
    before = signal.signal(signal.SIGVTALRM, lambda *_: went_off.append(1))
    signal.setitimer(signal.ITIMER_VIRTUAL, 500)
    try:
        change = "signal.setitimer(signal.ITIMER_VIRTUAL, 0)"
        source = SOURCE.replace("WHEN_INITIALIZED", change).replace("WHEN_EXECUTED", "pass")
        with ModelHarness(write_model(tmp_path, "m", source)):
            assert signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0
        assert 400 < signal.getitimer(signal.ITIMER_VIRTUAL)[0] < 501
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert went_off == []


def test_a_state_that_cannot_be_put_back_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "get_num_interop_threads", iter([4, 5, *[5] * 100]).__next__)
    from kindaware.testing.harness.process.settings import _table

    _table.cache_clear()
    harness = ModelHarness(write_model(tmp_path, "m", ECHO)).start()
    with pytest.warns(UserWarning, match="torch.set_num_interop_threads stays as the model has set it"):
        harness.stop()
    _table.cache_clear()
    assert "torch.set_num_interop_threads stays as the model has set it" in harness.log_text()


def test_model_may_choose_how_processes_start_though_the_test_has_chosen(tmp_path, monkeypatch):
    chosen = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing.context._default_context, "_actual_context", chosen)
    change = "multiprocessing.set_start_method('spawn')"
    source = SOURCE.replace("WHEN_INITIALIZED", change).replace("WHEN_EXECUTED", "pass")
    with ModelHarness(write_model(tmp_path, "m", source)) as harness:
        harness.infer(X=[1.0])
        assert multiprocessing.get_start_method() == "spawn"
    assert multiprocessing.get_start_method() == "fork"
