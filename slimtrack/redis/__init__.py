"""What Redis is used for, all of which can be done without while it is away."""
