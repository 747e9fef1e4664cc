"""`python -m howdah`: the `howdah` command."""

from howdah.cli.main import main

if __name__ == "__main__":
    main()
