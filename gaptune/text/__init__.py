"""Text made safe for what shows it, and numbers read as people write them."""
