"""Models that do not load, and models that complete their own configuration."""

from differential_models import PYTHON, X

PLAIN = PYTHON + X + 'output { name: "TEXT" data_type: TYPE_STRING dims: -1 }'
CLASS = "\nclass TritonPythonModel:\n"
TELL = """
    def initialize(self, args):
        self.args = args

    def execute(self, requests):
        config = json.loads(self.args["model_config"])
        return [report(config, [(one.name(), one.shape()) for one in r.inputs()]) for r in requests]
"""


def completing(body):
    lines = "\n".join("        " + line for line in body.strip().splitlines())
    return f"{CLASS}    @staticmethod\n    def auto_complete_config(config):\n{lines}\n{TELL}"


INITIALIZE = CLASS + "    def initialize(self, args):\n        "

# Name to source; the loads' errors are compared.
_FAILURES = {
    "load_import_error": "import nothing_of_this_name\n",
    "load_syntax_error": "#\nclass TritonPythonModel\n",
    "load_without_class": "x = 1\n",
    "load_tensor_used_at_import": "x = pb_utils.Tensor\n",
    "load_tensor_imported_by_name": "from triton_python_backend_utils import Tensor\n",
    "load_request_in_annotation": (
        CLASS + "    def execute(self, requests: pb_utils.InferenceRequest):\n        return []\n"
    ),
    "load_system_exit": "raise SystemExit(4)\n",
    "load_initialize_raises": INITIALIZE + "raise KeyError('x')\n",
    "load_initialize_raises_without_text": INITIALIZE + "raise RuntimeError\n",
    "load_initialize_raises_triton_exception": INITIALIZE
    + "raise pb_utils.TritonModelException('not today')\n",
    "load_initialize_raises_deep": INITIALIZE + "json.loads(args['model_name'])\n",
    "load_initialize_calls_a_model": INITIALIZE + "new([tensor(1.0)]).exec()\n",
    "load_initialize_without_args": CLASS + "    def initialize(self):\n        pass\n",
    "load_constructor_wants_more": CLASS + "    def __init__(self, more):\n        pass\n",
    "load_complete_gives_none": completing("pass"),
    "load_complete_gives_dict": completing("return config.as_dict()"),
    "load_complete_not_static": CLASS
    + "    def auto_complete_config(self, config):\n        return config\n",
    "load_complete_lowers_batch_size": completing(
        "config.set_max_batch_size(4)\nconfig.set_max_batch_size(2)\nreturn config"
    ),
    "load_complete_contradicts_input": completing(
        "config.add_input({'name': 'X', 'data_type': 'TYPE_INT8', 'dims': [-1]})\nreturn config"
    ),
}

FAILURES = {name: (source, PLAIN) for name, source in _FAILURES.items()}

# Name to source and configuration; they load, and tell their completed configuration.
COMPLETED = {
    "complete_everything": (
        completing(
            "config.set_max_batch_size(4)\nconfig.set_dynamic_batching()\n"
            "config.add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [3], 'optional': False})\n"
            "config.add_output({'name': 'TEXT', 'data_type': 'TYPE_STRING', 'dims': [-1]})\nreturn config"
        ),
        "",
    ),
    "complete_nothing": (completing("return config"), PLAIN),
    "complete_the_same": (
        completing(
            "config.add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [-1]})\n"
            "config.add_output({'name': 'Q', 'data_type': 'TYPE_FP16', 'dims': [2]})\nreturn config"
        ),
        PLAIN,
    ),
}
WITHOUT_EXECUTE = {"model_without_execute": (CLASS + "    pass\n", PLAIN)}
C_MODULE = """
import importlib.util
import c_python_backend_utils as c
from c_python_backend_utils import InferenceResponse, Tensor



def names():
    private = {"async_event_future_done_callback"}
    return sorted(name for name in vars(c) if name[:2] != "__" and name not in private)


EARLY = names(), Tensor("early", np.ones(2)).shape()


class TritonPythonModel:
    def execute(self, requests):
        found = {
            "early": EARLY,
            "late": names(),
            "same": [name for name in EARLY[0] if getattr(pb_utils, name, None) is getattr(c, name)],
            "loaded": sorted(name for name in sys.modules if "python_backend_utils" in name),
            "specs": [importlib.util.find_spec(one.__name__).name for one in (c, pb_utils)],
            "files": [hasattr(one, "__file__") for one in (c, pb_utils)],
            "metaclass": type(Tensor).__name__,
        }
        return [report(found) for _ in requests]
"""
IMPORTING = {"model_imports_the_c_module": (C_MODULE, PLAIN)}
LOADING = {**COMPLETED, **WITHOUT_EXECUTE, **IMPORTING}
