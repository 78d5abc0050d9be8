"""What a person reads: tables, the page in the documentation, and its plot."""
