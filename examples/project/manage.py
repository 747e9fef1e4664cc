#!/usr/bin/env python
"""Django's own command line of the example project."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "depot.settings.stock")
    execute_from_command_line(sys.argv)
