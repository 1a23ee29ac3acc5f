"""The command line: thin files that turn options into calls of `rawkit.tools`, and results into lines."""
