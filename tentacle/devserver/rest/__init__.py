"""The REST API: routes, documents, who may ask."""
