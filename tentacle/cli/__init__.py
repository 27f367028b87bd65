"""The command line: text and JSON out, exit codes, help.  Nothing imports this package."""
