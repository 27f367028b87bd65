"""`register-k8s-target`: for agents inside Kubernetes, which this is not (tentacle-cli.md 5.2)."""

from __future__ import annotations

from tentacle.cli.commands.register_with import register_with
from tentacle.cli.frame.kubernetes_options import NAMESPACE, TARGET, TARGET_HINT
from tentacle.cli.frame.unsupported import kubernetes_variant

register_k8s_target = kubernetes_variant("register-k8s-target", TARGET_HINT, register_with, TARGET, NAMESPACE)
