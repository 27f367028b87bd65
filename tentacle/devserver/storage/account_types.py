"""What an account holds, by its type; most of them are kept for clients and used by nothing here.

Knows names of the API (docs/spec/rest.md, "Resources"); must not know resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tentacle.devserver.storage.fields import Field, optional, secret, text, texts

_SUBJECTS: Final = "DeploymentSubjectKeys HealthCheckSubjectKeys AccountTestSubjectKeys Audience"
_AZURE: Final = "SubscriptionNumber AzureEnvironment"
_AZURE_CLIENT: Final = f"{_AZURE} ClientId TenantId ResourceManagementEndpointBaseUri ActiveDirectoryEndpointBaseUri"
_ACCOUNTS: Final = {
    "UsernamePassword": "Username Password*",
    "SshKeyPair": "Username PrivateKeyFile* PrivateKeyPassphrase*",
    "Token": "Token*",
    "AmazonWebServicesAccount": "AccessKey SecretKey* Region",
    "AmazonWebServicesOidcAccount": f"RoleArn SessionDuration Region {_SUBJECTS}",
    "AzureServicePrincipal": f"Password* {_AZURE_CLIENT}",
    "AzureOidc": f"{_AZURE_CLIENT} {_SUBJECTS}",
    "AzureSubscription": (
        f"{_AZURE} CertificateBytes* CertificateThumbprint ServiceManagementEndpointBaseUri "
        "ServiceManagementEndpointSuffix"
    ),
    "GoogleCloudAccount": "JsonKey*",
    "GenericOidcAccount": _SUBJECTS,
}
"""The members of an account by its type; a star marks the secret ones."""


def _account_field(name: str) -> Field:
    if name.endswith("*"):
        return Field(name[:-1], secret, None, secret=True)
    return Field(name, optional(texts if name.endswith("Keys") else text(1000, blank=True)), None)


ACCOUNT_TYPES: Final[Mapping[str, tuple[Field, ...]]] = {
    kind: tuple(map(_account_field, names.split())) for kind, names in _ACCOUNTS.items()
}
