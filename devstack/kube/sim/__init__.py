"""A simulated Kubernetes API server: clusters in one process, in a second, with faults on order.

Three parts, each usable without the next:

- `store`: objects, versions, watch history. No I/O, no threads, a clock that is given.
- `rules`: RBAC, admission, quota, selectors, patches, defaults. Pure functions over objects.
- `server`: HTTP and TLS around both, with faults that a real server will not produce on demand.

`apiserver` is the request handler between them (a request in, an answer out), `controllers` does
what scheduler and controller manager do. Nodes are those of devstack/kube/nodesim.py, unchanged.
`stack.SimStack` is the door, with the attributes of `devstack.kube.stack.KubeStack`.

What it says is what Kubernetes 1.20 says: tests/contract/kube runs one suite against this server
and the real control plane. What it does not have answers 404 or 501, never a made-up success:
exec, attach, port-forward, workload controllers, priorities and preemption, NodePorts, protobuf,
server-side apply with field ownership, and strategic merge beyond the lists that pods and nodes
have.
"""
