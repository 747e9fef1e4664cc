"""The `howdah` command: parses, calls one function of the core, renders what it returns."""
