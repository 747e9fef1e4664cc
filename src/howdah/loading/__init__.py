"""Loading: documents and records of any kind into PostgreSQL."""
