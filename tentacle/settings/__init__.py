"""What a Tentacle is set up to be: instances, one YAML file each, certificates, trusted servers, secrets at rest.

Knows files and key material.  Must not know the wire, scripts, the REST API or the service manager; nothing here
talks to a network.
"""
