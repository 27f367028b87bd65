"""The socket by which the commands of this machine ask the running agent (docs/spec/control.md)."""
