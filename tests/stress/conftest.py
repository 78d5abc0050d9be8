"""The stress tests lie beside these, in no package that is installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # before the tests are collected, which import them
