"""`python -m farm` is `farm`."""

from __future__ import annotations

from farm.cli.main import main

if __name__ == "__main__":
    main()
