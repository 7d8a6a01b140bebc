"""Real Kubernetes control planes with simulated nodes, for the demo and the live tests.

`stack.KubeStack` is the door: it starts one cluster per name and hands out what a provider would
hand to the platform (URL, CA, small token). Everything listens on loopback, needs no root, installs
nothing, and dies with the process that started it.
"""
