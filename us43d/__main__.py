"""`python -m us43d` and the `us43d` command: the CLI, looked up late so that the library never imports it by name."""

import gc
import importlib
import os
import shlex
import sys


def main() -> None:
    # Pydantic looks for plugins in the metadata of every installed package, which takes longer than the models do.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()  # nothing that is imported is garbage; `us43d.cli.app` turns it on again
    try:
        app = importlib.import_module("us43d.cli.app")
    except KeyboardInterrupt:  # imports take a moment; from here on the app reports it
        again = shlex.join(["us43d", *sys.argv[1:]])
        sys.stderr.write(f"Interrupted.\nNothing was changed on disk.\nNext: {again}\n")
        sys.exit(130)
    sys.exit(app.main())


if __name__ == "__main__":
    main()
