"""`python -m kindaware.cli`."""

from __future__ import annotations

from kindaware.cli import main

main()
