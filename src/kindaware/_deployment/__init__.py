"""Files for container platforms, as data: what a pod needs, and the objects that say so."""
