"""What runs apps: ``slipway.delivery``'s ``InstanceEngine`` over one machine, its ``Engine`` over a cluster."""
