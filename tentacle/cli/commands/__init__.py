"""One file per command; the table of them is `tentacle.cli.frame.command_table`."""
