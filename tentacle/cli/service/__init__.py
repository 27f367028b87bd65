"""`service`: what is done to the systemd service of an instance."""
