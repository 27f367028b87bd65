"""How scripts are kept apart: modes, cgroups, users."""
