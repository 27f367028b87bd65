"""The sandbox of a script: modes, cgroups, users."""
