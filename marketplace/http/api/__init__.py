"""The REST API, version 1: one module per topic, each with a list ``urls``."""
