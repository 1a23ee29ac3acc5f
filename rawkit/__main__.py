"""`python -m rawkit`."""

from rawkit.cli.main import main

main()
