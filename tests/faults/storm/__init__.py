"""A storm of wrong answers over simulated clusters, and an eye that the storm does not reach."""
