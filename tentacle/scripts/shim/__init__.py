"""The fork server and the shims, which are processes of their own.  Standard library only."""
