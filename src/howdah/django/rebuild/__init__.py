"""`howdah rebuild`: re-create a project's databases, and the running app does not notice."""
