"""The ledger: accounts, balanced transactions, and the checks an auditor would make."""
