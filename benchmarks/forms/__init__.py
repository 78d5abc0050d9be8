"""The forms in which a network is served, one file each."""
