"""The directories in which scripts run, and the files of the runs."""
