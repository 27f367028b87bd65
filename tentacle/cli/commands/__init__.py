"""One file per command; the table of them is `tentacle.cli.catalogue`."""
