"""A test cluster: kind where there is Docker, else a single node built from source on bare Linux as root."""
