"""The command line's single entry; see `simclr_rhd/cli`."""

from simclr_rhd.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
