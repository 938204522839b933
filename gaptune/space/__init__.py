"""Search spaces: which parameters vary, over what, under which condition."""
