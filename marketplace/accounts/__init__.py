"""People, organizations, keys, rights, the audit trail, and actions that happen once."""
