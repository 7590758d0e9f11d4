"""`python -m us43d` and the `us43d` command: the CLI, looked up late so that the library never imports it by name."""

import importlib
import sys


def main() -> None:
    sys.exit(importlib.import_module("us43d.cli.app").main())


if __name__ == "__main__":
    main()
