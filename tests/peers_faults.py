"""Faults of what a peer's package computes: its certificate tells them, no tolerance hides them."""

from __future__ import annotations

__all__ = ["FAULTS_OF_PEERS"]

#: By variant and check.
FAULTS_OF_PEERS = {
    ("transformers_sqrtsoftplus", "extreme"): "the root's slope is NaN where softplus underflows"
}
