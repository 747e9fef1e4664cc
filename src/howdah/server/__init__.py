"""PostgreSQL servers: finding their binaries, running a cluster of our own."""
