"""The directories in which scripts run, and the files that tell of a run."""
