"""The contract with a renter: start, follow, charge, stop, and how it is shown."""
