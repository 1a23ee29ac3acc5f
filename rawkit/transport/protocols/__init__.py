"""Reference protocols: each a module to read, and each the one before plus one idea."""
