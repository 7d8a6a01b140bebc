"""Ports of renters' machines by HTTPS names, through gateway and relay (docs/access.md)."""
