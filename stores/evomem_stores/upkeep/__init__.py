"""Work on whole databases: migrations, checks, copies, keys, other encoders."""
