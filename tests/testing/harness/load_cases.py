"""Models that do not load."""

LOADS = {
    "import_fails": "import nothing_of_this_name\n",
    "syntax": "#\nclass TritonPythonModel\n",
    "no_class": "x = 1\n",
    "class_used_while_imported": "x = pb_utils.Tensor\n",
    "exits": "raise SystemExit(4)\n",
    "initialize_raises": """
class TritonPythonModel:
    def initialize(self, args):
        raise KeyError("x")
""",
    "constructor_wants_more": """
class TritonPythonModel:
    def __init__(self, a):
        pass
""",
    "auto_complete_gives_none": """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        pass
""",
    "auto_complete_not_static": """
class TritonPythonModel:
    def auto_complete_config(self, config):
        pass
""",
    "auto_complete_wants_less": """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(4)
        config.set_max_batch_size(2)
        return config
""",
}
