"""The services for everyone who speaks HTTPS (docs/spec/https.md): `api` is the door."""
