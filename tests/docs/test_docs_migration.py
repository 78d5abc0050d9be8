"""The code that how-to/migrate.md starts from: it runs, and answers what the ported model answers."""

import json
import runpy
import sys
import types

import numpy as np
import pytest
import torch
from docs_pages import DOCS, blocks_of

from kindaware.testing import ModelHarness

PAGE = DOCS / "how-to" / "migrate.md"
FEATURES = np.random.default_rng(0).random((5, 4), np.float32)


@pytest.fixture
def folder(tmp_path):
    for block in blocks_of(PAGE, "python"):
        path = tmp_path / block.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code)
    return tmp_path


@pytest.fixture
def expected(folder):
    with ModelHarness(folder / "models" / "iris") as model:
        return model.infer(FEATURES=FEATURES).outputs["SCORES"]


def check(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_pytriton_script_binds_what_the_port_computes(folder, expected, monkeypatch):
    """With PyTriton's own decorators and types; only its server does not start."""
    pytriton = pytest.importorskip("pytriton.triton", reason="the extra `server` has PyTriton")
    from pytriton.proxy.types import Request

    bound = {}

    class Triton:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def bind(self, **arguments):
            bound.update(arguments)

        def serve(self):
            bound["served"] = True

    monkeypatch.setattr(pytriton, "Triton", Triton)
    runpy.run_path(str(folder / "pytriton_server.py"))
    assert bound["served"]
    assert bound["config"].max_batch_size == 64
    assert [(one.name, one.dtype, one.shape) for one in bound["inputs"]] == [("FEATURES", np.float32, (4,))]
    requests = [Request({"FEATURES": FEATURES[:2]}), Request({"FEATURES": FEATURES[2:]})]
    answers = bound["infer_func"](requests)
    check(np.concatenate([one["SCORES"] for one in answers]), expected)


def test_litserve_script_answers_what_the_port_does(folder, expected, monkeypatch):
    """LitServe isn't installed here: what its server calls is called in its order."""
    litserve = types.ModuleType("litserve")
    litserve.LitAPI = type("LitAPI", (), {})
    monkeypatch.setitem(sys.modules, "litserve", litserve)
    api = runpy.run_path(str(folder / "litserve_server.py"))["IrisAPI"]()
    api.setup("cpu")
    bodies = [json.loads(json.dumps({"features": row.tolist()})) for row in FEATURES]
    output = api.predict(api.batch([api.decode_request(body) for body in bodies]))
    answers = [api.encode_response(one) for one in api.unbatch(output)]
    check([one["scores"] for one in answers], expected)


def test_torchserve_handler_answers_what_the_port_does(folder, expected, monkeypatch):
    """TorchServe isn't installed here: what `BaseHandler.handle` calls is called in its order."""
    for name in ("ts", "ts.torch_handler", "ts.torch_handler.base_handler"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["ts.torch_handler.base_handler"].BaseHandler = type("BaseHandler", (), {})
    handler = runpy.run_path(str(folder / "iris_handler.py"))["IrisHandler"]()
    handler.initialize(types.SimpleNamespace(system_properties={"model_dir": ".", "gpu_id": None}))
    assert handler.device == torch.device("cpu")
    data = [{"body": {"features": row.tolist()}} for row in FEATURES]
    answers = handler.postprocess(handler.inference(handler.preprocess(data)))
    check([one["scores"] for one in answers], expected)
