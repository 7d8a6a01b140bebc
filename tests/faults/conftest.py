"""The live suite's control plane, for faults that need a real one."""

from tests.live.conftest import kube_owned, kube_stack, sim  # noqa: F401  (fixtures)
