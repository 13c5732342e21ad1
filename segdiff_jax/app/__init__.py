"""A page that runs on this machine: pictures are dropped, outlines come back, with how sure."""
