"""Settings of the example project: `stock` (Django's ENGINEs), `schemas` (Howdah's), `embedded`."""
