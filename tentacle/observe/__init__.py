"""What the agent tells about itself: logs, redaction, the description of the machine it runs on."""
