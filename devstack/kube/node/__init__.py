"""One real kubelet with containerd, runc and a device plugin of fake cards; see node.py."""
