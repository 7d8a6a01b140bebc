"""Disks that outlive machines: whose they are, where they are, and what may become of them."""
