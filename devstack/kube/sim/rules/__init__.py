"""What the API server decides from objects alone. Pure: no store, no clock, no I/O."""
