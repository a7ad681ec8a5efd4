"""What `flue build` writes: a folder for each target, replaced as a whole."""
