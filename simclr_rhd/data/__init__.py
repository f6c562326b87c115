"""From files and tables to labelled, grouped and divided frames."""
