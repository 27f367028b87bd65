"""The machine's service manager: the systemd unit of an instance, `systemctl`, and what an agent tells systemd."""
