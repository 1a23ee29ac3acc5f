"""Files and pictures about a run."""
