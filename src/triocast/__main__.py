"""`python -m triocast` is the `triocast` command; nothing else is here."""

from triocast.cli import main

if __name__ == "__main__":
    main()
