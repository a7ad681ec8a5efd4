"""`flue build --target server`: a folder that a fresh environment or a container can start."""
