"""`rawkit`, and `python -m rawkit`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line and exit."""
    # What start-up makes stays: to look through it for garbage every 700 objects is a tenth of its time.
    gc.set_threshold(20_000)
    from rawkit.cli.main import main

    main()


if __name__ == "__main__":
    main()
