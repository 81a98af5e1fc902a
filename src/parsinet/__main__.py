"""`python -m parsinet` is the `parsinet` command."""

from parsinet.cli import main

if __name__ == "__main__":
    main()
