"""The data store: images, captions and labels in Arrow files that every trial on a node maps into memory."""
