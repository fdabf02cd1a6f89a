"""`python -m interscan`: the same as the program `interscan`."""

from interscan.cli import main

if __name__ == "__main__":
    main()
