"""Ways to compute the same in less time and less memory: each takes a split network and returns one with the same answer."""
