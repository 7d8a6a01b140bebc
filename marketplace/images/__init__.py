"""Names of container images, and what a registry says about them."""
