"""What the stack of this machine leaves in its state directory, for whoever reads it."""
