"""`rawkit`, and `python -m rawkit`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line and exit."""
    # Start-up makes 25,000 objects that stay. To search them for garbage, every 700, is a tenth of its time.
    gc.set_threshold(50_000)
    from rawkit.cli.main import main

    main()


if __name__ == "__main__":
    main()
