"""`python -m midsession`: the command line."""

from midsession.cli import main

if __name__ == "__main__":
    main()
