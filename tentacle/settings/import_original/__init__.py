"""An instance of the original Octopus Tentacle, read."""
